package vocab

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
)

const (
	configName     = "tokenizer_config.json"
	specialMapName = "special_tokens_map.json"
	legacyName     = "added_tokens.json"
	spieceName     = "spiece.model"
	jsonName       = "tokenizer.json"
)

// addedToken is a string that is looked for in the raw text before anything else is done to it.
type addedToken struct {
	ID         int32  `json:"id"`
	Content    string `json:"content"`
	SingleWord bool   `json:"single_word"`
	LStrip     bool   `json:"lstrip"` // takes the white space in front of it
	RStrip     bool   `json:"rstrip"` // takes the white space behind it
	Normalized bool   `json:"normalized"`
	Special    bool   `json:"special"` // left out when decoding skips special tokens
}

// tokenSpec is a special token in tokenizer_config.json: a plain string, or an object.
type tokenSpec addedToken

// UnmarshalJSON reads both spellings.
func (s *tokenSpec) UnmarshalJSON(data []byte) error {
	var err error
	if len(data) > 0 && data[0] == '"' {
		*s = tokenSpec{}
		err = json.Unmarshal(data, &s.Content)
	} else {
		err = json.Unmarshal(data, (*addedToken)(s))
	}
	s.Special = true
	return err
}

// config is what the small files beside a vocabulary say that changes ids; everything else in them
// is kept as it is but not acted on.
type config struct {
	Class      string                `json:"tokenizer_class"`
	ExtraIDs   *int                  `json:"extra_ids"`
	Pad        *tokenSpec            `json:"pad_token"`
	EOS        *tokenSpec            `json:"eos_token"`
	Unk        *tokenSpec            `json:"unk_token"`
	Additional json.RawMessage       `json:"additional_special_tokens"`
	Extra      json.RawMessage       `json:"extra_special_tokens"`
	Added      map[string]addedToken `json:"added_tokens_decoder"`

	path  string
	found bool
	// mapped are the additional special tokens of special_tokens_map.json, nil without any; it and
	// added_tokens.json count only where added_tokens_decoder is missing.
	mapped []tokenSpec
	legacy map[string]int32
}

// readConfig reads the files beside the vocabulary; all of them may be missing.
func (l *loader) readConfig() error {
	c := &l.conf
	c.path = filepath.Join(l.dir, configName)
	var err error
	if c.found, err = l.readSmall(configName, c); err != nil {
		return err
	}
	if c.Added == nil {
		var special config
		if _, err := l.readSmall(specialMapName, &special); err != nil {
			return err
		}
		if c.mapped, err = special.list(special.Additional); err != nil {
			return err
		}
		for _, s := range []struct{ to, from **tokenSpec }{{&c.Pad, &special.Pad}, {&c.EOS, &special.EOS}, {&c.Unk, &special.Unk}} {
			if *s.from != nil {
				*s.to = *s.from
			}
		}
		if _, err := l.readSmall(legacyName, &c.legacy); err != nil {
			return err
		}
	} else if _, err := l.readSmall(specialMapName, new(json.RawMessage)); err != nil {
		return err
	}
	return c.checkNames()
}

// readSmall reads a JSON file of the folder, if it is there, and keeps it for WriteFiles.
func (l *loader) readSmall(name string, into any) (found bool, err error) {
	path := filepath.Join(l.dir, name)
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	if err := json.Unmarshal(data, into); err != nil {
		return false, &CorruptError{Path: path, Reason: err.Error()}
	}
	l.files = append(l.files, file{name, data})
	return true, nil
}

// list reads a list of special tokens. Null, and the empty object that some versions write, are nil.
func (c *config) list(data json.RawMessage) ([]tokenSpec, error) {
	if absent(data) || string(data) == "{}" {
		return nil, nil
	}
	if data[0] == '{' {
		return nil, &UnsupportedError{Path: c.path, Feature: "special tokens with names of their own"}
	}
	list := []tokenSpec{}
	if err := json.Unmarshal(data, &list); err != nil {
		return nil, &CorruptError{Path: c.path, Reason: err.Error()}
	}
	return list, nil
}

// extras returns the extra special tokens of tokenizer_config.json, under their new or old key,
// and whether either is there: even if null it keeps T5Tokenizer from adding its own.
func (c *config) extras() (list []tokenSpec, there bool, err error) {
	if list, err = c.list(c.Extra); err != nil {
		return nil, false, err
	}
	if len(list) == 0 && len(c.Additional) > 0 {
		list, err = c.list(c.Additional)
		return list, true, err
	}
	return list, len(c.Extra) > 0 && string(c.Extra) != "{}", nil
}

// checkNames refuses other spellings of the three special tokens than T5's, which are the only ones
// that the rules of this package are known to hold for.
func (c *config) checkNames() error {
	for _, s := range []struct {
		got  *tokenSpec
		want string
	}{{c.Pad, "<pad>"}, {c.EOS, "</s>"}, {c.Unk, "<unk>"}} {
		if s.got != nil && s.got.Content != s.want {
			return &UnsupportedError{Path: c.path, Feature: fmt.Sprintf("the special token %q in place of %q", s.got.Content, s.want)}
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
	list, _, err := c.extras()
	if err != nil {
		return 0, err
	}
	if len(list) == 0 {
		list = c.mapped
	}
	for k, token := range list {
		if token.Content != sentinelName(k) || token.LStrip || token.RStrip || token.SingleWord {
			return 0, &UnsupportedError{Path: c.path, Feature: fmt.Sprintf("the added token %q", token.Content)}
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
		if err != nil || id < 0 || id > 1<<20 {
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
			return 0, &UnsupportedError{Path: c.path, Feature: "sentinels without " + sentinelName(k)}
		}
	}
	return sentinels, nil
}
