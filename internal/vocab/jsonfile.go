package vocab

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
)

// jsonFile is a tokenizer.json. Parts whose form depends on their type are read when it is known.
type jsonFile struct {
	Truncation    json.RawMessage `json:"truncation"`
	Padding       json.RawMessage `json:"padding"`
	Added         []addedToken    `json:"added_tokens"`
	Normalizer    json.RawMessage `json:"normalizer"`
	PreTokenizer  json.RawMessage `json:"pre_tokenizer"`
	PostProcessor json.RawMessage `json:"post_processor"`
	Decoder       json.RawMessage `json:"decoder"`
	Model         *jsonModel      `json:"model"`
}

// jsonModel is the Unigram model in a tokenizer.json.
type jsonModel struct {
	Type         string      `json:"type"`
	UnkID        *int64      `json:"unk_id"`
	Vocab        []jsonPiece `json:"vocab"`
	ByteFallback bool        `json:"byte_fallback"`
}

// jsonPiece is an entry of the vocabulary: its text and its score in two readings.
type jsonPiece struct {
	text   string
	exact  float64 // the nearest number
	asRead float64 // what serde_json makes of the digits
}

// UnmarshalJSON reads ["text", score].
func (p *jsonPiece) UnmarshalJSON(data []byte) error {
	data = bytes.TrimSpace(data)
	comma := bytes.LastIndexByte(data, ',')
	if data[0] != '[' || comma < 0 {
		return fmt.Errorf("%.40s is no piece with a score", data)
	}
	if err := json.Unmarshal(data[1:comma], &p.text); err != nil {
		return err
	}
	number := string(bytes.TrimSpace(data[comma+1 : len(data)-1]))
	var err error
	if p.exact, err = strconv.ParseFloat(number, 64); err != nil {
		return fmt.Errorf("piece %q has score %s", p.text, number)
	}
	if p.asRead = readAsSerde(number); math.IsInf(p.asRead, 0) {
		return fmt.Errorf("piece %q has score %s", p.text, number)
	}
	return nil
}

// readAsSerde reads a JSON number as serde_json does without its float_roundtrip feature: the
// digits as one integer, then one multiplication or division by a power of ten. The result may be
// one place in the last digit off, which decides ties between segmentations.
func readAsSerde(number string) float64 {
	digits, negative := strings.CutPrefix(number, "-")
	digits, power, _ := strings.Cut(strings.ToLower(digits), "e")
	whole, fraction, _ := strings.Cut(digits, ".")
	exponent, _ := strconv.Atoi(power)
	significand := uint64(0)
	full := false // no further digit fits
	add := func(c byte) bool {
		full = full || significand > (math.MaxUint64-uint64(c-'0'))/10
		if !full {
			significand = significand*10 + uint64(c-'0')
		}
		return !full
	}
	for i := range len(whole) {
		if !add(whole[i]) {
			exponent++
		}
	}
	for i := range len(fraction) {
		if add(fraction[i]) {
			exponent--
		}
	}
	value := scaleAsSerde(float64(significand), exponent)
	if negative {
		return -value
	}
	return value
}

// scaleAsSerde multiplies value by a power of ten in the steps that serde_json takes.
func scaleAsSerde(value float64, exponent int) float64 {
	const largest = 308
	for exponent < -largest && value != 0 {
		value /= 1e308
		exponent += largest
	}
	switch {
	case value == 0:
		return 0
	case exponent > largest:
		return math.Inf(1)
	case exponent >= 0:
		return value * math.Pow10(exponent)
	}
	return value / math.Pow10(-exponent)
}

// errUnsupported carries a feature to where the path is known.
type errUnsupported string

func (e errUnsupported) Error() string { return "unsupported: " + string(e) }

// readJSON reads a tokenizer.json as far as both modes need it.
func readJSON(data []byte) (*jsonFile, error) {
	var f jsonFile
	if err := json.Unmarshal(data, &f); err != nil {
		return nil, err
	}
	switch {
	case f.Model == nil:
		return nil, errors.New("it has no model")
	case f.Model.Type != "" && f.Model.Type != "Unigram":
		return nil, errUnsupported("the model type " + f.Model.Type)
	case len(f.Model.Vocab) == 0:
		return nil, errors.New("it has no vocabulary")
	}
	for id, p := range f.Model.Vocab {
		if p.text == "" {
			continue // the reference never matches it
		}
		if err := checkPiece(id, p.text, p.exact); err != nil {
			return nil, err
		}
	}
	return &f, nil
}

// strict decodes a part of the pipeline, refusing settings that are not known.
func strict(data []byte, into any) error {
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		return errUnsupported(fmt.Sprintf("%.80s (%v)", data, err))
	}
	return nil
}

// absent says that a part of the pipeline is left out.
func absent(data json.RawMessage) bool { return len(data) == 0 || string(data) == "null" }

// typeOf is the type of a part of the pipeline.
func typeOf(data json.RawMessage) string {
	var head struct {
		Type string `json:"type"`
	}
	_ = json.Unmarshal(data, &head) // a part that is no object has no type, and is refused for it
	return head.Type
}

// parts returns the elements of a Sequence, whose key is name, or the one part itself.
func parts(data json.RawMessage, name string) ([]json.RawMessage, error) {
	if absent(data) {
		return nil, nil
	}
	if typeOf(data) != "Sequence" {
		return []json.RawMessage{data}, nil
	}
	var sequence map[string]json.RawMessage
	if err := json.Unmarshal(data, &sequence); err != nil {
		return nil, err
	}
	var list []json.RawMessage
	if err := json.Unmarshal(sequence[name], &list); err != nil {
		return nil, errUnsupported("a Sequence without " + name)
	}
	return list, nil
}

// charsmapOf returns the first precompiled charsmap of a normalizer, all that ModeHF5 reads of it.
func charsmapOf(normalizer json.RawMessage) (*charsmap, error) {
	list, err := parts(normalizer, "normalizers")
	if err != nil {
		return nil, err
	}
	for _, part := range list {
		if typeOf(part) == "Precompiled" {
			return readCharsmap(part)
		}
	}
	return nil, nil
}

func readCharsmap(part json.RawMessage) (*charsmap, error) {
	var p struct {
		Type string `json:"type"`
		Map  string `json:"precompiled_charsmap"`
	}
	if err := strict(part, &p); err != nil {
		return nil, err
	}
	blob, err := base64.StdEncoding.DecodeString(p.Map)
	if err != nil {
		return nil, fmt.Errorf("its charsmap is not base64: %w", err)
	}
	return newCharsmap(blob)
}

// pipeline reads normalizer and pre-tokenizer as the tokenizers library would run them.
func (f *jsonFile) pipeline() (*charsmap, shape, error) {
	var s shape
	rules, err := f.normalizer(&s)
	if err != nil {
		return nil, s, err
	}
	list, err := parts(f.PreTokenizer, "pretokenizers")
	if err != nil {
		return nil, s, err
	}
	if len(list) == 2 && typeOf(list[0]) == "WhitespaceSplit" {
		s.splitSpaces = true
		list = list[1:]
	}
	if len(list) != 1 || typeOf(list[0]) != "Metaspace" {
		return nil, s, errUnsupported(fmt.Sprintf("the pre-tokenizer %.80s", f.PreTokenizer))
	}
	if s.prepend, err = metaspace(list[0]); err != nil {
		return nil, s, err
	}
	if s.splitSpaces && (s.prepend != prependAlways || s.stripLeft || s.stripRight || s.squeeze != "") {
		return nil, s, errUnsupported("WhitespaceSplit beside Strip, Replace or a partial Metaspace")
	}
	return rules, s, nil
}

// normalizer reads Precompiled, Strip and Replace, in this order, each of them at most once.
func (f *jsonFile) normalizer(s *shape) (rules *charsmap, err error) {
	list, err := parts(f.Normalizer, "normalizers")
	if err != nil {
		return nil, err
	}
	order := []string{"Precompiled", "Strip", "Replace"}
	for _, part := range list {
		kind := typeOf(part)
		at := slices.Index(order, kind)
		if at < 0 {
			return nil, errUnsupported(fmt.Sprintf("the normalizer %.80s", part))
		}
		order = order[at+1:]
		switch kind {
		case "Precompiled":
			rules, err = readCharsmap(part)
		case "Strip":
			var p struct {
				Type  string `json:"type"`
				Left  bool   `json:"strip_left"`
				Right bool   `json:"strip_right"`
			}
			err = strict(part, &p)
			s.stripLeft, s.stripRight = p.Left, p.Right
		case "Replace":
			s.squeeze, err = replaceSpaces(part)
		}
		if err != nil {
			return nil, err
		}
	}
	return rules, nil
}

// replaceSpaces reads the one Replace that is known: runs of spaces become one, or one ▁.
func replaceSpaces(part json.RawMessage) (string, error) {
	var p struct {
		Type    string `json:"type"`
		Pattern struct {
			Regex string
		} `json:"pattern"`
		Content string `json:"content"`
	}
	if err := strict(part, &p); err != nil {
		return "", err
	}
	if p.Pattern.Regex != " {2,}" || p.Content != " " && p.Content != spaceMark {
		return "", errUnsupported(fmt.Sprintf("the normalizer %.80s", part))
	}
	return p.Content, nil
}

// metaspace reads a Metaspace, which is spelled in an older and a newer way. str_rep has no effect.
func metaspace(part json.RawMessage) (prependScheme, error) {
	var p struct {
		Type        string  `json:"type"`
		Replacement string  `json:"replacement"`
		AddPrefix   *bool   `json:"add_prefix_space"`
		Scheme      *string `json:"prepend_scheme"`
		Split       *bool   `json:"split"`
		StrRep      string  `json:"str_rep"`
	}
	if err := strict(part, &p); err != nil {
		return 0, err
	}
	scheme := "always"
	if p.AddPrefix != nil && !*p.AddPrefix {
		scheme = "never"
	}
	if p.Scheme != nil {
		if p.AddPrefix != nil && !*p.AddPrefix && *p.Scheme != "never" {
			return 0, errUnsupported(fmt.Sprintf("the Metaspace %.120s, which contradicts itself", part))
		}
		scheme = *p.Scheme
	}
	at := slices.Index([]string{"always", "first", "never"}, scheme)
	if at < 0 || p.Replacement != spaceMark || p.Split != nil && !*p.Split {
		return 0, errUnsupported(fmt.Sprintf("the Metaspace %.120s", part))
	}
	return []prependScheme{prependAlways, prependFirst, prependNever}[at], nil
}

// addsEOS reads the post-processor: a template that appends </s>, or nothing.
func (f *jsonFile) addsEOS(eos int32) (bool, error) {
	if absent(f.PostProcessor) {
		return false, nil
	}
	type element struct {
		Sequence *struct {
			ID     string `json:"id"`
			TypeID int    `json:"type_id"`
		}
		SpecialToken *struct {
			ID     string `json:"id"`
			TypeID int    `json:"type_id"`
		}
	}
	var p struct {
		Type   string          `json:"type"`
		Single []element       `json:"single"`
		Pair   json.RawMessage `json:"pair"`
		Tokens map[string]struct {
			ID     string   `json:"id"`
			IDs    []int32  `json:"ids"`
			Tokens []string `json:"tokens"`
		} `json:"special_tokens"`
	}
	if err := strict(f.PostProcessor, &p); err != nil {
		return false, err
	}
	if p.Type == "TemplateProcessing" && len(p.Single) > 0 && p.Single[0].Sequence != nil {
		switch {
		case len(p.Single) == 1:
			return false, nil
		case len(p.Single) == 2 && p.Single[1].SpecialToken != nil &&
			slices.Equal(p.Tokens[p.Single[1].SpecialToken.ID].IDs, []int32{eos}):
			return true, nil
		}
	}
	return false, errUnsupported(fmt.Sprintf("the post-processor %.80s", f.PostProcessor))
}
