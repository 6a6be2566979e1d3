package vocab

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/t5ctl/t5ctl/internal/digest"
)

// hfUnknown is the unknown id that T5Tokenizer uses whatever the files say.
const hfUnknown = 2

// buildHF5Model makes the ModeHF5 tokenizer of a spiece.model. Byte fallback is off in this mode.
func (l *loader) buildHF5Model(data []byte) (*Tokenizer, error) {
	m, err := readUnigram(data)
	if err != nil {
		return nil, err
	}
	usual := usualSentinels(m)
	names, scores := make([]string, 0, len(m.pieces)+usual), make([]float64, 0, len(m.pieces)+usual)
	var own []tokenSpec // what transformers takes over from the model as added tokens
	for _, p := range m.pieces {
		names, scores = append(names, p.text), append(scores, float64(p.score))
		if p.kind == pieceControl || p.kind == pieceUserDefined {
			own = append(own, tokenSpec{Content: p.text, Special: p.kind == pieceControl})
		}
	}
	rules, err := newCharsmap(m.charsmap)
	if err != nil {
		return nil, err
	}
	return hf5Source{
		names: names, scores: scores, own: own, appends: true, usual: usual, rules: rules,
	}.build(data, &l.conf)
}

// buildHF5JSON makes the ModeHF5 tokenizer of a tokenizer.json, of which T5Tokenizer keeps only the
// vocabulary, the charsmap and the added tokens.
func (l *loader) buildHF5JSON(data []byte) (*Tokenizer, error) {
	f, err := readJSON(data)
	if err != nil {
		return nil, err
	}
	rules, err := charsmapOf(f.Normalizer)
	if err != nil {
		return nil, err
	}
	s := hf5Source{usual: usualExtraIDs, rules: rules, listed: f.Added}
	for _, p := range f.Model.Vocab {
		s.names, s.scores = append(s.names, p.text), append(s.scores, p.exact)
	}
	return s.build(data, &l.conf)
}

// hf5Source is what T5Tokenizer starts from, whichever file it comes from.
type hf5Source struct {
	names   []string
	scores  []float64
	own     []tokenSpec  // added tokens of a spiece.model; nil for a tokenizer.json
	listed  []addedToken // added tokens of a tokenizer.json
	appends bool         // sentinels are appended to the vocabulary
	usual   int          // their number where nothing is said
	rules   *charsmap
}

// build puts the tokenizer together as T5Tokenizer's constructor does.
func (s hf5Source) build(data []byte, conf *config) (*Tokenizer, error) {
	n, err := conf.extraIDs(s.usual)
	if err != nil {
		return nil, err
	}
	wanted, err := s.addedTokens(conf, n)
	if err != nil {
		return nil, err
	}
	if s.appends {
		s.names = append(s.names, extraNames(n)...)
		s.scores = append(s.scores, make([]float64, n)...)
	}
	if len(s.names) <= hfUnknown || s.names[hfUnknown] != "<unk>" {
		return nil, errUnsupported("a vocabulary in which <unk> is not id 2")
	}
	model, t, err := newHF(s.names, s.scores, hfUnknown, wanted)
	if err != nil {
		return nil, err
	}
	model.useRules(s.rules)
	model.eos, model.dropFirst = t.eos, true
	model.shape = shape{splitSpaces: true, prepend: prependAlways}
	t.extraIDs = n
	t.hash = s.hash(data, n, wanted)
	return t, nil
}

// hash is the digest of the file if the files beside it change nothing, and of the file and of what
// they change otherwise.
func (s hf5Source) hash(data []byte, n int, wanted []addedToken) string {
	plain := digest.Bytes(data)
	usual, err := s.addedTokens(&config{}, s.usual)
	if err == nil && n == s.usual && slices.Equal(bySpelling(usual), bySpelling(wanted)) {
		return plain
	}
	text := plain + " extra_ids=" + strconv.Itoa(n)
	for _, token := range bySpelling(wanted) {
		text += fmt.Sprintf(" %q,%t,%t,%t", token.Content, token.LStrip, token.RStrip, token.Special)
	}
	return digest.Bytes([]byte(text))
}

// bySpelling orders tokens by their content, so that the order they are listed in does not count.
func bySpelling(tokens []addedToken) []addedToken {
	sorted := slices.Clone(tokens)
	for i := range sorted {
		sorted[i].ID = 0
	}
	slices.SortFunc(sorted, func(a, b addedToken) int { return cmp.Compare(a.Content, b.Content) })
	return sorted
}

// addedTokens lists the added tokens in the order in which transformers 5 adds them: those that
// the files list by id, then </s>, <unk> and <pad>, then the extra ones.
func (s hf5Source) addedTokens(conf *config, n int) ([]addedToken, error) {
	extras, there, err := conf.extras()
	if err != nil {
		return nil, err
	}
	if own, err := s.classTokens(conf, n); err != nil {
		return nil, err
	} else if !there {
		extras = own
	}
	tokens, err := s.listedTokens(conf)
	if err != nil {
		return nil, err
	}
	seen := map[string]bool{}
	for i, token := range tokens {
		seen[token.Content] = true
		tokens[i].Special = token.Special || token.Content == "</s>" || token.Content == "<unk>" || token.Content == "<pad>"
	}
	named := []tokenSpec{
		*cmp.Or(conf.EOS, &tokenSpec{Content: "</s>", Special: true}),
		*cmp.Or(conf.Unk, &tokenSpec{Content: "<unk>", Special: true}),
		*cmp.Or(conf.Pad, &tokenSpec{Content: "<pad>", Special: true}),
	}
	for _, token := range append(named, extras...) {
		if !seen[token.Content] {
			seen[token.Content] = true
			added := addedToken(token)
			added.ID = -1
			tokens = append(tokens, added)
		}
	}
	return tokens, nil
}

// classTokens is the list of additional tokens that T5Tokenizer makes when none is configured.
func (s hf5Source) classTokens(conf *config, n int) ([]tokenSpec, error) {
	list := slices.Clone(s.own)
	if !s.appends {
		list = slices.Clone(conf.mapped)
	}
	sentinels := 0
	for _, token := range list {
		if strings.Contains(token.Content, "<extra_id_") {
			sentinels++
		}
	}
	if sentinels > 0 && n > 0 && sentinels != n {
		return nil, errUnsupported(fmt.Sprintf("%d sentinels among the special tokens where extra_ids is %d", sentinels, n))
	}
	for k := 0; sentinels == 0 && k < n; k++ {
		list = append(list, tokenSpec{Content: sentinelName(k), Special: true})
	}
	return list, nil
}

// listedTokens are the added tokens that a file lists with ids, in their order: those of
// tokenizer_config.json, or else those of added_tokens.json and tokenizer.json.
func (s hf5Source) listedTokens(conf *config) ([]addedToken, error) {
	byID := map[int32]addedToken{}
	if conf.Added != nil {
		for key, token := range conf.Added {
			id, err := strconv.ParseInt(key, 10, 32)
			if err != nil {
				return nil, fmt.Errorf("the added token %q has id %q", token.Content, key)
			}
			token.ID = int32(id)
			byID[token.ID] = token
		}
	} else {
		for name, id := range conf.legacy {
			special := slices.ContainsFunc(conf.mapped, func(t tokenSpec) bool { return t.Content == name })
			byID[id] = addedToken{ID: id, Content: name, Normalized: !special, Special: special}
		}
		for _, token := range s.listed {
			byID[token.ID] = token
		}
	}
	var list []addedToken
	for _, id := range slices.Sorted(maps.Keys(byID)) {
		list = append(list, byID[id])
	}
	return list, nil
}

// newHF makes the model of a vocabulary and its added tokens, which go behind it where they are not
// in it. The caller sets what the pipeline does.
func newHF(names []string, scores []float64, unk int32, wanted []addedToken) (*hfModel, *Tokenizer, error) {
	keys := make([]trieKey, len(names))
	for i, name := range names {
		keys[i] = trieKey{name, int32(i)}
	}
	m := &hfModel{words: newWideModel(keys, scores, unk), pieces: slices.Clone(names)}
	added := make([]addedToken, 0, len(wanted))
	for _, token := range wanted {
		switch {
		case token.Content == "":
			return nil, nil, errors.New("an added token is empty")
		case token.SingleWord:
			return nil, nil, errUnsupported(fmt.Sprintf("the flag single_word of the added token %q", token.Content))
		case token.Normalized:
			return nil, nil, errUnsupported(fmt.Sprintf("the flag normalized of the added token %q", token.Content))
		}
		id := m.words.trie.find(token.Content)
		if id < 0 {
			id = int32(len(m.pieces))
			m.pieces = append(m.pieces, token.Content)
		}
		if token.ID >= 0 && token.ID != id {
			return nil, nil, errUnsupported(fmt.Sprintf("the added token %q at id %d, where it would get %d", token.Content, token.ID, id))
		}
		token.ID = id
		added = append(added, token)
	}
	m.added = newAddedTokens(added)
	m.special = make([]bool, len(m.pieces))
	for _, token := range added {
		m.special[token.ID] = token.Special
	}
	m.surface = make([]string, len(m.pieces))
	for i, name := range m.pieces {
		m.surface[i] = strings.ReplaceAll(name, spaceMark, " ")
	}
	t := &Tokenizer{encoder: m, size: len(m.pieces)}
	return m, t, t.findSpecial(m.pieces)
}

// useRules sets the charsmap.
func (m *hfModel) useRules(rules *charsmap) {
	m.rules, m.clusters = rules, newClusterer(rules)
}

// buildJSON makes the ModeJSON tokenizer of a tokenizer.json.
func (l *loader) buildJSON(data []byte) (*Tokenizer, error) {
	f, err := readJSON(data)
	if err != nil {
		return nil, err
	}
	switch {
	case !absent(f.Truncation):
		return nil, errUnsupported("truncation settings")
	case !absent(f.Padding):
		return nil, errUnsupported("padding settings")
	case f.Model.UnkID == nil || *f.Model.UnkID < 0 || *f.Model.UnkID >= int64(len(f.Model.Vocab)):
		return nil, errUnsupported("a model without an unknown id")
	}
	rules, form, err := f.pipeline()
	if err != nil {
		return nil, err
	}
	var names []string
	var scores []float64
	for _, p := range f.Model.Vocab {
		names, scores = append(names, p.text), append(scores, p.asRead)
	}
	m, t, err := newHF(names, scores, int32(*f.Model.UnkID), f.Added)
	if err != nil {
		return nil, err
	}
	m.useRules(rules)
	m.shape, m.eos = form, -1
	if adds, err := f.addsEOS(t.eos); err != nil {
		return nil, err
	} else if adds {
		m.eos = t.eos
	}
	if typeOf(f.Decoder) != "Metaspace" {
		return nil, errUnsupported(fmt.Sprintf("the decoder %.80s", f.Decoder))
	}
	scheme, err := metaspace(f.Decoder)
	if err != nil {
		return nil, err
	}
	m.dropFirst = scheme != prependNever
	if f.Model.ByteFallback {
		m.words.useBytes()
	}
	t.extraIDs = t.Sentinels()
	t.hash = digest.Bytes(data)
	return t, nil
}

// useBytes makes unknown text come out as byte pieces where the vocabulary has them.
func (m *wideModel) useBytes() {
	m.bytes = new([256]int32)
	for c := range m.bytes {
		m.bytes[c] = m.trie.find(bytePiece(byte(c)))
	}
}
