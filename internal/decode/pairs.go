package decode

import (
	"context"
	"fmt"
	"slices"

	"github.com/gomlx/compute/dtypes"
	"github.com/gomlx/compute/shapes"
	. "github.com/gomlx/gomlx/core/graph" //nolint:revive // graph code reads as formulas

	"github.com/t5ctl/t5ctl/internal/device"
	"github.com/t5ctl/t5ctl/internal/t5"
)

// PairScores are natural logarithms about each token of a target: of its probability, and mean and
// variance of such logarithms under the model's own distribution there. Best says where the token
// is the likeliest, so that greedy search behind the tokens before it takes it.
type PairScores struct {
	LogProbs, Mean, Variance []float32
	Best                     []bool
}

// pairShape is what a program over pairs is compiled for.
type pairShape struct{ rows, length, targets int }

// pairLogits bounds the logits of one call: 2²⁵ of them are 128 MiB.
const pairLogits = 1 << 25

// ScorePairs scores each target after its own source, by teacher forcing. Pairs of like length are
// scored together; the order of the results is that of the pairs.
func (e *Engine) ScorePairs(ctx context.Context, sources, targets [][]int32) ([]PairScores, error) {
	order := make([]int, len(sources))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int {
		return len(sources[a]) + len(targets[a]) - len(sources[b]) - len(targets[b])
	})
	results := make([]PairScores, len(sources))
	for len(order) > 0 {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		sh, count := e.pairBatch(order, sources, targets)
		if e.pairs[sh] == nil {
			p, err := e.pairProgram(sh)
			if err != nil {
				return nil, err
			}
			e.pairs[sh] = p
		}
		if err := e.scorePairs(e.pairs[sh], sh, order[:count], sources, targets, results); err != nil {
			return nil, err
		}
		order = order[count:]
	}
	return results, nil
}

// pairBatch takes as many of the next pairs as fit into one call.
func (e *Engine) pairBatch(order []int, sources, targets [][]int32) (pairShape, int) {
	sh := pairShape{rows: 1, length: Bucket(len(sources[order[0]])), targets: width(len(targets[order[0]]))}
	count := 1
	for _, at := range order[1:] {
		length, wide := max(sh.length, Bucket(len(sources[at]))), max(sh.targets, width(len(targets[at])))
		if count == 64 || ceilPower(count+1)*wide*e.weights.Config.VocabSize > pairLogits {
			break
		}
		sh.length, sh.targets = length, wide
		count++
	}
	sh.rows = ceilPower(count)
	return sh, count
}

// width rounds a target's length up, finer than Bucket: logits cost more than states.
func width(length int) int { return max(8, ceilPower(length)) }

func (e *Engine) scorePairs(p *device.Program, sh pairShape, batch []int, sources, targets [][]int32, results []PairScores) error {
	inputs, labels := make([]int32, sh.rows*sh.length), make([]int32, sh.rows*sh.targets)
	for i := range labels {
		labels[i] = t5.Ignore
	}
	for i, at := range batch {
		copy(inputs[i*sh.length:], sources[at])
		copy(labels[i*sh.targets:], targets[at])
	}
	out, err := e.call(p, ints{inputs, []int{sh.rows, sh.length}}, ints{labels, []int{sh.rows, sh.targets}})
	if err != nil {
		return err
	}
	var flat [3][]float32
	for k := range flat {
		if flat[k], err = read[float32](out[k]); err != nil {
			return err
		}
	}
	best, err := read[int32](out[3])
	if err != nil {
		return err
	}
	for i, at := range batch {
		part := func(k int) []float32 { return slices.Clone(flat[k][i*sh.targets:][:len(targets[at])]) }
		results[at] = PairScores{LogProbs: part(0), Mean: part(1), Variance: part(2)}
		for k, t := range targets[at] {
			results[at].Best = append(results[at].Best, best[i*sh.targets+k] == t)
		}
	}
	return nil
}

// pairProgram compiles the scoring of pairs.
//
//	weights…, inputs [rows, length], labels [rows, targets]   →   log-probability, mean, variance, best token, [rows, targets] each
func (e *Engine) pairProgram(sh pairShape) (*device.Program, error) {
	inputs := append(e.weights.Inputs(),
		device.Input{Name: "inputs", Shape: shapes.Make(dtypes.Int32, sh.rows, sh.length)},
		device.Input{Name: "labels", Shape: shapes.Make(dtypes.Int32, sh.rows, sh.targets)})
	name := fmt.Sprintf("t5.pairs %d × (%d → %d)", sh.rows, sh.length, sh.targets)
	p, err := e.compile(name, inputs, func(in []*Node) []*Node {
		net, rest := e.weights.Network(in)
		logits := net.Forward(rest[0], rest[1])
		chosen, logZ := t5.TokenLogProbs(logits, rest[1])
		logs := Sub(logits, InsertAxes(logZ, -1)) // [rows, targets, vocab]
		p := Exp(logs)
		mean := ReduceSum(Mul(p, logs), -1)
		apart := Sub(logs, InsertAxes(mean, -1))
		return []*Node{chosen, mean, ReduceSum(Mul(p, Mul(apart, apart)), -1), ArgMax(logits, -1, dtypes.Int32)}
	})
	if err == nil && e.Compiled != nil {
		e.Compiled(name, p.CompileTime)
	}
	return p, err
}
