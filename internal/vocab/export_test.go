package vocab

// ModelParts gives tests the pieces, scores and charsmap of a spiece.model.
func ModelParts(data []byte) (pieces []string, scores []float32, charsmap []byte, err error) {
	m, err := readModel(data)
	if err != nil {
		return nil, nil, nil, err
	}
	for _, p := range m.pieces {
		pieces, scores = append(pieces, p.text), append(scores, p.score)
	}
	return pieces, scores, m.charsmap, nil
}

// ReadAsSerde is readAsSerde.
func ReadAsSerde(number string) float64 { return readAsSerde(number) }

// FuzzModel reads data as a spiece.model in both modes; FuzzJSON as a tokenizer.json.
func FuzzModel(data []byte) []*Tokenizer {
	l := loader{}
	return fuzzed(data, l.buildSP, l.buildHF5Model)
}

// FuzzJSON reads data as a tokenizer.json in both modes.
func FuzzJSON(data []byte) []*Tokenizer {
	l := loader{}
	return fuzzed(data, l.buildJSON, l.buildHF5JSON)
}

func fuzzed(data []byte, build ...func([]byte) (*Tokenizer, error)) (made []*Tokenizer) {
	for _, b := range build {
		if t, err := b(data); err == nil {
			made = append(made, t)
		}
	}
	return made
}
