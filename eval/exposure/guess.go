package exposure

import (
	"cmp"
	"container/heap"
	"context"
	"fmt"
	"math"
	"slices"
	"strings"
)

// Continuer says which tokens may follow beginnings of outputs.
type Continuer interface {
	// Continue gives, for each beginning, the natural log-probability of every token behind it.
	Continue(ctx context.Context, source string, beginnings [][]int32) ([][]float32, error)
}

// Guesser looks for a secret among all texts of its format, the likeliest first: Dijkstra's search
// over the tokens that the format lets through.
type Guesser struct {
	Model  Continuer
	Pieces []string // text of each token, " " for a space; "" for one that writes nothing
	EOS    int32
	Budget int // guesses after which it gives up
}

// Guess is how a search ended.
type Guess struct {
	Found   bool    `json:"found"`
	Guesses int     `json:"guesses"` // different texts tried, the secret included where it was found
	Bits    float64 `json:"bits"`    // log-perplexity of the last
	Looked  int     `json:"looked"`  // beginnings that the model was asked about
}

// spot is a place in a format: so much of the placeholder's value is written.
type spot struct {
	slot    int
	written string
}

// reach is all spots that a text may have led to.
type reach []spot

func (p reach) key() string {
	var b strings.Builder
	for _, s := range p {
		fmt.Fprintf(&b, "%d:%s\x00", s.slot, s.written)
	}
	return b.String()
}

// pattern is a format as a machine that reads texts.
type pattern struct {
	slots  []Class
	memory map[string][]move // by reach, the tokens that go on
}

type move struct {
	token int32
	to    reach
}

func (f Format) pattern() *pattern {
	return &pattern{slots: f.newSampler(f.Target, "search", 0).parts, memory: map[string][]move{}}
}

// read goes on from a place over a text; nothing is left where the format does not let it through.
func (p *pattern) read(from reach, text string) reach {
	for i := 0; i < len(text) && len(from) > 0; i++ {
		var next reach
		for _, s := range from {
			if s.slot == len(p.slots) {
				continue
			}
			written := s.written + text[i:i+1]
			for _, v := range p.slots[s.slot] {
				to := spot{s.slot, written}
				if v == written {
					to = spot{slot: s.slot + 1}
				} else if !strings.HasPrefix(v, written) {
					continue
				}
				if !slices.Contains(next, to) {
					next = append(next, to)
				}
			}
		}
		slices.SortFunc(next, func(a, b spot) int {
			return cmp.Or(cmp.Compare(a.slot, b.slot), cmp.Compare(a.written, b.written))
		})
		from = next
	}
	return from
}

func (p *pattern) complete(at reach) bool { return slices.Contains(at, spot{slot: len(p.slots)}) }

// moves lists the tokens that may follow; a text's first token may have a space before it.
func (p *pattern) moves(at reach, first bool, pieces []string) []move {
	key := at.key()
	if first {
		key = "first"
	}
	if m, ok := p.memory[key]; ok {
		return m
	}
	var list []move
	for id, piece := range pieces {
		if first {
			piece = strings.TrimPrefix(piece, " ")
		}
		if piece == "" {
			continue
		}
		if to := p.read(at, piece); len(to) > 0 {
			list = append(list, move{int32(id), to})
		}
	}
	p.memory[key] = list
	return list
}

// node is a beginning of a guess, or a whole one.
type node struct {
	cost   float64 // -log p, in nats
	tokens []int32
	text   string
	at     reach
	whole  bool
}

type frontier []*node

func (f frontier) Len() int           { return len(f) }
func (f frontier) Less(i, j int) bool { return f[i].cost < f[j].cost }
func (f frontier) Swap(i, j int)      { f[i], f[j] = f[j], f[i] }
func (f *frontier) Push(x any)        { *f = append(*f, x.(*node)) }
func (f *frontier) Pop() any {
	old := *f
	n := old[len(old)-1]
	*f = old[:len(old)-1]
	return n
}

// lookBatch is how many beginnings the model is asked about at a time.
const lookBatch = 32

// Search looks for the secret under a source. Texts that can be written in several ways of tokens are
// one guess.
func (g Guesser) Search(ctx context.Context, source string, p *pattern, secret string) (Guess, error) {
	open := &frontier{{at: reach{{}}}}
	tried := map[string]bool{}
	out := Guess{}
	for open.Len() > 0 && out.Guesses < g.Budget && out.Looked < 16*g.Budget+256 {
		if (*open)[0].whole {
			n := heap.Pop(open).(*node)
			if tried[n.text] {
				continue
			}
			tried[n.text] = true
			out.Guesses++
			out.Bits = n.cost / math.Ln2
			if n.text == secret {
				out.Found = true
				return out, nil
			}
			continue
		}
		var batch []*node
		for open.Len() > 0 && len(batch) < lookBatch && !(*open)[0].whole {
			batch = append(batch, heap.Pop(open).(*node))
		}
		out.Looked += len(batch)
		if err := g.expand(ctx, source, p, batch, open); err != nil {
			return out, err
		}
	}
	return out, nil
}

// expand puts all that may follow into the frontier.
func (g Guesser) expand(ctx context.Context, source string, p *pattern, batch []*node, open *frontier) error {
	beginnings := make([][]int32, len(batch))
	for i, n := range batch {
		beginnings[i] = n.tokens
	}
	next, err := g.Model.Continue(ctx, source, beginnings)
	if err != nil {
		return err
	}
	for i, n := range batch {
		grow := func(token int32) (float64, []int32) {
			return n.cost - float64(next[i][token]), append(slices.Clone(n.tokens), token)
		}
		if p.complete(n.at) {
			cost, tokens := grow(g.EOS)
			heap.Push(open, &node{cost: cost, tokens: tokens, text: n.text, whole: true})
		}
		first := len(n.tokens) == 0
		for _, m := range p.moves(n.at, first, g.Pieces) {
			piece := g.Pieces[m.token]
			if first {
				piece = strings.TrimPrefix(piece, " ")
			}
			cost, tokens := grow(m.token)
			heap.Push(open, &node{cost: cost, tokens: tokens, text: n.text + piece, at: m.to})
		}
	}
	return nil
}
