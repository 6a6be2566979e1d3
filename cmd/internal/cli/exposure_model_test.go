package cli_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"image/png"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/t5ctl/t5ctl/cmd/internal/cli"
	"github.com/t5ctl/t5ctl/eval"
	"github.com/t5ctl/t5ctl/eval/exposure"
)

// runs a command line in this process and gives what it wrote to stdout.
func t5ctl(t *testing.T, want int, args ...string) string {
	t.Helper()
	var out, errs bytes.Buffer
	code := cli.NewApp(strings.NewReader(""), &out, &errs).Run(context.Background(), append([]string{"--backend", "go"}, args...))
	if code != want {
		t.Fatalf("t5ctl %s: exit code %d, want %d\n%s", strings.Join(args, " "), code, want, errs.String())
	}
	return out.String()
}

func report(t *testing.T, text string) eval.Report {
	t.Helper()
	r, err := eval.ParseReport("stdout", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func score(t *testing.T, r eval.Report, metric, slice string) eval.Result {
	t.Helper()
	found := r.Find(metric, slice)
	if len(found) != 1 {
		t.Fatalf("%d results %s (%s)", len(found), metric, slice)
	}
	return found[0]
}

// reversals are rows of a small task: a word and the same word from behind.
func reversals(t *testing.T, path string, seed uint64, n int) {
	t.Helper()
	rng := rand.New(rand.NewPCG(seed, 0))
	var b bytes.Buffer
	for range n {
		w := make([]byte, 4+rng.IntN(4))
		for i := range w {
			w[i] = "abcdefgh"[rng.IntN(8)]
		}
		back := bytes.Clone(w)
		for i := range w {
			back[len(w)-1-i] = w[i]
		}
		fmt.Fprintf(&b, "{\"input\": %q, \"target\": %q}\n", w, back)
	}
	if err := os.WriteFile(path, b.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
}

const exposedRecipe = `version: 1
name: tiny
model: {vocab_size: 384, d_model: 48, d_kv: 12, d_ff: 96, num_layers: 1, num_heads: 4}
tokenizer: {mode: bytes}
data: {train: planted.jsonl, max_input: 24, max_target: 16, max_buckets: 1}
train: {method: full, steps: 100, batch: 16, seed: 1, optimizer: {learning_rate: 0.004}}
generation: {max_new_tokens: 12}
`

const adaptedRecipe = `version: 1
name: tune
base: base/model
data: {train: planted.jsonl, max_input: 24, max_target: 16, max_buckets: 1}
train: {method: lora, lora: {rank: 2, alpha: 4, targets: [q, v]}, steps: 60, batch: 16, seed: 1, optimizer: {learning_rate: 0.004}}
generation: {max_new_tokens: 12}
`

// A small T5, trained on planted data, remembers secrets the better the more often it saw them; those it
// never saw look untrained; an adapter remembers less than the whole model; and gates act on it.
func TestDoseResponse(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	t.Setenv("HOME", dir)
	t.Setenv("XDG_DATA_HOME", filepath.Join(dir, "data"))
	reversals(t, "train.jsonl", 1, 120)
	reversals(t, "test.jsonl", 2, 120)
	reversals(t, "before.jsonl", 3, 120)
	for name, text := range map[string]string{"tiny.yaml": exposedRecipe, "tune.yaml": adaptedRecipe,
		"gates.yaml":  "version: 1\ngates:\n  - {metric: exposure_mean, slice: repetitions=16, max: 4}\n",
		"gates2.yaml": "version: 1\ngates:\n  - {metric: membership_auc, max: 0.99}\n  - {metric: reproduced_excess, max: 50}\n"} {
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	t5ctl(t, 0, "exposure", "plant", "train.jsonl", "--output", "planted.jsonl", "--seed", "5", "--input", "pin @@@", "--target", "######",
		"--class", "#=digits", "--class", "@=lower", "--repetitions", "0,1,4,16", "--canaries", "6", "--references", "200")
	t5ctl(t, 0, "train", "tiny.yaml", "--output", "run")
	full := report(t, t5ctl(t, 0, "exposure", "run", "planted.jsonl", "--model", "run", "--extrapolate", "--plot", "dose.png", "--output", "reports", "--json"))
	var d exposure.Details
	if err := json.Unmarshal(full.Details, &d); err != nil {
		t.Fatal(err)
	}
	if d.Spearman == nil || *d.Spearman < 0.9 || score(t, full, "exposure_control_mean", "").Verdict != eval.VerdictOK {
		t.Errorf("dose and response: Spearman %v, control %+v", d.Spearman, score(t, full, "exposure_control_mean", ""))
	}
	if often := score(t, full, "exposure_mean", "repetitions=16").Score; often < 6 {
		t.Errorf("what was seen 16 times has an exposure of %v", often)
	}
	t5ctl(t, 3, "eval", "gate", "--report", "reports/exposure.json", "--gates", "gates.yaml")

	t5ctl(t, 0, "train", "tiny.yaml", "--output", "base", "--set", "data.train=before.jsonl")
	t5ctl(t, 0, "finetune", "tune.yaml", "--output", "tuned")
	t5ctl(t, 0, "finetune", "tune.yaml", "--output", "whole", "--set", "train.method=full")
	adapter := report(t, t5ctl(t, 0, "exposure", "run", "planted.jsonl", "--model", "tuned", "--json"))
	whole := report(t, t5ctl(t, 0, "exposure", "run", "planted.jsonl", "--model", "whole", "--json"))
	if a, w := score(t, adapter, "exposure_mean", "").Score, score(t, whole, "exposure_mean", "").Score; a > w {
		t.Errorf("the adapter remembers more, %v, than the whole model, %v", a, w)
	}
	extraction(t)
	shadows(t)
	t5ctl(t, 0, "eval", "gate", "--report", "reports", "--gates", "gates2.yaml")
	for _, name := range []string{"dose.png", "roc.png"} {
		f, err := os.Open(name)
		if err != nil {
			t.Fatal(err)
		}
		if picture, err := png.Decode(f); err != nil || picture.Bounds().Dx() < 400 {
			t.Errorf("%s: %v", name, err)
		}
		f.Close()
	}
	if marked, err := os.ReadFile("run/data.json"); err != nil || !strings.Contains(string(marked), "canaries") {
		t.Errorf("a model of planted data must be marked: %s, %v", marked, err)
	}
}

// extraction gets out what was seen often, and nothing that was not seen.
func extraction(t *testing.T) {
	t.Helper()
	r := report(t, t5ctl(t, 0, "exposure", "extract", "planted.jsonl", "--model", "run", "--guesses", "100", "--train", "planted.jsonl", "--heldout", "test.jsonl",
		"--limit", "60", "--output", "reports", "--json"))
	var x exposure.Extraction
	if err := json.Unmarshal(r.Details, &x); err != nil {
		t.Fatal(err)
	}
	for _, c := range x.Canaries {
		if c.Repetitions == 0 && (c.Greedy.Exact || c.Guess.Found) {
			t.Errorf("%s was never seen: %+v", c.ID, c)
		}
		if c.Greedy.Exact && (!c.Beams[1] || c.Forced != c.Tokens) {
			t.Errorf("greedy search found %s, but %d of %d tokens are the likeliest", c.ID, c.Forced, c.Tokens)
		}
	}
	if often := score(t, r, "extracted_search", "repetitions=16"); often.Score < 60 || often.Verdict != eval.VerdictOK {
		t.Errorf("guessing finds %+v", often)
	}
	if strings.Contains(string(r.Details), "\"target\"") {
		t.Error("the report names secrets")
	}
}

// shadows trains shadow models once, and judges membership by them.
func shadows(t *testing.T) {
	t.Helper()
	args := []string{"exposure", "membership", "--model", "tuned", "--members", "train.jsonl", "--nonmembers", "test.jsonl",
		"--shadows", "4", "--shadow-recipe", "tune.yaml", "--shadow-dir", "shadows", "--set", "train.steps=20", "--plot", "roc.png", "--output", "reports", "--json"}
	first := report(t, t5ctl(t, 0, append(args, "--force")...))
	for _, attack := range []string{"loss", "ratio", "min_k", "min_k_plus", "zlib", "lira_online", "lira_offline"} {
		if m := score(t, first, "membership_auc", "attack="+attack); m.CI == nil || m.CI[0] > m.Score {
			t.Errorf("%s: %+v", attack, m)
		}
	}
	before, err := os.Stat("shadows/shadow-04/run.json")
	if err != nil {
		t.Fatal(err)
	}
	again := report(t, t5ctl(t, 0, append(args, "--force")...))
	after, err := os.Stat("shadows/shadow-04/run.json")
	if err != nil || !after.ModTime().Equal(before.ModTime()) {
		t.Errorf("what was done must not be done again: %v", err)
	}
	if a, b := score(t, first, "membership_auc", ""), score(t, again, "membership_auc", ""); a.Score != b.Score {
		t.Errorf("%v, then %v", a.Score, b.Score)
	}
}
