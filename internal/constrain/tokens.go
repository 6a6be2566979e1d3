package constrain

import (
	"slices"
	"sort"
	"sync"
)

// Vocabulary is what tokens spell. Constraints of many goroutines may have it together.
type Vocabulary struct {
	Texts []string // by id; "" for those that must not be written, as padding and sentinels
	End   int32
	// LeadingSpace says that a space that begins the text is not seen, as in SentencePiece.
	LeadingSpace bool

	once sync.Once
	trie *node
}

// root is the prefix tree of the tokens.
func (v *Vocabulary) root() *node {
	v.once.Do(func() {
		order := make([]int32, len(v.Texts))
		for i := range order {
			order[i] = int32(i)
		}
		sort.Slice(order, func(i, j int) bool { return v.Texts[order[i]] < v.Texts[order[j]] })
		v.trie = &node{}
		for _, id := range order {
			if v.Texts[id] != "" {
				v.trie.insert(v.Texts[id], id)
			}
		}
	})
	return v.trie
}

// Constraint holds texts to an expression. It is for one goroutine at a time.
type Constraint struct {
	automaton *automaton
	vocab     *Vocabulary
	trie      *node
	allowed   map[int32][]int32 // by state
	kept      int               // tokens in them
	first     []int32           // at the beginning of the text
}

// node is a prefix that tokens share.
type node struct {
	byte     byte
	tokens   []int32 // that end here
	children []*node
}

// Regexp allows the texts that match the whole expression, of Go's syntax.
func Regexp(expression string, v *Vocabulary) (*Constraint, error) {
	a, err := compile(expression)
	if err != nil {
		return nil, err
	}
	return &Constraint{automaton: a, vocab: v, trie: v.root(), allowed: map[int32][]int32{}}, nil
}

// insert adds a text; texts come in order.
func (n *node) insert(text string, id int32) {
	for i := range len(text) {
		if last := len(n.children) - 1; last >= 0 && n.children[last].byte == text[i] {
			n = n.children[last]
			continue
		}
		child := &node{byte: text[i]}
		n.children = append(n.children, child)
		n = child
	}
	n.tokens = append(n.tokens, id)
}

// Allowed lists, in ascending order, the tokens that may follow those written; none if these do
// not begin a text that matches.
func (c *Constraint) Allowed(written []int32) []int32 {
	if len(written) == 0 {
		if c.first == nil {
			c.first = c.beginning()
		}
		return c.first
	}
	at := int32(0)
	for i, id := range written {
		if id == c.vocab.End || int(id) >= len(c.vocab.Texts) {
			return nil
		}
		text := c.vocab.Texts[id]
		if i == 0 && c.vocab.LeadingSpace && len(text) > 0 && text[0] == ' ' {
			text = text[1:]
		}
		if at = c.walk(at, text); at == dead {
			return nil
		}
	}
	return c.after(at)
}

func (c *Constraint) walk(at int32, text string) int32 {
	for i := range len(text) {
		if at = c.automaton.next(at, text[i]); at == dead {
			break
		}
	}
	return at
}

// after lists what may follow in a state.
func (c *Constraint) after(at int32) []int32 {
	if list, ok := c.allowed[at]; ok {
		return list
	}
	list := c.collect(nil, c.trie, at)
	if c.automaton.states[at].match {
		list = append(list, c.vocab.End)
	}
	slices.Sort(list)
	list = slices.Compact(list)
	const most = 1 << 22 // tokens
	if c.kept += len(list); c.kept > most {
		clear(c.allowed)
		c.kept = len(list)
	}
	c.allowed[at] = list
	return list
}

// Full says that the expression has so many ways that some were given up: outputs may have ended for want of one.
func (c *Constraint) Full() bool { return c.automaton.full.Load() }

// collect adds the tokens below a node that the automaton lives through.
func (c *Constraint) collect(list []int32, n *node, at int32) []int32 {
	list = append(list, n.tokens...)
	for _, child := range n.children {
		if to := c.automaton.next(at, child.byte); to != dead {
			list = c.collect(list, child, to)
		}
	}
	return list
}

// beginning lists what may come first: there, a space at the start of a token is not seen.
func (c *Constraint) beginning() []int32 {
	list := slices.Clone(c.after(0))
	if !c.vocab.LeadingSpace {
		return list
	}
	list = slices.DeleteFunc(list, func(id int32) bool { return id != c.vocab.End && c.vocab.Texts[id][0] == ' ' })
	for _, child := range c.trie.children {
		if child.byte == ' ' {
			list = c.collect(list, child, 0)
		}
	}
	slices.Sort(list)
	return slices.Compact(list)
}
