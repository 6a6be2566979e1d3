package datasets

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"github.com/t5ctl/t5ctl/internal/atomicfile"
	"github.com/t5ctl/t5ctl/internal/digest"
)

// ManifestSchema names the format of a Manifest and its version.
const ManifestSchema = "t5ctl.data/1"

// Manifest is what a run records about its data (data.json): enough to say years later what a
// model was made from, and whether canaries were planted in it.
type Manifest struct {
	Schema   string         `json:"schema"`
	Splits   []SplitRecord  `json:"splits"`
	Canaries []CanaryRecord `json:"canaries,omitempty"` // not empty: the model is marked
}

// SplitRecord is the lineage of one split.
type SplitRecord struct {
	Split       Split        `json:"split"`
	Files       []FileRecord `json:"files"`
	Fingerprint string       `json:"fingerprint"` // of the rows, see Fingerprinter
	Stats
	Tasks []TaskRecord `json:"tasks,omitempty"` // of a mixture
	Texts *Stats       `json:"texts,omitempty"` // of the plain texts, where a mixture reads pairs and texts
}

// FileRecord identifies a file as it was read.
type FileRecord struct {
	Path   string   `json:"path"`
	Digest string   `json:"digest"`
	Bytes  int64    `json:"bytes"`
	Made   *Lineage `json:"made,omitempty"` // how, where a record beside the file says it
}

// Stats counts what became of the rows of a split.
type Stats struct {
	Rows             int64 `json:"rows"`
	Skipped          int64 `json:"skipped"`
	TruncatedInputs  int64 `json:"truncated_inputs"`
	TruncatedTargets int64 `json:"truncated_targets"`
	InputTokens      int64 `json:"input_tokens"`   // after truncation
	TargetTokens     int64 `json:"target_tokens"`  // after truncation
	UnknownTokens    int64 `json:"unknown_tokens"` // text that the vocabulary cannot spell
	LongestInput     int   `json:"longest_input"`  // before truncation
	LongestTarget    int   `json:"longest_target"` // before truncation
}

// CanaryRecord points to the record of canaries that were planted in a file.
type CanaryRecord struct {
	Data   string `json:"data"`   // the file they were planted in
	Path   string `json:"path"`   // the record of what was planted
	Digest string `json:"digest"` // of that record
}

// CanaryPath is where the record of canaries planted in a data file lies: beside it, so that it
// is found by whoever reads the data. It stays the same if the file is packed afterwards.
func CanaryPath(dataPath string) string {
	for _, ending := range []string{".gz", ".zst"} {
		if cut, ok := strings.CutSuffix(dataPath, ending); ok {
			dataPath = cut
			break
		}
	}
	return dataPath + ".canaries.json"
}

// FindCanaries looks for the records of canaries beside the files.
func FindCanaries(files []string) ([]CanaryRecord, error) {
	var found []CanaryRecord
	for _, file := range files {
		for _, path := range slices.Compact([]string{CanaryPath(file), file + ".canaries.json"}) {
			sum, _, err := digest.File(path)
			if errors.Is(err, fs.ErrNotExist) {
				continue
			}
			if err != nil {
				return nil, fmt.Errorf("reading the record of canaries of %s: %w", file, err)
			}
			found = append(found, CanaryRecord{Data: file, Path: path, Digest: sum})
		}
	}
	return found, nil
}

// NewManifest joins the records of the splits that a run reads.
func NewManifest(splits ...*Data) Manifest {
	m := Manifest{Schema: ManifestSchema, Splits: []SplitRecord{}}
	for _, data := range splits {
		if data != nil {
			m.Splits = append(m.Splits, data.Record)
			m.Canaries = append(m.Canaries, data.Canaries...)
		}
	}
	return m
}

// Planted says whether canaries were planted in any of the data.
func (m Manifest) Planted() bool { return len(m.Canaries) > 0 }

// Split finds the record of a split.
func (m Manifest) Split(split Split) (SplitRecord, bool) {
	for _, record := range m.Splits {
		if record.Split == split {
			return record, true
		}
	}
	return SplitRecord{}, false
}

// Write puts the manifest at path.
func (m Manifest) Write(path string) error {
	data, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return err
	}
	return atomicfile.WriteBytes(path, append(data, '\n'))
}
