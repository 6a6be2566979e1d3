package safetensors

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/t5ctl/t5ctl/internal/atomicfile"
)

// maxIndex bounds the index of a sharded model; the largest published ones have a few megabytes.
const maxIndex = 100 << 20

// index is STEM.safetensors.index.json.
type index struct {
	Metadata  map[string]any    `json:"metadata"`
	WeightMap map[string]string `json:"weight_map"` // tensor → file
}

// OpenFolder opens the weights of a model folder: DIR/STEM.safetensors, or the shards that
// DIR/STEM.safetensors.index.json names. Where neither is there, the error is fs.ErrNotExist and
// names the first.
func OpenFolder(dir, stem string) (*File, error) {
	single := filepath.Join(dir, stem+".safetensors")
	file, err := Open(single)
	if !errors.Is(err, fs.ErrNotExist) {
		return file, err
	}
	indexPath := single + ".index.json"
	idx, indexErr := readIndex(indexPath)
	if errors.Is(indexErr, fs.ErrNotExist) {
		return nil, err
	}
	if indexErr != nil {
		return nil, indexErr
	}
	return openShards(dir, indexPath, idx)
}

// readIndex reads the index of a sharded model.
func readIndex(path string) (index, error) {
	f, err := os.Open(path)
	if err != nil {
		return index{}, err
	}
	defer f.Close() //nolint:errcheck // read only
	data, err := io.ReadAll(io.LimitReader(f, maxIndex+1))
	if err != nil {
		return index{}, err
	}
	if len(data) > maxIndex {
		return index{}, &CorruptError{Path: path, Reason: fmt.Sprintf("it is longer than %d bytes", maxIndex)}
	}
	var idx index
	if err := json.Unmarshal(data, &idx); err != nil {
		return index{}, &CorruptError{Path: path, Reason: "it is not the JSON of an index: " + err.Error()}
	}
	if len(idx.WeightMap) == 0 {
		return index{}, &CorruptError{Path: path, Reason: "its weight_map is empty"}
	}
	return idx, nil
}

// openShards opens every shard and joins them; index and shards must name the same tensors.
func openShards(dir, indexPath string, idx index) (_ *File, err error) {
	whole := &File{path: indexPath, tensors: map[string]Tensor{}, metadata: map[string]string{}}
	defer func() {
		if err != nil {
			err = errors.Join(err, whole.Close())
		}
	}()
	for _, name := range slices.Compact(slices.Sorted(maps.Values(idx.WeightMap))) {
		if name != filepath.Base(name) || !filepath.IsLocal(name) || strings.ContainsAny(name, `/\`) {
			return nil, &CorruptError{Path: indexPath, Reason: fmt.Sprintf("it names the shard %q outside its folder", name)}
		}
		shard, err := Open(filepath.Join(dir, name))
		if errors.Is(err, fs.ErrNotExist) {
			return nil, &CorruptError{Path: indexPath, Reason: fmt.Sprintf("its shard %s is missing", name)}
		}
		if err != nil {
			return nil, err
		}
		whole.unmap = append(whole.unmap, shard.unmap...)
		whole.forget = append(whole.forget, shard.forget...)
		if err := whole.join(shard, name, idx); err != nil {
			return nil, err
		}
	}
	for name, shard := range idx.WeightMap {
		if _, ok := whole.tensors[name]; !ok {
			return nil, &CorruptError{Path: indexPath, Reason: fmt.Sprintf("tensor %q is not in its shard %s", name, shard)}
		}
	}
	return whole, nil
}

// join adds a shard's tensors and metadata.
func (f *File) join(shard *File, shardName string, idx index) error {
	for _, name := range shard.names {
		if idx.WeightMap[name] != shardName {
			reason := fmt.Sprintf("shard %s holds tensor %q, which the index does not place there", shardName, name)
			return &CorruptError{Path: f.path, Reason: reason}
		}
		f.tensors[name] = shard.tensors[name]
	}
	f.names = append(f.names, shard.names...)
	for key, value := range shard.metadata {
		if have, ok := f.metadata[key]; ok && have != value {
			return &CorruptError{Path: f.path, Reason: fmt.Sprintf("the shards disagree on metadata %q", key)}
		}
		f.metadata[key] = value
	}
	return nil
}

// ShardBytes is the size at which models are divided into shards, 5 GB as in transformers.
const ShardBytes = 5_000_000_000

// WriteFolder writes the weights of a model folder: one file, or shards of at most shardBytes
// of tensors each and their index if there is more (a tensor is never divided; 0 means no
// limit). Each file is atomic, and the index comes last.
func WriteFolder(dir, stem string, metadata map[string]string, tensors []Tensor, shardBytes int64) error {
	shards, total := divide(ordered(tensors), shardBytes)
	if len(shards) <= 1 {
		return Write(filepath.Join(dir, stem+".safetensors"), metadata, tensors)
	}
	weights := map[string]string{}
	for i, shard := range shards {
		name := fmt.Sprintf("%s-%05d-of-%05d.safetensors", stem, i+1, len(shards))
		if err := Write(filepath.Join(dir, name), metadata, shard); err != nil {
			return err
		}
		for _, t := range shard {
			if _, twice := weights[t.Name]; twice {
				return fmt.Errorf("tensor %q is given twice", t.Name)
			}
			weights[t.Name] = name
		}
	}
	idx := index{Metadata: map[string]any{"total_size": total}, WeightMap: weights}
	data, err := json.MarshalIndent(idx, "", "  ")
	if err != nil {
		return err
	}
	return atomicfile.WriteBytes(filepath.Join(dir, stem+".safetensors.index.json"), append(data, '\n'))
}

// divide fills shards one after the other.
func divide(tensors []Tensor, shardBytes int64) (shards [][]Tensor, total int64) {
	room := int64(0)
	for _, t := range tensors {
		size := int64(len(t.Data))
		total += size
		if len(shards) == 0 || (shardBytes > 0 && size > room) {
			shards, room = append(shards, nil), shardBytes
		}
		shards[len(shards)-1] = append(shards[len(shards)-1], t)
		room -= size
	}
	return shards, total
}
