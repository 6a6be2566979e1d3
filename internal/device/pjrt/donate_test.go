//go:build cgo && !noxla && unix

package pjrt

import "testing"

func TestGiveAway(t *testing.T) {
	const text = "module @m {\n  func.func @main(%a: tensor<2xf32>, %b_c: tensor<2x3xf32> { sdy.sharding = #sdy.sharding<@mesh, [{\"data\"}, {}]> }, %x: tensor<f32>) -> (tensor<2xf32>, tensor<f32>) {\n  }\n}"
	tests := map[string]struct {
		text   string
		donate []bool
		want   string
	}{
		"some":          {text, []bool{true, true, false}, "module @m {\n  func.func @main(%a: tensor<2xf32> { jax.buffer_donor = true }, %b_c: tensor<2x3xf32> { jax.buffer_donor = true, sdy.sharding = #sdy.sharding<@mesh, [{\"data\"}, {}]> }, %x: tensor<f32>) -> (tensor<2xf32>, tensor<f32>) {\n  }\n}"},
		"the last":      {text, []bool{false, false, true}, "module @m {\n  func.func @main(%a: tensor<2xf32>, %b_c: tensor<2x3xf32> { sdy.sharding = #sdy.sharding<@mesh, [{\"data\"}, {}]> }, %x: tensor<f32> { jax.buffer_donor = true }) -> (tensor<2xf32>, tensor<f32>) {\n  }\n}"},
		"none":          {text, nil, text},
		"another count": {text, []bool{true}, text},
		"another form":  {"bytecode", []bool{true}, "bytecode"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if got := string(giveAway([]byte(tt.text), tt.donate)); got != tt.want {
				t.Errorf("got\n%s\nwant\n%s", got, tt.want)
			}
		})
	}
}
