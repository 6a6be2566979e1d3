package vocab

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/t5ctl/t5ctl/internal/digest"
)

// usualExtraIDs is the number of sentinels that T5Tokenizer adds unless told otherwise.
const usualExtraIDs = 100

// Load reads the tokenizer at path, a model folder or one of its files. The empty mode stands for
// ModeBytes where tokenizer_config.json names ByT5Tokenizer, and for ModeHF5 otherwise.
//
// It returns a NotFoundError, ModeError, CorruptError or UnsupportedError where one fits.
func Load(path string, mode Mode) (*Tokenizer, error) {
	if _, err := ParseMode(string(mode)); err != nil {
		return nil, err
	}
	if path == "" && mode == ModeBytes {
		return Bytes(), nil
	}
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, &NotFoundError{Path: path, Want: "the path itself"}
	}
	if err != nil {
		return nil, err
	}
	l := loader{path: path, dir: path, mode: mode}
	if !info.IsDir() {
		l.dir, l.only = filepath.Dir(path), filepath.Base(path)
	}
	return l.load()
}

// loader gathers what one tokenizer is made from.
type loader struct {
	path string
	dir  string
	only string // the one file that was asked for; empty for a folder
	mode Mode
	conf config
	// files are what WriteFiles shall write again.
	files []file
}

func (l *loader) load() (*Tokenizer, error) {
	if l.only == "" {
		if err := l.readConfig(); err != nil {
			return nil, err
		}
	}
	switch {
	case l.conf.isByteLevel() && (l.mode == "" || l.mode == ModeBytes):
		n, err := l.conf.byteExtraIDs()
		if err != nil {
			return nil, err
		}
		t := newBytes(n)
		t.files = l.files
		return t, nil
	case l.mode == ModeBytes && !l.conf.found:
		return Bytes(), nil
	case l.mode == ModeBytes || l.conf.isByteLevel():
		return nil, &ModeError{Mode: string(l.mode), Path: l.path, Reason: "its tokenizer_class is " + l.conf.Class}
	case l.mode == "":
		l.mode = ModeHF5
	}
	return l.loadUnigram()
}

// loadUnigram reads the vocabulary file that the mode prefers.
func (l *loader) loadUnigram() (*Tokenizer, error) {
	if l.mode == ModeHF5 && !slices.Contains([]string{"", "T5Tokenizer", "T5TokenizerFast", "MT5Tokenizer", "MT5TokenizerFast"}, l.conf.Class) {
		return nil, &ModeError{Mode: string(l.mode), Path: l.path, Reason: "its tokenizer_class is " + l.conf.Class}
	}
	jsonData, jsonPath, err := l.read(jsonName, ".json")
	if err != nil {
		return nil, err
	}
	modelData, modelPath, err := l.read(spieceName, ".model")
	if err != nil {
		return nil, err
	}
	path, data := modelPath, modelData
	var build func([]byte) (*Tokenizer, error)
	switch {
	case l.mode == ModeSP && modelData != nil:
		build = l.buildSP
	case l.mode == ModeHF5 && jsonData == nil && modelData != nil:
		build = l.buildHF5Model
	case l.mode == ModeHF5 && jsonData != nil:
		path, data, build = jsonPath, jsonData, l.buildHF5JSON
	case l.mode == ModeJSON && jsonData != nil:
		path, data, build = jsonPath, jsonData, l.buildJSON
	default:
		return nil, l.missing()
	}
	t, err := build(data)
	if err != nil {
		return nil, place(path, err)
	}
	t.mode, t.files = l.mode, l.files
	return t, nil
}

// missing says which file the mode lacks.
func (l *loader) missing() error {
	want := map[Mode]string{ModeSP: spieceName, ModeJSON: jsonName, ModeHF5: spieceName + " or " + jsonName}[l.mode]
	if l.only == "" && len(l.files) == 0 {
		return &NotFoundError{Path: l.path, Want: want}
	}
	return &ModeError{Mode: string(l.mode), Path: l.path, Reason: "it has no " + want}
}

// read returns the folder's file called name, or the one file that was asked for if it is of that
// kind. It returns nil if there is none.
func (l *loader) read(name, ext string) (data []byte, path string, err error) {
	if l.only != "" {
		if (filepath.Ext(l.only) == ".json") != (ext == ".json") {
			return nil, "", nil
		}
		path = filepath.Join(l.dir, l.only)
	} else {
		path = filepath.Join(l.dir, name)
	}
	data, err = os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, "", nil
	}
	if err == nil {
		l.files = append(l.files, file{name, data})
	}
	return data, path, err
}

// place turns a reader's complaint into an error that names the file.
func place(path string, err error) error {
	if feature, ok := errors.AsType[errUnsupported](err); ok {
		return &UnsupportedError{Path: path, Feature: string(feature)}
	}
	if _, ok := errors.AsType[*UnsupportedError](err); ok {
		return err
	}
	return &CorruptError{Path: path, Reason: strings.TrimPrefix(err.Error(), "json: ")}
}

// readUnigram reads a spiece.model and refuses what no mode can reproduce.
func readUnigram(data []byte) (*spModel, error) {
	m, err := readModel(data)
	if err != nil {
		return nil, err
	}
	switch {
	case m.modelType != 1:
		return nil, errUnsupported(fmt.Sprintf("SentencePiece model type %d; Unigram is 1", m.modelType))
	case m.spaceSuffix:
		return nil, errUnsupported("white space as a suffix")
	case !m.escapeSpaces:
		return nil, errUnsupported("spaces that are not escaped")
	case m.denormalizer:
		return nil, errUnsupported("a denormalizer")
	}
	return m, nil
}

// buildSP makes the ModeSP tokenizer of a spiece.model.
func (l *loader) buildSP(data []byte) (*Tokenizer, error) {
	m, err := readUnigram(data)
	if err != nil {
		return nil, err
	}
	usual := usualSentinels(m)
	n, err := l.conf.extraIDs(usual)
	if err != nil {
		return nil, err
	}
	sp, err := newSP(m, extraNames(n))
	if err != nil {
		return nil, err
	}
	t := &Tokenizer{encoder: sp, size: len(m.pieces) + n, extraIDs: n, hash: hashOf(data, n, usual)}
	names := make([]string, 0, t.size)
	for _, p := range m.pieces {
		names = append(names, p.text)
	}
	return t, t.findSpecial(append(names, sp.extra...))
}

// usualSentinels is the number of sentinels that are added to a vocabulary when nothing is said:
// none if it has its own, as mT5's has.
func usualSentinels(m *spModel) int {
	for _, p := range m.pieces {
		if _, ok := sentinelIndex(p.text); ok {
			return 0
		}
	}
	return usualExtraIDs
}

// extraNames lists n sentinels as they follow a vocabulary: <extra_id_0> comes last.
func extraNames(n int) []string {
	names := make([]string, n)
	for i := range names {
		names[i] = sentinelName(n - 1 - i)
	}
	return names
}

// findSpecial fills in the special ids from how the vocabulary spells them.
func (t *Tokenizer) findSpecial(names []string) error {
	t.pad, t.eos, t.unk = -1, -1, -1
	for i, name := range names {
		id := int32(i)
		switch name {
		case "<pad>":
			t.pad = id
		case "</s>":
			t.eos = id
		case "<unk>":
			t.unk = id
		}
		if k, ok := sentinelIndex(name); ok && k < len(names) {
			for len(t.sentinels) <= k {
				t.sentinels = append(t.sentinels, -1)
			}
			t.sentinels[k] = id
		}
	}
	switch {
	case t.pad != 0:
		return errUnsupported(fmt.Sprintf("a vocabulary in which <pad> is not id 0 but %d", t.pad))
	case t.eos < 0:
		return errUnsupported("a vocabulary without </s>")
	case t.unk < 0:
		return errUnsupported("a vocabulary without <unk>")
	}
	return nil
}

// hashOf identifies a tokenizer by the bytes of its vocabulary and, where that is not the usual
// one, the number of sentinels that are added to it.
func hashOf(data []byte, extraIDs, usual int) string {
	if extraIDs == usual {
		return digest.Bytes(data)
	}
	return digest.Bytes([]byte(digest.Bytes(data) + " extra_ids=" + strconv.Itoa(extraIDs)))
}
