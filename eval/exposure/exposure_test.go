package exposure_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/t5ctl/t5ctl/eval"
	"github.com/t5ctl/t5ctl/eval/exposure"
)

func settings() exposure.Settings {
	return exposure.Settings{
		Formats: []exposure.Format{
			{Name: "pin", Input: "pin of @@@@", Target: "######", Classes: map[string]exposure.Class{"#": {"digits"}, "@": {"lower"}}},
			{Name: "phones", Input: "q@@@@", Target: "1 2 1 2", Classes: map[string]exposure.Class{"1": {"phonemes"}, "2": {"phonemes"}, "@": {"lower"}}},
		},
		Repetitions: []int{0, 1, 4, 16}, Canaries: 5, References: 300, Seed: 7,
	}
}

// lines is a table of JSON lines.
type lines struct {
	rest, row []byte
	out       io.Writer
}

func (l *lines) Next() error {
	if len(l.rest) == 0 {
		return io.EOF
	}
	l.row, l.rest, _ = bytes.Cut(l.rest, []byte("\n"))
	return nil
}

func (l *lines) Copy() error { return l.write(l.row) }

func (l *lines) Insert(values map[string]string) error {
	row, err := json.Marshal(values)
	return errors.Join(err, l.write(row))
}

func (l *lines) write(row []byte) error {
	_, err := fmt.Fprintf(l.out, "%s\n", row)
	return err
}

func (l *lines) Close() error { return nil }

func linesOf(text []byte) func(io.Writer) (exposure.Table, error) {
	return func(out io.Writer) (exposure.Table, error) { return &lines{rest: text, out: out}, nil }
}

func plant(t *testing.T, rows int, o exposure.PlantOptions) (exposure.Manifest, []map[string]any) {
	t.Helper()
	var source bytes.Buffer
	for i := range rows {
		fmt.Fprintf(&source, "{\"word\":\"w%d\",\"phones\":\"p%d\",\"extra\":[%d]}\n", i, i, i)
	}
	open := linesOf(source.Bytes())
	var out bytes.Buffer
	o.InputColumn, o.TargetColumn, o.IDColumn = "word", "phones", "id"
	m, err := exposure.Plant(context.Background(), open, &out, o)
	if err != nil {
		t.Fatal(err)
	}
	var planted []map[string]any
	for line := range bytes.Lines(out.Bytes()) {
		var row map[string]any
		if err := json.Unmarshal(line, &row); err != nil {
			t.Fatal(err)
		}
		planted = append(planted, row)
	}
	return m, planted
}

func TestPlant(t *testing.T) {
	m, rows := plant(t, 1000, exposure.PlantOptions{Settings: settings()})
	if want := 1000 + 2*5*(1+4+16); len(rows) != want || m.Data.Rows != want || m.Source.Rows != 1000 {
		t.Fatalf("%d rows, manifest %+v; want %d", len(rows), m.Data, want)
	}
	secrets := map[string]bool{}
	for _, c := range m.Canaries {
		if secrets[c.Target] || len(c.Positions) != c.Repetitions {
			t.Errorf("canary %+v", c)
		}
		secrets[c.Target] = true
		for _, p := range c.Positions {
			if rows[p]["word"] != c.Input || rows[p]["phones"] != c.Target || rows[p]["id"] != c.ID {
				t.Errorf("row %d is %v; want %+v", p, rows[p], c)
			}
		}
	}
	kept := slices.DeleteFunc(slices.Clone(rows), func(r map[string]any) bool { return r["id"] != nil })
	for i, r := range kept {
		if r["word"] != fmt.Sprintf("w%d", i) || r["extra"] == nil {
			t.Fatalf("row %d of the source became %v", i, r)
		}
	}
	again, _ := plant(t, 1000, exposure.PlantOptions{Settings: settings()})
	if a, b := encode(t, m), encode(t, again); a != b {
		t.Error("the same seed must plant the same")
	}
}

func encode(t *testing.T, m exposure.Manifest) string {
	t.Helper()
	var b bytes.Buffer
	if err := m.Encode(&b); err != nil {
		t.Fatal(err)
	}
	back, err := exposure.ParseManifest("m", b.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	if back.Fingerprint() != m.Fingerprint() {
		t.Error("the manifest does not read back")
	}
	return b.String()
}

// Draws without replacement must be even: over many seeds, each of few secrets is as likely first.
func TestDrawIsEven(t *testing.T) {
	counts := map[string]int{}
	const seeds = 6000
	for seed := range uint64(seeds) {
		m, err := exposure.Draw(exposure.PlantOptions{Settings: exposure.Settings{
			Formats:     []exposure.Format{{Name: "d", Input: "x", Target: "#", Classes: map[string]exposure.Class{"#": {"a", "b", "c", "d", "e", "f"}}}},
			Repetitions: []int{0}, Canaries: 2, References: 3, Seed: seed}})
		if err != nil {
			t.Fatal(err)
		}
		counts[m.Canaries[1].Target]++
	}
	for v, n := range counts {
		if math.Abs(float64(n)-seeds/6) > 5*math.Sqrt(seeds/6*5/6) {
			t.Errorf("%q was drawn %d times of %d", v, n, seeds)
		}
	}
}

func TestEqualTokens(t *testing.T) {
	count := func(s string) int { return len(s) } // phonemes have one or two letters
	m, _ := plant(t, 50, exposure.PlantOptions{Settings: settings(), TokenCount: count})
	for _, c := range m.Canaries {
		if c.Format == "phones" && len(c.Target) != m.Lengths[1] {
			t.Errorf("%q has not %d tokens", c.Target, m.Lengths[1])
		}
	}
	if _, err := exposure.Run(context.Background(), scorer{m: m}, m, exposure.Options{}); err == nil {
		t.Error("lengths were equalized by a tokenizer that is not given")
	}
	if _, err := exposure.Run(context.Background(), scorer{m: m}, m, exposure.Options{TokenCount: count}); err != nil {
		t.Error(err)
	}
}

// scorer is a model whose memory of a secret is a bonus in bits per doubling of its repetitions.
type scorer struct {
	m      exposure.Manifest
	bonus  float64
	leak   bool // knows secrets that were never planted
	broken float64
}

func (s scorer) LogProbs(_ context.Context, source string, targets []string) ([]float64, error) {
	out := make([]float64, len(targets))
	for i, t := range targets {
		h := fnv.New64a()
		_, _ = io.WriteString(h, source+"\x00"+t)
		x := h.Sum64()
		bits := 30 + 6*math.Sqrt(-2*math.Log((float64(x>>40)+1)/(1<<24+1)))*math.Cos(2*math.Pi*float64(x&0xffffff)/(1<<24))
		for _, c := range s.m.Canaries {
			if c.Target == t && strings.HasSuffix(source, c.Input) {
				bits -= s.bonus * math.Log2(1+float64(c.Repetitions))
				if s.leak && c.Repetitions == 0 {
					bits = 1
				}
			}
		}
		out[i] = -math.Max(bits, 0.01)*math.Ln2 + s.broken
	}
	return out, nil
}

func metric(t *testing.T, r eval.Report, name, slice string) eval.Result {
	t.Helper()
	found := r.Find(name, slice)
	if len(found) != 1 {
		t.Fatalf("%d results %s (%s)", len(found), name, slice)
	}
	return found[0]
}

func run(t *testing.T, s scorer, o exposure.Options) eval.Report {
	t.Helper()
	m, err := exposure.Draw(exposure.PlantOptions{Settings: settings()})
	if err != nil {
		t.Fatal(err)
	}
	for i := range m.Canaries {
		m.Canaries[i].Positions = make([]int, m.Canaries[i].Repetitions)
	}
	s.m = m
	r, err := exposure.Run(context.Background(), s, m, o)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestRun(t *testing.T) {
	r := run(t, scorer{bonus: 8}, exposure.Options{Prefix: "say: "})
	control, once, often := metric(t, r, "exposure_control_mean", ""), metric(t, r, "exposure_mean", "repetitions=1"), metric(t, r, "exposure_mean", "repetitions=16")
	if control.Score > 3 || once.Score < control.Score || often.Score < 8 || control.Verdict != eval.VerdictOK {
		t.Errorf("control %+v, once %+v, often %+v", control, once, often)
	}
	if c := metric(t, r, "exposure_capped_share", "repetitions=16"); c.Score < 90 || c.CI == nil {
		t.Errorf("share at the cap: %+v", c)
	}
	if m := metric(t, r, "exposure_max", ""); m.Score != eval.Number(math.Log2(300)) || m.CI[1].Defined() {
		t.Errorf("highest exposure: %+v", m)
	}
	if s := metric(t, r, "exposure_slope", ""); s.Score <= 0 {
		t.Errorf("slope: %+v", s)
	}
	var d exposure.Details
	if err := json.Unmarshal(r.Details, &d); err != nil || len(d.Canaries) != 40 || *d.Spearman < 0.9 {
		t.Errorf("details: %v, %+v", err, d)
	}
	if text := string(r.Details); strings.Contains(text, "phones\":\"") || strings.Contains(text, "target") {
		t.Error("the report names secrets")
	}
	if !strings.Contains(string(r.Details), "≥8.23") {
		t.Error("a capped exposure must be shown as a lower bound")
	}
	b, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := eval.ParseReport("r", b); err != nil {
		t.Errorf("the report does not read back: %v", err)
	}
}

// A model that knows secrets which were never planted says nothing about memorization, and no gate
// passes on it.
func TestVoid(t *testing.T) {
	limit := 100.0
	gates := eval.Gates{Version: 1, Gates: []eval.Gate{{Metric: "exposure_mean", Max: &limit}}}
	for name, s := range map[string]scorer{"leak": {leak: true}} {
		r := run(t, s, exposure.Options{})
		if m := metric(t, r, "exposure_mean", ""); m.Verdict != eval.VerdictVoid {
			t.Errorf("%s: %+v", name, m)
		}
		if got := eval.Judge(gates, []eval.Evidence{{Path: "r", Report: r}}, nil); got.Passed {
			t.Errorf("%s: the gate passed: %+v", name, got)
		}
	}
	if got := eval.Judge(gates, []eval.Evidence{{Path: "r", Report: run(t, scorer{}, exposure.Options{})}}, nil); !got.Passed {
		t.Errorf("a clean model must pass: %+v", got)
	}
}

func TestRefuses(t *testing.T) {
	ctx := context.Background()
	m, err := exposure.Draw(exposure.PlantOptions{Settings: settings()})
	if err != nil {
		t.Fatal(err)
	}
	other := m
	other.Canaries = slices.Clone(m.Canaries)
	other.Canaries[3].Target = "000000"
	var manifest *exposure.ManifestError
	if _, err := exposure.Run(ctx, scorer{m: m}, other, exposure.Options{}); !errors.As(err, &manifest) {
		t.Errorf("a secret that the seed does not give: %v", err)
	}
	if _, err := exposure.Run(ctx, scorer{m: m, broken: math.NaN()}, m, exposure.Options{}); err == nil {
		t.Error("a probability that is not a number must be refused")
	}
	var format *exposure.FormatError
	for name, f := range map[string]exposure.Format{
		"no name":         {Target: "#", Classes: map[string]exposure.Class{"#": {"digits"}}},
		"no secret":       {Name: "f", Target: "x"},
		"too small":       {Name: "f", Target: "#", Classes: map[string]exposure.Class{"#": {"a", "b"}}},
		"unused class":    {Name: "f", Target: "#", Classes: map[string]exposure.Class{"#": {"digits"}, "@": {"digits"}}},
		"a value twice":   {Name: "f", Target: "####", Classes: map[string]exposure.Class{"#": {"aab"}}},
		"a long key":      {Name: "f", Target: "####", Classes: map[string]exposure.Class{"##": {"digits"}}},
		"inputs too few":  {Name: "f", Input: "@", Target: "######", Classes: map[string]exposure.Class{"#": {"digits"}, "@": {"a", "b"}}},
		"class too small": {Name: "f", Target: "####", Classes: map[string]exposure.Class{"#": {"a"}}},
	} {
		if _, err := exposure.Draw(exposure.PlantOptions{Settings: exposure.Settings{Formats: []exposure.Format{f}}}); !errors.As(err, &format) {
			t.Errorf("%s: %v", name, err)
		}
	}
	var none *exposure.NoRowsError
	if _, err := exposure.Plant(ctx, linesOf(nil), io.Discard, exposure.PlantOptions{Settings: settings()}); !errors.As(err, &none) {
		t.Errorf("no rows: %v", err)
	}
}

func FuzzParseManifest(f *testing.F) {
	f.Add([]byte(`{"schema":1,"kind":"canaries","canaries":[{"positions":[]}]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		if m, err := exposure.ParseManifest("m", data); err == nil {
			m.Fingerprint()
		}
	})
}

// A secret far below its alternatives has an exposure beyond what their number can show; where the
// alternatives do not follow the distribution, there is none.
func TestExtrapolate(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	fits, odd := make([]float64, 400), make([]float64, 400)
	for i := range fits {
		fits[i] = 50 + 4*rng.NormFloat64()
		odd[i] = 50 + 20*float64(i%2) + rng.Float64()
	}
	if e := exposure.Extrapolate(fits, 50-4*8); !e.Holds || e.Exposure < 35 || e.Exposure > 80 {
		t.Errorf("eight deviations below: %+v", e)
	}
	if e := exposure.Extrapolate(odd, 10); e.Holds || e.Note == "" {
		t.Errorf("two heaps: %+v", e)
	}
	if e := exposure.Extrapolate(fits[:100], 10); e.Holds {
		t.Errorf("too few: %+v", e)
	}
	if e := exposure.Extrapolate(make([]float64, 300), 0); e.Holds {
		t.Errorf("all alike: %+v", e)
	}
}
