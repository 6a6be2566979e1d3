package constrain_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/t5ctl/t5ctl/internal/constrain"
)

// words is a vocabulary as of SentencePiece: pieces, some with a space before them, and letters.
func words() *constrain.Vocabulary {
	v := &constrain.Vocabulary{Texts: []string{"", ""}, End: 1, LeadingSpace: true}
	v.Texts = append(v.Texts, " the", " cat", "cat", " ", "s", " a", "é", "日本", "-", "12", "1", "2", " 1",
		"{", "}", "\"", ":", ",", "true", "[", "]", "\\", "n")
	for c := 'a'; c <= 'z'; c++ {
		v.Texts = append(v.Texts, string(c))
	}
	return v
}

// letters is a vocabulary of bytes.
func letters() *constrain.Vocabulary {
	v := &constrain.Vocabulary{Texts: make([]string, 259), End: 1}
	for i := range 256 {
		v.Texts[3+i] = string([]byte{byte(i)})
	}
	return v
}

func decode(v *constrain.Vocabulary, tokens []int32) string {
	var text strings.Builder
	for _, id := range tokens {
		text.WriteString(v.Texts[id])
	}
	if v.LeadingSpace {
		return strings.TrimPrefix(text.String(), " ")
	}
	return text.String()
}

// walk writes at random what is allowed until the text ends or is long.
func walk(t *testing.T, c *constrain.Constraint, v *constrain.Vocabulary, rng *rand.Rand) (string, bool) {
	t.Helper()
	var written []int32
	for range 60 {
		allowed := c.Allowed(written)
		if len(allowed) == 0 || !slices.IsSorted(allowed) {
			return decode(v, written), false
		}
		if slices.Contains(allowed, v.End) && rng.IntN(3) == 0 {
			return decode(v, written), true
		}
		next := allowed[rng.IntN(len(allowed))]
		if next == v.End {
			return decode(v, written), true
		}
		written = append(written, next)
	}
	return "", false
}

func TestWhatIsAllowedMatches(t *testing.T) {
	for _, expression := range []string{
		`(the|a) cats?`, `[a-c]+-12`, `é(日本)*`, `^a{2,3}$`, `(?i)CAT( cat)*`, `-?\d+`, `.{1,6}`, `[^a-z]{2}`, `[\x{3000}-\x{9fff}]+`, `[é-ÿ]+|cat`,
	} {
		for name, v := range map[string]*constrain.Vocabulary{"words": words(), "bytes": letters()} {
			c, err := constrain.Regexp(expression, v)
			if err != nil {
				t.Fatal(err)
			}
			whole := regexp.MustCompile(`^(?:` + expression + `)$`)
			rng, ended := rand.New(rand.NewPCG(1, 2)), 0
			for range 200 {
				text, done := walk(t, c, v, rng)
				if done && !whole.MatchString(text) {
					t.Errorf("%s: %s allows %q", name, expression, text)
				}
				if done {
					ended++
				}
			}
			if ended == 0 && !(name == "words" && strings.Contains(expression, "é-ÿ")) {
				t.Errorf("%s: %s never ends", name, expression)
			}
		}
	}
}

// TestAllThatMatchesIsAllowed writes matching texts letter by letter: no letter may be refused.
func TestAllThatMatchesIsAllowed(t *testing.T) {
	v := letters()
	for expression, texts := range map[string][]string{
		`(the|a) cats?`:         {"the cat", "a cats"},
		`[é-ÿ]+`:                {"éÿ"},
		`[\x{1f600}-\x{1f64f}]`: {"😀", "🙏"},
		`[\x{800}-\x{fff}]`:     {"ࠀ"},
		`x|日.`:                  {"x", "日本"},
	} {
		c, err := constrain.Regexp(expression, v)
		if err != nil {
			t.Fatal(err)
		}
		for _, text := range texts {
			var written []int32
			for _, b := range []byte(text) {
				if id := int32(b) + 3; !slices.Contains(c.Allowed(written), id) {
					t.Errorf("%s: byte %x of %q is refused", expression, b, text)
				}
				written = append(written, int32(b)+3)
			}
			if !slices.Contains(c.Allowed(written), v.End) {
				t.Errorf("%s: %q may not end", expression, text)
			}
		}
	}
}

// TestCostly gives up expressions that others could write to keep a machine busy.
func TestCostly(t *testing.T) {
	v := letters()
	c, err := constrain.Regexp(`(a|b)*a(a|b){25}`, v)
	if err != nil {
		t.Fatal(err)
	}
	began, rng := time.Now(), rand.New(rand.NewPCG(5, 6))
	for range 20_000 {
		walk(t, c, v, rng)
		if c.Full() {
			break
		}
	}
	if !c.Full() || time.Since(began) > time.Minute {
		t.Errorf("full %v after %v", c.Full(), time.Since(began))
	}
	if cheap, err := constrain.Regexp(`(a|b)*a(a|b){5}`, v); err != nil || cheap.Full() {
		t.Errorf("a small one: %v", err)
	}
}

func TestWrongExpressions(t *testing.T) {
	for _, expression := range []string{`(`, `\bcat`, `a**`, `((a{1000}){60}|b)`} {
		if _, err := constrain.Regexp(expression, words()); err == nil {
			t.Errorf("%q was taken", expression)
		}
	}
}

func TestSchemasAllowWhatTheyAllow(t *testing.T) {
	for _, text := range []string{
		`{"type": "object", "properties": {"name": {"type": "string", "maxLength": 4}, "n": {"type": "integer"}}, "required": ["name", "n"], "additionalProperties": false}`,
		`{"type": "object", "properties": {"a": {"type": "boolean"}, "b": {"type": "null"}, "c": {"type": "number"}}, "required": ["b"]}`,
		`{"type": "object", "properties": {"a": {"type": "boolean"}, "b": {"const": 3}}}`,
		`{"type": "array", "items": {"enum": ["x", 1, null]}, "minItems": 2, "maxItems": 3}`,
		`{"type": "array", "items": {"type": ["boolean", "null"]}, "maxItems": 1}`,
		`{"anyOf": [{"type": "integer"}, {"type": "string", "minLength": 1, "maxLength": 2}]}`,
		`{"oneOf": [{"type": "integer"}, {"type": "string", "minLength": 1, "maxLength": 2}, {"enum": [true]}]}`,
		`{"$defs": {"n": {"type": "integer"}, "pair": {"type": "array", "items": {"$ref": "#/$defs/n"}, "minItems": 2, "maxItems": 2}}, "$ref": "#/$defs/pair"}`,
		`{"definitions": {"a": {"type": "null"}}, "type": "object", "properties": {"a": {"$ref": "#/definitions/a"}}, "required": ["a"]}`,
		`{"type": "string", "pattern": "^[A-Z]{2}-(?:\\d{2}|\"?x.|\\\\)$"}`,
		`{"type": "string", "pattern": "^a?[^b\n]{1,3}"}`,
		`{"type": "string", "pattern": "^(?i:ab|k)[\\s\"]$"}`,
		`{"type": "integer", "enum": [1, 20]}`,
		`{"type": "string", "minLength": 2, "maxLength": 2}`,
	} {
		expression, err := constrain.Schema([]byte(text))
		if err != nil {
			t.Fatalf("%s: %v", text, err)
		}
		checker, err := checkerOf(text)
		if err != nil {
			t.Fatal(err)
		}
		v := letters()
		c, err := constrain.Regexp(expression, v)
		if err != nil {
			t.Fatal(err)
		}
		rng, ended := rand.New(rand.NewPCG(3, 4)), 0
		for range 300 {
			got, done := walk(t, c, v, rng)
			if !done {
				continue
			}
			ended++
			if err := validate(checker, got); err != nil {
				t.Errorf("%s allows %q: %v", text, got, err)
			}
		}
		if ended < 20 {
			t.Errorf("%s: only %d texts ended", text, ended)
		}
	}
}

// checkerOf compiles a schema with a library that has no part in this package.
func checkerOf(text string) (*jsonschema.Schema, error) {
	document, err := jsonschema.UnmarshalJSON(strings.NewReader(text))
	if err != nil {
		return nil, err
	}
	compiler := jsonschema.NewCompiler()
	if err := compiler.AddResource("s.json", document); err != nil {
		return nil, err
	}
	return compiler.Compile("s.json")
}

func validate(checker *jsonschema.Schema, text string) error {
	value, err := jsonschema.UnmarshalJSON(bytes.NewReader([]byte(text)))
	if err != nil {
		return err
	}
	return checker.Validate(value)
}

// What cannot be promised is refused, and by its name.
func TestSchemasThatCannotBePromised(t *testing.T) {
	for text, names := range map[string]string{
		`{"type": "string", "pattern": "a", "minLength": 3}`:                   "pattern beside minLength",
		`{"type": "string", "pattern": "(^a|b)"}`:                              "not supported here",
		`{"type": "string", "pattern": "("}`:                                   "missing closing",
		`{"type": "string", "pattern": "\\bx"}`:                                "not supported here",
		`{"$ref": "#"}`:                                                        "only #/$defs/NAME",
		`{"$ref": "#/$defs/x"}`:                                                "no such definition",
		`{"$ref": "#/$defs/x", "$defs": {"x": {"$ref": "#/$defs/x"}}}`:         "refers to itself",
		`{"$ref": "#/$defs/x", "type": "null", "$defs": {"x": {"enum": [1]}}}`: "type beside",
		`{"type": "integer", "minimum": 3}`:                                    `the keyword "minimum"`,
		`{"type": "string", "format": "date"}`:                                 `the keyword "format"`,
		`{"type": "array", "items": {"type": "null"}, "uniqueItems": true}`:    `the keyword "uniqueItems"`,
		`{"allOf": []}`: `the keyword "allOf"`,
		`{"oneOf": [{"type": "integer"}, {"type": "number"}]}`:                       "two schemas for numbers",
		`{"type": "object", "required": ["a"]}`:                                      "a is required",
		`{"type": "string", "enum": [1]}`:                                            "not of the type string",
		`{"type": "array", "items": {"type": "null"}, "minItems": 2, "maxItems": 1}`: "at least 2 and at most 1",
		`{}`:                               "no type",
		`true`:                             "only objects",
		`{"type": "array"}`:                "no items",
		`{"tYpe": "null"}`:                 `the keyword "tYpe"`,
		`{"enum": []}`:                     "empty",
		`{"type": "null", "type": "null"}`: "twice",
		`{"type": "set"}`:                  `type "set"`,
		`[`:                                "reading the schema",
	} {
		if got, err := constrain.Schema([]byte(text)); err == nil || !strings.Contains(err.Error(), names) {
			t.Errorf("%s became %q, %v; want an error with %q", text, got, err, names)
		}
	}
}

// FuzzSchema writes at random what a schema's expression allows: the text must be valid by a library that has no part in it.
func FuzzSchema(f *testing.F) {
	for _, s := range []string{
		`{"type": "string", "pattern": "^[a-c\"]+.x$"}`,
		`{"$defs": {"a": {"type": ["null", "boolean"]}}, "type": "array", "items": {"$ref": "#/$defs/a"}, "maxItems": 2}`,
		`{"type": "object", "properties": {"a": {"type": "integer"}, "b": {"const": {"x": [1, "y"]}}}, "required": ["b"]}`,
		`{"oneOf": [{"type": "number"}, {"enum": ["a", "b"]}]}`,
	} {
		f.Add(s, uint64(1))
	}
	v := letters()
	f.Fuzz(func(t *testing.T, text string, seed uint64) {
		if len(text) > 300 {
			t.Skip("long")
		}
		expression, err := constrain.Schema([]byte(text))
		if err != nil || len(expression) > 5000 {
			t.Skip(fmt.Sprint(err))
		}
		checker, err := checkerOf(text)
		if err != nil {
			t.Skip(fmt.Sprint(err))
		}
		c, err := constrain.Regexp(expression, v)
		if err != nil {
			t.Skip(fmt.Sprint(err))
		}
		rng := rand.New(rand.NewPCG(seed, 1))
		for range 5 {
			if got, done := walk(t, c, v, rng); done {
				if err := validate(checker, got); err != nil {
					t.Errorf("%s allows %q: %v", text, got, err)
				}
			}
		}
	})
}

func FuzzRegexp(f *testing.F) {
	for _, s := range []string{`a|b`, `[^\n]*`, `(?s).`, `\p{Greek}+`, `x{3}$`} {
		f.Add(s, "ab\n")
	}
	v := letters()
	f.Fuzz(func(t *testing.T, expression, text string) {
		whole, err := regexp.Compile(`^(?:` + expression + `)$`)
		if err != nil || len(expression) > 40 || len(text) > 20 || strings.Contains(expression, `\b`) || strings.Contains(expression, `\B`) {
			t.Skip()
		}
		c, err := constrain.Regexp(expression, v)
		if err != nil {
			t.Skip(fmt.Sprint(err))
		}
		var written []int32
		for _, b := range []byte(text) {
			written = append(written, int32(b)+3)
		}
		if slices.Contains(c.Allowed(written), v.End) && !whole.MatchString(text) {
			t.Errorf("%q allows %q", expression, text)
		}
	})
}
