package audit

import (
	"cmp"
	"encoding/binary"
	"hash/fnv"
	"math"
	"slices"
	"strings"
	"unicode"

	"github.com/t5ctl/t5ctl/datasets"
)

// Rows that are alike share a MinHash band: bands of so many of the hashes. Two rows of similarity
// 0.8 meet in one with probability 0.985, and of 0.9 with 0.9999; what meets is then compared in
// full, so that nothing is reported that is not so.
const (
	bandCount  = 8
	bandHashes = 4
	bandRecord = 8 + 8
)

// words are the letters and digits of a text, folded to lower case.
func words(text string) []string {
	return strings.FieldsFunc(strings.ToLower(text), func(r rune) bool { return !unicode.IsLetter(r) && !unicode.IsNumber(r) && r != '\'' })
}

// shingleWords is how many words in a row are compared as one.
const shingleWords = 3

// shingles are the hashes of a text's runs of three words, sorted, each once. A text of fewer words has
// one.
func shingles(text string) []uint64 {
	w := words(text)
	n := min(shingleWords, len(w))
	if n == 0 {
		return nil
	}
	out := make([]uint64, 0, len(w))
	for i := 0; i+n <= len(w); i++ {
		h := fnv.New64a()
		for _, s := range w[i : i+n] {
			_, _ = h.Write([]byte(s)) // a hash does not fail
			_, _ = h.Write([]byte{0})
		}
		out = append(out, mix(h.Sum64()))
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// mix is the finalizer of SplitMix64.
func mix(x uint64) uint64 {
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// band records under which bands a row can be met.
func (a *auditor) band(number int64, input string) error {
	set := shingles(input)
	if len(set) == 0 {
		return nil
	}
	record := make([]byte, bandRecord)
	for band := range bandCount {
		key := uint64(band)
		for k := range bandHashes {
			seed := mix(uint64(band*bandHashes+k) + 0x9e3779b97f4a7c15)
			least := uint64(math.MaxUint64)
			for _, s := range set {
				least = min(least, mix(s^seed))
			}
			key = mix(key ^ least)
		}
		binary.BigEndian.PutUint64(record, key)
		binary.BigEndian.PutUint64(record[8:], uint64(newRow(number, len(set))))
		if err := a.bands.write(record); err != nil {
			return err
		}
	}
	return nil
}

// Bounds of what is compared in full.
const (
	maxCandidates = 3_000_000 // pairs
	maxCompared   = 200_000   // rows held at a time
	maxShingles   = 6_000_000 // of those rows, 8 bytes each
)

// row is the number of a row and, in its low bits, how many shingles it has, or the most that can be said.
type row int64

const shingleBits = 20

func newRow(number int64, shingles int) row {
	return row(number<<shingleBits | int64(min(shingles, 1<<shingleBits-1)))
}

func (r row) number() int64 { return int64(r >> shingleBits) }
func (r row) shingles() int { return int(r & (1<<shingleBits - 1)) }

// pairOf are two rows, the earlier first.
type pairOf struct{ a, b row }

// candidates are pairs of rows that share a band.
func (a *auditor) candidates() ([]pairOf, error) {
	var pairs []pairOf
	add := func(x, y row) {
		if len(pairs) >= maxCandidates {
			if pairs = sortedPairs(pairs); len(pairs) > maxCandidates*3/4 {
				a.report.NearCut = true
				return
			}
		}
		pairs = append(pairs, pairOf{x, y})
	}
	var start, last row
	err := a.bands.groups(8, func(r []byte, first bool) error {
		this := row(binary.BigEndian.Uint64(r[8:]))
		switch {
		case first:
			start = this
		case a.report.NearCut:
		default:
			add(start, this)
			if last != start {
				add(last, this)
			}
		}
		last = this
		return nil
	})
	return sortedPairs(pairs), err
}

// sortedPairs gives each pair once.
func sortedPairs(pairs []pairOf) []pairOf {
	slices.SortFunc(pairs, func(x, y pairOf) int { return cmp.Or(cmp.Compare(x.a, y.a), cmp.Compare(x.b, y.b)) })
	return slices.Compact(pairs)
}

// near compares the rows that share a band, and counts those that are alike.
func (a *auditor) near() error {
	pairs, err := a.candidates()
	if err != nil {
		return err
	}
	near := make([]uint64, a.rows/64+1) // a bit for each row
	for len(pairs) > 0 {                // as many passes as the bounds on memory make
		wanted := map[int64]*compared{}
		n, shingles := 0, 0
		for ; n < len(pairs) && len(wanted) < maxCompared && shingles < maxShingles; n++ {
			for _, r := range []row{pairs[n].a, pairs[n].b} {
				if _, ok := wanted[r.number()]; !ok {
					wanted[r.number()] = nil
					shingles += r.shingles()
				}
			}
		}
		if err := a.collect(wanted); err != nil {
			return err
		}
		for _, p := range pairs[:n] {
			a.compare(wanted[p.a.number()], wanted[p.b.number()], p, near)
		}
		pairs = pairs[n:]
	}
	return nil
}

// compared is what a full comparison needs of a row.
type compared struct {
	where
	text uint64 // hash of the input as it is
	set  []uint64
}

// collect reads the data again for the wanted rows.
func (a *auditor) collect(wanted map[int64]*compared) error {
	number := int64(0)
	for part := range a.options.Parts {
		err := a.each(part, "comparing near duplicates", nil, func(w where, e datasets.Example) error {
			if _, ok := wanted[number]; ok {
				h := fnv.New64a()
				_, _ = h.Write([]byte(e.Input)) // a hash does not fail
				wanted[number] = &compared{w, h.Sum64(), shingles(e.Input)}
			}
			number++
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func (a *auditor) compare(x, y *compared, p pairOf, near []uint64) {
	if x == nil || y == nil || x.text == y.text {
		return // exact duplicates are counted apart
	}
	similarity := jaccard(x.set, y.set)
	if similarity < a.options.Near {
		return
	}
	a.finding("near-duplicate", y.where, "%.0f %% like %s, line %d", 100*similarity, a.options.Parts[x.part].Name, x.line)
	if x.part != y.part {
		a.cross(x.part, y.part).NearPairs++
		return
	}
	r := &a.report.Parts[x.part]
	r.NearPairs++
	for _, row := range []row{p.a, p.b} {
		if at, bit := row.number()/64, uint64(1)<<(row.number()%64); near[at]&bit == 0 {
			near[at] |= bit
			r.NearRows++
		}
	}
}

// jaccard is the share of all shingles that both have.
func jaccard(a, b []uint64) float64 {
	both := 0
	for i, j := 0, 0; i < len(a) && j < len(b); {
		switch {
		case a[i] == b[j]:
			both++
			i++
			j++
		case a[i] < b[j]:
			i++
		default:
			j++
		}
	}
	if both == 0 {
		return 0
	}
	return float64(both) / float64(len(a)+len(b)-both)
}
