package plugin

// ParsePage is what reads the answer of a package index.
func ParsePage(contentType string, body []byte) ([]string, error) {
	return parsePage(contentType, body)
}
