package bleu

import "strings"

// Tokenize is what sacreBLEU's tokenizer of that name makes of a line without trailing white space.
// It panics for a name that Tokenizers does not list.
func Tokenize(name, line string) string {
	t := &tokenizer{}
	switch name {
	case "13a", "intl", "zh":
		return strings.Join(t.fields(name, line), " ")
	case "char":
		return strings.Join(strings.Split(line, ""), " ")
	case "none":
		return line
	}
	panic("bleu: no tokenizer " + name)
}
