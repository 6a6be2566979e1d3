package exposure

import (
	"encoding/binary"
)

// Ngrams counts the runs of n tokens in texts.
type Ngrams struct {
	N        int `json:"n"`
	Distinct int `json:"distinct"`
	Repeated int `json:"repeated"` // of those, that occur more than once
	Most     int `json:"most"`     // how often the most frequent one occurs
}

// CountNgrams looks for repetition: outputs that all say the same make an overlap mean little.
func CountNgrams(texts [][]int32, n int) Ngrams {
	out := Ngrams{N: n}
	seen := map[string]int{}
	key := make([]byte, 0, 4*n)
	for _, text := range texts {
		for i := 0; i+n <= len(text); i++ {
			key = key[:0]
			for _, t := range text[i : i+n] {
				key = binary.LittleEndian.AppendUint32(key, uint32(t))
			}
			seen[string(key)]++
			out.Most = max(out.Most, seen[string(key)])
			if seen[string(key)] == 2 {
				out.Repeated++
			}
		}
	}
	out.Distinct = len(seen)
	return out
}

// Coverage says how much of an output stands in the training data, in runs of n tokens.
type Coverage struct {
	N        int     `json:"n"`
	Ngrams   int     `json:"ngrams"`
	Found    int     `json:"ngrams_found"`
	Tokens   int     `json:"tokens_covered"` // that lie in a run that was found
	Fraction float64 `json:"fraction"`       // of all tokens
}

// Cover counts the runs of n tokens that were found. found holds, for each place of the output,
// the length of the longest run ending there that the training data holds.
func Cover(found []int, n int) Coverage {
	c := Coverage{N: n, Ngrams: max(0, len(found)-n+1)}
	free := 0 // first place that is not counted as covered
	for i, length := range found {
		if length < n {
			continue
		}
		c.Found++
		c.Tokens += i + 1 - max(free, i+1-n)
		free = i + 1
	}
	if len(found) > 0 {
		c.Fraction = float64(c.Tokens) / float64(len(found))
	}
	return c
}

// LongestRun is the length of the longest run that was found, and where the first such starts.
// Runs that the output's own input holds as well do not count: own is like found, or nil.
func LongestRun(found, own []int) (length, start int) {
	for i, n := range found {
		if own != nil && own[i] >= n {
			continue
		}
		if n > length {
			length, start = n, i+1-n
		}
	}
	return length, start
}
