package vocab

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"

	"github.com/t5ctl/t5ctl/internal/atomicfile"
)

// WriteFiles puts the files that make up the tokenizer into dir, which it creates if need be: those
// it was read from, byte for byte, and where there was no tokenizer_config.json among them, that and
// a special_tokens_map.json. Load of dir in the same mode gives an equal tokenizer, and so does
// AutoTokenizer.from_pretrained of transformers.
func (t *Tokenizer) WriteFiles(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	files := t.files
	if !t.hasFile(configName) {
		files = append(files[:len(files):len(files)], file{configName, t.configJSON()})
		if !t.hasFile(specialMapName) {
			files = append(files, file{specialMapName, specialMapJSON()})
		}
	}
	for _, f := range files {
		if err := atomicfile.WriteBytes(filepath.Join(dir, f.name), f.data); err != nil {
			return err
		}
	}
	return nil
}

// hasFile says whether the tokenizer was read from a file of that name among others.
func (t *Tokenizer) hasFile(name string) bool {
	return slices.ContainsFunc(t.files, func(f file) bool { return f.name == name })
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
func specialMapJSON() []byte {
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
