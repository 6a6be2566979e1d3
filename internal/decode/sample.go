package decode

import (
	"cmp"
	"math"
	"slices"
)

// draw picks the token at point u in [0, 1) of the distribution that the options leave of the
// logits. It says no where no token is possible.
func draw(logits []float32, u float64, o Options) (token int32, ok bool) {
	d := distribution(logits, o)
	total := 0.0
	for _, w := range d.weights {
		total += w
	}
	point, sum := u*total, 0.0
	for i, id := range d.ids {
		if sum += d.weights[i]; point < sum {
			return id, true
		}
	}
	if len(d.ids) == 0 {
		return 0, false
	}
	return d.ids[len(d.ids)-1], true
}

// outcomes are the possible tokens, each with a weight in proportion to its probability.
type outcomes struct {
	ids     []int32
	weights []float64
}

// distribution is what temperature, top-k, top-p, min-p and typical decoding leave of the
// logits, in this order, as the warpers of transformers 5.23.
func distribution(logits []float32, o Options) outcomes {
	least := forbidden
	if o.TopK > 0 && o.TopK < len(logits) {
		least = kthLargest(logits, o.TopK)
	}
	best := logits[highest(logits)]
	var d outcomes
	for id, l := range logits {
		if l >= least && l != forbidden {
			d.ids = append(d.ids, int32(id))
			d.weights = append(d.weights, math.Exp(float64(l-best)/o.Temperature))
		}
	}
	if o.TopP < 1 {
		d.sortBy(func(w float64) float64 { return -w })
		d.cut(d.until(o.TopP) + 1)
	}
	if o.MinP > 0 {
		d = d.atLeast(o.MinP)
	}
	if o.TypicalP < 1 {
		d = d.typical(o.TypicalP)
	}
	return d
}

// kthLargest finds the k-th largest of the values, 0 < k ≤ their number, by selection.
func kthLargest(values []float32, k int) float32 {
	heap := make([]float32, 0, k) // the k largest so far, the least of them first
	for _, v := range values {
		switch {
		case len(heap) < k:
			heap = append(heap, v)
			if len(heap) == k {
				slices.Sort(heap)
			}
		case v > heap[0]:
			heap[0] = v
			sink(heap)
		}
	}
	return heap[0]
}

// sink restores a heap whose first element may be too large.
func sink(heap []float32) {
	for i := 0; ; {
		least := i
		for _, child := range []int{2*i + 1, 2*i + 2} {
			if child < len(heap) && heap[child] < heap[least] {
				least = child
			}
		}
		if least == i {
			return
		}
		heap[i], heap[least] = heap[least], heap[i]
		i = least
	}
}

func (d *outcomes) total() float64 {
	sum := 0.0
	for _, w := range d.weights {
		sum += w
	}
	return sum
}

// sortBy orders the tokens by a key of their weights; equals stay in the order of their ids.
func (d *outcomes) sortBy(key func(weight float64) float64) {
	at := make([]int, len(d.ids))
	keys := make([]float64, len(d.ids))
	for i, w := range d.weights {
		at[i], keys[i] = i, key(w)
	}
	slices.SortStableFunc(at, func(a, b int) int { return cmp.Compare(keys[a], keys[b]) })
	ids, weights := make([]int32, len(at)), make([]float64, len(at))
	for i, from := range at {
		ids[i], weights[i] = d.ids[from], d.weights[from]
	}
	d.ids, d.weights = ids, weights
}

// until is the index of the token with which the share p is reached.
func (d *outcomes) until(p float64) int {
	total, sum := d.total(), 0.0
	for i, w := range d.weights {
		if sum += w; sum >= p*total {
			return i
		}
	}
	return len(d.weights) - 1
}

func (d *outcomes) cut(n int) {
	n = min(n, len(d.ids))
	d.ids, d.weights = d.ids[:n], d.weights[:n]
}

// atLeast keeps the tokens that are at least the given share as likely as the likeliest.
func (d outcomes) atLeast(share float64) outcomes {
	if len(d.ids) == 0 {
		return d
	}
	least := share * slices.Max(d.weights)
	var kept outcomes
	for i, w := range d.weights {
		if w >= least {
			kept.ids, kept.weights = append(kept.ids, d.ids[i]), append(kept.weights, w)
		}
	}
	return kept
}

// typical keeps the tokens whose surprise −log p is nearest to the entropy, until their share
// reaches the mass; of equals all.
func (d outcomes) typical(mass float64) outcomes {
	total, entropy := d.total(), 0.0
	for _, w := range d.weights {
		if p := w / total; p > 0 {
			entropy -= p * math.Log(p)
		}
	}
	distance := func(w float64) float64 { return math.Abs(-math.Log(w/total) - entropy) }
	d.sortBy(distance)
	if last := d.until(mass); last >= 0 {
		farthest := distance(d.weights[last])
		n := last + 1
		for n < len(d.weights) && distance(d.weights[n]) <= farthest {
			n++
		}
		d.cut(n)
	}
	return d
}
