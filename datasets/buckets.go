package datasets

import (
	"cmp"
	"fmt"
	"slices"
)

// lengths counts rows by their numbers of input and target tokens, on a grid that is fine enough
// to choose buckets by.
type lengths struct {
	stepInput, stepTarget int
	cells                 map[[2]int]int64 // grid place → rows
	longest               Bucket
}

// gridSize bounds the grid, and with it the time that choosing takes.
const gridSize = 64

// countLengths reads the lengths of all rows; longest bounds them.
func countLengths(rows rowSet, longest Bucket) lengths {
	step := func(n int) int { return max(1, (n+gridSize-1)/gridSize) }
	l := lengths{
		stepInput: step(longest.Input), stepTarget: step(longest.Target),
		cells: map[[2]int]int64{}, longest: longest,
	}
	for i := range rows.len() {
		input, target := rows.lengths(i)
		l.cells[[2]int{ceilDiv(input, l.stepInput), ceilDiv(target, l.stepTarget)}]++
	}
	return l
}

func ceilDiv(n, d int) int { return (n + d - 1) / d }

// cell is a place of the grid as the shortest bucket that holds its rows.
type cell struct {
	Bucket
	rows int64
}

// list gives the places in a fixed order.
func (l lengths) list() []cell {
	out := make([]cell, 0, len(l.cells))
	for place, rows := range l.cells {
		b := Bucket{Input: max(1, place[0]*l.stepInput), Target: max(1, place[1]*l.stepTarget)}
		b.Input, b.Target = min(b.Input, max(1, l.longest.Input)), min(b.Target, max(1, l.longest.Target))
		out = append(out, cell{b, rows})
	}
	slices.SortFunc(out, func(a, b cell) int { return compareBuckets(a.Bucket, b.Bucket) })
	return out
}

// compareBuckets orders by size; a row goes into the first bucket that holds it.
func compareBuckets(a, b Bucket) int {
	return cmp.Or(cmp.Compare(a.Input+a.Target, b.Input+b.Target), cmp.Compare(a.Input, b.Input))
}

// holds says whether b is at least as long as a in both lengths.
func (b Bucket) holds(a Bucket) bool { return a.Input <= b.Input && a.Target <= b.Target }

// worthwhile is the share of padded tokens that one more bucket must save: each costs the time
// to compile it.
const worthwhile = 0.01

// chooseBuckets finds at most n buckets that hold all rows with little padding: each further one
// is the one that saves most, then each is chosen anew beside the others until none can be
// bettered. batchRows counts the empty rows in the last batch of a bucket.
func (l lengths) chooseBuckets(n int, batchRows func(Bucket) int) []Bucket {
	cells := l.list()
	largest := Bucket{Input: 1, Target: 1}
	for _, c := range cells {
		largest.Input, largest.Target = max(largest.Input, c.Input), max(largest.Target, c.Target)
	}
	best := []Bucket{largest}
	bestCost := cost(cells, best, batchRows)
	for k := 2; k <= n; k++ {
		next := append(slices.Clone(best), largest)
		next[k-1] = bettered(cells, next[:k-1])
		for range 8 {
			before := slices.Clone(next)
			for i := 1; i < k; i++ { // the first must hold everything
				others := slices.Delete(slices.Clone(next), i, i+1)
				next[i] = bettered(cells, others)
			}
			if slices.Equal(before, next) {
				break
			}
		}
		nextCost := cost(cells, next, batchRows)
		if float64(nextCost) > (1-worthwhile)*float64(bestCost) {
			break
		}
		best, bestCost = next, nextCost
	}
	slices.SortFunc(best, compareBuckets)
	return slices.Compact(best)
}

// bettered finds the bucket that saves most beside others.
func bettered(cells []cell, others []Bucket) Bucket {
	inputs, targets := []int{}, []int{}
	now := make([]int64, len(cells))
	for i, c := range cells {
		now[i] = int64(size(first(others, c.Bucket)))
		inputs, targets = append(inputs, c.Input), append(targets, c.Target)
	}
	slices.Sort(inputs)
	slices.Sort(targets)
	inputs, targets = slices.Compact(inputs), slices.Compact(targets)
	best, bestSaved := others[0], int64(0)
	for _, input := range inputs {
		for _, target := range targets {
			b, saved := Bucket{Input: input, Target: target}, int64(0)
			for i, c := range cells {
				if less := now[i] - int64(size(b)); less > 0 && b.holds(c.Bucket) {
					saved += less * c.rows
				}
			}
			if saved > bestSaved {
				best, bestSaved = b, saved
			}
		}
	}
	return best
}

func size(b Bucket) int { return b.Input + b.Target }

// first finds the smallest bucket that holds a; the first of the list holds everything.
func first(buckets []Bucket, a Bucket) Bucket {
	found := buckets[0]
	for _, b := range buckets[1:] {
		if b.holds(a) && compareBuckets(b, found) < 0 {
			found = b
		}
	}
	return found
}

// cost is the number of tokens of all batches, padding included.
func cost(cells []cell, buckets []Bucket, batchRows func(Bucket) int) (total int64) {
	rows := map[Bucket]int64{}
	for _, c := range cells {
		rows[first(buckets, c.Bucket)] += c.rows
	}
	for b, n := range rows {
		r := int64(batchRows(b))
		total += (n + r - 1) / r * r * int64(size(b))
	}
	return total
}

// TooLongError says that no bucket holds a row.
type TooLongError struct {
	ID            string
	Input, Target int // tokens
}

// Error names the row and its lengths.
func (e *TooLongError) Error() string {
	return fmt.Sprintf("%s has %d input and %d target tokens, more than any bucket holds", e.ID, e.Input, e.Target)
}
