package vocab

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
)

const (
	configName     = "tokenizer_config.json"
	specialMapName = "special_tokens_map.json"
	spieceName     = "spiece.model"
	jsonName       = "tokenizer.json"
)

// addedToken is a string that is looked for in the raw text before anything else is done to it.
type addedToken struct {
	ID         int32  `json:"id"`
	Content    string `json:"content"`
	SingleWord bool   `json:"single_word"`
	LStrip     bool   `json:"lstrip"`
	RStrip     bool   `json:"rstrip"`
	Normalized bool   `json:"normalized"`
	Special    bool   `json:"special"`
}

// tokenSpec is a special token in tokenizer_config.json: a plain string, or an object that has one.
type tokenSpec string

// UnmarshalJSON reads both spellings.
func (s *tokenSpec) UnmarshalJSON(data []byte) error {
	var full struct {
		Content string `json:"content"`
	}
	if len(data) > 0 && data[0] == '"' {
		return json.Unmarshal(data, (*string)(s))
	}
	err := json.Unmarshal(data, &full)
	*s = tokenSpec(full.Content)
	return err
}

// tokenList is a list of special tokens, which newer files may also write as an object with names.
type tokenList []tokenSpec

// UnmarshalJSON reads both spellings; an object's values come in the order of their names.
func (l *tokenList) UnmarshalJSON(data []byte) error {
	if len(data) == 0 || data[0] != '{' {
		return json.Unmarshal(data, (*[]tokenSpec)(l))
	}
	var named map[string]tokenSpec
	if err := json.Unmarshal(data, &named); err != nil {
		return err
	}
	for _, name := range slices.Sorted(maps.Keys(named)) {
		*l = append(*l, named[name])
	}
	return nil
}

// config is what tokenizer_config.json says that changes ids; everything else in it is kept as it
// is but not acted on.
type config struct {
	Class      string                `json:"tokenizer_class"`
	ExtraIDs   *int                  `json:"extra_ids"`
	Pad        *tokenSpec            `json:"pad_token"`
	EOS        *tokenSpec            `json:"eos_token"`
	Unk        *tokenSpec            `json:"unk_token"`
	Additional tokenList             `json:"additional_special_tokens"`
	Extra      tokenList             `json:"extra_special_tokens"`
	Added      map[string]addedToken `json:"added_tokens_decoder"`

	path  string
	found bool
}

// readConfig reads dir's tokenizer_config.json; without that file it returns the zero config.
func readConfig(dir string) (config, []byte, error) {
	c := config{path: filepath.Join(dir, configName)}
	data, err := os.ReadFile(c.path)
	if errors.Is(err, fs.ErrNotExist) {
		return c, nil, nil
	}
	if err != nil {
		return c, nil, err
	}
	if err := json.Unmarshal(data, &c); err != nil {
		return c, nil, &CorruptError{Path: c.path, Reason: err.Error()}
	}
	c.found = true
	return c, data, c.checkNames()
}

// checkNames refuses other spellings of the three special tokens than T5's, which are the only ones
// that the rules of this package are known to hold for.
func (c *config) checkNames() error {
	for _, s := range []struct {
		got  *tokenSpec
		want string
	}{{c.Pad, "<pad>"}, {c.EOS, "</s>"}, {c.Unk, "<unk>"}} {
		if s.got != nil && string(*s.got) != s.want {
			return &UnsupportedError{Path: c.path, Feature: fmt.Sprintf("the special token %q in place of %q", *s.got, s.want)}
		}
	}
	return nil
}

// isByteLevel says that the folder is a ByT5 one.
func (c *config) isByteLevel() bool { return c.Class == "ByT5Tokenizer" }

// extraIDs is the number of sentinels that are added to the vocabulary: usual, unless the file says
// otherwise.
func (c *config) extraIDs(usual int) (int, error) {
	n := usual
	if c.ExtraIDs != nil {
		n = *c.ExtraIDs
	}
	if n < 0 || n > 100000 {
		return 0, &CorruptError{Path: c.path, Reason: fmt.Sprintf("extra_ids is %d", n)}
	}
	return n, nil
}

// byteExtraIDs is the number of sentinels of a ByT5 folder. transformers 5 writes extra_ids 0 and
// lists the tokens instead, so the lists come first.
func (c *config) byteExtraIDs() (int, error) {
	if c.Added != nil {
		return c.byteAddedTokens()
	}
	list := c.Extra
	if len(list) == 0 {
		list = c.Additional
	}
	for k, name := range list {
		if string(name) != sentinelName(k) {
			return 0, &UnsupportedError{Path: c.path, Feature: fmt.Sprintf("the added token %q", name)}
		}
	}
	if len(list) > 0 {
		return len(list), nil
	}
	return c.extraIDs(byteSentinels)
}

// byteAddedTokens checks that added_tokens_decoder lists what ByT5 has, and counts the sentinels.
func (c *config) byteAddedTokens() (int, error) {
	sentinels := 0
	for key, token := range c.Added {
		id, err := strconv.Atoi(key)
		if err != nil {
			return 0, &CorruptError{Path: c.path, Reason: fmt.Sprintf("token id %q", key)}
		}
		name, strips := "", id < byteOffset
		if strips {
			name, _ = byteLevel{}.piece(int32(id))
		} else if id >= byteOffset+256 {
			name = sentinelName(id - byteOffset - 256)
			sentinels++
		}
		if token.Content != name || token.LStrip != strips || token.RStrip != strips || token.SingleWord {
			return 0, &UnsupportedError{Path: c.path, Feature: fmt.Sprintf("the added token %q at id %d", token.Content, id)}
		}
	}
	for k := range sentinels {
		if _, ok := c.Added[strconv.Itoa(byteOffset+256+k)]; !ok {
			return 0, &UnsupportedError{Path: c.path, Feature: fmt.Sprintf("sentinels without %s", sentinelName(k))}
		}
	}
	return sentinels, nil
}
