package audit

import (
	"hash/fnv"
	"slices"

	"github.com/t5ctl/t5ctl/datasets"
)

// maxRuns is how many runs of words of held-out rows are looked for at a time; with more, the
// training part is read again.
const maxRuns = 1_000_000

// run is a run of words in a held-out row.
type run struct {
	row  int32 // in heldout.rows
	from int32
}

// heldout are rows whose runs are looked for.
type heldout struct {
	rows   []heldRow
	runs   map[uint64][]run
	filter []uint64 // a bit for each hash: most runs of the training part stop here
	count  int
}

type heldRow struct {
	where
	words []string // of input and target
	edge  int      // where the target's words begin: no run goes across
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
			if h.count < maxRuns {
				return nil
			}
			err := a.search(h, part)
			h = newHeldout()
			return err
		})
		if err == nil && h.count > 0 {
			err = a.search(h, part)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func newHeldout() *heldout {
	return &heldout{runs: map[uint64][]run{}, filter: make([]uint64, 1<<filterBits/64)}
}

func (h *heldout) add(w where, e datasets.Example, n int) {
	input, target := words(e.Input), words(e.Target)
	row := heldRow{where: w, words: append(input, target...), edge: len(input)}
	for from, hash := range runs(row.words, row.edge, n) {
		h.runs[hash] = append(h.runs[hash], run{int32(len(h.rows)), int32(from)})
		h.filter[hash>>(64-filterBits)/64] |= 1 << (hash >> (64 - filterBits) % 64)
		h.count++
	}
	h.rows = append(h.rows, row)
}

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
	return a.each(0, "looking for contamination", nil, func(w where, e datasets.Example) error {
		input := words(e.Input)
		all := append(input, words(e.Target)...)
		for from, hash := range runs(all, len(input), n) {
			if h.filter[hash>>(64-filterBits)/64]&(1<<(hash>>(64-filterBits)%64)) == 0 {
				continue
			}
			for _, r := range h.runs[hash] {
				row := &h.rows[r.row]
				if row.found || !slices.Equal(row.words[r.from:int(r.from)+n], all[from:from+n]) {
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
