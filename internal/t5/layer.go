package t5

import (
	"fmt"
	"strings"

	. "github.com/gomlx/gomlx/core/graph" //nolint:revive // graph code reads as formulas
)

// LayerError says in which layer a graph could not be built, and what went in.
type LayerError struct {
	Layer  string
	Shapes []string // of what went in, as the engine writes them
	Err    error
}

func (e *LayerError) Error() string {
	text, _, _ := strings.Cut(e.Err.Error(), "\n")
	return fmt.Sprintf("%s, given %s: %s", e.Layer, strings.Join(e.Shapes, " and "), text)
}

func (e *LayerError) Unwrap() error { return e.Err }

// located is deferred where a layer begins: a panic of the engine goes on as a *LayerError of the innermost layer.
func located(layer string, in ...*Node) {
	value := recover()
	if value == nil {
		return
	}
	if e, known := value.(*LayerError); known {
		panic(e)
	}
	err, ok := value.(error)
	if !ok {
		err = fmt.Errorf("%v", value)
	}
	e := &LayerError{Layer: layer, Err: err}
	for _, x := range in {
		if x != nil {
			e.Shapes = append(e.Shapes, x.Shape().String())
		}
	}
	panic(e)
}
