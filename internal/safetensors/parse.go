package safetensors

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"unicode/utf8"
)

const (
	lengthBytes = 8           // the file starts with the header's length
	maxHeader   = 100_000_000 // the Python library's limit
	metadataKey = "__metadata__"
)

// entry is what the header says about one tensor.
type entry struct {
	DType   DType   `json:"dtype"`
	Shape   []int64 `json:"shape"`
	Offsets []int64 `json:"data_offsets"`
}

// Parse reads a file that is already in memory; path only names it in errors. The tensors alias
// data.
func Parse(path string, data []byte) (*File, error) {
	header, body, err := split(data)
	if err != nil {
		return nil, &CorruptError{Path: path, Reason: err.Error()}
	}
	metadata, entries, err := parseHeader(header)
	if err != nil {
		return nil, &CorruptError{Path: path, Reason: err.Error()}
	}
	names, err := layOut(entries, int64(len(body)))
	if err != nil {
		return nil, &CorruptError{Path: path, Reason: err.Error()}
	}
	file := &File{path: path, names: names, metadata: metadata, tensors: make(map[string]Tensor, len(names))}
	for _, name := range names {
		e := entries[name]
		shape := make([]int, len(e.Shape))
		for i, dim := range e.Shape {
			shape[i] = int(dim)
		}
		from, to := e.Offsets[0], e.Offsets[1]
		file.tensors[name] = Tensor{Name: name, DType: e.DType, Shape: shape, Data: body[from:to:to]}
	}
	return file, nil
}

// split cuts a file into its header and the bytes of the tensors.
func split(data []byte) (header, body []byte, err error) {
	if len(data) < lengthBytes {
		return nil, nil, fmt.Errorf("it has %d bytes, fewer than the %d of the header's length", len(data), lengthBytes)
	}
	length, rest := binary.LittleEndian.Uint64(data), data[lengthBytes:]
	switch {
	case length > maxHeader:
		return nil, nil, fmt.Errorf("the header claims %d bytes, more than the %d allowed", length, maxHeader)
	case length > uint64(len(rest)):
		return nil, nil, fmt.Errorf("the header claims %d bytes, but only %d follow: the file is cut short", length, len(rest))
	}
	header = rest[:length]
	if len(header) == 0 || header[0] != '{' {
		return nil, nil, errors.New("the header does not start with {")
	}
	if !utf8.Valid(header) {
		return nil, nil, errors.New("the header is not UTF-8")
	}
	return header, rest[length:], nil
}

// parseHeader reads the header key by key: encoding/json would keep the last of two tensors of
// one name in silence.
func parseHeader(header []byte) (map[string]string, map[string]entry, error) {
	decoder := json.NewDecoder(bytes.NewReader(header))
	if _, err := decoder.Token(); err != nil { // the opening brace, seen already
		return nil, nil, fmt.Errorf("the header is not JSON: %w", err)
	}
	metadata, entries := map[string]string{}, map[string]entry{}
	seen := map[string]bool{}
	for decoder.More() {
		token, err := decoder.Token()
		if err != nil {
			return nil, nil, fmt.Errorf("the header is not JSON: %w", err)
		}
		name, _ := token.(string) // within an object, the decoder gives no other key
		if seen[name] {
			return nil, nil, fmt.Errorf("the header names %q twice", name)
		}
		seen[name] = true
		if name == metadataKey {
			if err := decoder.Decode(&metadata); err != nil {
				return nil, nil, fmt.Errorf("%s is not a map of strings: %w", metadataKey, err)
			}
			continue
		}
		var e entry
		if err := decoder.Decode(&e); err != nil {
			return nil, nil, fmt.Errorf("the header's entry of tensor %q: %w", name, err)
		}
		entries[name] = e
	}
	if _, err := decoder.Token(); err != nil {
		return nil, nil, fmt.Errorf("the header is not JSON: %w", err)
	}
	rest := header[decoder.InputOffset():]
	if len(bytes.TrimLeft(rest, " \t\r\n")) > 0 {
		return nil, nil, errors.New("the header goes on after its closing }")
	}
	if metadata == nil { // "__metadata__": null
		metadata = map[string]string{}
	}
	return metadata, entries, nil
}

// layOut checks each tensor's type, shape and place and gives the names in the order of the
// data, which must be gapless from the first byte to the last.
func layOut(entries map[string]entry, size int64) ([]string, error) {
	names := make([]string, 0, len(entries))
	for name, e := range entries {
		if err := e.check(size); err != nil {
			return nil, fmt.Errorf("tensor %q %w", name, err)
		}
		names = append(names, name)
	}
	slices.SortFunc(names, func(a, b string) int {
		x, y := entries[a].Offsets, entries[b].Offsets
		return cmp.Or(cmp.Compare(x[0], y[0]), cmp.Compare(x[1], y[1]), cmp.Compare(a, b))
	})
	end, before := int64(0), ""
	for _, name := range names {
		switch start := entries[name].Offsets[0]; {
		case start < end:
			return nil, fmt.Errorf("tensors %q and %q overlap", before, name)
		case start > end:
			return nil, fmt.Errorf("%d bytes before tensor %q belong to no tensor", start-end, name)
		}
		end, before = entries[name].Offsets[1], name
	}
	if end != size {
		return nil, fmt.Errorf("%d bytes after the last tensor belong to no tensor", size-end)
	}
	return names, nil
}

// check compares what an entry says with itself and with the number of bytes there are.
func (e entry) check(size int64) error {
	width := int64(e.DType.Size())
	if width == 0 {
		return fmt.Errorf("has dtype %q, which is not known", e.DType)
	}
	if e.Shape == nil {
		return errors.New("has no shape")
	}
	if len(e.Offsets) != 2 {
		return fmt.Errorf("has %d data offsets, not 2", len(e.Offsets))
	}
	count := int64(1)
	for _, dim := range e.Shape {
		if dim < 0 || dim > math.MaxInt {
			return fmt.Errorf("has a dimension of %d", dim)
		}
		if dim > 0 && count > math.MaxInt64/width/dim {
			return fmt.Errorf("has shape %v, more elements than can be counted", e.Shape)
		}
		count *= dim
	}
	from, to := e.Offsets[0], e.Offsets[1]
	if from < 0 || from > to {
		return fmt.Errorf("has data offsets %v", e.Offsets)
	}
	if to > size {
		return fmt.Errorf("ends at byte %d of %d: the file is cut short", to, size)
	}
	if to-from != count*width {
		return fmt.Errorf("has %d bytes, but %s %v takes %d", to-from, e.DType, e.Shape, count*width)
	}
	return nil
}
