// Package seq2seq holds the padded batch that data makes and a model eats, so that neither has
// to know the other.
package seq2seq

import "slices"

// Ignore marks a label position that counts for nothing: padding, or a row with no target.
const Ignore int32 = -100

// Pad fills inputs on the right. It is id 0 in every T5 vocabulary.
const Pad int32 = 0

// Example is one input and what is to become of it.
type Example struct {
	ID            string
	Input, Target []int32
}

// Batch is a rectangle of examples. Every row has the same two lengths; what a row lacks is
// padding on the right. A row holds one example or, packed, several, one after the other.
type Batch struct {
	Rows      int
	InputLen  int
	TargetLen int
	Inputs    []int32  // [Rows, InputLen], Pad on the right
	Labels    []int32  // [Rows, TargetLen], Ignore where there is no target
	IDs       []string // one an example
	More      bool     // the optimizer's step takes the next batch too
	// Which example of its row a token belongs to, counted from 1; 0 is padding. Nil where
	// nothing is packed.
	InputSegments, LabelSegments []int32

	filled int // rows that have their examples; those after it are padding with no label at all
}

// New is a batch of padding alone: no input token, no label.
func New(rows, inputLen, targetLen int) Batch {
	b := Batch{
		Rows: rows, InputLen: inputLen, TargetLen: targetLen,
		Inputs: make([]int32, rows*inputLen), // Pad is 0
		Labels: make([]int32, rows*targetLen),
		IDs:    make([]string, 0, rows),
	}
	for i := range b.Labels {
		b.Labels[i] = Ignore
	}
	return b
}

// NewPacked is a batch of padding whose rows can take several examples each.
func NewPacked(rows, inputLen, targetLen int) Batch {
	b := New(rows, inputLen, targetLen)
	b.InputSegments, b.LabelSegments = make([]int32, rows*inputLen), make([]int32, rows*targetLen)
	return b
}

// Packed says whether rows may hold several examples.
func (b *Batch) Packed() bool { return b.InputSegments != nil }

// Append puts examples into the next free row, cut to the batch's lengths; several only where the
// batch is packed. It panics if there is no free row: whoever fills a batch counts its rows.
func (b *Batch) Append(examples ...Example) {
	if b.filled >= b.Rows {
		panic("seq2seq: batch is full")
	}
	inputs := b.Inputs[b.filled*b.InputLen : (b.filled+1)*b.InputLen]
	labels := b.Labels[b.filled*b.TargetLen : (b.filled+1)*b.TargetLen]
	in, out := 0, 0
	for k, e := range examples {
		nextIn, nextOut := in+copy(inputs[in:], e.Input), out+copy(labels[out:], e.Target)
		if b.Packed() {
			number(b.InputSegments[b.filled*b.InputLen:], in, nextIn, k+1)
			number(b.LabelSegments[b.filled*b.TargetLen:], out, nextOut, k+1)
		}
		in, out = nextIn, nextOut
		b.IDs = append(b.IDs, e.ID)
	}
	b.filled++
}

func number(row []int32, from, to, segment int) {
	for i := from; i < to; i++ {
		row[i] = int32(segment)
	}
}

// Padded is the batch with rows of padding after its own, so that their number is a multiple of k.
// Both share their tokens where nothing is added.
func (b Batch) Padded(k int) Batch {
	more := (k - b.Rows%k) % k
	if more == 0 {
		return b
	}
	grow := func(ids []int32, width int, fill int32) []int32 {
		if ids == nil {
			return nil
		}
		return append(slices.Clip(ids), slices.Repeat([]int32{fill}, more*width)...)
	}
	b.Inputs, b.Labels = grow(b.Inputs, b.InputLen, Pad), grow(b.Labels, b.TargetLen, Ignore)
	b.InputSegments, b.LabelSegments = grow(b.InputSegments, b.InputLen, 0), grow(b.LabelSegments, b.TargetLen, 0)
	b.Rows += more
	return b
}

// Tokens counts the input tokens that are not padding and the labels that count.
func (b Batch) Tokens() (inputs, labels int) {
	for _, id := range b.Inputs {
		if id != Pad {
			inputs++
		}
	}
	for _, id := range b.Labels {
		if id != Ignore {
			labels++
		}
	}
	return inputs, labels
}

// Position is a place in the order in which a run sees its data. It goes into checkpoints:
// the same data, options and position give the same next batch, bit for bit.
type Position struct {
	Epoch  int   `json:"epoch"`  // passes over the data that are complete
	Offset int64 `json:"offset"` // batches of this pass that have been given out
}
