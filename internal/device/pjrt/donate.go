//go:build cgo && !noxla && unix

package pjrt

import "bytes"

// donor lets the compiler lay a result into an argument's memory; jax marks arguments so.
const donor = "jax.buffer_donor = true"

// giveAway marks those arguments of a StableHLO text's main function that are donated. go-xla gives
// donated arguments away when it runs a program, but does not tell the compiler, so that results
// get memory of their own. A text of another form than go-xla writes stays as it is.
func giveAway(text []byte, donate []bool) []byte {
	const head, tail = "func.func @main(", ") -> "
	from := bytes.Index(text, []byte(head))
	if from < 0 || len(donate) == 0 {
		return text
	}
	from += len(head)
	length := bytes.Index(text[from:], []byte(tail))
	if length < 0 {
		return text
	}
	arguments := bytes.Split(text[from:from+length], []byte(", %"))
	if len(arguments) != len(donate) {
		return text
	}
	for i, a := range arguments {
		if !donate[i] {
			continue
		}
		name, attributes, has := bytes.Cut(a, []byte(" { ")) // %x: tensor<2xf32> { key = value }
		if has {
			a = bytes.Join([][]byte{name, []byte(" { " + donor + ", "), attributes}, nil)
		} else {
			a = bytes.Join([][]byte{name, []byte(" { " + donor + " }")}, nil)
		}
		arguments[i] = a
	}
	return bytes.Join([][]byte{text[:from], bytes.Join(arguments, []byte(", %")), text[from+length:]}, nil)
}
