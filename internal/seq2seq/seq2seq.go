// Package seq2seq holds the padded batch that data makes and a model eats, so that neither has
// to know the other.
package seq2seq

// Ignore marks a label position that counts for nothing: padding, or a row with no target.
const Ignore int32 = -100

// Pad fills inputs on the right. It is id 0 in every T5 vocabulary.
const Pad int32 = 0

// Batch is a rectangle of examples. Every row has the same two lengths; what a row lacks is
// padding on the right.
type Batch struct {
	Rows      int
	InputLen  int
	TargetLen int
	Inputs    []int32  // [Rows, InputLen], Pad on the right
	Labels    []int32  // [Rows, TargetLen], Ignore where there is no target
	IDs       []string // one a real row; rows past len(IDs) are padding with no label at all
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

// Append puts one example into the next free row, cut to the batch's lengths.
// It panics if there is no free row: whoever fills a batch counts its rows.
func (b *Batch) Append(id string, input, target []int32) {
	row := len(b.IDs)
	if row >= b.Rows {
		panic("seq2seq: batch is full")
	}
	copy(b.Inputs[row*b.InputLen:(row+1)*b.InputLen], input)
	copy(b.Labels[row*b.TargetLen:(row+1)*b.TargetLen], target)
	b.IDs = append(b.IDs, id)
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
