package remote

import "fmt"

// StatusError is a server's refusal.
type StatusError struct {
	Host      string
	What      string // the repository or file that was asked for
	Status    int
	Message   string // the server's own words, shortened
	TokenSent bool
}

func (e *StatusError) Error() string {
	text := fmt.Sprintf("%s answers %d to the request for %s", e.Host, e.Status, e.What)
	if e.Message != "" {
		text += ": " + e.Message
	}
	return text
}

// UnreachableError says that no answer came, or that it broke off.
type UnreachableError struct {
	Host  string
	What  string
	Cause error
}

func (e *UnreachableError) Error() string {
	return fmt.Sprintf("%s cannot be reached for %s: %v", e.Host, e.What, e.Cause)
}
func (e *UnreachableError) Unwrap() error { return e.Cause }

// ChecksumError says that content is not what the hub lists.
type ChecksumError struct{ File, Want, Got string }

func (e *ChecksumError) Error() string {
	return fmt.Sprintf("%s is not what the hub lists: its digest is %s, not %s", e.File, e.Got, e.Want)
}

// ListingError says that a server's answer cannot be used.
type ListingError struct{ Host, What, Reason string }

func (e *ListingError) Error() string {
	return fmt.Sprintf("%s: the listing of %s cannot be used: %s", e.Host, e.What, e.Reason)
}

// PickleError says that a model has its weights only as a Python pickle, which runs code when it is read.
type PickleError struct{ Repo, Revision, File string }

func (e *PickleError) Error() string {
	return fmt.Sprintf("%s has its weights only in %s, a Python pickle; t5ctl reads safetensors", e.Repo, e.File)
}

// NoModelError says that a repository holds no weights that t5ctl could read.
type NoModelError struct{ Repo, Revision, Missing string }

func (e *NoModelError) Error() string {
	return fmt.Sprintf("%s at revision %s is no model that t5ctl reads: it has no %s", e.Repo, e.Revision, e.Missing)
}
