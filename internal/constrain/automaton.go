// Package constrain says which tokens may come next if the whole text is to match a regular
// expression, or to be JSON of a schema.
package constrain

import (
	"encoding/binary"
	"fmt"
	"regexp/syntax"
	"slices"
	"sync/atomic"
	"unicode"
	"unicode/utf8"
)

// automaton runs a regular expression over bytes, from the first of a text to its last. Its
// states are found as they are reached.
type automaton struct {
	program *syntax.Prog
	states  []state
	known   map[string]int32
	moves   []map[byte]int32 // by state
	work    int              // instructions looked at so far
	full    atomic.Bool      // a limit was met
}

// What an expression may cost, which others may have written. Those that people write, and schemas, need a
// hundredth of it.
const (
	maxProgram = 1 << 16 // instructions
	maxStates  = 1 << 16
	maxWork    = 1 << 26
)

// state is where a text may be in the program, and the bytes of a rune that is not whole yet.
type state struct {
	at     []uint32 // instructions that wait for a rune, in ascending order
	match  bool     // the text may end here
	broken string
}

// dead is the state from which nothing matches.
const dead = int32(-1)

func compile(expression string) (*automaton, error) {
	parsed, err := syntax.Parse(expression, syntax.Perl)
	if err != nil {
		return nil, fmt.Errorf("parsing the expression: %w", err)
	}
	program, err := syntax.Compile(parsed.Simplify())
	if err != nil {
		return nil, fmt.Errorf("compiling the expression: %w", err)
	}
	if len(program.Inst) > maxProgram {
		return nil, fmt.Errorf("the expression is too large: %d steps, %d are allowed", len(program.Inst), maxProgram)
	}
	for _, inst := range program.Inst {
		if inst.Op == syntax.InstEmptyWidth && syntax.EmptyOp(inst.Arg)&(syntax.EmptyWordBoundary|syntax.EmptyNoWordBoundary) != 0 {
			return nil, fmt.Errorf("the expression %q asks for word boundaries, which are not supported", expression)
		}
	}
	a := &automaton{program: program, known: map[string]int32{}}
	if a.add(a.closure([]uint32{uint32(program.Start)}, syntax.EmptyBeginText|syntax.EmptyBeginLine)) == dead {
		return nil, fmt.Errorf("no text matches %q", expression)
	}
	return a, nil
}

// closure follows what needs no rune.
func (a *automaton) closure(from []uint32, here syntax.EmptyOp) state {
	var s state
	seen := map[uint32]bool{}
	var follow func(pc uint32, end bool)
	follow = func(pc uint32, end bool) {
		key := pc << 1
		if end {
			key |= 1
		}
		if seen[key] {
			return
		}
		seen[key] = true
		inst := &a.program.Inst[pc]
		switch inst.Op {
		case syntax.InstAlt, syntax.InstAltMatch:
			follow(inst.Out, end)
			follow(inst.Arg, end)
		case syntax.InstCapture, syntax.InstNop:
			follow(inst.Out, end)
		case syntax.InstEmptyWidth:
			needed := syntax.EmptyOp(inst.Arg)
			const ends = syntax.EmptyEndText | syntax.EmptyEndLine
			if needed&^(here|ends) == 0 {
				follow(inst.Out, end || needed&ends != 0)
			}
		case syntax.InstMatch:
			s.match = true
		case syntax.InstRune, syntax.InstRune1, syntax.InstRuneAny, syntax.InstRuneAnyNotNL:
			if !end { // behind the end of the text there is no rune
				s.at = append(s.at, pc)
			}
		case syntax.InstFail:
		}
	}
	for _, pc := range from {
		follow(pc, false)
	}
	slices.Sort(s.at)
	return s
}

// add gives a state its number.
func (a *automaton) add(s state) int32 {
	if len(s.at) == 0 && !s.match {
		return dead
	}
	key := make([]byte, 0, 4*len(s.at)+5)
	for _, pc := range s.at {
		key = binary.LittleEndian.AppendUint32(key, pc)
	}
	if s.match {
		key = append(key, 1)
	}
	key = append(append(key, 0), s.broken...)
	if n, ok := a.known[string(key)]; ok {
		return n
	}
	n := int32(len(a.states))
	if n == maxStates || a.work > maxWork {
		a.full.Store(true)
		return dead // too many ways: some are given up
	}
	a.states = append(a.states, s)
	a.moves = append(a.moves, map[byte]int32{})
	a.known[string(key)] = n
	return n
}

// next is the state after one more byte.
func (a *automaton) next(from int32, b byte) int32 {
	if from == dead {
		return dead
	}
	if to, ok := a.moves[from][b]; ok {
		return to
	}
	to := a.step(a.states[from], b)
	a.moves[from][b] = to
	return to
}

func (a *automaton) step(s state, b byte) int32 {
	a.work += len(s.at)
	text := s.broken + string([]byte{b})
	if !utf8.FullRuneInString(text) {
		if low, high := span(text); !a.some(s.at, low, high) {
			return dead
		}
		return a.add(state{at: s.at, broken: text})
	}
	r, size := utf8.DecodeRuneInString(text)
	if r == utf8.RuneError && size < 2 || size != len(text) {
		return dead
	}
	var out []uint32
	for _, pc := range s.at {
		if inst := &a.program.Inst[pc]; inst.MatchRune(r) {
			out = append(out, inst.Out)
		}
	}
	here := syntax.EmptyOp(0)
	if r == '\n' {
		here = syntax.EmptyBeginLine
	}
	return a.add(a.closure(out, here))
}

// span is the first and the last rune that begin with these bytes.
func span(broken string) (low, high rune) {
	pad := func(with byte) rune {
		full := []byte(broken)
		for len(full) < utf8.UTFMax && !utf8.FullRune(full) {
			full = append(full, with)
		}
		r, _ := utf8.DecodeRune(full)
		return r
	}
	low, high = pad(0x80), pad(0xbf)
	if low == utf8.RuneError { // 0xe0 and 0xf0 do not take the lowest bytes behind them
		low = map[byte]rune{0xe0: 0x800, 0xf0: 0x10000}[broken[0]]
	}
	if high == utf8.RuneError {
		high = utf8.MaxRune
	}
	return low, high
}

// some says whether any rune of a span can come next.
func (a *automaton) some(at []uint32, low, high rune) bool {
	for _, pc := range at {
		inst := &a.program.Inst[pc]
		switch {
		case inst.Op == syntax.InstRuneAny || inst.Op == syntax.InstRuneAnyNotNL:
			return true
		case len(inst.Rune) == 1:
			if one(inst, low, high) {
				return true
			}
		default:
			for i := 0; i+1 < len(inst.Rune); i += 2 {
				if inst.Rune[i] <= high && inst.Rune[i+1] >= low {
					return true
				}
			}
		}
	}
	return false
}

// one says whether an instruction for one rune, or its other cases, takes a rune of the span.
func one(inst *syntax.Inst, low, high rune) bool {
	r := inst.Rune[0]
	if r >= low && r <= high {
		return true
	}
	if syntax.Flags(inst.Arg)&syntax.FoldCase == 0 {
		return false
	}
	for other := unicode.SimpleFold(r); other != r; other = unicode.SimpleFold(other) {
		if other >= low && other <= high {
			return true
		}
	}
	return false
}
