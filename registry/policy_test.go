package registry_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/t5ctl/t5ctl/registry"
	"github.com/t5ctl/t5ctl/registry/local"
	"github.com/t5ctl/t5ctl/registry/registrytest"
	"github.com/t5ctl/t5ctl/registry/sign"
)

// signedStore is a store with a policy and the keys of the people in it.
type signedStore struct {
	root   string
	policy *registry.Policy
	keys   map[string]*sign.PrivateKey
}

func newSignedStore(t testing.TB, people ...string) signedStore {
	t.Helper()
	dir := t.TempDir()
	keys := sign.Keys{Dir: filepath.Join(dir, "keys")}
	s := signedStore{root: filepath.Join(dir, "registry"), keys: map[string]*sign.PrivateKey{}}
	text := "version: 1\nmode: enforce\nkeys:\n"
	for _, name := range people {
		key, err := keys.Create(name)
		if err != nil {
			t.Fatal(err)
		}
		s.keys[name] = key
		if name != "eve" {
			text += fmt.Sprintf("  - {name: %s, public: keys/%s.pub, roles: [builder, evaluator, promoter]}\n", name, name)
		}
	}
	text += "channels:\n  prod:\n    evidence: [gate, evaluation]\n"
	path := filepath.Join(dir, "policy.yaml")
	err := os.WriteFile(path, []byte(text), 0o600)
	if err == nil {
		s.policy, err = registry.ReadPolicy(path)
	}
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// as is the registry of one who signs as somebody; "" signs nothing.
func (s signedStore) as(name string) *registry.Registry {
	return registry.New(local.Open(s.root), registry.Options{Actor: name, Key: s.keys[name], Policy: s.policy})
}

func (s signedStore) push(t testing.TB, r *registry.Registry, model string, value byte) registry.PushResult {
	t.Helper()
	result, err := r.Push(t.Context(), registrytest.Request(t, model, value))
	if err != nil {
		t.Fatal(err)
	}
	return result
}

// refused fails unless the policy objects with these words.
func refused(t testing.TB, err error, words string) {
	t.Helper()
	e := (*registry.PolicyError)(nil)
	gate := (*registry.GateError)(nil)
	if !errors.As(err, &e) && !errors.As(err, &gate) || !strings.Contains(err.Error(), words) {
		t.Errorf("error %v, want one with %q", err, words)
	}
}

func TestSignedByTheRightOnes(t *testing.T) {
	s := newSignedStore(t, "ada", "eve")
	one := s.push(t, s.as("ada"), "m", 1)
	if v, err := s.as("").Verify(t.Context(), one.Ref); err != nil || v.Policy != "enforce" {
		t.Errorf("signed by the builder: %v", err)
	}
	two := s.push(t, s.as("eve"), "m", 2)
	_, err := s.as("").Verify(t.Context(), two.Ref)
	refused(t, err, "has that of nobody")
	three := s.push(t, registry.New(local.Open(s.root), registry.Options{}), "m", 3)
	_, err = s.as("").Pull(t.Context(), three.Ref, filepath.Join(t.TempDir(), "x"))
	refused(t, err, "has that of nobody")
	_, err = s.as("ada").Promote(t.Context(), registry.PromoteRequest{Ref: two.Ref, Channel: "prod"})
	refused(t, err, "evidence gate.json wants the signature of 1 evaluator")
	if _, err := s.as("ada").Promote(t.Context(), registry.PromoteRequest{Ref: one.Ref, Channel: "prod"}); err != nil {
		t.Error(err)
	}
}

// TestSignaturesReplayed gives the signatures of one version to another, in the ways that who may
// write to the store, but holds no key, can.
func TestSignaturesReplayed(t *testing.T) {
	s := newSignedStore(t, "ada")
	signed := s.push(t, s.as("ada"), "m", 1)
	unsigned := registry.New(local.Open(s.root), registry.Options{})
	replay := func(model string, from, to registry.Version) registry.Ref {
		t.Helper()
		store := local.Open(s.root)
		lines, err := store.Log(t.Context(), model)
		if err != nil {
			t.Fatal(err)
		}
		records, err := registry.ParseLog(model, lines)
		if err != nil {
			t.Fatal(err)
		}
		head := records[len(records)-1]
		target := *head.Event.To
		record, err := registry.NewRecord(registry.Event{
			Schema: registry.EventSchema, Seq: head.Event.Seq + 1, Prev: head.Digest, Model: model, Kind: registry.KindEvidence,
			To: &target, Evidence: signatures(from), Time: time.Now().UTC().Truncate(time.Second),
		}, nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := store.Append(t.Context(), model, record.Event.Seq, head.Digest, record.Bytes); err != nil {
			t.Fatal(err)
		}
		return to.Ref
	}
	// Another version of the same model: the evidence is bound to its subject.
	other := s.push(t, unsigned, "m", 2)
	if _, err := s.as("").Verify(t.Context(), replay("m", signed.Version, other.Version)); err == nil {
		t.Error("the signatures of another version were taken")
	}
	// The same content under another name: the statement names the model.
	elsewhere := newSignedStore(t, "bob")
	elsewhere.policy = s.policy
	s.copyModel(t, elsewhere, "m", "other")
	_, err := elsewhere.as("").Verify(t.Context(), registry.Ref{Model: "other", Version: 1})
	refused(t, err, "the version wants the signature of 1 builder, has that of nobody")
}

// signatures are the signatures among the evidence of a version.
func signatures(v registry.Version) []registry.Evidence {
	var list []registry.Evidence
	for _, e := range v.Evidence {
		if e.Kind == registry.EvidenceSignature {
			list = append(list, e)
		}
	}
	return list
}

// copyModel puts a model's content into another store under another name, its first record
// rewritten to fit: what one can do who holds no key.
func (s signedStore) copyModel(t testing.TB, to signedStore, from, name string) {
	t.Helper()
	if err := os.CopyFS(filepath.Join(to.root, name, "blobs"), os.DirFS(filepath.Join(s.root, from, "blobs"))); err != nil {
		t.Fatal(err)
	}
	lines, err := local.Open(s.root).Log(t.Context(), from)
	if err != nil {
		t.Fatal(err)
	}
	first, err := registry.ParseRecord(lines[0])
	if err != nil {
		t.Fatal(err)
	}
	event := first.Event
	event.Model = name
	record, err := registry.NewRecord(event, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := local.Open(to.root).Append(t.Context(), name, 1, "", record.Bytes); err != nil {
		t.Fatal(err)
	}
}

// TestSignaturesStripped takes the signature off a record and out of a log.
func TestSignaturesStripped(t *testing.T) {
	s := newSignedStore(t, "ada")
	one := s.push(t, s.as("ada"), "m", 1)
	if _, err := s.as("ada").Promote(t.Context(), registry.PromoteRequest{Ref: one.Ref, Channel: "prod"}); err != nil {
		t.Fatal(err)
	}
	served := registry.Ref{Model: "m", Channel: "prod"}
	if _, err := s.as("").Verify(t.Context(), served); err != nil {
		t.Fatal(err)
	}
	lines, err := local.Open(s.root).Log(t.Context(), "m")
	if err != nil {
		t.Fatal(err)
	}
	record, err := registry.ParseRecord(lines[1])
	if err != nil || record.Envelope == nil {
		t.Fatalf("the record is not signed: %v", err)
	}
	bare, err := registry.NewRecord(record.Event, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := local.Open(s.root).Restore(t.Context(), "m", [][]byte{lines[0], bare.Bytes}); err != nil {
		t.Fatal(err)
	}
	if _, err := s.as("").Verify(t.Context(), served); err == nil {
		t.Error("a record without its signature was taken")
	}
	// Where the index does not tell, the policy does.
	if err := os.Remove(filepath.Join(s.root, "m", "index.json")); err != nil {
		t.Fatal(err)
	}
	_, err = s.as("").Verify(t.Context(), served)
	refused(t, err, "which moved channel prod, wants the signature of 1 promoter")
}

// TestBundleDamaged changes each byte range of a bundle in turn: nothing is registered.
func TestBundleDamaged(t *testing.T) {
	s := newSignedStore(t, "ada")
	one := s.push(t, s.as("ada"), "m", 1)
	var whole bytes.Buffer
	if _, err := s.as("").Pack(t.Context(), &whole, []registry.Ref{one.Ref}, nil); err != nil {
		t.Fatal(err)
	}
	for at := 700; at < whole.Len()-1024; at += 997 {
		data := bytes.Clone(whole.Bytes())
		data[at] ^= 0x10
		to := registry.New(local.Open(filepath.Join(t.TempDir(), "away")), registry.Options{Policy: s.policy})
		if _, err := to.Unpack(t.Context(), bytes.NewReader(data)); err == nil {
			// Padding, and what other tools read, may change.
			if _, err := to.Verify(t.Context(), one.Ref); err != nil {
				t.Errorf("byte %d: taken over, and does not verify: %v", at, err)
			}
			continue
		}
		if models, err := to.Models(t.Context()); err != nil || len(models) > 0 {
			t.Errorf("byte %d: refused, and left %v, %v", at, models, err)
		}
	}
	for _, size := range []int{0, 511, 2000, whole.Len() / 2} {
		to := registry.New(local.Open(filepath.Join(t.TempDir(), "away")), registry.Options{})
		if _, err := to.Unpack(t.Context(), bytes.NewReader(whole.Bytes()[:size])); err == nil {
			t.Errorf("%d bytes of a bundle were taken", size)
		}
	}
}

// FuzzUnpack feeds bundles that are not sound: none panics, and none registers what does not verify.
func FuzzUnpack(f *testing.F) {
	from := registry.New(local.Open(f.TempDir()), registry.Options{})
	if _, err := from.Push(context.Background(), registrytest.Request(f, "m", 1)); err != nil {
		f.Fatal(err)
	}
	one := registry.Ref{Model: "m", Version: 1}
	var whole bytes.Buffer
	if _, err := from.Pack(context.Background(), &whole, []registry.Ref{one}, nil); err != nil {
		f.Fatal(err)
	}
	f.Add(whole.Bytes())
	f.Add(whole.Bytes()[:4096])
	f.Fuzz(func(t *testing.T, data []byte) {
		to := registry.New(local.Open(t.TempDir()), registry.Options{})
		if _, err := to.Unpack(t.Context(), bytes.NewReader(data)); err != nil {
			return
		}
		models, err := to.Models(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, model := range models {
			if model == "m" {
				if _, err := to.Verify(t.Context(), one); err != nil {
					t.Error(err)
				}
			}
		}
	})
}
