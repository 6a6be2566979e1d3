//go:build cgo && !noxla && unix

package pjrt

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/t5ctl/t5ctl/internal/atomicfile"
)

// largestStore bounds the folder of compiled programs, in bytes; the longest unused go first.
const largestStore = 1 << 30

// store keeps compiled programs as files: 32 bytes of SHA-256, then what the plugin wrote. It holds
// machine code, so that only its owner may write there.
type store struct {
	dir     string
	machine []byte // what a program depends on beside its text and its options
}

// openStore makes the folder. Programs of the plugin at path are told from those of others.
func openStore(dir, path string) (*store, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	facts := []string{
		path, strconv.FormatInt(info.Size(), 10), info.ModTime().UTC().Format(time.RFC3339Nano),
		runtime.GOOS, runtime.GOARCH, strconv.Itoa(runtime.NumCPU()), processor(),
		os.Getenv("XLA_FLAGS"), os.Getenv("XLA_DEBUG_OPTIONS"),
	}
	return &store{dir: dir, machine: []byte(strings.Join(append(facts, graphicsCards()...), "\x00"))}, nil
}

// processor is what the system says of the first processor's kind and instructions.
func processor() string {
	data, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return ""
	}
	var facts []string
	for line := range strings.Lines(string(data)) {
		key, value, _ := strings.Cut(line, ":")
		switch strings.TrimSpace(key) {
		case "model name", "flags", "Features":
			facts = append(facts, value)
		case "":
			return strings.Join(facts, "")
		}
	}
	return strings.Join(facts, "")
}

// graphicsCards are the NVIDIA devices and their driver, as far as the system tells.
func graphicsCards() (facts []string) {
	paths, _ := filepath.Glob("/proc/driver/nvidia/gpus/*/information") // the pattern is right
	for _, path := range append(paths, "/proc/driver/nvidia/version") {
		if data, err := os.ReadFile(path); err == nil {
			facts = append(facts, string(data))
		}
	}
	return facts
}

// key names a program after all that decides its content.
func (s *store) key(code, options []byte) string {
	h := sha256.New()
	for _, part := range [][]byte{s.machine, options, code} {
		var size [8]byte
		binary.LittleEndian.PutUint64(size[:], uint64(len(part)))
		h.Write(size[:])
		h.Write(part)
	}
	return hex.EncodeToString(h.Sum(nil))
}

func (s *store) path(key string) string { return filepath.Join(s.dir, key+".program") }

// read gives a program; nil where there is none that is whole.
func (s *store) read(key string) []byte {
	data, err := os.ReadFile(s.path(key))
	if err != nil || len(data) < sha256.Size {
		return nil
	}
	sum, program := data[:sha256.Size], data[sha256.Size:]
	if have := sha256.Sum256(program); !bytes.Equal(sum, have[:]) {
		return nil
	}
	now := time.Now()
	_ = os.Chtimes(s.path(key), now, now) // at worst it is dropped too early
	return program
}

// write keeps a program and drops the longest unused ones if there are too many. A program that
// could not be written is compiled again, nothing worse.
func (s *store) write(key string, program []byte) {
	sum := sha256.Sum256(program)
	if atomicfile.WriteBytes(s.path(key), append(sum[:], program...)) != nil {
		return
	}
	entries, err := os.ReadDir(s.dir)
	if err != nil {
		return
	}
	var files []os.FileInfo
	var total int64
	for _, e := range entries {
		if info, err := e.Info(); err == nil && strings.HasSuffix(e.Name(), ".program") {
			files, total = append(files, info), total+info.Size()
		}
	}
	slices.SortFunc(files, func(a, b os.FileInfo) int { return cmp.Compare(a.ModTime().UnixNano(), b.ModTime().UnixNano()) })
	for _, f := range files {
		if total <= largestStore {
			return
		}
		if os.Remove(filepath.Join(s.dir, f.Name())) == nil {
			total -= f.Size()
		}
	}
}
