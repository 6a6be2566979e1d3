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

// Continuer tells what may follow beginnings of outputs, for searches of their own kind. It keeps its
// compiled programs until Close.
type Continuer struct {
	engine   *Engine
	programs map[pairShape]*device.Program
}

// Continuer makes one.
func (e *Engine) Continuer() *Continuer {
	return &Continuer{engine: e, programs: map[pairShape]*device.Program{}}
}

// Close frees the programs.
func (c *Continuer) Close() {
	for _, p := range c.programs {
		p.Close()
	}
}

// nextRows is the most beginnings of one call.
const nextRows = 32

// Next gives, for each beginning of an output under one source, the log-probability of every token
// behind it.
func (c *Continuer) Next(ctx context.Context, source []int32, beginnings [][]int32) ([][]float32, error) {
	var out [][]float32
	for len(out) < len(beginnings) {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		part := beginnings[len(out):min(len(out)+nextRows, len(beginnings))]
		longest := 0
		for _, b := range part {
			longest = max(longest, len(b))
		}
		sh := pairShape{rows: ceilPower(len(part)), length: Bucket(len(source)), targets: width(longest + 1)}
		if c.programs[sh] == nil {
			p, err := c.program(sh)
			if err != nil {
				return nil, err
			}
			c.programs[sh] = p
		}
		flat, err := c.run(c.programs[sh], sh, source, part)
		if err != nil {
			return nil, err
		}
		vocabulary := c.engine.weights.Config.VocabSize
		for i := range part {
			out = append(out, flat[i*vocabulary:(i+1)*vocabulary])
		}
	}
	return out, nil
}

func (c *Continuer) run(p *device.Program, sh pairShape, source []int32, part [][]int32) ([]float32, error) {
	input, labels, positions := make([]int32, sh.length), make([]int32, sh.rows*sh.targets), make([]int32, sh.rows)
	copy(input, source)
	for i := range labels {
		labels[i] = t5.Ignore
	}
	for i, b := range part {
		copy(labels[i*sh.targets:], b)
		positions[i] = int32(len(b))
	}
	out, err := c.engine.call(p, ints{input, []int{1, sh.length}}, ints{labels, []int{sh.rows, sh.targets}}, ints{positions, []int{sh.rows}})
	if err != nil {
		return nil, err
	}
	return read[float32](out[0])
}

// program compiles one look at what follows.
//
//	weights…, input [1, length], labels [rows, targets], positions [rows]   →   log-probabilities [rows, vocab]
func (c *Continuer) program(sh pairShape) (*device.Program, error) {
	e := c.engine
	inputs := append(e.weights.Inputs(),
		device.Input{Name: "input", Shape: shapes.Make(dtypes.Int32, 1, sh.length)},
		device.Input{Name: "labels", Shape: shapes.Make(dtypes.Int32, sh.rows, sh.targets)},
		device.Input{Name: "positions", Shape: shapes.Make(dtypes.Int32, sh.rows)})
	name := fmt.Sprintf("t5.next %d × (%d → %d)", sh.rows, sh.length, sh.targets)
	p, err := e.compile(name, inputs, func(in []*Node) []*Node {
		net, rest := e.weights.Network(in)
		logits := net.Forward(rest[0], rest[1]) // [rows, targets, vocab]
		dims := logits.Shape().Dimensions
		index := Iota(logits.Graph(), shapes.Make(dtypes.Int32, dims...), 1)
		here := Equal(index, BroadcastToDims(Reshape(rest[2], sh.rows, 1, 1), dims...))
		return []*Node{LogSoftmax(ReduceSum(Where(here, logits, ZerosLike(logits)), 1))}
	})
	if err == nil && e.Compiled != nil {
		e.Compiled(name, p.CompileTime)
	}
	return p, err
}
