package safetensors

import (
	"bufio"
	"bytes"
	"cmp"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"unicode/utf8"

	"github.com/t5ctl/t5ctl/internal/atomicfile"
)

// Spec says what a tensor is, without its data.
type Spec struct {
	Name  string
	DType DType
	Shape []int
}

// Bytes is the size of the data, or an error if type or shape make none.
func (s Spec) Bytes() (int64, error) {
	e := entry{DType: s.DType, Shape: make([]int64, len(s.Shape))}
	size := int64(s.DType.Size())
	for i, dim := range s.Shape {
		e.Shape[i] = int64(dim)
		size *= int64(dim)
	}
	e.Offsets = []int64{0, size}
	if err := e.check(size); err != nil {
		return 0, fmt.Errorf("tensor %q %w", s.Name, err)
	}
	return size, nil
}

// Write puts the tensors at path, whole or not at all. "format": "pt" is added to the metadata,
// because transformers refuses a file without it.
func Write(path string, metadata map[string]string, tensors []Tensor) error {
	specs := make([]Spec, len(tensors))
	data := make(map[string][]byte, len(tensors))
	for i, t := range tensors {
		specs[i] = Spec{Name: t.Name, DType: t.DType, Shape: t.Shape}
		data[t.Name] = t.Data
	}
	return WriteStream(path, metadata, specs, func(spec Spec, w io.Writer) error {
		_, err := w.Write(data[spec.Name])
		return err
	})
}

// WriteStream is Write for tensors that are not all in memory: fill is called once a tensor, in
// the order of the file, and must write exactly the bytes of the tensor.
func WriteStream(path string, metadata map[string]string, specs []Spec, fill func(spec Spec, w io.Writer) error) error {
	specs = slices.Clone(specs)
	slices.SortStableFunc(specs, inFileOrder)
	header, err := encodeHeader(metadata, specs)
	if err != nil {
		return fmt.Errorf("writing %s: %w", path, err)
	}
	return atomicfile.Write(path, func(file io.Writer) error {
		w := bufio.NewWriterSize(file, 1<<20)
		if _, err := w.Write(header); err != nil {
			return err
		}
		for _, spec := range specs {
			want, _ := spec.Bytes() // encodeHeader has checked it
			counted := &countingWriter{w: w}
			if err := fill(spec, counted); err != nil {
				return fmt.Errorf("writing tensor %q to %s: %w", spec.Name, path, err)
			}
			if counted.n != want {
				return fmt.Errorf("writing tensor %q to %s: it has %d bytes, but %s %v takes %d",
					spec.Name, path, counted.n, spec.DType, spec.Shape, want)
			}
		}
		return w.Flush()
	})
}

// inFileOrder is the Python library's: the widest types first, then by name.
func inFileOrder(a, b Spec) int {
	return cmp.Or(cmp.Compare(b.DType.rank(), a.DType.rank()), cmp.Compare(a.Name, b.Name))
}

// ordered gives the tensors as they will lie in a file.
func ordered(tensors []Tensor) []Tensor {
	out := slices.Clone(tensors)
	slices.SortStableFunc(out, func(a, b Tensor) int {
		return inFileOrder(Spec{Name: a.Name, DType: a.DType}, Spec{Name: b.Name, DType: b.DType})
	})
	return out
}

// encodeHeader makes the head of a file: the length and the JSON, padded so that the data is
// aligned to 8 bytes.
func encodeHeader(metadata map[string]string, specs []Spec) ([]byte, error) {
	metadata = maps.Clone(metadata)
	if metadata == nil {
		metadata = map[string]string{}
	}
	metadata["format"] = "pt"
	var b bytes.Buffer
	b.Write(make([]byte, lengthBytes))
	b.WriteString(`{"` + metadataKey + `":`)
	if err := appendJSON(&b, metadata); err != nil {
		return nil, err
	}
	seen, offset := map[string]bool{metadataKey: true}, int64(0)
	for _, spec := range specs {
		if !utf8.ValidString(spec.Name) {
			return nil, fmt.Errorf("tensor name %q is not UTF-8", spec.Name)
		}
		if seen[spec.Name] {
			return nil, fmt.Errorf("tensor name %q is given twice or reserved", spec.Name)
		}
		seen[spec.Name] = true
		size, err := spec.Bytes()
		if err != nil {
			return nil, err
		}
		shape := make([]int64, len(spec.Shape)) // not nil: a scalar's shape is []
		for i, dim := range spec.Shape {
			shape[i] = int64(dim)
		}
		b.WriteByte(',')
		if err := appendJSON(&b, spec.Name); err != nil {
			return nil, err
		}
		b.WriteByte(':')
		if err := appendJSON(&b, entry{DType: spec.DType, Shape: shape, Offsets: []int64{offset, offset + size}}); err != nil {
			return nil, err
		}
		offset += size
	}
	b.WriteByte('}')
	for b.Len()%lengthBytes != 0 {
		b.WriteByte(' ')
	}
	if b.Len()-lengthBytes > maxHeader {
		return nil, fmt.Errorf("the header would take %d bytes, more than the %d allowed", b.Len()-lengthBytes, maxHeader)
	}
	binary.LittleEndian.PutUint64(b.Bytes(), uint64(b.Len()-lengthBytes))
	return b.Bytes(), nil
}

// appendJSON writes value without the escapes that encoding/json adds for HTML.
func appendJSON(b *bytes.Buffer, value any) error {
	encoder := json.NewEncoder(b)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(value); err != nil {
		return err
	}
	b.Truncate(b.Len() - 1) // the newline
	return nil
}

// countingWriter counts what goes through it.
type countingWriter struct {
	w io.Writer
	n int64
}

func (c *countingWriter) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	c.n += int64(n)
	return n, err
}
