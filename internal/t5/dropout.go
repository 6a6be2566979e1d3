package t5

import (
	"github.com/gomlx/compute/dtypes"
	"github.com/gomlx/compute/shapes"
	. "github.com/gomlx/gomlx/core/graph" //nolint:revive // graph code reads as formulas
)

// Dropout zeroes elements at random while training. Whether an element is kept is a hash of the
// step's seed, the place in the model and the element's index: no generator state to keep, the
// same mask on every backend and after every resume.
type Dropout struct {
	rate  float64
	seed  *Node   // uint32 scalar, a fresh one each micro-step
	sites *uint32 // places that drew so far
}

// NewDropout drops a share `rate` of what it is applied to.
func NewDropout(rate float64, seed *Node) *Dropout {
	return &Dropout{rate: rate, seed: seed, sites: new(uint32)}
}

// At is a Dropout of another rate that draws from the same seed without repeating its masks.
func (d *Dropout) At(rate float64) *Dropout {
	if d == nil {
		return nil
	}
	return &Dropout{rate: rate, seed: d.seed, sites: d.sites}
}

// Apply gives x with a share of its elements zeroed and the others scaled up. A nil Dropout, or
// a rate of 0, gives x.
func (d *Dropout) Apply(x *Node) *Node {
	if d == nil || d.rate == 0 {
		return x
	}
	*d.sites++
	g, shape := x.Graph(), x.Shape()
	index := Reshape(Iota(g, shapes.Make(dtypes.Uint32, shape.Size()), 0), shape.Dimensions...)
	key := BitwiseXor(d.seed, Const(g, *d.sites*0x9E3779B9))
	bits := Mix32(BitwiseXor(Mix32(index), key))
	threshold := Const(g, uint32(d.rate*(1<<32)))
	keep := GreaterOrEqual(bits, threshold)
	return Where(keep, DivScalar(x, 1-d.rate), ZerosLike(x))
}

// Mix32 is the finalizer of MurmurHash3: every input bit reaches every output bit.
func Mix32(x *Node) *Node {
	x = BitwiseXor(x, BitwiseShiftRightLogicalScalar(x, uint32(16)))
	x = Mul(x, ConstAs(x, uint32(0x85EBCA6B)))
	x = BitwiseXor(x, BitwiseShiftRightLogicalScalar(x, uint32(13)))
	x = Mul(x, ConstAs(x, uint32(0xC2B2AE35)))
	return BitwiseXor(x, BitwiseShiftRightLogicalScalar(x, uint32(16)))
}
