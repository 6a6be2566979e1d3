package registry

import (
	"fmt"
	"strings"
)

// NotFoundError says that the registry holds no such model, version, or channel.
type NotFoundError struct {
	Ref     Ref   // only Model set: no such model
	Nearest []Ref // what it does hold, the most alike first
}

// Error names what is missing.
func (e *NotFoundError) Error() string {
	switch {
	case e.Ref.Channel != "":
		return fmt.Sprintf("no channel %s in the registry", e.Ref)
	case e.Ref.Version > 0 || e.Ref.Digest != "":
		return fmt.Sprintf("no version %s in the registry", e.Ref)
	}
	return fmt.Sprintf("no model %s in the registry", e.Ref)
}

// ConflictError says that a channel does not serve what the caller expected. Nothing changed.
type ConflictError struct {
	Model, Channel string
	Expected       string // "v6", "sha256:…", or "none"
	Serving        string // "v7" or "none"
}

// Error tells both sides.
func (e *ConflictError) Error() string {
	return fmt.Sprintf("%s@%s serves %s, expected %s", e.Model, e.Channel, e.Serving, e.Expected)
}

// OlderError says that a promotion would take a channel back to an older version, as a run that
// finishes late does. Going back on purpose is what Rollback is for.
type OlderError struct {
	Ref     Ref
	Channel string
	Serving Ref
}

// Error names both versions.
func (e *OlderError) Error() string {
	return fmt.Sprintf("%s is older than %s, which channel %s serves", e.Ref, e.Serving, e.Channel)
}

// GateError says that a version lacks the evidence that its promotion needs. The refusal stands
// in the log.
type GateError struct {
	Ref     Ref
	Channel string
	Reasons []string // one a missing or failed piece of evidence
	Seq     int64    // where the refusal is recorded
}

// Error lists the reasons.
func (e *GateError) Error() string {
	return fmt.Sprintf("%s may not serve %s: %s", e.Ref, e.Channel, strings.Join(e.Reasons, "; "))
}

// CanaryError says that a model was trained on planted canaries and nobody has allowed that.
type CanaryError struct {
	Dir    string
	Source string // the file that says so
}

// Error names the file.
func (e *CanaryError) Error() string {
	return fmt.Sprintf("the model in %s was trained on planted canaries (%s)", e.Dir, e.Source)
}

// CardError says that a model card claims what the reports do not say.
type CardError struct {
	Differences []string
}

// Error lists the differences.
func (e *CardError) Error() string {
	return "the model card differs from the reports: " + strings.Join(e.Differences, "; ")
}

// CorruptError says that something stored is not what it was, or is gone.
type CorruptError struct {
	Model  string
	What   string // "layer model.safetensors", "log", "index", …
	Digest string // where one names it
	Reason string
}

// Error names the thing, its digest, and what is wrong with it.
func (e *CorruptError) Error() string {
	what := e.What
	if e.Digest != "" {
		what += " " + e.Digest
	}
	return fmt.Sprintf("%s of %s is damaged: %s", what, e.Model, e.Reason)
}

// BaseError says that an adapter's base is not the model the adapter was trained on.
type BaseError struct {
	Adapter string
	Base    string // where it was looked for
	Want    string // digest of the base's files, as the adapter recorded it
	Got     string // "" where there is none at all
}

// Error tells what the adapter needs.
func (e *BaseError) Error() string {
	if e.Got == "" {
		return fmt.Sprintf("the base of %s (files %s) is not in the registry, and %q is not a folder that holds it", e.Adapter, e.Want, e.Base)
	}
	return fmt.Sprintf("%s needs a base with files %s, %s has %s", e.Adapter, e.Want, e.Base, e.Got)
}

// NoWayBackError says that a channel has no earlier version to return to, or that the one asked
// for never served there.
type NoWayBackError struct {
	Model, Channel string
	Target         string // "" where none was named
	Served         []Ref  // what did serve, the latest first
}

// Error tells which of the two it is.
func (e *NoWayBackError) Error() string {
	if e.Target == "" {
		return fmt.Sprintf("%s@%s has served nothing before its present version", e.Model, e.Channel)
	}
	return fmt.Sprintf("%s never served as %s@%s", e.Target, e.Model, e.Channel)
}

// RequestError says that a request lacks something or contradicts itself.
type RequestError struct{ Reason string }

// Error is the reason.
func (e *RequestError) Error() string { return e.Reason }

// FolderError says that a folder cannot be pushed as a model, or that a file in it cannot.
type FolderError struct {
	Path   string
	Reason string
}

// Error names the path.
func (e *FolderError) Error() string { return e.Path + ": " + e.Reason }

// OutputError says that a folder to write to exists and holds something else.
type OutputError struct{ Path string }

// Error names the folder.
func (e *OutputError) Error() string {
	return fmt.Sprintf("%s exists and holds something else", e.Path)
}

// SlotTakenError says that another writer has appended to the log first.
type SlotTakenError struct {
	Model string
	Seq   int64
}

// Error names the place in the log.
func (e *SlotTakenError) Error() string {
	return fmt.Sprintf("record %d of the log of %s was written by someone else first", e.Seq, e.Model)
}
