package vocab

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"

	"github.com/t5ctl/t5ctl/internal/atomicfile"
)

// WriteFiles puts the files that make up the tokenizer into dir, which it creates if need be: those
// it was read from, byte for byte, and a tokenizer_config.json and special_tokens_map.json where
// there were none. Load of dir in the same mode gives an equal tokenizer, and so does
// AutoTokenizer.from_pretrained of transformers.
func (t *Tokenizer) WriteFiles(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	files := t.files
	if t.file(configName) == nil {
		files = append(files[:len(files):len(files)], file{configName, t.configJSON()})
	}
	if t.file(specialMapName) == nil {
		files = append(files[:len(files):len(files)], file{specialMapName, t.specialMapJSON()})
	}
	for _, f := range files {
		if err := atomicfile.WriteBytes(filepath.Join(dir, f.name), f.data); err != nil {
			return err
		}
	}
	return nil
}

// file returns the content of one of the tokenizer's files, nil if it has none of that name.
func (t *Tokenizer) file(name string) []byte {
	for _, f := range t.files {
		if f.name == name {
			return f.data
		}
	}
	return nil
}

// configJSON is the tokenizer_config.json that transformers needs to load the vocabulary as it is.
func (t *Tokenizer) configJSON() []byte {
	fields := map[string]any{
		"tokenizer_class": "T5Tokenizer",
		"pad_token":       "<pad>",
		"eos_token":       "</s>",
		"unk_token":       "<unk>",
		"extra_ids":       t.extraIDs,
	}
	if t.mode == ModeBytes {
		fields["tokenizer_class"] = "ByT5Tokenizer"
	}
	return indentedJSON(fields)
}

// specialMapJSON is the special_tokens_map.json that older transformers read.
func (t *Tokenizer) specialMapJSON() []byte {
	return indentedJSON(map[string]any{"pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"})
}

// indentedJSON writes value as transformers writes its files: two spaces, no escaping of < and >,
// keys in order. The values that come here can always be written.
func indentedJSON(value any) []byte {
	var out bytes.Buffer
	encoder := json.NewEncoder(&out)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	if err := encoder.Encode(value); err != nil {
		panic(err)
	}
	return out.Bytes()
}
