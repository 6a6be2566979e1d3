package registry

import (
	"context"
	"fmt"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/t5ctl/t5ctl/internal/digest"
	"github.com/t5ctl/t5ctl/internal/strictyaml"
	"github.com/t5ctl/t5ctl/registry/sign"
)

// The roles of a policy.
const (
	RoleBuilder   = "builder"   // signs versions
	RoleEvaluator = "evaluator" // signs reports and results of gates
	RolePromoter  = "promoter"  // moves channels, and agrees to moves
	RoleRoot      = "root"      // revokes keys
)

// Policy says whose signatures count for what. It is a file that is kept with the code, not in
// the registry, so that who may write to the registry cannot change it.
type Policy struct {
	Version  int                      `yaml:"version"`
	Mode     string                   `yaml:"mode"` // off, warn or enforce
	Keys     []PolicyKey              `yaml:"keys"`
	Channels map[string]ChannelPolicy `yaml:"channels"` // "*": every other

	digest string
}

// PolicyKey is a person or job, its key, and what it may do.
type PolicyKey struct {
	Name   string   `yaml:"name"`
	Public string   `yaml:"public"` // file beside the policy, or PEM
	Roles  []string `yaml:"roles"`

	key sign.PublicKey
}

// ChannelPolicy is what a version needs to serve a channel.
type ChannelPolicy struct {
	Evidence   []string       `yaml:"evidence"`   // kinds that must be there and attested, such as evaluation, gate, exposure
	Signatures map[string]int `yaml:"signatures"` // role to how many different names must have signed
}

// PolicyError says that a version lacks what the policy asks for.
type PolicyError struct {
	Ref     Ref
	Reasons []string
}

// Error lists the reasons.
func (e *PolicyError) Error() string {
	return fmt.Sprintf("%s does not fit the policy: %s", e.Ref, strings.Join(e.Reasons, "; "))
}

// ReadPolicy reads a policy and the keys that it names.
func ReadPolicy(path string) (*Policy, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	p := &Policy{digest: digest.Bytes(data)}
	if _, err := strictyaml.Unmarshal(path, data, p); err != nil {
		return nil, err
	}
	wrong := func(format string, a ...any) error { return &RequestError{path + ": " + fmt.Sprintf(format, a...)} }
	if p.Version != 1 {
		return nil, wrong("version %d is not 1", p.Version)
	}
	if !slices.Contains([]string{"off", "warn", "enforce"}, p.Mode) {
		return nil, wrong("mode %q is none of off, warn, enforce", p.Mode)
	}
	roles := []string{RoleBuilder, RoleEvaluator, RolePromoter, RoleRoot}
	names := map[string]bool{}
	for i := range p.Keys {
		k := &p.Keys[i]
		if k.Name == "" || names[k.Name] {
			return nil, wrong("key %d: its name %q is empty or taken", i+1, k.Name)
		}
		names[k.Name] = true
		text := []byte(k.Public)
		if !strings.Contains(k.Public, "BEGIN PUBLIC KEY") {
			if text, err = os.ReadFile(filepath.Join(filepath.Dir(path), filepath.FromSlash(k.Public))); err != nil {
				return nil, err
			}
		}
		if k.key, err = sign.ParsePublicKey(text); err != nil {
			return nil, wrong("key %s: %v", k.Name, err)
		}
		for _, role := range k.Roles {
			if !slices.Contains(roles, role) {
				return nil, wrong("key %s: role %q is none of %s", k.Name, role, strings.Join(roles, ", "))
			}
		}
	}
	for name, c := range p.Channels {
		for role, n := range c.Signatures {
			if !slices.Contains(roles[:3], role) || n < 0 {
				return nil, wrong("channel %s: %s: %d signatures cannot be asked for", name, role, n)
			}
		}
	}
	return p, nil
}

// channel is what a channel asks for.
func (p *Policy) channel(name string) ChannelPolicy {
	if c, found := p.Channels[name]; found {
		return c
	}
	return p.Channels["*"]
}

// trusted is a key and the records of a log in which its signatures count.
type trusted struct {
	name        string
	roles       []string
	key         sign.PublicKey
	from, until int64
}

// ring is the keys that count for a model: those of the policy, as the records of its log have
// replaced and revoked them. Numbers of records decide, never times.
func (p *Policy) ring(records []Record) []trusted {
	ring := []trusted{}
	for _, k := range p.Keys {
		ring = append(ring, trusted{k.Name, k.Roles, k.key, 1, math.MaxInt64})
	}
	for _, record := range records {
		e := record.Event
		if e.Key == nil || record.Envelope == nil {
			continue
		}
		for _, signer := range signers(ring, *record.Envelope, e.Seq, "") {
			itself := signer.key.ID == e.Key.ID
			if !itself && (e.Kind != KindRevoke || !slices.Contains(signer.roles, RoleRoot)) {
				continue
			}
			for i := range ring {
				if ring[i].key.ID == e.Key.ID {
					ring[i].until = min(ring[i].until, e.Seq)
				}
			}
			if next, err := sign.ParsePublicKey([]byte(e.Key.Public)); e.Kind == KindRotate && err == nil && next.ID == e.Key.Next {
				ring = append(ring, trusted{signer.name, signer.roles, next, e.Seq + 1, math.MaxInt64})
			}
			break
		}
	}
	return ring
}

// signers are the keys that have signed an envelope and counted for a role at a record; role "":
// any.
func signers(ring []trusted, envelope sign.Envelope, seq int64, role string) []trusted {
	var list []trusted
	for _, k := range ring {
		if seq >= k.from && seq <= k.until && (role == "" || slices.Contains(k.roles, role)) && envelope.Check(k.key) {
			list = append(list, k)
		}
	}
	return list
}

// names counts people, not keys.
func names(list []trusted) map[string]bool {
	set := map[string]bool{}
	for _, k := range list {
		set[k.name] = true
	}
	return set
}

// judgement is what a policy says of a version.
type judgement struct {
	policy  *Policy
	state   *state
	version *version
	ring    []trusted
	signed  []signedStatement
	reasons []string
}

func (j *judgement) note(format string, a ...any) {
	j.reasons = append(j.reasons, fmt.Sprintf(format, a...))
}

// enough compares who has signed with how many must have.
func (j *judgement) enough(who map[string]bool, need int, role, what string) {
	if len(who) >= need {
		return
	}
	have := "nobody"
	if len(who) > 0 {
		have = strings.Join(slices.Sorted(maps.Keys(who)), ", ")
	}
	j.note("%s wants the signature of %d %s, has that of %s", what, need, role, have)
}

// underPolicy lists what a version lacks to serve a channel by the policy; "" is no channel.
func (r *Registry) underPolicy(ctx context.Context, s *state, v *version, channel string) (*judgement, error) {
	j := &judgement{policy: r.options.Policy, state: s, version: v}
	if j.policy == nil || j.policy.Mode == "off" {
		return j, nil
	}
	j.ring = j.policy.ring(s.records)
	var err error
	if j.signed, err = r.signatures(ctx, s.model, v); err != nil {
		return j, err
	}
	need := j.policy.channel(channel)
	who := map[string]bool{}
	for _, signed := range j.signed {
		if signed.Statement.PredicateType == predicateSign && signed.about(s.model, v) {
			maps.Copy(who, names(signers(j.ring, signed.Envelope, signed.since, RoleBuilder)))
		}
	}
	j.enough(who, max(need.Signatures[RoleBuilder], 1), RoleBuilder, "the version")
	for _, kind := range need.Evidence {
		if !slices.ContainsFunc(v.current(), func(e Evidence) bool { return e.Kind == kind }) {
			j.note("no evidence of kind %s is stored with it", kind)
		}
	}
	for _, e := range v.current() {
		if e.Kind == EvidenceRun || e.Kind == EvidenceSignature || !slices.Contains(need.Evidence, e.Kind) {
			continue
		}
		if err := r.attestedBy(ctx, j, e, max(need.Signatures[RoleEvaluator], 1)); err != nil {
			return j, err
		}
	}
	return j, nil
}

// attestedBy checks that evaluators have signed each file of a piece of evidence for this version.
func (r *Registry) attestedBy(ctx context.Context, j *judgement, e Evidence, need int) error {
	files, err := r.evidenceLayers(ctx, j.state.model, j.version.target, e)
	if err != nil {
		return err
	}
	for _, file := range files {
		who := map[string]bool{}
		for _, signed := range j.signed {
			if signed.reportSum() == file.Digest.String() && signed.about(j.state.model, j.version) {
				maps.Copy(who, names(signers(j.ring, signed.Envelope, signed.since, RoleEvaluator)))
			}
		}
		j.enough(who, need, RoleEvaluator, "evidence "+e.Name)
	}
	return nil
}

// promoters are who agrees that a channel serve a version, by the records before end: since the
// channel last moved.
func (j *judgement) promoters(channel string, end int64) map[string]bool {
	who := map[string]bool{}
	for _, record := range j.state.records {
		e := record.Event
		if e.Seq >= end || e.Channel != channel {
			continue
		}
		switch e.Kind {
		case KindPromote, KindRollback:
			who = map[string]bool{}
		case KindApprove:
			if *e.To == j.version.target && record.Envelope != nil {
				maps.Copy(who, names(signers(j.ring, *record.Envelope, e.Seq, RolePromoter)))
			}
		default: // no consent
		}
	}
	return who
}

// mover adds who would move the channel now: the holder of our key.
func (j *judgement) mover(key *sign.PrivateKey, channel string, need int) {
	if j.ring == nil {
		return
	}
	next := j.state.head.Seq + 1
	who := j.promoters(channel, next)
	for _, k := range j.ring {
		if key != nil && k.key.ID == key.ID && next >= k.from && next <= k.until && slices.Contains(k.roles, RolePromoter) {
			who[k.name] = true
		}
	}
	j.enough(who, need, RolePromoter, "the move of channel "+channel)
}

// moved checks who has made a channel serve what it serves.
func (j *judgement) moved(channel string) {
	if j.ring == nil {
		return
	}
	for _, record := range slices.Backward(j.state.records) {
		e := record.Event
		if e.Channel != channel || e.Kind != KindPromote && e.Kind != KindRollback {
			continue
		}
		who, need := map[string]bool{}, 1
		if e.Kind == KindPromote {
			who, need = j.promoters(channel, e.Seq), max(j.policy.channel(channel).Signatures[RolePromoter], 1)
		}
		if record.Envelope != nil {
			maps.Copy(who, names(signers(j.ring, *record.Envelope, e.Seq, RolePromoter)))
		}
		j.enough(who, need, RolePromoter, fmt.Sprintf("record %d, which moved channel %s,", e.Seq, channel))
		return
	}
}

// verdict gives what is lacking as an error or as warnings, as the policy's mode says.
func (j *judgement) verdict(ref Ref) (warnings []string, err error) {
	if len(j.reasons) == 0 {
		return nil, nil
	}
	if j.policy.Mode == "warn" {
		return j.reasons, nil
	}
	return nil, &PolicyError{Ref: ref, Reasons: j.reasons}
}

// name is the digest by which the log names a policy.
func (p *Policy) name() string {
	if p == nil {
		return ""
	}
	return p.digest
}
