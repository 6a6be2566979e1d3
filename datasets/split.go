package datasets

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/klauspost/compress/gzip"
	"github.com/t5ctl/t5ctl/internal/atomicfile"
	"github.com/t5ctl/t5ctl/internal/digest"
)

// SplitOptions says how rows are divided between train, validation and test.
type SplitOptions struct {
	Files      []string
	Key        string  // the column that decides; empty: the input column
	Columns    Columns // where the input is, if it decides
	Salt       string  // another salt divides otherwise
	Validation float64 // share of the keys
	Test       float64
	OnBadRow   string
	Gzip       bool // pack the files
}

// SplitShare is one file that a division made.
type SplitShare struct {
	Split Split   `json:"split"`
	Path  string  `json:"path"`
	Share float64 `json:"share"` // that was asked for
	Rows  int64   `json:"rows"`
}

// ShareError says that a split got no row.
type ShareError struct {
	Split Split
	Share float64
	Rows  int64 // of all splits
}

// Error names the split and its share.
func (e *ShareError) Error() string {
	return fmt.Sprintf("%s gets no row: its share is %g of %d rows", e.Split, e.Share, e.Rows)
}

// SplitOf says where rows with this key belong. It depends on key, salt and shares alone, so that
// a row never changes sides when others come or go, and rows with the same key stay together.
// Making test larger takes rows from validation, making both larger takes them from train.
func (o SplitOptions) SplitOf(key string) Split {
	sum := sha256.Sum256([]byte(o.Salt + "\x00" + key))
	u := float64(binary.BigEndian.Uint64(sum[:])>>11) * (1.0 / (1 << 53)) // [0, 1)
	switch {
	case u < o.Test:
		return Test
	case u < o.Test+o.Validation:
		return Validation
	}
	return Train
}

// Validate tells what is wrong with the shares.
func (o SplitOptions) Validate() error {
	if !(o.Validation >= 0 && o.Test >= 0 && o.Validation+o.Test > 0 && o.Validation+o.Test < 1) {
		return fmt.Errorf("shares of %g for validation and %g for test leave nothing to divide: both must be at least 0, and their sum between 0 and 1",
			o.Validation, o.Test)
	}
	return nil
}

// DivideInto writes the rows of all files, as they are, into JSON lines in a new folder: train,
// validation and test. The folder appears whole or not at all. Where canaries were planted in one
// of the files, all parts are marked. Skipped counts bad rows.
func (o SplitOptions) DivideInto(ctx context.Context, dir string) (shares []SplitShare, skipped int64, err error) {
	if err := o.Validate(); err != nil {
		return nil, 0, err
	}
	canaries, err := FindCanaries(o.Files)
	if err != nil {
		return nil, 0, err
	}
	err = atomicfile.WriteDir(dir, func(stage string) error {
		shares, skipped, err = o.divide(ctx, stage)
		if err != nil {
			return err
		}
		for i, canary := range canaries {
			for _, share := range shares {
				if err := copyCanaries(canary, stage, share.Path, i); err != nil {
					return err
				}
			}
		}
		return nil
	})
	for i := range shares {
		shares[i].Path = filepath.Join(dir, shares[i].Path)
	}
	return shares, skipped, err
}

// copyCanaries puts the record of canaries beside a part. Where several files were planted, the
// first record is the one that is found, and it is enough to mark the part.
func copyCanaries(canary CanaryRecord, stage, part string, i int) error {
	data, err := os.ReadFile(canary.Path)
	if err != nil {
		return err
	}
	if got := digest.Bytes(data); got != canary.Digest {
		return &digest.MismatchError{Path: canary.Path, Want: canary.Digest, Got: got}
	}
	path := CanaryPath(filepath.Join(stage, part))
	if i > 0 {
		path = fmt.Sprintf("%s.%d", path, i+1)
	}
	return atomicfile.WriteBytes(path, data)
}

// part is one output file being written.
type part struct {
	file *os.File
	pack io.WriteCloser
	out  *bufio.Writer
}

func (p *part) close() error {
	if err := p.out.Flush(); err != nil {
		return err
	}
	if p.pack != nil {
		if err := p.pack.Close(); err != nil {
			return err
		}
	}
	return p.file.Close()
}

// newPart opens an output file; the name has no time in it, so that the same rows give the same
// bytes.
func (o SplitOptions) newPart(dir, name string) (*part, error) {
	file, err := os.Create(filepath.Join(dir, name))
	if err != nil {
		return nil, err
	}
	p := &part{file: file}
	if o.Gzip {
		if p.pack, err = gzip.NewWriterLevel(file, gzip.BestCompression); err != nil {
			return nil, err
		}
		p.out = bufio.NewWriterSize(p.pack, 1<<18)
		return p, nil
	}
	p.out = bufio.NewWriterSize(file, 1<<18)
	return p, nil
}

// divide writes the parts into an existing folder.
func (o SplitOptions) divide(ctx context.Context, dir string) (shares []SplitShare, skipped int64, err error) {
	parts, at := map[Split]*part{}, map[Split]int{}
	defer func() {
		for _, p := range parts {
			_ = p.file.Close() // closed before unless something failed
		}
	}()
	want := map[Split]float64{Train: 1 - o.Validation - o.Test, Validation: o.Validation, Test: o.Test}
	for _, split := range Splits() {
		if want[split] == 0 {
			continue
		}
		name := string(split) + ".jsonl"
		if o.Gzip {
			name += ".gz"
		}
		if parts[split], err = o.newPart(dir, name); err != nil {
			return nil, 0, err
		}
		at[split] = len(shares)
		shares = append(shares, SplitShare{Split: split, Path: name, Share: want[split]})
	}
	total, err := o.deal(ctx, func(split Split, raw []byte) error {
		shares[at[split]].Rows++
		_, err := parts[split].out.Write(append(raw, '\n'))
		return err
	}, func(*RowError) { skipped++ })
	if err != nil {
		return nil, skipped, err
	}
	for _, share := range shares {
		if share.Rows == 0 {
			return nil, skipped, &ShareError{Split: share.Split, Share: share.Share, Rows: total}
		}
		if err := parts[share.Split].close(); err != nil {
			return nil, skipped, err
		}
	}
	return shares, skipped, nil
}

// deal gives every row with the split it belongs to.
func (o SplitOptions) deal(ctx context.Context, give func(Split, []byte) error, skip func(*RowError)) (rows int64, err error) {
	read := ReadOptions{Columns: o.Columns, Need: Inputs, OnBadRow: o.OnBadRow, OnSkip: skip, Raw: true}
	if o.Key != "" {
		read.Need, read.Columns.ID = IDs, o.Key
	}
	for example, err := range ReadFiles(o.Files, read) {
		if err != nil {
			return rows, err
		}
		key := example.Input
		if o.Key != "" {
			key = example.ID
		}
		rows++
		if rows%1024 == 0 && ctx.Err() != nil {
			return rows, context.Cause(ctx)
		}
		if err := give(o.SplitOf(key), example.Raw); err != nil {
			return rows, err
		}
	}
	return rows, nil
}

// CarryCanaries marks a file that was made from others: where canaries were planted in one of those, their
// record goes beside the new file too.
func CarryCanaries(files []string, output string) error {
	canaries, err := FindCanaries(files)
	if err != nil {
		return err
	}
	for i, canary := range canaries {
		if err := copyCanaries(canary, filepath.Dir(output), filepath.Base(output), i); err != nil {
			return err
		}
	}
	return nil
}
