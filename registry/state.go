package registry

import (
	"fmt"
	"slices"
	"strconv"

	v1 "github.com/modelpack/model-spec/specs-go/v1"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	digests "github.com/opencontainers/go-digest"

	"github.com/t5ctl/t5ctl/internal/nearest"
)

// state is the fold of a model's log: what exists, and what serves where.
type state struct {
	model    string
	head     Head
	records  []Record
	versions []version // number i+1 at i
	byDigest map[string]int
	channels map[string]*channel
}

// version is what the log says of one version.
type version struct {
	target   Target
	event    Event // that registered it
	evidence []Evidence
	since    map[string]int64 // digest of evidence to the record that brought it
}

// channel is the history of one channel.
type channel struct {
	serving []Target // as a stack: the last serves, the one below is where a rollback goes
	served  []Target // every version that ever served, in order of first service
}

// fold reads the state off the records, which are a chain. An event that contradicts the ones
// before it means that the log was not written by this tool.
func fold(model string, records []Record) (*state, error) {
	s := &state{model: model, records: records, byDigest: map[string]int{}, channels: map[string]*channel{}}
	for _, record := range records {
		if err := s.apply(record.Event); err != nil {
			return nil, &CorruptError{Model: model, What: fmt.Sprintf("record %d of the log", record.Event.Seq), Digest: record.Digest, Reason: err.Error()}
		}
		s.head = Head{Seq: record.Event.Seq, Digest: record.Digest}
	}
	return s, nil
}

func (s *state) apply(e Event) error {
	if e.Kind == KindRotate || e.Kind == KindRevoke {
		if e.Key == nil {
			return fmt.Errorf("it is about no key")
		}
		return nil
	}
	if e.To == nil {
		return fmt.Errorf("it is about no version")
	}
	if e.Kind == KindRegister {
		return s.register(e)
	}
	v := s.version(e.To.Version)
	if v == nil || v.target != *e.To {
		return fmt.Errorf("it is about v%d %s, which is not registered", e.To.Version, e.To.Digest)
	}
	switch e.Kind {
	case KindEvidence:
		v.add(e)
	case KindPromote, KindRollback:
		return s.move(e)
	case KindRefuse, KindApprove, KindRegister:
	default:
		return fmt.Errorf("events of kind %q are unknown", e.Kind)
	}
	return nil
}

func (s *state) register(e Event) error {
	if e.To.Version != len(s.versions)+1 {
		return fmt.Errorf("it registers v%d after v%d", e.To.Version, len(s.versions))
	}
	if other, found := s.byDigest[e.To.Digest]; found {
		return fmt.Errorf("it registers v%d, which is v%d", e.To.Version, other)
	}
	s.versions = append(s.versions, version{target: *e.To, event: e, since: map[string]int64{}})
	s.versions[len(s.versions)-1].add(e)
	s.byDigest[e.To.Digest] = e.To.Version
	return nil
}

// add takes over the evidence that an event brings.
func (v *version) add(e Event) {
	v.evidence = append(v.evidence, e.Evidence...)
	for _, one := range e.Evidence {
		if v.since[one.Digest] == 0 {
			v.since[one.Digest] = e.Seq
		}
	}
}

func (s *state) move(e Event) error {
	c := s.channels[e.Channel]
	if c == nil {
		c = &channel{}
		s.channels[e.Channel] = c
	}
	now := c.current()
	if (now == nil) != (e.From == nil) || now != nil && *now != *e.From {
		return fmt.Errorf("it moves channel %s from a version that did not serve", e.Channel)
	}
	if e.Kind == KindRollback {
		if at := slices.Index(c.serving, *e.To); at >= 0 {
			c.serving = c.serving[:at]
		}
	}
	c.serving = append(c.serving, *e.To)
	if !slices.Contains(c.served, *e.To) {
		c.served = append(c.served, *e.To)
	}
	return nil
}

// current is what a channel serves, or nil.
func (c *channel) current() *Target {
	if c == nil || len(c.serving) == 0 {
		return nil
	}
	return &c.serving[len(c.serving)-1]
}

// before is where a rollback without a target goes, or nil.
func (c *channel) before() *Target {
	if c == nil || len(c.serving) < 2 {
		return nil
	}
	return &c.serving[len(c.serving)-2]
}

// version is the version of that number, or nil.
func (s *state) version(number int) *version {
	if number < 1 || number > len(s.versions) {
		return nil
	}
	return &s.versions[number-1]
}

// resolve finds what a reference of this model means now.
func (s *state) resolve(ref Ref) (*version, error) {
	number := ref.Version
	switch {
	case ref.Digest != "":
		number = s.byDigest[ref.Digest]
	case ref.Channel != "":
		if now := s.channels[ref.Channel].current(); now != nil {
			number = now.Version
		}
	}
	if v := s.version(number); v != nil {
		return v, nil
	}
	return nil, &NotFoundError{Ref: ref, Nearest: s.nearest(ref)}
}

// nearest lists what the model does hold, the most alike first.
func (s *state) nearest(ref Ref) []Ref {
	var refs []Ref
	if ref.Channel != "" {
		for _, name := range nearest.Ranked(ref.Channel, s.channelNames()) {
			refs = append(refs, Ref{Model: s.model, Channel: name})
		}
		return refs
	}
	for i := len(s.versions); i > 0; i-- {
		refs = append(refs, Ref{Model: s.model, Version: i})
	}
	slices.SortStableFunc(refs, func(a, b Ref) int {
		return abs(a.Version-ref.Version) - abs(b.Version-ref.Version)
	})
	return refs
}

func abs(n int) int { return max(n, -n) }

func (s *state) channelNames() []string {
	names := make([]string, 0, len(s.channels))
	for name := range s.channels {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// tags are the names that other tools shall see: every version and piece of evidence, and every
// channel as it stands.
func (s *state) tags() []Tag {
	var tags []Tag
	for _, v := range s.versions {
		model := v.target.descriptor()
		tags = append(tags, Tag{Name: "v" + strconv.Itoa(v.target.Version), Manifest: model})
		for _, e := range v.evidence {
			tags = append(tags, Tag{Name: e.tag(), Manifest: e.descriptor()})
		}
	}
	for _, name := range s.channelNames() {
		tags = append(tags, Tag{Name: name, Manifest: s.channels[name].current().descriptor(), Moves: true})
	}
	return tags
}

func (t Target) descriptor() ocispec.Descriptor {
	return ocispec.Descriptor{
		MediaType:    ocispec.MediaTypeImageManifest,
		ArtifactType: v1.ArtifactTypeModelManifest,
		Digest:       digests.Digest(t.Digest),
		Size:         t.Size,
	}
}

func (e Evidence) descriptor() ocispec.Descriptor {
	return ocispec.Descriptor{
		MediaType:    ocispec.MediaTypeImageManifest,
		ArtifactType: artifactType(e.Kind),
		Digest:       digests.Digest(e.Digest),
		Size:         e.Size,
	}
}

// tag keeps a piece of evidence from being collected as garbage by a server that knows no
// referrers.
func (e Evidence) tag() string { return "t5ev-" + digests.Digest(e.Digest).Encoded()[:16] }
