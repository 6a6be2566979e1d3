package ter

// Tokenize is what the options make of a line.
func (t *TER) Tokenize(line string) string { return t.tok.tokenize(line) }
