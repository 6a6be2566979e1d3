package vocab

import "fmt"

// ModeError says that there is no such mode, or that it cannot be used with the files at hand.
type ModeError struct {
	Mode   string
	Path   string // what was to be loaded; empty if the mode itself is unknown
	Reason string
}

func (e *ModeError) Error() string {
	if e.Path == "" {
		return fmt.Sprintf("no tokenizer mode %q; there are hf5, json, sp and bytes", e.Mode)
	}
	return fmt.Sprintf("tokenizer %s cannot be used in mode %q: %s", e.Path, e.Mode, e.Reason)
}

// NotFoundError says that a path holds no tokenizer files.
type NotFoundError struct {
	Path string
	Want string // the file that the mode needs
}

func (e *NotFoundError) Error() string {
	return fmt.Sprintf("no tokenizer at %s: %s is missing", e.Path, e.Want)
}

// CorruptError says that a tokenizer file cannot be read as what it should be.
type CorruptError struct {
	Path   string
	Reason string
}

func (e *CorruptError) Error() string {
	return fmt.Sprintf("tokenizer file %s is corrupt: %s", e.Path, e.Reason)
}

// UnsupportedError says that a sound tokenizer file asks for something whose result this package
// cannot promise to be the reference's.
type UnsupportedError struct {
	Path    string
	Feature string
}

func (e *UnsupportedError) Error() string {
	return fmt.Sprintf("tokenizer file %s needs %s, which is not supported", e.Path, e.Feature)
}
