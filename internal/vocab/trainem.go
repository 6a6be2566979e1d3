package vocab

import (
	"cmp"
	"math"
	"slices"
	"sync"
)

// trainer holds what stays the same while a vocabulary is trained.
type trainer struct {
	opts     TrainOptions
	words    []countedWord
	required []countedRune
}

// trainShards is into how many parts the words are divided. It is fixed, so that sums are the same
// with any number of threads.
const trainShards = 4

// run drops candidates until little more than the wanted number is left.
func (t *trainer) run(pieces []scoredPiece) []scoredPiece {
	const (
		rounds   = 2    // of expectation maximisation between prunings
		headroom = 1.1  // how much larger than wanted the result is
		keep     = 0.75 // the share of pieces that survives a pruning
	)
	wanted := int(float64(t.opts.VocabSize) * headroom)
	for {
		for range rounds {
			pieces = t.maximize(pieces, t.expect(newLattice(pieces)))
		}
		before := len(pieces)
		pieces = t.prune(pieces, max(wanted, int(keep*float64(before))))
		if t.opts.Progress != nil {
			t.opts.Progress(len(pieces))
		}
		if len(pieces) <= wanted || len(pieces) == before {
			return pieces
		}
	}
}

// lattice finds the ways to spell words with pieces.
type lattice struct {
	pieces []scoredPiece
	trie   *trie
	unk    float64 // score of a character that is no piece
}

func newLattice(pieces []scoredPiece) *lattice {
	keys := make([]trieKey, len(pieces))
	lowest := math.Inf(1)
	for i, p := range pieces {
		keys[i] = trieKey{p.text, int32(i)}
		lowest = min(lowest, p.score)
	}
	return &lattice{pieces: pieces, trie: newTrie(keys), unk: lowest - unkPenalty}
}

// edge is a piece at a place in a word.
type edge struct {
	start, end int32
	id         int32 // -1 for a character that is no piece
	score      float64
}

// edges appends the pieces of word to list, ordered by where they begin.
func (l *lattice) edges(list []edge, word string) []edge {
	for at := 0; at < len(word); {
		length := runeLength(word[at])
		single := false
		var node uint32
		var ok bool
		for end := at; end < len(word); {
			if node, ok = l.trie.step(node, word[end]); !ok {
				break
			}
			end++
			if id := l.trie.units[node].value(); id >= 0 {
				list = append(list, edge{int32(at), int32(end), id, l.pieces[id].score})
				single = single || end-at == length
			}
		}
		if !single {
			list = append(list, edge{int32(at), int32(at + length), -1, l.unk})
		}
		at += length
	}
	return list
}

// latticeScratch is what going through one word after the other needs.
type latticeScratch struct {
	edges []edge
	total []float64 // log of the sum over all ways to a place
	best  []float64 // the best way to a place
	back  []int32   // its last edge
	after []float64 // the share of ways that go through a place
}

func (s *latticeScratch) reset(n int) {
	if cap(s.total) < n {
		s.total, s.best, s.after = make([]float64, 2*n), make([]float64, 2*n), make([]float64, 2*n)
		s.back = make([]int32, 2*n)
	}
	s.total, s.best, s.after, s.back = s.total[:n], s.best[:n], s.after[:n], s.back[:n]
	for i := range n {
		s.total[i], s.best[i], s.after[i], s.back[i] = 0, math.Inf(-1), 0, -1
	}
	s.best[0] = 0
}

// expect returns how often each piece is used, over all ways to spell the text.
func (t *trainer) expect(l *lattice) []float64 {
	return t.sum(len(l.pieces), func(s *latticeScratch, w countedWord, counts []float64) {
		s.expectWord(l, w, counts)
	})
}

// sum adds up what add counts for each word. The parts are added in a fixed order.
func (t *trainer) sum(n int, add func(*latticeScratch, countedWord, []float64)) []float64 {
	var parts [trainShards][]float64
	var group sync.WaitGroup
	slots := make(chan struct{}, t.opts.Threads)
	for i := range trainShards {
		slots <- struct{}{}
		group.Go(func() {
			defer func() { <-slots }()
			counts := make([]float64, n)
			s := &latticeScratch{}
			for k := i; k < len(t.words); k += trainShards {
				add(s, t.words[k], counts)
			}
			parts[i] = counts
		})
	}
	group.Wait()
	for _, part := range parts[1:] {
		for i, v := range part {
			parts[0][i] += v
		}
	}
	return parts[0]
}

// expectWord adds the expected uses of the pieces in one word. Going forward it finds, for each
// place, the sum over the ways to it; going back, how the ways through it are shared out.
func (s *latticeScratch) expectWord(l *lattice, w countedWord, counts []float64) {
	s.edges = l.edges(s.edges[:0], w.text)
	s.reset(len(w.text) + 1)
	// best and after serve here as the largest term and the sum of terms of a log-sum-exp.
	s.best[0] = 0
	next := 0
	for _, e := range s.edges {
		if int(e.start) != next { // all ways to e.start are known now
			next = int(e.start)
			s.total[next] = s.best[next] + math.Log(s.after[next])
		}
		score := s.total[e.start] + e.score
		if top := s.best[e.end]; score > top {
			s.after[e.end] = float64(s.after[e.end]*math.Exp(top-score)) + 1
			s.best[e.end] = score
		} else {
			s.after[e.end] += math.Exp(score - top)
		}
	}
	n := len(w.text)
	s.total[n] = s.best[n] + math.Log(s.after[n])
	clear(s.after)
	s.after[n] = float64(w.count)
	for _, e := range slices.Backward(s.edges) {
		uses := float64(s.after[e.end] * math.Exp(s.total[e.start]+e.score-s.total[e.end]))
		s.after[e.start] += uses
		if e.id >= 0 {
			counts[e.id] += uses
		}
	}
}

// noPiece is the id of no piece, nor of an unknown character.
const noPiece = -2

// viterbi finds the best way through word, not using the piece skip for all of it.
func (s *latticeScratch) viterbi(l *lattice, word string, skip int32) {
	s.edges = l.edges(s.edges[:0], word)
	s.reset(len(word) + 1)
	for i, e := range s.edges {
		if e.id == skip && int(e.end-e.start) == len(word) {
			continue
		}
		if score := s.best[e.start] + e.score; score > s.best[e.end] {
			s.best[e.end], s.back[e.end] = score, int32(i)
		}
	}
}

// maximize gives the pieces that are used new scores. The digamma function makes it a sparse prior
// (Liang and Klein, structured Bayesian models): rare pieces lose.
func (t *trainer) maximize(pieces []scoredPiece, counts []float64) []scoredPiece {
	const least = 0.5
	kept := make([]scoredPiece, 0, len(pieces))
	sum := 0.0
	for i, p := range pieces {
		if counts[i] >= least {
			kept = append(kept, scoredPiece{p.text, counts[i]})
			sum += counts[i]
		}
	}
	total := digamma(sum)
	for i := range kept {
		kept[i].score = digamma(kept[i].score) - total
	}
	return kept
}

// digamma is the derivative of the logarithm of the gamma function, for x > 0: the recurrence up to
// where the asymptotic series is exact to double precision.
func digamma(x float64) float64 {
	shift := 0.0
	for ; x < 10; x++ {
		shift -= 1 / x
	}
	r := 1 / float64(x*x)
	series := float64(r * (1.0/12 - float64(r*(1.0/120-float64(r*(1.0/252-float64(r*(1.0/240-float64(r*(1.0/132))))))))))
	return shift + math.Log(x) - 0.5/x - series
}

// prune drops the pieces whose loss hurts the likelihood of the text least, and those that the best
// spelling of the text never uses, down to size pieces.
func (t *trainer) prune(pieces []scoredPiece, size int) []scoredPiece {
	l := newLattice(pieces)
	uses := t.sum(len(pieces), func(s *latticeScratch, w countedWord, counts []float64) {
		s.viterbi(l, w.text, noPiece)
		for at := len(w.text); at > 0; {
			e := s.edges[s.back[at]]
			if e.id >= 0 {
				counts[e.id] += float64(w.count)
			}
			at = int(e.start)
		}
	})
	sum := 0.0
	for _, u := range uses {
		sum += u
	}
	var kept []scoredPiece
	type candidate struct {
		piece scoredPiece
		loss  float64
	}
	var candidates []candidate
	s := &latticeScratch{}
	for i, p := range pieces {
		instead, shadowed := s.alternative(l, int32(i))
		switch {
		case uses[i] == 0 || shadowed:
		case len(instead) == 0:
			kept = append(kept, p)
		default:
			candidates = append(candidates, candidate{p, lossOf(uses, sum, i, instead)})
		}
	}
	slices.SortStableFunc(candidates, func(a, b candidate) int { return cmp.Compare(b.loss, a.loss) })
	for _, c := range candidates {
		if len(kept) >= size {
			break
		}
		kept = append(kept, c.piece)
	}
	return kept
}

// alternative returns the pieces that would spell piece id if it were not there; none if it cannot
// be spelled otherwise. It is shadowed if they are better than the piece itself.
func (s *latticeScratch) alternative(l *lattice, id int32) (instead []int32, shadowed bool) {
	text := l.pieces[id].text
	if characters(text) == 1 {
		return nil, false
	}
	s.viterbi(l, text, id)
	for at := len(text); at > 0; {
		e := s.edges[s.back[at]]
		if e.id < 0 {
			return nil, false
		}
		instead = append(instead, e.id)
		at = int(e.start)
	}
	return instead, s.best[len(text)] > l.pieces[id].score
}

// lossOf estimates by how much the likelihood of the text falls if each use of piece i is spelled
// with the pieces instead.
func lossOf(uses []float64, sum float64, i int, instead []int32) float64 {
	with := math.Log(uses[i]) - math.Log(sum)
	newSum := math.Log(sum + float64(uses[i]*float64(len(instead)-1)))
	without := 0.0
	for _, id := range instead {
		without += math.Log(uses[id]+uses[i]) - newSum
	}
	return float64(uses[i] / sum * (with - without))
}

// finalize returns n pieces, the best first: all required characters, then those with the highest
// scores.
func (t *trainer) finalize(pieces []scoredPiece, n int) []scoredPiece {
	byText := make(map[string]float64, len(pieces))
	lowest := math.Inf(1)
	for _, p := range pieces {
		byText[p.text] = p.score
		lowest = min(lowest, p.score)
	}
	order := func(a, b scoredPiece) int {
		return cmp.Or(cmp.Compare(b.score, a.score), cmp.Compare(a.text, b.text))
	}
	var final []scoredPiece
	chosen := make(map[string]bool, n)
	penalty := 0.0
	for _, c := range t.required {
		text := string(c.char)
		score, ok := byText[text]
		if !ok { // a little more for each, so that no two are the same
			score = lowest + penalty
			penalty += 0.0001
		}
		final = append(final, scoredPiece{text, score})
		chosen[text] = true
	}
	slices.SortFunc(pieces, order)
	for _, p := range pieces {
		if len(final) >= n {
			break
		}
		if !chosen[p.text] {
			final = append(final, p)
		}
	}
	slices.SortFunc(final, order)
	return final
}
