package datasets

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/t5ctl/t5ctl/internal/atomicfile"
	"github.com/t5ctl/t5ctl/internal/digest"
)

// LineageSchema names the format of a Lineage and its version.
const LineageSchema = "t5ctl.lineage/1"

// Lineage says how a data file was made. It lies beside the file, and a run that reads the file keeps
// it with the digest of what it read.
type Lineage struct {
	Schema  string       `json:"schema"`
	Digest  string       `json:"digest"`            // of the file
	Command string       `json:"command"`           // that made it, as "data split"
	Tool    string       `json:"tool"`              // its version
	Options any          `json:"options,omitempty"` // what decided the content
	Parents []FileRecord `json:"parents"`           // what it was made from, with their own lineage
}

// LineagePath is where the lineage of a data file lies.
func LineagePath(dataPath string) string { return dataPath + ".lineage.json" }

// WriteLineage records how a file was made from others. The caller fills in what it did; digests and the
// parents' own lineages are read here.
func WriteLineage(path string, l Lineage, parents []string) error {
	l.Schema, l.Parents = LineageSchema, []FileRecord{}
	var err error
	if l.Digest, _, err = digest.File(path); err != nil {
		return err
	}
	for _, parent := range parents {
		record, err := recordOf(parent)
		if err != nil {
			return err
		}
		l.Parents = append(l.Parents, record)
	}
	data, err := json.MarshalIndent(l, "", "  ")
	if err != nil {
		return err
	}
	return atomicfile.WriteBytes(LineagePath(path), append(data, '\n'))
}

// LineageError says why a file is no record of how data was made.
type LineageError struct{ Path, Reason string }

func (e *LineageError) Error() string { return fmt.Sprintf("lineage %s: %s", e.Path, e.Reason) }

// recordOf identifies a file, with its lineage where there is one. A record of another content says nothing
// of this one and is passed over: the file was changed since.
func recordOf(path string) (FileRecord, error) {
	sum, size, err := digest.File(path)
	if err != nil {
		return FileRecord{}, err
	}
	r := FileRecord{Path: path, Digest: sum, Bytes: size}
	data, err := os.ReadFile(LineagePath(path))
	if errors.Is(err, fs.ErrNotExist) {
		return r, nil
	}
	if err != nil {
		return r, err
	}
	l, err := parseLineage(LineagePath(path), data)
	if err == nil && l.Digest == sum {
		r.Made = &l
	}
	return r, err
}

// parseLineage reads a record; path is for messages.
func parseLineage(path string, data []byte) (Lineage, error) {
	var l Lineage
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&l); err != nil {
		return l, &LineageError{path, err.Error()}
	}
	if l.Schema != LineageSchema {
		return l, &LineageError{path, fmt.Sprintf("has schema %q, this version reads %q", l.Schema, LineageSchema)}
	}
	return l, nil
}
