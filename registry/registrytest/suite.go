package registrytest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/modelpack/model-spec/schema"
	digests "github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/t5ctl/t5ctl/internal/digest"
	"github.com/t5ctl/t5ctl/registry"
)

// Run tests a backend. open makes an empty one.
func Run(t *testing.T, open func(t *testing.T) registry.Backend) {
	tests := []struct {
		name string
		run  func(*testing.T, registry.Backend)
	}{
		{"an empty place", testEmpty},
		{"blobs", testBlobs},
		{"the log", testLog},
		{"one writer a record", testSlots},
		{"push", testPush},
		{"same bytes, same digest", func(t *testing.T, b registry.Backend) { testDeterminism(t, b, open(t)) }},
		{"pull", testPull},
		{"evidence", testEvidence},
		{"promote", testPromote},
		{"refused promotions", testRefused},
		{"rollback", testRollback},
		{"one winner", testOneWinner},
		{"pushes at once", testPushesAtOnce},
		{"adapters", testAdapters},
		{"canaries", testCanaries},
		{"references", testReferences},
		{"history", testHistory},
		{"clocks ten years off", testClocks},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) { tt.run(t, open(t)) })
	}
}

func newRegistry(b registry.Backend) *registry.Registry {
	return registry.New(b, registry.Options{Actor: "tester", Tool: "registrytest"})
}

// wantError fails unless err is of type E, and returns it.
func wantError[E error](t testing.TB, err error) E {
	t.Helper()
	found, ok := errors.AsType[E](err)
	if !ok {
		t.Fatalf("error is %v (%T), want a %T", err, err, found)
	}
	return found
}

// refusedAs is wantError for those whom the kind of the error is enough.
func refusedAs[E error](t testing.TB, err error) {
	t.Helper()
	_ = wantError[E](t, err)
}

func push(t testing.TB, r *registry.Registry, name string, value byte) registry.PushResult {
	t.Helper()
	return must(r.Push(t.Context(), Request(t, name, value)))(t)
}

// must wraps a call that shall succeed: must(call(…))(t).
func must[T any](value T, err error) func(testing.TB) T {
	return func(t testing.TB) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return value
	}
}

func promote(t testing.TB, r *registry.Registry, ref, channel, expect string) (registry.Move, error) {
	t.Helper()
	return r.Promote(t.Context(), registry.PromoteRequest{
		Ref: must(registry.ParseRef(ref))(t), Channel: channel, Expect: expect, Reason: "because",
	})
}

func serving(t testing.TB, r *registry.Registry, ref string) string {
	t.Helper()
	v := must(r.Resolve(t.Context(), must(registry.ParseRef(ref))(t)))(t)
	return v.Name
}

func testEmpty(t *testing.T, b registry.Backend) {
	r := newRegistry(b)
	if models := must(r.Models(t.Context()))(t); len(models) != 0 {
		t.Errorf("models %v in an empty place", models)
	}
	if lines := must(b.Log(t.Context(), "nobody"))(t); len(lines) != 0 {
		t.Errorf("an unknown model has a log of %d records", len(lines))
	}
	_, err := r.Resolve(t.Context(), registry.Ref{Model: "nobody", Version: 1})
	refusedAs[*registry.NotFoundError](t, err)
	_, err = r.List(t.Context(), "nobody")
	refusedAs[*registry.NotFoundError](t, err)
	_, err = b.Open(t.Context(), "nobody", blobOf("x"))
	if !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("reading a blob that is not there: %v", err)
	}
}

func blobOf(content string) ocispec.Descriptor {
	return ocispec.Descriptor{MediaType: "text/plain", Digest: digests.FromString(content), Size: int64(len(content))}
}

func testBlobs(t *testing.T, b registry.Backend) {
	blob := blobOf("hello")
	for range 2 { // the second time it is there already
		if err := b.Put(t.Context(), "m", blob, strings.NewReader("hello")); err != nil {
			t.Fatal(err)
		}
	}
	content := must(b.Open(t.Context(), "m", blob))(t)
	if data := must(io.ReadAll(content))(t); string(data) != "hello" {
		t.Errorf("read %q", data)
	}
	if err := content.Close(); err != nil {
		t.Error(err)
	}
	other := blobOf("other")
	for _, wrong := range []string{"", "othe", "other!", "OTHER"} {
		if err := b.Put(t.Context(), "m", other, strings.NewReader(wrong)); err == nil {
			t.Errorf("%q was taken for %q", wrong, "other")
		}
		if _, err := b.Open(t.Context(), "m", other); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("after a refused %q there is something: %v", wrong, err)
		}
	}
	if models := must(b.Models(t.Context()))(t); len(models) != 0 {
		t.Errorf("blobs without a log make models %v", models)
	}
}

func testLog(t *testing.T, b registry.Backend) {
	var want [][]byte
	prev := ""
	for i := range 5 {
		record := fmt.Appendf(nil, `{"n":%d,"text":%q}`, i, strings.Repeat("x", i*30000))
		if err := b.Append(t.Context(), "team/m", int64(i)+1, prev, record); err != nil {
			t.Fatal(err)
		}
		for _, wrong := range []string{prev, digest.Bytes([]byte("x")), ""} { // the place is taken now
			err := b.Append(t.Context(), "team/m", int64(i)+1, wrong, []byte(`{"late":true}`))
			refusedAs[*registry.SlotTakenError](t, err)
		}
		want, prev = append(want, record), digest.Bytes(record)
	}
	got := must(b.Log(t.Context(), "team/m"))(t)
	if !slices.EqualFunc(got, want, bytes.Equal) {
		t.Errorf("the log has %d records, written were %d", len(got), len(want))
	}
	if models := must(b.Models(t.Context()))(t); !slices.Equal(models, []string{"team/m"}) {
		t.Errorf("models %v", models)
	}
}

func testSlots(t *testing.T, b registry.Backend) {
	const writers = 8
	prev := ""
	for seq := int64(1); seq <= 5; seq++ {
		var wins sync.Map
		var group sync.WaitGroup
		for w := range writers {
			group.Go(func() {
				record := fmt.Appendf(nil, `{"seq":%d,"writer":%d}`, seq, w)
				err := b.Append(context.Background(), "m", seq, prev, record)
				if taken := (*registry.SlotTakenError)(nil); err != nil && !errors.As(err, &taken) {
					t.Error(err)
				} else if err == nil {
					wins.Store(digest.Bytes(record), true)
				}
			})
		}
		group.Wait()
		var winners []string
		wins.Range(func(key, _ any) bool { winners = append(winners, key.(string)); return true })
		if len(winners) != 1 {
			t.Fatalf("%d of %d writers won record %d", len(winners), writers, seq)
		}
		prev = winners[0]
	}
}

func testPush(t *testing.T, b registry.Backend) {
	r := newRegistry(b)
	first := push(t, r, "summarizer", 1)
	if !first.New || first.Name != "summarizer@v1" || !digest.Valid(first.Digest) {
		t.Errorf("first push: %+v", first)
	}
	if !slices.Equal(first.Skipped, []string{"pytorch_model.bin"}) {
		t.Errorf("skipped %v", first.Skipped)
	}
	if again := push(t, r, "summarizer", 1); again.New || again.Digest != first.Digest || again.Version.Version != 1 {
		t.Errorf("the same model again: %+v", again)
	}
	if second := push(t, r, "summarizer", 2); !second.New || second.Name != "summarizer@v2" || second.Digest == first.Digest {
		t.Errorf("another model: %+v", second)
	}
	if list := must(r.List(t.Context(), "summarizer"))(t); len(list) != 2 {
		t.Errorf("%d versions are listed", len(list))
	}
	checkManifest(t, r, b)
}

// checkManifest looks at what other tools will read.
func checkManifest(t *testing.T, r *registry.Registry, b registry.Backend) {
	detail := must(r.Show(t.Context(), registry.Ref{Model: "summarizer", Version: 1}))(t)
	var paths []string
	for _, layer := range detail.Layers {
		paths = append(paths, layer.Path)
	}
	want := []string{"config.json", "generation_config.json", "model.safetensors", "sub/extra.json", "tokenizer_config.json"}
	if !slices.Equal(paths, want) {
		t.Errorf("layers %v, want %v", paths, want)
	}
	manifest := must(b.Open(t.Context(), "summarizer", ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest, Digest: digests.Digest(detail.Digest)}))(t)
	defer manifest.Close() //nolint:errcheck // read only
	m := must(registry.ParseModel(must(io.ReadAll(manifest))(t)))(t)
	config := must(b.Open(t.Context(), "summarizer", m.Config))(t)
	defer config.Close() //nolint:errcheck // read only
	if err := schema.ValidatorMediaTypeModelConfig.Validate(config); err != nil {
		t.Errorf("the configuration does not fit the ModelPack schema: %v", err)
	}
}

func testDeterminism(t *testing.T, a, b registry.Backend) {
	first := push(t, newRegistry(a), "m", 7)
	push(t, newRegistry(b), "m", 1) // another number there, at another time
	second := push(t, newRegistry(b), "m", 7)
	if first.Digest != second.Digest || !slices.Equal(first.Evidence, second.Evidence) {
		t.Errorf("the same input gives %s and %s", first.Digest, second.Digest)
	}
	named := push(t, newRegistry(b), "other", 7)
	if named.Digest == first.Digest || named.Tree != first.Tree {
		t.Errorf("under another name: digest %s, tree %s", named.Digest, named.Tree)
	}
}

func testPull(t *testing.T, b registry.Backend) {
	r := newRegistry(b)
	request := Request(t, "m", 3)
	request.Card = []byte("# A model\n")
	must(r.Push(t.Context(), request))(t)
	dir := filepath.Join(t.TempDir(), "new", "pulled")
	ref := registry.Ref{Model: "m", Version: 1}
	result := must(r.Pull(t.Context(), ref, dir))(t)
	if err := registry.CheckFolder(dir, result.Layers); err != nil || !result.Fresh {
		t.Errorf("pulled folder: %v", err)
	}
	if data := must(os.ReadFile(filepath.Join(dir, "README.md")))(t); string(data) != "# A model\n" {
		t.Errorf("the card is %q", data)
	}
	if must(registry.Tree(dir))(t) != must(registry.Tree(request.Dir))(t) {
		t.Errorf("the pulled model is another one")
	}
	if again := must(r.Pull(t.Context(), ref, dir))(t); again.Fresh {
		t.Errorf("a folder that holds the version was written again")
	}
	if err := os.WriteFile(filepath.Join(dir, "mine.txt"), []byte("x"), 0o644); err != nil {
		t.Fatal(err)
	}
	_, err := r.Pull(t.Context(), ref, dir)
	refusedAs[*registry.OutputError](t, err)
	_, err = r.Pull(t.Context(), ref, filepath.Join(dir, "mine.txt"))
	refusedAs[*registry.OutputError](t, err)
	empty := t.TempDir()
	must(r.Pull(t.Context(), ref, empty))(t)
}

func testEvidence(t *testing.T, b registry.Backend) {
	r := newRegistry(b)
	request := Request(t, "m", 1)
	request.Reports = nil
	request.Records = []registry.File{{Name: "run.json", Data: []byte(`{}`)}, {Name: "recipe.yaml", Data: []byte("version: 1\n")}}
	must(r.Push(t.Context(), request))(t)
	_, err := promote(t, r, "m@v1", "prod", "")
	refusedAs[*registry.GateError](t, err)

	request.Reports = Evidence("pass")
	if more := must(r.Push(t.Context(), request))(t); more.New || len(more.Evidence) != 3 {
		t.Errorf("evidence given later: %+v", more)
	}
	must(promote(t, r, "m@v1", "prod", ""))(t)
	files := must(r.Evidence(t.Context(), registry.Ref{Model: "m", Version: 1}))(t)
	names := []string{}
	for _, file := range files {
		names = append(names, file.Name)
	}
	slices.Sort(names)
	if !slices.Equal(names, []string{"eval.json", "gate.json", "recipe.yaml", "run.json"}) {
		t.Errorf("evidence %v", names)
	}
	if v := must(r.Verify(t.Context(), registry.Ref{Model: "m", Version: 1}))(t); len(v.Problems) > 0 || v.Blobs < 8 {
		t.Errorf("verified: %+v", v)
	}
	bad := Request(t, "m", 9)
	bad.Reports = []registry.File{{Name: "x.json", Data: []byte(`{"kind":"gate","kind":"eval"}`)}}
	if _, err := r.Push(t.Context(), bad); err == nil || !strings.Contains(err.Error(), "twice") {
		t.Errorf("a report with a doubled key: %v", err)
	}
}

func testPromote(t *testing.T, b registry.Backend) {
	r := newRegistry(b)
	one, two := push(t, r, "m", 1), push(t, r, "m", 2)
	if move := must(promote(t, r, "m@v1", "prod", "none"))(t); move.From != nil || move.To.Version != 1 {
		t.Errorf("first move: %+v", move)
	}
	if move := must(promote(t, r, "m@v1", "prod", ""))(t); move.Seq != 0 {
		t.Errorf("a move to what serves already was recorded: %+v", move)
	}
	for _, expect := range []string{"none", "v2", two.Digest} {
		_, err := promote(t, r, "m@v2", "prod", expect)
		if conflict := wantError[*registry.ConflictError](t, err); conflict.Serving != "v1" {
			t.Errorf("conflict: %v", conflict)
		}
	}
	if got := serving(t, r, "m@prod"); got != "m@v1" {
		t.Errorf("after conflicts %s serves", got)
	}
	if move := must(promote(t, r, "m@v2", "prod", one.Digest))(t); move.From.Version != 1 {
		t.Errorf("second move: %+v", move)
	}
	_, err := promote(t, r, "m@v1", "prod", "")
	refusedAs[*registry.OlderError](t, err)
	must(promote(t, r, "m@prod", "staging", ""))(t)
	if got := serving(t, r, "m@staging"); got != "m@v2" {
		t.Errorf("promoted from a channel: %s", got)
	}
	_, err = promote(t, r, "m@v2", "v2", "")
	refusedAs[*registry.RefError](t, err)
	_, err = promote(t, r, "m@v2", "prod", "v0")
	refusedAs[*registry.RequestError](t, err)
}

func testRefused(t *testing.T, b registry.Backend) {
	r := newRegistry(b)
	report := Report("eval.json", 40)
	sum := digest.Bytes(report.Data)
	other := registry.File{Name: "eval.json", Data: []byte(`{"schema":1,"kind":"evaluation","model_digest":"sha256:11"}`)}
	gate := func(text string, reports ...registry.File) []registry.File {
		return append(reports, registry.File{Name: "gate.json", Data: []byte(text)})
	}
	checked := `"checks":[{"metric":"bleu","verdict":"pass"}],"reports":[{"name":"eval.json","sha256":"` + sum + `"}]}`
	results := map[string][]registry.File{
		"nothing":      {report},
		"fail":         {report, Gate("fail", report)},
		"inconclusive": {report, Gate("inconclusive", report)},
		"silent":       gate(`{"kind":"gate",`+checked, report),
		"no":           gate(`{"kind":"gate","passed":false,`+checked, report),
		"two minds":    gate(`{"kind":"gate","passed":true,"checks":[{"metric":"bleu","verdict":"fail"}],"reports":[{"sha256":"`+sum+`"}]}`, report),
		"no checks":    gate(`{"kind":"gate","passed":true,"reports":[{"sha256":"`+sum+`"}]}`, report),
		"no reports":   {report, Gate("pass")},
		"not stored":   {Gate("pass", report)},
		"other model":  {other, Gate("pass", other)},
	}
	value := byte(0)
	for _, name := range slices.Sorted(maps.Keys(results)) {
		value++
		request := Request(t, "m", value)
		request.Reports = results[name]
		pushed := must(r.Push(t.Context(), request))(t)
		_, err := promote(t, r, pushed.Name, "prod", "")
		if refused := wantError[*registry.GateError](t, err); len(refused.Reasons) == 0 || refused.Seq == 0 {
			t.Errorf("%s: %+v", name, refused)
		}
	}
	_, err := r.Resolve(t.Context(), registry.Ref{Model: "m", Channel: "prod"})
	refusedAs[*registry.NotFoundError](t, err)
	history := must(r.History(t.Context(), "m", "prod", registry.Moment{}))(t)
	if len(history.Events) != len(results) || history.Events[0].Kind != registry.KindRefuse || history.Serving != nil {
		t.Errorf("%d refusals are recorded of %d", len(history.Events), len(results))
	}
}

func rollback(t testing.TB, r *registry.Registry, to, reason string) (registry.Move, error) {
	t.Helper()
	request := registry.RollbackRequest{Model: "m", Channel: "prod", Reason: reason}
	if to != "" {
		request.To = must(registry.ParseRef(to))(t)
	}
	return r.Rollback(t.Context(), request)
}

func testRollback(t *testing.T, b registry.Backend) {
	r := newRegistry(b)
	for value := range byte(4) {
		push(t, r, "m", value)
	}
	for _, ref := range []string{"m@v1", "m@v2", "m@v3"} {
		must(promote(t, r, ref, "prod", ""))(t)
	}
	_, err := rollback(t, r, "", " ")
	refusedAs[*registry.RequestError](t, err)
	_, err = rollback(t, r, "m@v4", "it never served")
	refusedAs[*registry.NoWayBackError](t, err)
	if move := must(rollback(t, r, "", "v3 is worse"))(t); move.To.Version != 2 || move.From.Version != 3 {
		t.Errorf("first way back: %+v", move)
	}
	if move := must(rollback(t, r, "", "so is v2"))(t); move.To.Version != 1 {
		t.Errorf("second way back: %+v", move)
	}
	_, err = rollback(t, r, "", "further")
	refusedAs[*registry.NoWayBackError](t, err)
	if move := must(rollback(t, r, "m@v3", "it was not the model"))(t); move.To.Version != 3 {
		t.Errorf("to a version by name: %+v", move)
	}
	if move := must(rollback(t, r, "", "it was"))(t); move.To.Version != 1 {
		t.Errorf("back from there: %+v", move)
	}
	must(promote(t, r, "m@v4", "prod", "v1"))(t)
	_, err = r.Rollback(t.Context(), registry.RollbackRequest{Model: "m", Channel: "prod", Reason: "late", Expect: "v3"})
	refusedAs[*registry.ConflictError](t, err)
	_, err = r.Rollback(t.Context(), registry.RollbackRequest{Model: "m", Channel: "prd", Reason: "typo"})
	if e := wantError[*registry.NotFoundError](t, err); len(e.Nearest) == 0 || e.Nearest[0].Channel != "prod" {
		t.Errorf("nearest to prd: %v", e.Nearest)
	}
}

func testOneWinner(t *testing.T, b registry.Backend) {
	r := newRegistry(b)
	const writers = 6
	for value := range byte(writers + 1) {
		push(t, r, "m", value)
	}
	must(promote(t, r, "m@v1", "prod", ""))(t)
	errs := make([]error, writers)
	var group sync.WaitGroup
	for w := range writers {
		group.Go(func() {
			_, errs[w] = newRegistry(b).Promote(context.Background(), registry.PromoteRequest{
				Ref: registry.Ref{Model: "m", Version: w + 2}, Channel: "prod", Expect: "v1",
			})
		})
	}
	group.Wait()
	wins := 0
	for w, err := range errs {
		if err == nil {
			wins++
			if got := serving(t, r, "m@prod"); got != fmt.Sprintf("m@v%d", w+2) {
				t.Errorf("v%d won, %s serves", w+2, got)
			}
			continue
		}
		refusedAs[*registry.ConflictError](t, err)
	}
	if wins != 1 {
		t.Errorf("%d of %d promotions that expected v1 won", wins, writers)
	}
}

func testPushesAtOnce(t *testing.T, b registry.Backend) {
	const writers = 8
	requests := make([]registry.PushRequest, writers)
	for w := range writers {
		requests[w] = Request(t, "m", byte(w/2)) // each model twice
	}
	results := make([]registry.PushResult, writers)
	var group sync.WaitGroup
	for w := range writers {
		group.Go(func() {
			var err error
			if results[w], err = newRegistry(b).Push(context.Background(), requests[w]); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	r := newRegistry(b)
	if list := must(r.List(t.Context(), "m"))(t); len(list) != writers/2 {
		t.Errorf("%d versions of %d models", len(list), writers/2)
	}
	for w := range writers / 2 {
		if a, b := results[2*w], results[2*w+1]; a.Name != b.Name || a.New == b.New {
			t.Errorf("one model pushed twice at once: %s new %v, %s new %v", a.Name, a.New, b.Name, b.New)
		}
	}
	if audit := must(r.Audit(t.Context(), "m", true))(t); len(audit.Problems) > 0 {
		t.Errorf("problems: %v", audit.Problems)
	}
}

func testAdapters(t *testing.T, b registry.Backend) {
	r := newRegistry(b)
	folder := WriteModel(t, t.TempDir(), 1)
	request := registry.PushRequest{Model: "lora", Dir: WriteAdapter(t, t.TempDir(), folder, 2), Reports: Evidence("pass")}
	_, err := r.Push(t.Context(), request)
	refusedAs[*registry.FolderError](t, err)

	request.Base = &registry.Base{Name: folder}
	loose := must(r.Push(t.Context(), request))(t)
	detail := must(r.Show(t.Context(), loose.Ref))(t)
	if tree := must(registry.Tree(folder))(t); detail.Kind != registry.KindAdapter || detail.Base.Tree != tree || detail.Base.Manifest != "" || len(loose.Warnings) == 0 {
		t.Errorf("adapter of a folder: %+v", detail)
	}

	base := push(t, r, "base", 1)
	bound := must(r.Push(t.Context(), request))(t)
	detail = must(r.Show(t.Context(), bound.Ref))(t)
	if detail.Base.Name != "base@v1" || detail.Base.Manifest != base.Digest || !bound.New {
		t.Errorf("adapter of a version: %+v", detail.Base)
	}
	request.Base = &registry.Base{Name: "base@v1"}
	if same := must(r.Push(t.Context(), request))(t); same.Digest != bound.Digest {
		t.Errorf("the base by name and by folder give %s and %s", same.Digest, bound.Digest)
	}
	request.Base = &registry.Base{Name: "base@v1", Tree: digest.Bytes([]byte("another"))}
	_, err = r.Push(t.Context(), request)
	refusedAs[*registry.BaseError](t, err)
	request.Base = &registry.Base{Name: "base@v2"}
	_, err = r.Push(t.Context(), request)
	refusedAs[*registry.NotFoundError](t, err)
}

func testCanaries(t *testing.T, b registry.Backend) {
	r := newRegistry(b)
	request := Request(t, "m", 1)
	request.Canaries = "data.json"
	_, err := r.Push(t.Context(), request)
	refusedAs[*registry.CanaryError](t, err)
	if models := must(r.Models(t.Context()))(t); len(models) != 0 {
		t.Errorf("a refused push left %v", models)
	}
	request.AllowCanaries = true
	if marked := must(r.Push(t.Context(), request))(t); !marked.Canaries {
		t.Errorf("the mark is lost: %+v", marked)
	}
	adapter := registry.PushRequest{
		Model: "lora", Dir: WriteAdapter(t, t.TempDir(), "", 2), Base: &registry.Base{Name: "m@v1"},
	}
	_, err = r.Push(t.Context(), adapter)
	refusedAs[*registry.CanaryError](t, err)
	adapter.AllowCanaries = true
	if marked := must(r.Push(t.Context(), adapter))(t); !marked.Canaries {
		t.Errorf("an adapter does not inherit its base's mark: %+v", marked)
	}
}

func testReferences(t *testing.T, b registry.Backend) {
	r := newRegistry(b)
	pushed := push(t, r, "team/summarizer", 1)
	must(promote(t, r, "team/summarizer@v1", "production", ""))(t)
	for _, ref := range []string{"team/summarizer@v1", "team/summarizer@production", "team/summarizer@" + pushed.Digest} {
		if got := serving(t, r, ref); got != pushed.Name {
			t.Errorf("%s is %s", ref, got)
		}
	}
	nearest := map[string]string{
		"team/summarizer@v3":     "team/summarizer@v1",
		"team/summarizer@prod":   "team/summarizer@production",
		"team/sumarizer@v1":      "team/summarizer",
		"team/summarizer@stable": "",
	}
	for ref, want := range nearest {
		_, err := r.Resolve(t.Context(), must(registry.ParseRef(ref))(t))
		e := wantError[*registry.NotFoundError](t, err)
		if got := fmt.Sprint(e.Nearest); want != "" && got != "["+want+"]" || want == "" && len(e.Nearest) > 0 {
			t.Errorf("nearest to %s: %v, want %s", ref, e.Nearest, want)
		}
	}
}

func testHistory(t *testing.T, b registry.Backend) {
	r := newRegistry(b)
	push(t, r, "m", 1)
	push(t, r, "m", 2)
	first := must(promote(t, r, "m@v1", "prod", ""))(t)
	second := must(promote(t, r, "m@v2", "prod", ""))(t)
	must(rollback(t, r, "", "worse"))(t)
	for seq, want := range map[int64]int{first.Seq: 1, second.Seq: 2, second.Seq + 1: 1} {
		history := must(r.History(t.Context(), "m", "prod", registry.Moment{Seq: seq}))(t)
		if history.Serving == nil || history.Serving.Version != want {
			t.Errorf("at record %d: %+v", seq, history.Serving)
		}
	}
	if whole := must(r.History(t.Context(), "m", "", registry.Moment{}))(t); len(whole.Events) != 5 || whole.Events[0].Kind != registry.KindRegister {
		t.Errorf("the model's history has %d events", len(whole.Events))
	}
	_, err := r.History(t.Context(), "m", "prod", registry.Moment{Seq: 99})
	refusedAs[*registry.RequestError](t, err)
	_, err = r.History(t.Context(), "m", "staging", registry.Moment{})
	refusedAs[*registry.NotFoundError](t, err)
}

// testClocks lets clocks go ten years wrong: nothing changes but what is printed, and what is asked for by time.
func testClocks(t *testing.T, b registry.Backend) {
	at := func(years int) *registry.Registry {
		return registry.New(b, registry.Options{Actor: "tester", Clock: func() time.Time { return time.Now().AddDate(years, 0, 0) }})
	}
	expect := "none"
	for i, years := range []int{0, 10, -10} {
		r := at(years)
		pushed := push(t, r, "m", byte(i))
		move := must(r.Promote(t.Context(), registry.PromoteRequest{Ref: pushed.Ref, Channel: "prod", Expect: expect}))(t)
		if got := serving(t, at(-years), "m@prod"); got != pushed.Name || move.Seq != int64(2*i+2) {
			t.Errorf("%+d years: %s serves, record %d", years, got, move.Seq)
		}
		_, err := at(-years).Promote(t.Context(), registry.PromoteRequest{Ref: pushed.Ref, Channel: "prod", Expect: "v9"})
		refusedAs[*registry.ConflictError](t, err)
		expect = fmt.Sprintf("v%d", pushed.Ref.Version)
	}
	if audit, err := at(10).Audit(t.Context(), "m", true); err != nil {
		t.Errorf("%v: %v", audit.Problems, err)
	}
	if move := must(rollback(t, at(-10), "", "worse"))(t); move.To.Version != 2 {
		t.Errorf("rolled back to v%d", move.To.Version)
	}
	var order []int64
	for _, e := range must(at(0).History(t.Context(), "m", "", registry.Moment{}))(t).Events {
		order = append(order, e.Seq)
	}
	if !slices.IsSorted(order) || len(order) != 7 {
		t.Errorf("the history is ordered %v", order)
	}
}
