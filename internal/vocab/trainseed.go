package vocab

import (
	"cmp"
	"maps"
	"math"
	"slices"
	"unicode"
	"unicode/utf8"
)

func sortedCounts(counts map[string]*int64) *wordCounts {
	words := make([]countedWord, 0, len(counts))
	for text, count := range counts {
		words = append(words, countedWord{text, *count})
	}
	slices.SortFunc(words, func(a, b countedWord) int { return cmp.Compare(a.text, b.text) })
	return &wordCounts{words}
}

// sortedRunes orders characters by how often they occur, the most frequent first.
func sortedRunes(counts map[rune]int64) []countedRune {
	list := make([]countedRune, 0, len(counts))
	for char, count := range counts {
		list = append(list, countedRune{char, count})
	}
	slices.SortFunc(list, func(a, b countedRune) int {
		return cmp.Or(cmp.Compare(b.count, a.count), cmp.Compare(a.char, b.char))
	})
	return list
}

// scoredPiece is a candidate for the vocabulary and its log probability.
type scoredPiece struct {
	text  string
	score float64
}

// seeds returns what training starts from: the required characters, and those strings that occur
// again and again, scored by how much of the text they cover.
func (t *trainer) seeds() []scoredPiece {
	list := t.substrings()
	slices.SortFunc(list, func(a, b scoredPiece) int {
		return cmp.Or(cmp.Compare(b.score, a.score), cmp.Compare(a.text, b.text))
	})
	list = list[:min(len(list), t.opts.SeedSize)]
	seeds := make([]scoredPiece, 0, len(t.required)+len(list))
	for _, c := range t.required {
		seeds = append(seeds, scoredPiece{string(c.char), float64(c.count)})
	}
	seeds = append(seeds, list...)
	sum := 0.0
	for _, s := range seeds {
		sum += s.score
	}
	for i := range seeds {
		seeds[i].score = math.Log(seeds[i].score) - math.Log(sum)
	}
	return seeds
}

// suffixes is a suffix array of the different words of a text. A character is its place in the
// alphabet, and 0 ends a word; a character that gets no piece ends one too.
type suffixes struct {
	text     []int32
	weight   []int64 // of the word that the position belongs to
	order    []int32 // positions in the order of what begins there
	alphabet []rune  // alphabet[c-1] is character c
	depth    int     // how many characters the order looks at
}

// newSuffixes sorts the suffixes of words by their first depth characters: what is longer cannot
// become a piece.
func newSuffixes(words []countedWord, required []countedRune, depth int) *suffixes {
	s := &suffixes{depth: depth}
	for _, c := range required {
		s.alphabet = append(s.alphabet, c.char)
	}
	slices.Sort(s.alphabet)
	code := make(map[rune]int32, len(s.alphabet))
	for i, char := range s.alphabet {
		code[char] = int32(i + 1)
	}
	for _, w := range words {
		for _, r := range w.text {
			if c := code[r]; c > 0 {
				s.order = append(s.order, int32(len(s.text)))
			}
			s.text = append(s.text, code[r])
			s.weight = append(s.weight, w.count)
		}
		s.text, s.weight = append(s.text, 0), append(s.weight, 0)
	}
	s.sort(s.order, 0)
	return s
}

// at is the character depth places behind position, 0 from the end of the word on.
func (s *suffixes) at(position int32, depth int) int32 { return s.text[int(position)+depth] }

// sort orders positions, which agree in their first depth characters, by the following ones
// (Bentley and Sedgewick's multikey quicksort).
func (s *suffixes) sort(positions []int32, depth int) {
	for len(positions) > 1 && depth < s.depth {
		if len(positions) < 16 {
			slices.SortFunc(positions, func(a, b int32) int { return s.compare(a, b, depth) })
			return
		}
		pivot := s.median(positions, depth)
		low, high := 0, len(positions)
		for i := 0; i < high; {
			switch c := s.at(positions[i], depth); {
			case c < pivot:
				positions[low], positions[i] = positions[i], positions[low]
				low++
				i++
			case c > pivot:
				high--
				positions[high], positions[i] = positions[i], positions[high]
			default:
				i++
			}
		}
		s.sort(positions[:low], depth)
		s.sort(positions[high:], depth)
		if pivot == 0 {
			return // all of these have ended
		}
		positions = positions[low:high]
		depth++
	}
}

// median of three characters.
func (s *suffixes) median(positions []int32, depth int) int32 {
	a, b, c := s.at(positions[0], depth), s.at(positions[len(positions)/2], depth), s.at(positions[len(positions)-1], depth)
	return max(min(a, b), min(max(a, b), c))
}

func (s *suffixes) compare(a, b int32, depth int) int {
	for ; depth < s.depth; depth++ {
		x, y := s.at(a, depth), s.at(b, depth)
		if x != y || x == 0 {
			return cmp.Compare(x, y)
		}
	}
	return 0
}

// common is the number of characters in which two positions agree, up to s.depth.
func (s *suffixes) common(a, b int32) int {
	n := 0
	for n < s.depth && s.at(a, n) == s.at(b, n) && s.at(a, n) != 0 {
		n++
	}
	return n
}

// length is the number of characters from position to the end of its word, up to s.depth.
func (s *suffixes) length(position int32) int {
	n := 0
	for n < s.depth && s.at(position, n) != 0 {
		n++
	}
	return n
}

// repeated gives each string that occurs in at least two ways, or to the end of a word, to visit:
// where one occurrence begins, its length in characters, and how often the text has it.
func (s *suffixes) repeated(visit func(position int32, length int, count int64)) {
	type interval struct {
		from  int // in s.order
		depth int
	}
	before := make([]int64, len(s.order)+1) // weight of all suffixes in front
	for i, position := range s.order {
		before[i+1] = before[i] + s.weight[position]
	}
	stack := []interval{{0, 0}}
	for i := 1; i <= len(s.order); i++ {
		shared := 0
		if i < len(s.order) {
			shared = s.common(s.order[i-1], s.order[i])
		}
		from := i - 1
		// A suffix that ends with its word is a string of its own, unless others go on from it.
		if n := s.length(s.order[i-1]); n > shared && n > stack[len(stack)-1].depth {
			stack = append(stack, interval{i - 1, n})
		}
		for shared < stack[len(stack)-1].depth {
			top := stack[len(stack)-1]
			stack = stack[:len(stack)-1]
			from = top.from
			visit(s.order[top.from], top.depth, before[i]-before[top.from])
		}
		if shared > stack[len(stack)-1].depth {
			stack = append(stack, interval{from, shared})
		}
	}
}

// substrings returns the strings of two or more characters that occur twice or more and may become
// pieces, scored by the number of characters that they cover.
func (t *trainer) substrings() []scoredPiece {
	s := newSuffixes(t.words, t.required, t.opts.MaxPieceLength+1)
	scripts := make([]int, len(s.alphabet)+1)
	names := slices.Sorted(maps.Keys(unicode.Scripts))
	for i, char := range s.alphabet {
		scripts[i+1] = scriptOf(char, names)
	}
	var list []scoredPiece
	var spelling []byte
	s.repeated(func(position int32, length int, count int64) {
		if length < 2 || length > t.opts.MaxPieceLength || count < 2 {
			return
		}
		chars := s.text[position : int(position)+length]
		if !s.oneScript(chars, scripts) {
			return
		}
		spelling = spelling[:0]
		for _, c := range chars {
			spelling = utf8.AppendRune(spelling, s.alphabet[c-1])
		}
		list = append(list, scoredPiece{string(spelling), float64(count) * float64(length)})
	})
	return list
}

const (
	scriptAny       = -1 // fits any other
	scriptInherited = -2 // that of the character in front
)

// oneScript says whether chars are of one script, and ▁ stands nowhere but in front.
func (s *suffixes) oneScript(chars []int32, scripts []int) bool {
	last := scriptAny
	for i, c := range chars {
		if s.alphabet[c-1] == '▁' {
			if i > 0 {
				return false
			}
			continue
		}
		script := scripts[c]
		if script == scriptInherited {
			script = last
		}
		if script != scriptAny && last != scriptAny && script != last {
			return false
		}
		last = script
	}
	return true
}

// scriptOf is the place of a character's script in names. Kana count as Han, since Japanese words mix them.
func scriptOf(char rune, names []string) int {
	switch {
	case char == '\u30fc' || unicode.In(char, unicode.Hiragana, unicode.Katakana):
		char = '一'
	case unicode.Is(unicode.Inherited, char):
		return scriptInherited
	}
	for i, name := range names {
		if unicode.Is(unicode.Scripts[name], char) {
			return i
		}
	}
	return slices.Index(names, "Common")
}
