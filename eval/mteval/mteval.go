// Package mteval holds the substitutions that split western punctuation in mteval-v13a, which BLEU's
// tokenizers and TER's share.
//
// Each appends its result to out. Bytes will do in place of characters: every class either is ASCII or
// holds all else, and the bytes of a character stay together.
package mteval

func digit(c byte) bool { return '0' <= c && c <= '9' }

func stop(c byte) bool { return c == '.' || c == ',' }

// punctuation is the class [{-~[-` -&(-+:-@/]: ASCII punctuation but for ' , - . and with the space.
func punctuation(c byte) bool {
	return (c >= '{' && c <= '~') || (c >= '[' && c <= '`') || (c >= ' ' && c <= '&') ||
		(c >= '(' && c <= '+') || (c >= ':' && c <= '@') || c == '/'
}

// SplitPunctuation is ([{-~[-` -&(-+:-@/]) → " \1 ".
func SplitPunctuation(out, in []byte) []byte {
	for _, c := range in {
		if punctuation(c) {
			out = append(out, ' ', c, ' ')
		} else {
			out = append(out, c)
		}
	}
	return out
}

// SplitStopAfterOther is ([^0-9])([.,]) → "\1 \2 ".
func SplitStopAfterOther(out, in []byte) []byte {
	for i := 0; i < len(in); i++ {
		out = append(out, in[i])
		if i+1 < len(in) && stop(in[i+1]) && !digit(in[i]) {
			out = append(out, ' ', in[i+1], ' ')
			i++
		}
	}
	return out
}

// SplitStopBeforeOther is ([.,])([^0-9]) → " \1 \2".
func SplitStopBeforeOther(out, in []byte) []byte {
	for i := 0; i < len(in); i++ {
		if i+1 < len(in) && stop(in[i]) && !digit(in[i+1]) {
			out = append(out, ' ', in[i], ' ', in[i+1])
			i++
		} else {
			out = append(out, in[i])
		}
	}
	return out
}

// SplitDashAfterDigit is ([0-9])(-) → "\1 \2 ".
func SplitDashAfterDigit(out, in []byte) []byte {
	for i := 0; i < len(in); i++ {
		out = append(out, in[i])
		if i+1 < len(in) && in[i+1] == '-' && digit(in[i]) {
			out = append(out, ' ', '-', ' ')
			i++
		}
	}
	return out
}
