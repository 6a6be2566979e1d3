// Package nearest finds the known name that a mistyped one was probably meant to be.
//
// It answers only where the likeness is close enough that the hint helps: at most a third of
// the letters differ, or one name is the start or the end of the other. Results depend on the arguments alone, ties go to the earlier candidate.
package nearest

import "slices"

// Of returns the candidate most like name, or "" where none is alike.
func Of(name string, candidates []string) string {
	if all := Ranked(name, candidates); len(all) > 0 {
		return all[0]
	}
	return ""
}

// Ranked returns the candidates that are like name, the most alike first.
func Ranked(name string, candidates []string) []string {
	type scored struct {
		name string
		cost int
	}
	var alike []scored
	for _, c := range candidates {
		cost := Distance(fold(name), fold(c))
		if c != "" && (cost <= limit(name, c) || abbreviates(name, c)) {
			alike = append(alike, scored{c, cost})
		}
	}
	slices.SortStableFunc(alike, func(a, b scored) int { return a.cost - b.cost })
	names := make([]string, len(alike))
	for i, s := range alike {
		names[i] = s.name
	}
	return names
}

// limit is how many edits still count as a slip: a third of the longer name, at least one.
func limit(a, b string) int {
	return max(1, max(len([]rune(a)), len([]rune(b)))/3)
}

// abbreviates says whether one name is the start or the end of the other, in at least three letters.
func abbreviates(name, full string) bool {
	a, b := fold(name), fold(full)
	if len(a) > len(b) {
		a, b = b, a
	}
	return len(a) >= 3 && (slices.Equal(a, b[:len(a)]) || slices.Equal(a, b[len(b)-len(a):]))
}

// fold makes spellings alike that people mix up: case, and - for _ or a space.
func fold(s string) []rune {
	runes := []rune(s)
	for i, r := range runes {
		switch {
		case r >= 'A' && r <= 'Z':
			runes[i] = r + 'a' - 'A'
		case r == '_' || r == ' ':
			runes[i] = '-'
		}
	}
	return runes
}

// Distance counts the edits between two words: insert, delete, replace, and swap of two
// neighbouring letters (optimal string alignment).
func Distance(a, b []rune) int {
	before, last, row := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range last {
		last[j] = j
	}
	for i := 1; i <= len(a); i++ {
		row[0] = i
		for j := 1; j <= len(b); j++ {
			replace := last[j-1]
			if a[i-1] != b[j-1] {
				replace++
			}
			row[j] = min(replace, last[j]+1, row[j-1]+1)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
		before, last, row = last, row, before
	}
	return last[len(b)]
}
