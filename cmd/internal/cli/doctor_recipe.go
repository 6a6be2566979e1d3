package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/maphash"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/t5ctl/t5ctl/datasets"
	"github.com/t5ctl/t5ctl/eval"
	"github.com/t5ctl/t5ctl/internal/runfolder"
)

// recipe looks at a recipe, its base and its data.
func (x *examination) recipe(ctx context.Context, app *App, name string, sets []string) (err error) {
	loaded, err := app.loadRecipe(name, sets)
	if err != nil {
		return err // told as by any other command, all problems at once
	}
	scratch, err := os.MkdirTemp("", "t5ctl-doctor-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(scratch)) }()
	t := &training{app: app, opts: trainOptions{base: loaded.Base != ""}, recipe: loaded, dir: runfolder.Dir(scratch)}
	defer t.close()
	if err := t.load(ctx); err != nil {
		if errors.Is(err, context.Canceled) {
			return err
		}
		_, hint := explain(err)
		x.add(verdictBad, "recipe", hint, "%v", err)
		return nil
	}
	x.add(verdictOK, "recipe", "", "%s: every key is known and every file is there", loaded.Path)
	x.add(verdictOK, "tokenizer", "", "%s, %d entries, the model has %d", t.tokenizer.Mode(), t.tokenizer.Size(), t.config.VocabSize)
	if err := x.base(t); err != nil {
		return err
	}
	for _, split := range datasets.Splits() {
		if err := x.split(ctx, t, split); err != nil {
			return err
		}
	}
	if err := x.texts(ctx, t); err != nil {
		return err
	}
	return x.peaks(ctx, t)
}

// split looks at the lengths of one split.
func (x *examination) split(ctx context.Context, t *training, split datasets.Split) error {
	check := "data " + string(split)
	data, err := t.recipe.Data.Open(ctx, split, datasets.OpenOptions{Tokenizer: t.tokenizer})
	switch {
	case errors.Is(err, context.Canceled):
		return err
	case err != nil:
		_, hint := explain(err)
		x.add(verdictBad, check, hint, "%v", err)
		return nil
	case data == nil:
		x.add(verdictNote, check, fmt.Sprintf("name a file under data.%s", split), "none")
		return nil
	}
	t.closers, t.splits = append(t.closers, data), append(t.splits, data)
	r := data.Record
	x.add(verdictOK, check, "", "%d rows", r.Rows)
	if len(data.Canaries) > 0 {
		x.add(verdictNote, check, "push with --allow-canaries, and say why", "canaries were planted in it; a model trained on it is marked")
	}
	cut := max(r.TruncatedInputs, r.TruncatedTargets)
	if share := float64(cut) / float64(max(1, r.Rows)); cut > 0 {
		v := verdictNote
		if share > 0.05 {
			v = verdictBad
		}
		x.add(v, check, fmt.Sprintf("--set data.max_input=%d --set data.max_target=%d", r.LongestInput, r.LongestTarget),
			"%d inputs and %d targets of %d rows are cut", r.TruncatedInputs, r.TruncatedTargets, r.Rows)
	}
	if share := float64(r.UnknownTokens) / float64(max(1, r.InputTokens+r.TargetTokens)); share > 0.001 {
		x.add(verdictNote, check, "train a vocabulary on this data (t5ctl tokenizer train), or take a byte-level model",
			"%.1f %% of the tokens are unknown to the vocabulary", 100*share)
	}
	longest := min(r.LongestTarget, t.recipe.Data.MaxTarget)
	if limit := t.recipe.Generation.MaxNewTokens; limit < longest {
		x.longest = max(x.longest, longest)
		x.add(verdictBad, "generation", fmt.Sprintf("--set generation.max_new_tokens=%d", longest),
			"outputs are cut after %d tokens, but a target of %s has %d", limit, split, longest)
	}
	return nil
}

// tally is what a pass over the training rows counts.
type tally struct {
	rows, prefixed, known, leaked, lines, doubled int
}

// texts looks at what the rows say: the prefix, test rows in the training data, lines and metrics.
func (x *examination) texts(ctx context.Context, t *training) error {
	if x.longest > 0 {
		x.mend("generation.max_new_tokens", strconv.Itoa(x.longest))
	}
	known := t.knownPrefixes()
	n, err := t.tally(ctx, known)
	if err != nil {
		return err
	}
	if n.prefixed > 0 {
		x.add(verdictBad, "prefix", "--set data.prefix=", "%d of %d inputs begin with %q already; it would stand there twice",
			n.prefixed, n.rows, strings.TrimSpace(t.recipe.Data.Prefix))
		if n.prefixed == n.rows {
			x.mend("data.prefix", `""`)
		}
	}
	x.basePrefix(t, n, known)
	if n.doubled > 0 {
		x.add(verdictNote, "duplicates", "t5ctl data audit shows which; take them out", "%d of %d training rows stand there before already", n.doubled, n.rows)
	}
	if n.leaked > 0 {
		x.add(verdictNote, "leakage", "take these rows out of the training data", "%d training inputs stand in the validation or test data too", n.leaked)
	}
	has := func(metric string) bool {
		return slices.ContainsFunc(t.recipe.Eval.Metrics, func(spec string) bool {
			m, err := eval.ParseMetric(spec)
			return err == nil && strings.HasPrefix(m.Spec, metric)
		})
	}
	if n.lines > 0 && has("rougeL") && !has("rougeLsum") {
		x.add(verdictNote, "metrics", "add rougeLsum to eval.metrics", "%d targets have several lines: papers report rougeLsum for these, which differs from rougeL", n.lines)
	}
	return nil
}

// tally counts over the training rows what they have in common with each other, the held-out rows, and prefixes.
func (t *training) tally(ctx context.Context, known []string) (n tally, err error) {
	seed := maphash.MakeSeed() // counts do not depend on it
	held := make(map[uint64]bool)
	for _, split := range []datasets.Split{datasets.Validation, datasets.Test} {
		for e, err := range t.rows(split) {
			if err != nil {
				break // told by split
			}
			held[maphash.String(seed, e.Input)] = true
		}
	}
	seen := make(map[uint64]bool)
	prefix := strings.TrimSpace(t.recipe.Data.Prefix)
	for e, err := range t.rows(datasets.Train) {
		if err != nil {
			break
		}
		if n.rows++; n.rows%1000 == 0 && ctx.Err() != nil {
			return n, ctx.Err()
		}
		begins := func(p string) bool { return strings.HasPrefix(e.Input, strings.TrimSpace(p)) }
		if prefix != "" && begins(prefix) {
			n.prefixed++
		}
		if slices.ContainsFunc(known, begins) {
			n.known++
		}
		if row := maphash.String(seed, e.Input+"\x00"+e.Target); seen[row] {
			n.doubled++
		} else {
			seen[row] = true
		}
		if held[maphash.String(seed, e.Input)] {
			n.leaked++
		}
		if strings.Contains(e.Target, "\n") {
			n.lines++
		}
	}
	return n, nil
}

// knownPrefixes are those that the base was trained with: the one that t5ctl has kept with the weights, or
// those of the tasks in config.json, as the first T5 models have them.
func (t *training) knownPrefixes() []string {
	if t.base == nil {
		return nil
	}
	if own := t.base.Metadata["t5ctl.prefix"]; own != "" {
		return []string{own}
	}
	var config struct {
		Tasks map[string]struct {
			Prefix string `json:"prefix"`
		} `json:"task_specific_params"`
	}
	if err := json.Unmarshal(t.base.JSON, &config); err != nil {
		return nil // whatever stands there in another form says nothing of prefixes
	}
	var all []string
	for _, name := range slices.Sorted(maps.Keys(config.Tasks)) {
		if p := config.Tasks[name].Prefix; p != "" {
			all = append(all, p)
		}
	}
	return all
}

// basePrefix compares the prefixes that the base knows with what its inputs will begin with.
func (x *examination) basePrefix(t *training, n tally, known []string) {
	prefix := t.recipe.Data.Prefix
	if len(known) == 0 || n.rows == 0 || n.known == n.rows || slices.Contains(known, prefix) {
		return
	}
	fix, trained := fmt.Sprintf("--set data.prefix=%q", known[0]), fmt.Sprintf("the prefix %q", known[0])
	if len(known) > 1 {
		fix += ", or the one that is meant"
		trained = fmt.Sprintf("the prefixes %q", known)
	}
	switch {
	case prefix != "":
		x.add(verdictNote, "prefix", fix, "the base was trained with %s, the recipe has %q", trained, prefix)
	case n.known == 0:
		x.add(verdictNote, "prefix", fix, "the base was trained with %s, the recipe has none, and no input begins with it", trained)
	default:
		x.add(verdictBad, "prefix", "put it before all rows or none, and "+fix, "the base was trained with %s; %d of %d inputs begin with it, the others do not", trained, n.known, n.rows)
	}
}

// rows reads the examples of a split.
func (t *training) rows(split datasets.Split) func(yield func(datasets.Example, error) bool) {
	source := t.recipe.Data
	files, err := source.Paths(split).Files()
	if err != nil {
		return func(yield func(datasets.Example, error) bool) { yield(datasets.Example{}, err) }
	}
	return datasets.ReadFiles(files, datasets.ReadOptions{Columns: source.Columns, OnBadRow: source.OnBadRow})
}
