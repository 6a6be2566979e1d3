package audit

import (
	"cmp"
	"hash/fnv"
	"slices"
	"strings"

	"github.com/t5ctl/t5ctl/datasets"
)

// Bounds of what of the held-out rows is looked for at a time; with more, the training part is read again.
const (
	maxRuns      = 1_000_000
	maxHeldBytes = 32 << 20
)

// run is a run of words in a held-out row.
type run struct {
	hash uint64
	row  int32 // in heldout.rows
	from int32 // byte in the row's text
}

// heldout are rows whose runs are looked for.
type heldout struct {
	rows   []heldRow
	runs   []run
	filter []uint64 // a bit for each hash: most runs of the training part stop here
	bytes  int      // of all texts
}

type heldRow struct {
	where
	text  string // the words of input and target, a space behind each
	found bool
}

const filterBits = 24

// contamination counts held-out rows that share a run of words with the training part. Hits of the hash
// are compared word for word.
func (a *auditor) contamination() error {
	for part := 1; part < len(a.options.Parts); part++ {
		h := newHeldout()
		err := a.each(part, "reading held-out rows", nil, func(w where, e datasets.Example) error {
			h.add(w, e, a.options.Ngram)
			if len(h.runs) < maxRuns && h.bytes < maxHeldBytes {
				return nil
			}
			err := a.search(h, part)
			h = newHeldout()
			return err
		})
		if err == nil && len(h.runs) > 0 {
			err = a.search(h, part)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func newHeldout() *heldout {
	return &heldout{filter: make([]uint64, 1<<filterBits/64)}
}

// add takes in a row, if it is long enough to have a run; none goes from the input across to the target.
func (h *heldout) add(w where, e datasets.Example, n int) {
	input, target := words(e.Input), words(e.Target)
	all := append(input, target...)
	at, byteAt, before := 0, 0, len(h.runs)
	for from, hash := range runs(all, len(input), n) {
		for ; at < from; at++ {
			byteAt += len(all[at]) + 1
		}
		h.runs = append(h.runs, run{hash, int32(len(h.rows)), int32(byteAt)})
		h.filter[hash>>(64-filterBits)/64] |= 1 << (hash >> (64 - filterBits) % 64)
	}
	if len(h.runs) == before {
		return
	}
	row := heldRow{where: w, text: spaced(all)}
	h.bytes += len(row.text)
	h.rows = append(h.rows, row)
}

// spaced joins words, a space behind each.
func spaced(words []string) string { return strings.Join(words, " ") + " " }

// runs gives the hash of each run of n words that lies on one side of the edge.
func runs(w []string, edge, n int) func(yield func(int, uint64) bool) {
	return func(yield func(int, uint64) bool) {
		hashes := make([]uint64, len(w))
		for i, s := range w {
			h := fnv.New64a()
			_, _ = h.Write([]byte(s)) // a hash does not fail
			hashes[i] = h.Sum64()
		}
		for from := 0; from+n <= len(w); from++ {
			if from < edge && from+n > edge {
				continue
			}
			sum := uint64(n)
			for _, x := range hashes[from : from+n] {
				sum = mix(sum ^ x)
			}
			if !yield(from, sum) {
				return
			}
		}
	}
}

// search reads the training part past the held-out rows.
func (a *auditor) search(h *heldout, part int) error {
	n := a.options.Ngram
	slices.SortFunc(h.runs, func(x, y run) int { return cmp.Compare(x.hash, y.hash) })
	return a.each(0, "looking for contamination", nil, func(w where, e datasets.Example) error {
		input := words(e.Input)
		all := append(input, words(e.Target)...)
		for from, hash := range runs(all, len(input), n) {
			if h.filter[hash>>(64-filterBits)/64]&(1<<(hash>>(64-filterBits)%64)) == 0 {
				continue
			}
			at, _ := slices.BinarySearchFunc(h.runs, hash, func(r run, hash uint64) int { return cmp.Compare(r.hash, hash) })
			for _, r := range h.runs[at:] {
				if r.hash != hash {
					break
				}
				row := &h.rows[r.row]
				if row.found || !strings.HasPrefix(row.text[r.from:], spaced(all[from:from+n])) {
					continue
				}
				row.found = true
				a.cross(0, part).Contaminated++
				a.finding("contamination", row.where, "%d words in a row are also in %s, line %d", n, a.options.Parts[0].Name, w.line)
			}
		}
		return nil
	})
}
