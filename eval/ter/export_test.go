package ter

import "github.com/t5ctl/t5ctl/eval/pytext"

// Tokenize is what the options make of a line.
func (t *TER) Tokenize(line string) string { return pytext.Join(t.tok.tokenize(line)) }
