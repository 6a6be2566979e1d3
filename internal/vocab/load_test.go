package vocab_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/t5ctl/t5ctl/internal/vocab"
)

// tinyJSON is a tokenizer.json with a small vocabulary; NORM, PRE and MODEL can be replaced.
const tinyJSON = `{"version":"1.0","truncation":null,"padding":null,
"added_tokens":[{"id":0,"content":"<pad>","special":true},{"id":1,"content":"</s>","special":true},{"id":2,"content":"<unk>","special":true}],
"normalizer":null,
"pre_tokenizer":{"type":"Metaspace","replacement":"▁","add_prefix_space":true},
"post_processor":{"type":"TemplateProcessing","single":[{"Sequence":{"id":"A","type_id":0}},{"SpecialToken":{"id":"</s>","type_id":0}}],"pair":[],
"special_tokens":{"</s>":{"id":"</s>","ids":[1],"tokens":["</s>"]}}},
"decoder":{"type":"Metaspace","replacement":"▁","add_prefix_space":true},
"model":{"unk_id":2,"vocab":[["<pad>",0.0],["</s>",0.0],["<unk>",0.0],["▁",-2.0],["a",-3.0],["b",-4.0],["▁ab",-5.5]]}}`

func writeFiles(t testing.TB, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, content := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// is says whether err is an error of type E.
func is[E error](err error) bool {
	_, ok := errors.AsType[E](err)
	return ok
}

func TestLoadRefuses(t *testing.T) {
	change := func(old, new string) map[string]string {
		if !strings.Contains(tinyJSON, old) {
			t.Fatalf("there is no %q to replace", old)
		}
		return map[string]string{"tokenizer.json": strings.Replace(tinyJSON, old, new, 1)}
	}
	unsupported, corrupt, mode, missing := is[*vocab.UnsupportedError], is[*vocab.CorruptError], is[*vocab.ModeError], is[*vocab.NotFoundError]
	tests := map[string]struct {
		files map[string]string
		mode  vocab.Mode
		want  func(error) bool
	}{
		"no files":                 {map[string]string{}, "", missing},
		"no model":                 {change("x", "x"), vocab.ModeSP, mode},
		"unknown mode":             {change("x", "x"), "hf4", mode},
		"bytes of a vocabulary":    {map[string]string{"tokenizer_config.json": `{"tokenizer_class":"T5Tokenizer"}`}, vocab.ModeBytes, mode},
		"vocabulary of bytes":      {map[string]string{"tokenizer_config.json": `{"tokenizer_class":"ByT5Tokenizer"}`}, vocab.ModeHF5, mode},
		"another class":            {map[string]string{"tokenizer.json": tinyJSON, "tokenizer_config.json": `{"tokenizer_class":"BertTokenizer"}`}, "", mode},
		"not JSON":                 {map[string]string{"tokenizer.json": "{"}, vocab.ModeJSON, corrupt},
		"no vocabulary":            {map[string]string{"tokenizer.json": "{}"}, vocab.ModeHF5, corrupt},
		"broken config":            {map[string]string{"tokenizer_config.json": "["}, "", corrupt},
		"empty model":              {map[string]string{"spiece.model": ""}, "", corrupt},
		"model of nothing":         {map[string]string{"spiece.model": "hello"}, "", corrupt},
		"BPE":                      {change(`"unk_id":2`, `"type":"BPE","unk_id":2`), vocab.ModeJSON, unsupported},
		"lower case":               {change(`"normalizer":null`, `"normalizer":{"type":"Lowercase"}`), vocab.ModeJSON, unsupported},
		"normalizers out of order": {change(`"normalizer":null`, `"normalizer":{"type":"Sequence","normalizers":[{"type":"Strip","strip_left":true,"strip_right":true},{"type":"Strip","strip_left":true,"strip_right":true}]}`), vocab.ModeJSON, unsupported},
		"another replacement":      {change(`"normalizer":null`, `"normalizer":{"type":"Replace","pattern":{"String":"a"},"content":"b"}`), vocab.ModeJSON, unsupported},
		"another pre-tokenizer": {change(`{"type":"Metaspace","replacement":"▁","add_prefix_space":true},
"post`, `{"type":"ByteLevel"},
"post`), vocab.ModeJSON, unsupported},
		"unsplit words": {change(`"add_prefix_space":true},
"post`, `"split":false},
"post`), vocab.ModeJSON, unsupported},
		"unknown setting": {change(`"add_prefix_space":true},
"post`, `"colour":"red"},
"post`), vocab.ModeJSON, unsupported},
		"another decoder":                {change(`"decoder":{"type":"Metaspace"`, `"decoder":{"type":"WordPiece"`), vocab.ModeJSON, unsupported},
		"two ends":                       {change(`"ids":[1]`, `"ids":[1,1]`), vocab.ModeJSON, unsupported},
		"truncation":                     {change(`"truncation":null`, `"truncation":{"max_length":5}`), vocab.ModeJSON, unsupported},
		"padding":                        {change(`"padding":null`, `"padding":{}`), vocab.ModeJSON, unsupported},
		"no unknown":                     {change(`"unk_id":2`, `"unk_id":null`), vocab.ModeJSON, unsupported},
		"single words":                   {change(`"id":1,"content":"</s>"`, `"id":1,"content":"</s>","single_word":true`), vocab.ModeJSON, unsupported},
		"normalized tokens":              {change(`"id":1,"content":"</s>"`, `"id":1,"content":"</s>","normalized":true`), vocab.ModeHF5, unsupported},
		"token at another id":            {change(`"id":1,"content":"</s>"`, `"id":5,"content":"</s>"`), vocab.ModeJSON, unsupported},
		"score is text":                  {change(`["a",-3.0]`, `["a","-3.0"]`), vocab.ModeHF5, corrupt},
		"score is too large":             {change(`["a",-3.0]`, `["a",1e999]`), vocab.ModeHF5, corrupt},
		"piece without score":            {change(`["a",-3.0]`, `["a"]`), vocab.ModeHF5, corrupt},
		"pad at another id":              {change(`["<pad>",0.0],["</s>",0.0]`, `["</s>",0.0],["<pad>",0.0]`), vocab.ModeHF5, unsupported},
		"another end":                    {map[string]string{"tokenizer.json": tinyJSON, "tokenizer_config.json": `{"eos_token":"<eos>"}`}, "", unsupported},
		"sentinels that are not counted": {map[string]string{"tokenizer.json": tinyJSON, "special_tokens_map.json": `{"additional_special_tokens":["<extra_id_0>"]}`}, "", unsupported},
		"too many sentinels":             {map[string]string{"tokenizer.json": tinyJSON, "tokenizer_config.json": `{"extra_ids":-1}`}, "", corrupt},
		"another byte token":             {map[string]string{"tokenizer_config.json": `{"tokenizer_class":"ByT5Tokenizer","extra_special_tokens":["<sep>"]}`}, "", unsupported},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			tok, err := vocab.Load(writeFiles(t, tt.files), tt.mode)
			if tok != nil || !tt.want(err) {
				t.Errorf("Load = %v, %v (%T)", tok, err, err)
			}
		})
	}
	if _, err := vocab.Load(filepath.Join(t.TempDir(), "nowhere"), ""); !missing(err) {
		t.Errorf("Load of nothing: %v", err)
	}
}

func TestLoadTiny(t *testing.T) {
	for _, mode := range []vocab.Mode{vocab.ModeJSON, vocab.ModeHF5} {
		tok, err := vocab.Load(filepath.Join(writeFiles(t, map[string]string{"tokenizer.json": tinyJSON}), "tokenizer.json"), mode)
		if err != nil {
			t.Fatal(err)
		}
		if got := tok.Encode("ab ba"); len(got) != 5 || got[0] != 6 || got[4] != 1 {
			t.Errorf("mode %s: Encode = %v", mode, got)
		}
	}
	// Not listed, so T5Tokenizer puts its hundred sentinels behind, <extra_id_0> first.
	tok, err := vocab.Load(writeFiles(t, map[string]string{"tokenizer.json": tinyJSON}), "")
	if err != nil {
		t.Fatal(err)
	}
	if id, ok := tok.Sentinel(0); !ok || id != 7 || tok.Size() != 107 {
		t.Errorf("%v, sentinel 0 is %d, %v", tok, id, ok)
	}
}

// serde_json reads these numbers as it does without its float_roundtrip feature; the first is
// one unit in the last place off.
func TestReadAsSerde(t *testing.T) {
	for number, want := range map[string]float64{
		"-2.0122928619384766": -2.012292861938477,
		"-9.871525764465332":  -9871525764465332 / 1e15,
		"0.0":                 0, "-7": -7, "1e3": 1000, "2.5E-1": 0.25, "-0.1e1": -1,
		"1e-400": 0, "123456789012345678901234567890": 12345678901234567890 * 1e10,
	} {
		if got := vocab.ReadAsSerde(number); got != want {
			t.Errorf("%s is read as %v, want %v", number, got, want)
		}
	}
}
