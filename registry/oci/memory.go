package oci

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"os"
	"path/filepath"

	"github.com/t5ctl/t5ctl/internal/atomicfile"
	"github.com/t5ctl/t5ctl/internal/digest"
)

// memory is what was read of a log: its records, and the manifest that held the last of them.
type memory struct {
	records [][]byte
	last    string // digest of the manifest of the last record
}

// memoryHead is the first line of the file that a memory is kept in.
type memoryHead struct {
	Place    string `json:"place"`
	Manifest string `json:"manifest"` // of the last record
	Sum      string `json:"sum"`      // of the lines that follow
}

// memoryName is a file name for what is remembered of the repository.
func (r *repository) memoryName() string {
	sum := sha256.Sum256([]byte(r.Reference.Registry + "/" + r.Reference.Repository))
	return hex.EncodeToString(sum[:8])
}

// memoryFile is where what was seen of the log is kept; "" where nothing is.
func (r *repository) memoryFile() string {
	if r.store.options.Memory == "" {
		return ""
	}
	return filepath.Join(r.store.options.Memory, r.memoryName()+".log")
}

// remembered reads the file. One that is damaged counts as none: it is a copy.
func (r *repository) remembered() *memory {
	path := r.memoryFile()
	if path == "" {
		return &memory{}
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return &memory{}
	}
	first, rest, _ := bytes.Cut(data, []byte("\n"))
	var head memoryHead
	if json.Unmarshal(first, &head) != nil || head.Sum != digest.Bytes(rest) {
		return &memory{}
	}
	m := &memory{last: head.Manifest}
	for len(rest) > 0 {
		var line []byte
		line, rest, _ = bytes.Cut(rest, []byte("\n"))
		m.records = append(m.records, line)
	}
	return m
}

// remember keeps what has been read, unless another process has kept more.
func (r *repository) remember(m *memory) error {
	r.known = m
	path := r.memoryFile()
	if path == "" || len(m.records) == 0 || len(r.remembered().records) > len(m.records) {
		return nil
	}
	body := append(bytes.Join(m.records, []byte("\n")), '\n')
	head, err := json.Marshal(memoryHead{Place: r.Reference.Registry + "/" + r.Reference.Repository, Manifest: m.last, Sum: digest.Bytes(body)})
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	return atomicfile.WriteBytes(path, append(append(head, '\n'), body...))
}
