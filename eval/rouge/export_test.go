package rouge

// Tokens are what a text is compared by.
func Tokens(text string, stem bool) []string { return appendTokens(nil, text, stem, nil) }
