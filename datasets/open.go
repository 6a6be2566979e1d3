package datasets

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
)

// format is how a file spells its rows.
type format string

const (
	formatJSONL   format = "jsonl"
	formatCSV     format = "csv"
	formatTSV     format = "tsv"
	formatParquet format = "parquet"
)

// packing is how a file is compressed.
type packing string

const (
	packingNone packing = ""
	packingGzip packing = "gzip"
	packingZstd packing = "zstd"
)

// formatOf reads the format off a file's name.
func formatOf(path string) (format, packing, error) {
	name, pack := strings.ToLower(path), packingNone
	for ending, p := range map[string]packing{".gz": packingGzip, ".zst": packingZstd} {
		if cut, ok := strings.CutSuffix(name, ending); ok {
			name, pack = cut, p
			break
		}
	}
	for ending, f := range map[string]format{
		".jsonl": formatJSONL, ".ndjson": formatJSONL, ".csv": formatCSV, ".tsv": formatTSV, ".parquet": formatParquet,
	} {
		if strings.HasSuffix(name, ending) {
			return f, pack, nil
		}
	}
	return "", "", &FormatError{Path: path, Reason: "its name must end in .jsonl, .csv, .tsv or .parquet, with .gz or .zst behind it if packed"}
}

const (
	// Behind the first gigabyte, a file that expands further than this is an attack: gzip cannot
	// reach 1,032, and zstd does so only on endless repetition.
	maxExpansion  = 2000
	freeExpansion = 1 << 30
	// A zstd frame may ask for a window of this size; the format's own recommendation is 8 MiB.
	maxWindow = 128 << 20
)

// opened is a file that is being read, unpacked.
type opened struct {
	io.Reader
	packing packing
	file    io.Closer
	done    func()
	in, out int64
	raw     *os.File // nil for a stream
}

// open opens a file and looks into it.
func open(path string, pack packing) (*opened, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	if info, err := f.Stat(); err != nil || info.IsDir() {
		_ = f.Close() // read only
		if err == nil {
			err = &FormatError{Path: path, Reason: "is a folder, not a file"}
		}
		return nil, err
	}
	o, err := unpack(f, pack)
	if err != nil {
		_ = f.Close() // read only
		return nil, (&opened{packing: pack}).explain(path, err)
	}
	o.raw = f
	return o, nil
}

// unpack puts the decoder before a stream.
func unpack(file io.ReadCloser, pack packing) (*opened, error) {
	o := &opened{packing: pack, file: file, done: func() {}}
	in := bufio.NewReaderSize(counter{file, &o.in}, 1<<18)
	switch pack {
	case packingGzip:
		if _, err := in.Peek(1); errors.Is(err, io.EOF) { // an empty file is empty, packed or not
			o.Reader = in
			return o, nil
		}
		z, err := gzip.NewReader(in)
		if err != nil {
			return nil, unpackError{err}
		}
		o.Reader = limited{o, z}
	case packingZstd:
		z, err := zstd.NewReader(in, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(maxWindow))
		if err != nil {
			return nil, err
		}
		o.Reader, o.done = limited{o, z}, z.Close
	case packingNone:
		o.Reader = in
	}
	return o, nil
}

// Close ends the reading.
func (o *opened) Close() error {
	o.done()
	return o.file.Close()
}

// explain turns a decoder's complaint into one about the file.
func (o *opened) explain(path string, err error) error {
	switch {
	case o.packing == packingNone:
		return err
	case errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, io.EOF):
		return &FormatError{Path: path, Reason: fmt.Sprintf("the %s data is cut short", o.packing)}
	case errors.Is(err, gzip.ErrHeader), errors.Is(err, zstd.ErrMagicMismatch):
		return &FormatError{Path: path, Reason: fmt.Sprintf("is not %s data, though its name says so", o.packing)}
	case errors.Is(err, gzip.ErrChecksum), errors.Is(err, zstd.ErrCRCMismatch):
		return &FormatError{Path: path, Reason: fmt.Sprintf("the %s data is damaged: its checksum differs", o.packing)}
	case errors.Is(err, errBomb), isDecoderError(err):
		return &FormatError{Path: path, Reason: fmt.Sprintf("the %s data is damaged: %v", o.packing, err)}
	}
	return err
}

var errBomb = fmt.Errorf("it expands more than %d-fold", maxExpansion)

// unpackError marks what a decoder said, so that it can be told from errors of rows.
type unpackError struct{ error }

func (e unpackError) Unwrap() error { return e.error }

func isDecoderError(err error) bool {
	_, ok := errors.AsType[unpackError](err)
	return ok
}

// counter counts the bytes of the packed file.
type counter struct {
	r io.Reader
	n *int64
}

func (c counter) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	*c.n += int64(n)
	return n, err
}

// limited stops a file that expands beyond reason.
type limited struct {
	o *opened
	r io.Reader
}

func (l limited) Read(p []byte) (int, error) {
	n, err := l.r.Read(p)
	l.o.out += int64(n)
	if l.o.out > freeExpansion && l.o.out/maxExpansion > l.o.in {
		return n, unpackError{errBomb}
	}
	if err != nil && !errors.Is(err, io.EOF) {
		err = unpackError{err}
	}
	return n, err
}

// newRows starts reading a file of the format.
func newRows(f format, file *opened, path string, o ReadOptions) (rowReader, error) {
	if o.MaxRowBytes <= 0 {
		o.MaxRowBytes = DefaultMaxRowBytes
	}
	if f == formatParquet {
		return newParquet(file, path, o)
	}
	in := bufio.NewReaderSize(file, 1<<18)
	if err := checkHead(in, path); err != nil {
		return nil, err
	}
	switch f {
	case formatCSV:
		return newCSV(in, path, o)
	case formatTSV:
		return newTSV(in, path, o)
	default:
		return newJSONL(in, path, o), nil
	}
}

// checkHead drops a byte order mark and refuses what is plainly not text in UTF-8.
func checkHead(in *bufio.Reader, path string) error {
	head, err := in.Peek(4)
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	for magic, what := range map[string]string{
		"\xff\xfe": "is UTF-16, not UTF-8", "\xfe\xff": "is UTF-16, not UTF-8",
		"\x1f\x8b": "is packed by gzip, though its name does not say so", "\x28\xb5\x2f\xfd": "is packed by zstd, though its name does not say so",
		"PAR1": "is Parquet, though its name does not say so", "PK\x03\x04": "is a ZIP archive",
	} {
		if bytes.HasPrefix(head, []byte(magic)) {
			return &FormatError{Path: path, Reason: what}
		}
	}
	if bytes.HasPrefix(head, []byte("\xef\xbb\xbf")) {
		_, err = in.Discard(3)
		return err
	}
	return nil
}

// lines reads lines of bounded length.
type lines struct {
	in   *bufio.Reader
	line int64  // number of the line that next gave
	long []byte // collects a line longer than the reader's buffer
	max  int
}

var errLongLine = errors.New("line is too long")

// next gives a line without its end; it is valid until the next call. errLongLine says that a
// line was passed over.
func (l *lines) next() ([]byte, error) {
	l.line++
	l.long = l.long[:0]
	tooLong := false
	for {
		part, err := l.in.ReadSlice('\n')
		if len(l.long)+len(part) > l.max+1 {
			tooLong = true
		}
		switch {
		case errors.Is(err, bufio.ErrBufferFull):
			if !tooLong {
				l.long = append(l.long, part...)
			}
			continue
		case err != nil && (!errors.Is(err, io.EOF) || len(l.long)+len(part) == 0 && !tooLong):
			return nil, err
		case tooLong:
			return nil, errLongLine
		}
		if len(l.long) > 0 {
			l.long = append(l.long, part...)
			part = l.long
		}
		part = bytes.TrimSuffix(part, []byte("\n"))
		return bytes.TrimSuffix(part, []byte("\r")), nil
	}
}
