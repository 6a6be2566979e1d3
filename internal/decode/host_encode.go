package decode

import (
	"slices"
	"sync"

	"github.com/t5ctl/t5ctl/internal/matvec"
)

// encodeRows is about how many tokens are encoded at a time: enough for matrix products at full speed.
const encodeRows = 512

// hostSource is what the decoder needs of one source.
type hostSource struct {
	memory []matvec.Memory // [blocks, heads]
	mask   []float32       // [length], 0 or −1e9
}

// encode runs the encoder. It keeps its room for the next time.
func (m *hostModel) encode(sources []Source) []hostSource {
	list := make([]hostSource, 0, len(sources))
	for len(list) < len(sources) {
		rest := sources[len(list):]
		count, rows := 0, 0
		for count < len(rest) && (count == 0 || rows+len(rest[count].Tokens) <= encodeRows) {
			rows += max(1, len(rest[count].Tokens))
			count++
		}
		list = append(list, m.encodeTogether(rest[:count], rows)...)
	}
	return list
}

// encoding is the sources that are encoded together, their tokens row after row.
type encoding struct {
	states
	room  int // rows that there is room for
	rows  int
	spans []span
}

// span is one source's rows.
type span struct {
	from, length int
	mask         []float32
}

func (m *hostModel) encodeTogether(sources []Source, rows int) []hostSource {
	if m.encoding == nil || m.encoding.room < rows {
		m.encoding = &encoding{states: m.newStates(rows), room: rows}
	}
	e := m.encoding
	e.rows, e.spans = rows, nil
	at := 0
	for _, source := range sources {
		tokens := source.Tokens
		if len(tokens) == 0 { // a row of padding, which attends to itself
			tokens = []int32{int32(m.config.PadTokenID)}
		}
		sp := span{from: at, length: len(tokens), mask: make([]float32, len(tokens))}
		for i, token := range tokens {
			e.embed(at+i, token)
			if token == int32(m.config.PadTokenID) {
				sp.mask[i] = -1e9
			}
		}
		e.spans = append(e.spans, sp)
		at += len(tokens)
	}
	for i := range m.encoder.layers {
		l := &m.encoder.layers[i]
		e.normalize(l.selfNorm, rows)
		l.selfIn.Mul(e.wide, e.y, rows)
		e.attend(l.bias)
		e.project(l.selfOut, e.attended, rows)
		e.feed(l, rows)
	}
	e.normalize(m.encoder.norm, rows)
	return e.remember()
}

var memories = sync.Pool{New: func() any { return new(matvec.Memory) }} //nolint:gochecknoglobals // a pool is shared by its nature

// attend attends each token's query, of [q, k, v] in wide, to its own source.
func (e *encoding) attend(bias []float32) {
	heads, size := e.config.NumHeads, e.config.DKV
	inner := heads * size
	longest := slices.MaxFunc(e.spans, func(a, b span) int { return a.length - b.length }).length
	// what distances −longest+1 … longest−1 add for each head: the keys of a query have consecutive ones
	around := 2*longest - 1
	lines := make([]float32, heads*around)
	for distance := range around {
		row := int(e.config.EncoderBucket(distance-longest+1)) * heads
		for head := range heads {
			lines[head*around+distance] = bias[row+head]
		}
	}
	matvec.Parallel(len(e.spans)*heads, func(task int) {
		sp, head := e.spans[task/heads], task%heads
		qkv := e.wide[sp.from*3*inner+head*size:]
		memory := memories.Get().(*matvec.Memory)
		memory.Lay(qkv[inner:], qkv[2*inner:], sp.length, size, 3*inner)
		line := lines[head*around:][:around]
		memory.Attend(e.attended[sp.from*inner+head*size:], inner, qkv, 3*inner, sp.length, sp.mask, func(query int) []float32 {
			return line[longest-1-query:][:sp.length]
		})
		memories.Put(memory)
	})
}

// remember lays out what the decoder's blocks take from the encoder's states, in y.
func (e *encoding) remember() []hostSource {
	heads, size := e.config.NumHeads, e.config.DKV
	inner := heads * size
	list := make([]hostSource, len(e.spans))
	for i, sp := range e.spans {
		list[i] = hostSource{memory: make([]matvec.Memory, len(e.cross)*heads), mask: sp.mask}
	}
	for block, kv := range e.cross {
		kv.Mul(e.wide, e.y, e.rows)
		matvec.Parallel(len(e.spans)*heads, func(task int) {
			sp, head := e.spans[task/heads], task%heads
			at := e.wide[sp.from*2*inner+head*size:]
			list[task/heads].memory[block*heads+head] = matvec.NewMemory(at, at[inner:], sp.length, size, 2*inner)
		})
	}
	return list
}
