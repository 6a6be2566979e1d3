package registry

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/t5ctl/t5ctl/internal/digest"
)

// Ref names one version of a model: by number, by digest, or by the channel that serves it.
// Exactly one of the three is set.
type Ref struct {
	Model   string
	Version int    // from 1
	Channel string // resolved through the log each time
	Digest  string // of the manifest, "sha256:…"
}

// String is the reference as people write it: name@v7, name@production, name@sha256:….
func (r Ref) String() string {
	switch {
	case r.Version > 0:
		return r.Model + "@v" + strconv.Itoa(r.Version)
	case r.Digest != "":
		return r.Model + "@" + r.Digest
	case r.Channel != "":
		return r.Model + "@" + r.Channel
	}
	return r.Model
}

// RefError says what is wrong with a reference, or with a name in it.
type RefError struct {
	Text   string
	Reason string
}

// Error quotes the text and tells the rule it breaks.
func (e *RefError) Error() string { return fmt.Sprintf("reference %q: %s", e.Text, e.Reason) }

// modelName is the grammar of OCI repositories, so that every model can move to any registry.
func modelName() *regexp.Regexp { return compiledModelName }

//nolint:gochecknoglobals // compiled once, never changed
var compiledModelName = regexp.MustCompile(`^[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*)*$`)

const (
	maxModelName   = 128
	maxChannelName = 64
)

// CheckModel says why name cannot be a model's, or nil.
func CheckModel(name string) error {
	switch {
	case name == "":
		return &RefError{name, "the model's name is empty"}
	case len(name) > maxModelName:
		return &RefError{name, fmt.Sprintf("the model's name has %d characters, %d are allowed", len(name), maxModelName)}
	case !modelName().MatchString(name):
		return &RefError{name, "a model's name is lower-case letters and digits, joined by . _ - or /"}
	}
	for part := range strings.SplitSeq(name, "/") {
		switch part {
		case "blobs", "ingest", "index.json", "oci-layout", "log.jsonl":
			return &RefError{name, fmt.Sprintf("%q is a name that the store itself uses", part)}
		}
	}
	return nil
}

// CheckChannel says why name cannot be a channel's, or nil. A channel is a plain word that
// cannot be taken for a version, a digest, or one of the registry's own tags.
func CheckChannel(name string) error {
	switch {
	case name == "":
		return &RefError{name, "the channel's name is empty"}
	case len(name) > maxChannelName:
		return &RefError{name, fmt.Sprintf("the channel's name has %d characters, %d are allowed", len(name), maxChannelName)}
	case name == "none" || slices.ContainsFunc([]string{"t5ev-", "t5log-", "t5int-", "sha256-"}, func(p string) bool { return strings.HasPrefix(name, p) }):
		return &RefError{name, "this word has a meaning of its own and cannot name a channel"}
	case isVersionWord(name):
		return &RefError{name, "a channel cannot look like a version"}
	}
	for i, c := range name {
		letter := c >= 'a' && c <= 'z'
		if inner := i > 0 && (c >= '0' && c <= '9' || c == '-' || c == '_' || c == '.'); !letter && !inner {
			return &RefError{name, "a channel is a plain word of lower-case letters, digits, - _ and ."}
		}
	}
	return nil
}

// isVersionWord says whether a word is v and digits, a valid version number or not.
func isVersionWord(s string) bool {
	number, found := strings.CutPrefix(s, "v")
	return found && number != "" && strings.Trim(number, "0123456789") == ""
}

// ParseVersion reads "v7".
func ParseVersion(s string) (int, error) {
	number, found := strings.CutPrefix(s, "v")
	n, err := strconv.Atoi(number)
	if !found || err != nil || n < 1 || number != strconv.Itoa(n) {
		return 0, &RefError{s, "a version is v and a number from 1, such as v7"}
	}
	return n, nil
}

// ParseRef reads name@v7, name@production, or name@sha256:….
func ParseRef(s string) (Ref, error) {
	model, rest, found := strings.Cut(s, "@")
	if err := CheckModel(model); err != nil {
		return Ref{}, &RefError{s, err.(*RefError).Reason} //nolint:errorlint,forcetypeassert // CheckModel gives no other
	}
	if !found || rest == "" {
		return Ref{}, &RefError{s, "it names no version: write name@v7, name@channel, or name@sha256:…"}
	}
	switch {
	case isVersionWord(rest):
		version, err := ParseVersion(rest)
		if err != nil {
			return Ref{}, &RefError{s, "a version is v and a number from 1, such as v7"}
		}
		return Ref{Model: model, Version: version}, nil
	case strings.HasPrefix(rest, digest.Prefix):
		if !digest.Valid(rest) {
			return Ref{}, &RefError{s, "a digest is sha256: and 64 hex digits"}
		}
		return Ref{Model: model, Digest: rest}, nil
	}
	if err := CheckChannel(rest); err != nil {
		return Ref{}, &RefError{s, err.(*RefError).Reason} //nolint:errorlint,forcetypeassert // CheckChannel gives no other
	}
	return Ref{Model: model, Channel: rest}, nil
}
