package registry

import (
	"context"
	"io"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Backend is a place where repositories lie, one a model: blobs named by their digest, a log
// that only grows, and tags as a copy of what the log says. Package registrytest holds the
// tests that every backend must pass.
//
// What a backend returns is not trusted: Registry checks sizes, digests and the chain itself.
type Backend interface {
	// Models names the repositories that hold a log, sorted. A place that does not exist has none.
	Models(ctx context.Context) ([]string, error)

	// Open reads a blob or manifest, unchecked. An error that wraps fs.ErrNotExist says that
	// it is not there.
	Open(ctx context.Context, model string, blob ocispec.Descriptor) (io.ReadCloser, error)

	// Put stores content under the descriptor's digest, durably, or not at all: content of
	// another size or digest is an error. A sound blob that is there already is kept, a damaged
	// one is replaced.
	Put(ctx context.Context, model string, blob ocispec.Descriptor, content io.Reader) error

	// Log reads the records of a model's log in order, unchecked; none for an unknown model.
	Log(ctx context.Context, model string) ([][]byte, error)

	// Append adds a record at the given place, durably, if prev is the digest of the record
	// before it ("" at place 1); otherwise it is a *SlotTakenError and nothing has changed. Of
	// several writers at the same place one succeeds.
	Append(ctx context.Context, model string, seq int64, prev string, record []byte) error

	// Publish brings the tags up to the state that the log had at head. A call that comes later
	// with an older head changes nothing. Tags are a copy: they may be behind the log after a
	// crash, and the next Publish mends them.
	Publish(ctx context.Context, model string, head Head, tags []Tag) error
}

// Head is the end of a log: how many records it has, and the digest of the last.
type Head struct {
	Seq    int64
	Digest string
}

// Tag is a name for a manifest. Version tags never move, channel tags follow the log.
type Tag struct {
	Name     string
	Manifest ocispec.Descriptor
	Moves    bool // of a channel
}

// Tagger is what a backend offers whose tags other tools can see and move.
type Tagger interface {
	// Tags lists the tags as other tools see them. Where moving is false, the place does not let
	// a tag move, and those of channels are not kept.
	Tags(ctx context.Context, model string) (tags []Tag, moving bool, err error)

	// Retag makes tags name what the log says, whatever they name now.
	Retag(ctx context.Context, model string, tags []Tag) error
}

// Holder is what a backend offers whose blobs Collect may remove while another process is about to name them.
type Holder interface {
	// Hold keeps Collect out of a model until release is called; alone, as Collect holds it, it waits for all others
	// and keeps them out.
	Hold(ctx context.Context, model string, alone bool) (release func(), err error)
}

// Preparer is what a backend offers that has things to ask before it writes to a log: it may do so while content
// is stored. What fails is asked again by what needs it.
type Preparer interface {
	Prepare(ctx context.Context, model string)
}

// Resumer is what a backend offers that can read a blob from a byte on, so that a pull which broke off
// goes on where it was.
type Resumer interface {
	OpenFrom(ctx context.Context, model string, blob ocispec.Descriptor, from int64) (io.ReadCloser, error)
}

// Keeper is what a backend that can throw away and mend its own content offers besides.
type Keeper interface {
	Tagger

	// Sweep removes blobs that are not in keep and are older than the grace age, and what
	// dead writers left behind. With dryRun it only says what it would remove.
	Sweep(ctx context.Context, model string, keep map[string]bool, options SweepOptions) ([]Swept, error)

	// Blobs lists the digests of every blob that is stored.
	Blobs(ctx context.Context, model string) ([]string, error)

	// Restore replaces a log that cannot be read, keeping the damaged one beside it. The
	// records must be a sound chain that ends at the head the tags speak of.
	Restore(ctx context.Context, model string, records [][]byte) error

	// Head is the end of the log as the tags record it; zero where they do not.
	Head(ctx context.Context, model string) (Head, error)
}
