package datasets

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"

	"github.com/t5ctl/t5ctl/internal/atomicfile"
	"github.com/t5ctl/t5ctl/internal/digest"
	"github.com/t5ctl/t5ctl/internal/mapped"
	"github.com/t5ctl/t5ctl/internal/vocab"
)

// Corpus is the rows of a split as token ids, in a file that is mapped rather than held in
// memory. It does not change, and may be read by many goroutines at once.
type Corpus struct {
	file   *mapped.File
	head   corpusHead
	data   []byte // the records
	index  []byte // indexEntry bytes a row
	files  []string
	remove string // a folder to remove with the corpus
	width  int    // bytes of a token
}

// corpusHead describes a corpus file; it stands at its end as JSON.
type corpusHead struct {
	Version     int    `json:"version"`
	Key         string `json:"key"`         // of everything that the tokens depend on
	Fingerprint string `json:"fingerprint"` // of the texts
	Wide        bool   `json:"wide"`        // tokens take 4 bytes, not 2
	Records     int64  `json:"records"`     // bytes of records
	Count       int64  `json:"count"`       // of records: the rows, or their texts
	Stats       Stats  `json:"stats"`
	// Skipped holds the first of the rows that were bad.
	Skipped []skippedRow `json:"skipped,omitempty"`
}

type skippedRow struct {
	File   int    `json:"file"`
	Line   int64  `json:"line"`
	Reason string `json:"reason"`
}

// A corpus file is: magic; the records, each file u32, line u64, length of the id u32, id,
// input tokens, target tokens; the index, for each row offset u64, input tokens u32, target
// tokens u32; the head as JSON; its length u64; the SHA-256 of all before; magic.
const (
	corpusVersion = 1
	corpusMagic   = "t5tokens"
	recordHead    = 16
	indexEntry    = 16
	corpusTail    = 8 + sha256.Size + len(corpusMagic)
	keepSkipped   = 20
)

// TokenizeOptions says what a Corpus is made of.
type TokenizeOptions struct {
	Files     []string
	Read      ReadOptions
	Tokenizer *vocab.Tokenizer
	Prefix    string // before every input
	MaxInput  int    // tokens, </s> included; 0 is no limit
	MaxTarget int
	// CacheDir keeps the tokens for the next run over the same content. Empty: they are made
	// anew and vanish with the corpus.
	CacheDir string
	Progress func(rows int64) // hears of the rows done, from time to time; may be nil
}

// Tokenize reads the files once and gives their rows as token ids. With Need Texts a row is one
// text without </s>, and a pair gives two rows. A cache of the same content is used if it is
// sound, and made anew if it is not.
func Tokenize(ctx context.Context, o TokenizeOptions) (*Corpus, []FileRecord, error) {
	records, key, err := o.identify()
	if err != nil {
		return nil, nil, err
	}
	if o.CacheDir == "" {
		dir, err := os.MkdirTemp("", "t5ctl-tokens-")
		if err != nil {
			return nil, nil, err
		}
		o.CacheDir = dir
		corpus, err := o.make(ctx, key)
		if err != nil {
			return nil, nil, errors.Join(err, os.RemoveAll(dir))
		}
		corpus.remove = dir
		return corpus, records, nil
	}
	if err := os.MkdirAll(o.CacheDir, 0o755); err != nil {
		return nil, nil, err
	}
	if corpus, err := openCorpus(o.cachePath(key), key, o.Files); err == nil {
		return corpus, records, nil
	}
	corpus, err := o.make(ctx, key)
	return corpus, records, err
}

// identify digests the files and all else that the tokens depend on.
func (o TokenizeOptions) identify() (records []FileRecord, key string, err error) {
	h := sha256.New()
	settings := []any{
		corpusVersion, o.Read.Columns, o.Read.Need, o.Read.OnBadRow, o.Read.MaxRowBytes, o.Prefix,
		o.MaxInput, o.MaxTarget, o.Tokenizer.Mode(), o.Tokenizer.Hash(),
	}
	for _, path := range o.Files {
		record, err := recordOf(path)
		if err != nil {
			return nil, "", err
		}
		format, packing, err := formatOf(path)
		if err != nil {
			return nil, "", err
		}
		records = append(records, record)
		settings = append(settings, record.Digest, format, packing)
	}
	if err := json.NewEncoder(h).Encode(settings); err != nil {
		return nil, "", err
	}
	return records, digest.Sum(h), nil
}

func (o TokenizeOptions) cachePath(key string) string {
	return filepath.Join(o.CacheDir, key[len(digest.Prefix):][:32]+".tokens")
}

// make tokenizes the files into the cache folder and opens the result.
func (o TokenizeOptions) make(ctx context.Context, key string) (*Corpus, error) {
	path := o.cachePath(key)
	err := atomicfile.Write(path, func(w io.Writer) error {
		return o.write(ctx, key, w)
	})
	if err != nil {
		return nil, err
	}
	corpus, err := openCorpus(path, key, o.Files)
	if err != nil {
		return nil, fmt.Errorf("reading back the tokens: %w", err)
	}
	return corpus, nil
}

// openCorpus maps a corpus file and checks that it is whole and the one that is wanted.
func openCorpus(path, key string, files []string) (_ *Corpus, err error) {
	file, err := mapped.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, file.Close())
		}
	}()
	b := file.Bytes()
	broken := func(what string) error {
		return &FormatError{Path: path, Reason: "is not a whole file of tokens: " + what}
	}
	if len(b) < len(corpusMagic)+corpusTail || string(b[len(b)-len(corpusMagic):]) != corpusMagic {
		return nil, broken("its end is missing")
	}
	body, tail := b[:len(b)-sha256.Size-len(corpusMagic)], b[len(b)-sha256.Size-len(corpusMagic):]
	if sha256.Sum256(body) != [sha256.Size]byte(tail) {
		return nil, broken("its checksum differs")
	}
	length := binary.LittleEndian.Uint64(body[len(body)-8:])
	body = body[:len(body)-8]
	if length > uint64(len(body)-len(corpusMagic)) {
		return nil, broken("its head is too long")
	}
	c := &Corpus{file: file, files: files, width: 2}
	if err := json.Unmarshal(body[len(body)-int(length):], &c.head); err != nil {
		return nil, broken(err.Error())
	}
	body = body[len(corpusMagic) : len(body)-int(length)]
	if c.head.Version != corpusVersion || c.head.Key != key || int64(len(body)) != c.head.Records+c.head.Count*indexEntry {
		return nil, broken("it holds something else")
	}
	if c.head.Wide {
		c.width = 4
	}
	c.data, c.index = body[:c.head.Records], body[c.head.Records:]
	return c, nil
}

// Close lets the tokens go.
func (c *Corpus) Close() error {
	err := c.file.Close()
	c.data, c.index = nil, nil
	if c.remove != "" {
		err = errors.Join(err, os.RemoveAll(c.remove))
	}
	return err
}

// Len is the number of rows, or of texts where plain text was asked for.
func (c *Corpus) Len() int64 { return c.head.Count }

// Stats counts what became of the rows.
func (c *Corpus) Stats() Stats { return c.head.Stats }

// Fingerprint identifies the texts, see Fingerprinter.
func (c *Corpus) Fingerprint() string { return c.head.Fingerprint }

// Skipped gives the first of the rows that were bad, at most 20.
func (c *Corpus) Skipped() []*RowError {
	var out []*RowError
	for _, s := range c.head.Skipped {
		out = append(out, &RowError{Path: c.path(s.File), Line: s.Line, Reason: s.Reason})
	}
	return out
}

func (c *Corpus) path(file int) string {
	if file < 0 || file >= len(c.files) {
		return "file " + strconv.Itoa(file)
	}
	return c.files[file]
}

// entry reads the index.
func (c *Corpus) entry(row int64) (record []byte, inputs, targets int) {
	e := c.index[row*indexEntry:][:indexEntry]
	return c.data[binary.LittleEndian.Uint64(e):], int(binary.LittleEndian.Uint32(e[8:])), int(binary.LittleEndian.Uint32(e[12:]))
}

// Lengths gives the number of input and target tokens of a row.
func (c *Corpus) Lengths(row int64) (input, target int) {
	_, input, target = c.entry(row)
	return input, target
}

// ID names a row: by its own id, or by file and line.
func (c *Corpus) ID(row int64) string {
	record, _, _ := c.entry(row)
	if n := binary.LittleEndian.Uint32(record[12:]); n > 0 {
		return string(record[recordHead:][:n])
	}
	return place(c.path(int(binary.LittleEndian.Uint32(record))), int64(binary.LittleEndian.Uint64(record[4:])))
}

// Tokens gives the input and target tokens of a row, in memory of their own.
func (c *Corpus) Tokens(row int64) (input, target []int32) {
	record, inputs, targets := c.entry(row)
	record = record[recordHead+binary.LittleEndian.Uint32(record[12:]):]
	tokens := make([]int32, inputs+targets)
	for i := range tokens {
		if c.width == 2 {
			tokens[i] = int32(binary.LittleEndian.Uint16(record[2*i:]))
		} else {
			tokens[i] = int32(binary.LittleEndian.Uint32(record[4*i:]))
		}
	}
	return tokens[:inputs:inputs], tokens[inputs:]
}
