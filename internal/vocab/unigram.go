package vocab

import (
	"math"
	"sync"
)

// unkPenalty is how much worse than the worst piece an unknown character scores.
const unkPenalty = 10

// spaceMark stands for a space in pieces: U+2581.
const spaceMark = "▁"

// scratch is what one call of an encoder needs, kept for the next one.
type scratch struct {
	wide   []wideCell
	narrow []narrowCell
	text   []byte
	words  []byte
}

// wideCell is the best way to reach a byte position, in the arithmetic of the tokenizers library.
type wideCell struct {
	score float64
	start int32 // where its last piece begins; -1 as long as the position has not been reached
	id    int32
}

// narrowCell is the same in the arithmetic of SentencePiece.
type narrowCell struct {
	score float32
	start int32
	id    int32
}

// scratchPool lends out scratches. The zero value is ready.
type scratchPool struct{ pool sync.Pool }

func (p *scratchPool) take() *scratch {
	if s, ok := p.pool.Get().(*scratch); ok {
		return s
	}
	return &scratch{}
}

// giveBack keeps s for later, unless an unusually long text has made it large.
func (p *scratchPool) giveBack(s *scratch) {
	const keep = 1 << 20
	if cap(s.wide) <= keep && cap(s.narrow) <= keep && cap(s.text) <= 8*keep && cap(s.words) <= 8*keep {
		p.pool.Put(s)
	}
}

// wideCells returns n cells that have not been reached.
func (s *scratch) wideCells(n int) []wideCell {
	if cap(s.wide) < n {
		s.wide = make([]wideCell, n+n/4+64)
	}
	cells := s.wide[:n]
	for i := range cells {
		cells[i].start = -1
	}
	return cells
}

// narrowCells is wideCells in the other arithmetic.
func (s *scratch) narrowCells(n int) []narrowCell {
	if cap(s.narrow) < n {
		s.narrow = make([]narrowCell, n+n/4+64)
	}
	cells := s.narrow[:n]
	for i := range cells {
		cells[i].start = -1
	}
	return cells
}

// wideModel segments words as Unigram of the tokenizers library does: float64 sums, the first of
// equally good ways wins, and every entry of the vocabulary may be matched, special ones included.
type wideModel struct {
	trie   *trie
	scores []float64
	unk    int32
	// unkScore is the score of a character that is no piece.
	unkScore float64
	// bytes are the ids of the byte pieces, if unknown text is to be spelled with them.
	bytes *[256]int32
}

func newWideModel(keys []trieKey, scores []float64, unk int32) *wideModel {
	m := &wideModel{trie: newTrie(keys), scores: scores, unk: unk}
	lowest := math.Inf(1)
	for _, s := range scores {
		lowest = min(lowest, s)
	}
	m.unkScore = lowest - unkPenalty
	return m
}

// runeLength is the length of the character that begins with lead, in valid UTF-8.
func runeLength(lead byte) int {
	switch {
	case lead < 0x80:
		return 1
	case lead < 0xe0:
		return 2
	case lead < 0xf0:
		return 3
	}
	return 4
}

// segment appends the ids of word, which is valid UTF-8.
func (m *wideModel) segment(s *scratch, ids []int32, word []byte) []int32 {
	if len(word) == 0 {
		return ids
	}
	cells := s.wideCells(len(word) + 1)
	cells[0].score = 0
	units, scores := m.trie.units, m.scores
	for at := 0; at < len(word); {
		till := cells[at].score
		length := runeLength(word[at])
		single := false
		base := units[0].base()
		for end := at; end < len(word); {
			unit := units[base^uint32(word[end])]
			if unit.label() != uint64(word[end]) {
				break
			}
			end++
			base = unit.base()
			id := unit.value()
			if id < 0 {
				continue
			}
			score := scores[id] + till
			if cell := &cells[end]; cell.start < 0 || score > cell.score {
				*cell = wideCell{score: score, start: int32(at), id: id}
			}
			single = single || end-at == length
		}
		if !single {
			score := m.unkScore + till
			if cell := &cells[at+length]; cell.start < 0 || score > cell.score {
				*cell = wideCell{score: score, start: int32(at), id: m.unk}
			}
		}
		at += length
	}
	return m.backtrack(s, ids, word, cells)
}

// backtrack appends the ids of the best way to the end of word. A run of unknown characters is one
// id, or the bytes of the run.
func (m *wideModel) backtrack(s *scratch, ids []int32, word []byte, cells []wideCell) []int32 {
	first := len(ids)
	for end := len(word); end > 0; {
		cell := cells[end]
		start := int(cell.start)
		if cell.id == m.unk {
			for start > 0 && cells[start].id == m.unk {
				start = int(cells[start].start)
			}
			ids = m.unknown(ids, word[start:end])
		} else {
			ids = append(ids, cell.id)
		}
		end = start
	}
	for i, j := first, len(ids)-1; i < j; i, j = i+1, j-1 {
		ids[i], ids[j] = ids[j], ids[i]
	}
	return ids
}

// unknown appends the ids of a run of unknown characters, the last one first.
func (m *wideModel) unknown(ids []int32, run []byte) []int32 {
	if m.bytes == nil {
		return append(ids, m.unk)
	}
	if id := m.trie.find(string(run)); id >= 0 {
		return append(ids, id)
	}
	first := len(ids)
	for i := len(run) - 1; i >= 0; i-- {
		if m.bytes[run[i]] < 0 {
			return append(ids[:first], m.unk)
		}
		ids = append(ids, m.bytes[run[i]])
	}
	return ids
}
