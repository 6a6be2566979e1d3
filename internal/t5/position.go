package t5

import (
	"math"
	"strings"

	"github.com/gomlx/compute/dtypes"
	. "github.com/gomlx/gomlx/core/graph" //nolint:revive // graph code reads as formulas
)

const biasSuffix = "relative_attention_bias.weight"

func isBias(name string) bool { return strings.HasSuffix(name, biasSuffix) }

// bucket maps a relative position (key minus query) to the row of the bias table:
// T5Attention._relative_position_bucket.
func (c Config) bucket(relative int, bidirectional bool) int32 {
	buckets, offset := c.RelativeBuckets, 0
	if bidirectional {
		buckets /= 2
		if relative > 0 {
			offset = buckets
		}
		relative = max(relative, -relative)
	} else {
		relative = max(-relative, 0)
	}
	exact := buckets / 2
	if relative < exact {
		return int32(offset + relative)
	}
	// float32, as in the reference: the borders of the buckets depend on it
	share := float32(math.Log(float64(float32(relative)/float32(exact)))) / float32(math.Log(float64(c.RelativeMaxDistance)/float64(exact)))
	large := exact + int(share*float32(buckets-exact))
	return int32(offset + min(large, buckets-1))
}

// positionBias is what relative positions add to the attention scores.
//
//	table [buckets, heads]   →   bias [1, heads, queries, keys]
//
// The bias of a pair depends on key − query alone, so one value per distance is looked up and
// laid out along the diagonals by a reshape; its gradient then needs no scatter.
func (c Config) positionBias(table *Node, queries, keys int, bidirectional bool) *Node {
	distances := queries + keys // one more than occur: the period of the layout below
	rows := make([]int32, distances)
	for i := range distances - 1 {
		rows[i] = c.bucket(i-(queries-1), bidirectional)
	}
	oneHot := OneHot(Const(table.Graph(), rows), c.RelativeBuckets, table.DType()) // [distances, buckets]
	line := DotGeneral(table, []int{0}, nil, oneHot, []int{1}, nil)                // [heads, distances]
	period := BroadcastToDims(InsertAxes(line, 1), c.NumHeads, queries, distances) // [heads, queries, distances]
	flat := Reshape(period, c.NumHeads, queries*distances)
	flat = Slice(flat, AxisRange(), AxisRange(0, queries*(distances-1)))
	skewed := Reshape(flat, c.NumHeads, queries, distances-1) // row i starts at distance −i
	bias := Slice(skewed, AxisRange(), AxisRange(), AxisRange(queries-1, queries-1+keys))
	return InsertAxes(bias, 0)
}

// masked is added to the score of a key that must not be seen.
const masked = -1e9

// PaddingMask is 0 where a row has a token and −1e9 where it has padding.
//
//	ids [batch, length]   →   [batch, 1, 1, length]
func (c Config) PaddingMask(ids *Node) *Node {
	pad := Equal(ids, ConstAs(ids, int32(c.PadTokenID)))
	return InsertAxes(MulScalar(ConvertDType(pad, dtypes.Float32), masked), 1, 1)
}

// segmentMask is 0 where query and key belong to the same segment and −1e9 elsewhere. Padding is
// segment 0, seen by padding only.
//
//	queries [batch, m], keys [batch, n]   →   [batch, 1, m, n]
func segmentMask(queries, keys *Node) *Node {
	m, n := queries.Shape().Dimensions[1], keys.Shape().Dimensions[1]
	dims := []int{queries.Shape().Dimensions[0], m, n}
	other := NotEqual(BroadcastToDims(InsertAxes(queries, 2), dims...), BroadcastToDims(InsertAxes(keys, 1), dims...))
	return InsertAxes(MulScalar(ConvertDType(other, dtypes.Float32), masked), 1)
}

// causalMask hides the keys after each query.
//
//	→   [1, 1, length, length]
func causalMask(g *Graph, length int) *Node {
	shape := []int{length, length}
	query := iota32(g, shape, 0)
	key := iota32(g, shape, 1)
	return InsertAxes(MulScalar(ConvertDType(GreaterThan(key, query), dtypes.Float32), masked), 0, 0)
}

// CausalBucket is the row of a decoder's bias table for a key that stands `distance` tokens
// before the query.
func (c Config) CausalBucket(distance int) int32 { return c.bucket(-distance, false) }

// EncoderBucket is the row of an encoder's bias table for a key that stands `distance` tokens
// behind the query, or before it where that is negative.
func (c Config) EncoderBucket(distance int) int32 { return c.bucket(distance, true) }
