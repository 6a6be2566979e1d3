package vocab

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"

	"github.com/t5ctl/t5ctl/internal/digest"
)

// Load reads the tokenizer at path, a model folder or one of its files. The empty mode stands for
// ModeBytes where tokenizer_config.json names ByT5Tokenizer, and for ModeHF5 otherwise.
//
// It returns a NotFoundError, ModeError, CorruptError or UnsupportedError where one fits.
func Load(path string, mode Mode) (*Tokenizer, error) {
	if _, err := ParseMode(string(mode)); err != nil {
		return nil, err
	}
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, &NotFoundError{Path: path, Want: "the path itself"}
	}
	if err != nil {
		return nil, err
	}
	source := source{dir: path}
	if !info.IsDir() {
		source.dir, source.only = filepath.Dir(path), filepath.Base(path)
	}
	return source.load(path, mode)
}

// source is where a tokenizer is read from.
type source struct {
	dir  string
	only string // the one file that was asked for; empty for a folder
}

func (s source) load(path string, mode Mode) (*Tokenizer, error) {
	var conf config
	var err error
	if s.only == "" || s.only == configName {
		if conf, _, err = readConfig(s.dir); err != nil {
			return nil, err
		}
	}
	switch {
	case conf.isByteLevel() && (mode == "" || mode == ModeBytes):
		n, err := conf.byteExtraIDs()
		if err != nil {
			return nil, err
		}
		return newBytes(n), nil
	case mode == ModeBytes && !conf.found:
		return Bytes(), nil
	case mode == ModeBytes || conf.isByteLevel():
		return nil, &ModeError{Mode: string(mode), Path: path, Reason: "its tokenizer_class is " + conf.Class}
	}
	return nil, &UnsupportedError{Path: path, Feature: "subwords"}
}

// hashOf identifies a tokenizer by the bytes of its vocabulary and, where that is not the usual
// one, the number of sentinels that are added to it.
func hashOf(data []byte, extraIDs, usual int) string {
	if extraIDs == usual {
		return digest.Bytes(data)
	}
	return digest.Bytes([]byte(digest.Bytes(data) + " extra_ids=" + strconv.Itoa(extraIDs)))
}

var _ = fmt.Sprint
