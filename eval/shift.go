package eval

import (
	"errors"
	"io"

	"github.com/t5ctl/t5ctl/eval/pytext"
)

// shiftLines bounds how much of two files is compared to find where they part.
const shiftLines = 50_000

// shiftedAt finds the first line from which the longer of two text files looks shifted against the
// shorter: the place where reading on behind the extra lines makes most lines alike. It is 0 where
// nothing can be told.
func shiftedAt(a, b *rowFile) int {
	if a.json || b.json {
		return 0
	}
	x, errX := wordsOfLines(a.path)
	y, errY := wordsOfLines(b.path)
	if errX != nil || errY != nil {
		return 0 // the files were readable a moment ago; the counts are told anyway
	}
	if len(x) < len(y) {
		x, y = y, x
	}
	extra := len(x) - len(y)
	// alike counts lines that fit if the extra ones stand at the end, then moves the place forward.
	best, at, alike := 0.0, 0, 0.0
	for i := len(y) - 1; i >= 0; i-- {
		alike += overlap(x[i+extra], y[i]) - overlap(x[i], y[i])
		if alike > best {
			best, at = alike, i+1
		}
	}
	if best > 0 {
		return at
	}
	for i := range y { // none is shifted: what is too much stands at the end, if the rest is alike at all
		if overlap(x[i], y[i]) > 0 {
			return len(y) + 1
		}
	}
	return 0
}

func wordsOfLines(path string) ([]map[string]bool, error) {
	f, err := openRows(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }() // only read from
	var out []map[string]bool
	for len(out) < shiftLines {
		row, err := f.next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, err
		}
		words := map[string]bool{}
		for _, w := range pytext.Fields(*row.Output) {
			words[w] = true
		}
		out = append(out, words)
	}
	return out, nil
}

// overlap is the share of words that two lines have in common.
func overlap(a, b map[string]bool) float64 {
	if len(a)+len(b) == 0 {
		return 0
	}
	both := 0
	for w := range a {
		if b[w] {
			both++
		}
	}
	return 2 * float64(both) / float64(len(a)+len(b))
}
