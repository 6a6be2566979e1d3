package decode

import (
	"context"
	"fmt"

	"github.com/gomlx/compute/dtypes"
	"github.com/gomlx/compute/shapes"
	. "github.com/gomlx/gomlx/core/graph" //nolint:revive // graph code reads as formulas

	"github.com/t5ctl/t5ctl/internal/device"
	"github.com/t5ctl/t5ctl/internal/t5"
)

// scoreShape is what a scoring program is compiled for.
type scoreShape struct{ length, rows, targets int }

// scoreRows is how many targets are scored at a time.
const scoreRows = 128

// Score gives the log-probability of each token of each target under one source, by teacher
// forcing. All targets share one encoder pass in each program call; sums over a target are the
// caller's, in float64.
func (e *Engine) Score(ctx context.Context, source []int32, targets [][]int32) ([][]float32, error) {
	longest := 1
	for _, t := range targets {
		longest = max(longest, len(t))
	}
	sh := scoreShape{length: Bucket(len(source)), rows: min(scoreRows, ceilPower(len(targets))), targets: (longest + 7) / 8 * 8}
	program, err := e.scorer(sh)
	if err != nil {
		return nil, err
	}
	input := make([]int32, sh.length)
	copy(input, source)
	scores := make([][]float32, 0, len(targets))
	for from := 0; from < len(targets); from += sh.rows {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		part := targets[from:min(from+sh.rows, len(targets))]
		flat, err := e.scoreBatch(program, sh, input, part)
		if err != nil {
			return nil, err
		}
		for i, t := range part {
			scores = append(scores, flat[i*sh.targets:i*sh.targets+len(t)])
		}
	}
	return scores, nil
}

func (e *Engine) scoreBatch(program *device.Program, sh scoreShape, input []int32, part [][]int32) ([]float32, error) {
	labels := make([]int32, sh.rows*sh.targets)
	for i := range labels {
		labels[i] = t5.Ignore
	}
	for i, t := range part {
		copy(labels[i*sh.targets:], t)
	}
	out, err := e.call(program, ints{input, []int{1, sh.length}}, ints{labels, []int{sh.rows, sh.targets}})
	if err != nil {
		return nil, err
	}
	return read[float32](out[0])
}

// scorer compiles the scoring of rows of targets under one source.
//
//	weights…, input [1, length], labels [rows, targets]   →   log-probabilities [rows, targets]
func (e *Engine) scorer(sh scoreShape) (*device.Program, error) {
	if p, ok := e.scorers[sh]; ok {
		return p, nil
	}
	inputs := append(e.weights.Inputs(),
		device.Input{Name: "input", Shape: shapes.Make(dtypes.Int32, 1, sh.length)},
		device.Input{Name: "labels", Shape: shapes.Make(dtypes.Int32, sh.rows, sh.targets)})
	name := fmt.Sprintf("t5.score %d × (%d → %d)", sh.rows, sh.length, sh.targets)
	p, err := e.compile(name, inputs, func(in []*Node) []*Node {
		net, rest := e.weights.Network(in)
		logProbs, _ := t5.TokenLogProbs(net.Forward(rest[0], rest[1]), rest[1])
		return []*Node{logProbs}
	})
	if err != nil {
		return nil, err
	}
	e.scorers[sh] = p
	if e.Compiled != nil {
		e.Compiled(name, p.CompileTime)
	}
	return p, nil
}
