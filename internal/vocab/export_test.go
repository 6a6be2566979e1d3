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

// FromModel reads data as a spiece.model in both modes; FromJSON as a tokenizer.json.
func FromModel(data []byte) []*Tokenizer {
	l := loader{}
	return fromEach(data, l.buildSP, l.buildHF5Model)
}

// FromJSON reads data as a tokenizer.json in both modes.
func FromJSON(data []byte) []*Tokenizer {
	l := loader{}
	return fromEach(data, l.buildJSON, l.buildHF5JSON)
}

func fromEach(data []byte, build ...func([]byte) (*Tokenizer, error)) (made []*Tokenizer) {
	for _, b := range build {
		if t, err := b(data); err == nil {
			made = append(made, t)
		}
	}
	return made
}

// StandaloneRanges is standaloneRanges.
func StandaloneRanges() [][2]rune { return standaloneRanges() }

// WithoutRules gives the spiece.model of a trained tokenizer without its large charsmap.
func WithoutRules(t *Tokenizer) []byte { return modelWith(t, nil) }

// WithRules gives small tokenizers with a charsmap, in both modes of a spiece.model.
func WithRules(charsmap []byte) []*Tokenizer {
	pieces := []scoredPiece{{"▁", -2}, {"a", -3}, {"b", -3}, {"▁ab", -4}}
	return FromModel(writeModel(pieces, charsmap, TrainOptions{VocabSize: 7}))
}

func modelWith(t *Tokenizer, charsmap []byte) []byte {
	m, err := readModel(t.files[0].data)
	if err != nil {
		panic(err)
	}
	var pieces []scoredPiece
	for _, p := range m.pieces[3:] {
		pieces = append(pieces, scoredPiece{p.text, float64(p.score)})
	}
	return writeModel(pieces, charsmap, TrainOptions{VocabSize: len(m.pieces)})
}
