package cli

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"os"
	"slices"
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
	return x.texts(ctx, t)
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
	t.closers = append(t.closers, data)
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
		x.add(verdictBad, "generation", fmt.Sprintf("--set generation.max_new_tokens=%d", longest),
			"outputs are cut after %d tokens, but a target of %s has %d", limit, split, longest)
	}
	return nil
}

// texts looks at what the rows say: the prefix, test rows in the training data, lines and metrics.
func (x *examination) texts(ctx context.Context, t *training) error {
	source := t.recipe.Data
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
	rows, prefixed, leaked, lines, doubled := 0, 0, 0, 0, 0
	seen := make(map[uint64]bool)
	prefix := strings.TrimSpace(source.Prefix)
	for e, err := range t.rows(datasets.Train) {
		if err != nil {
			break
		}
		if rows++; rows%1000 == 0 && ctx.Err() != nil {
			return ctx.Err()
		}
		if prefix != "" && strings.HasPrefix(e.Input, prefix) {
			prefixed++
		}
		if row := maphash.String(seed, e.Input+"\x00"+e.Target); seen[row] {
			doubled++
		} else {
			seen[row] = true
		}
		if held[maphash.String(seed, e.Input)] {
			leaked++
		}
		if strings.Contains(e.Target, "\n") {
			lines++
		}
	}
	if prefixed > 0 {
		x.add(verdictBad, "prefix", "--set data.prefix=", "%d of %d inputs begin with %q already; it would stand there twice", prefixed, rows, prefix)
	}
	x.basePrefix(t)
	if doubled > 0 {
		x.add(verdictNote, "duplicates", "t5ctl data audit shows which; take them out", "%d of %d training rows stand there before already", doubled, rows)
	}
	if leaked > 0 {
		x.add(verdictNote, "leakage", "take these rows out of the training data", "%d training inputs stand in the validation or test data too", leaked)
	}
	has := func(metric string) bool {
		return slices.ContainsFunc(t.recipe.Eval.Metrics, func(spec string) bool {
			m, err := eval.ParseMetric(spec)
			return err == nil && strings.HasPrefix(m.Spec, metric)
		})
	}
	if lines > 0 && has("rougeL") && !has("rougeLsum") {
		x.add(verdictNote, "metrics", "add rougeLsum to eval.metrics", "%d targets have several lines: papers report rougeLsum for these, which differs from rougeL", lines)
	}
	return nil
}

// basePrefix compares the prefix that the base was trained with.
func (x *examination) basePrefix(t *training) {
	if t.base == nil {
		return
	}
	if own := t.base.Metadata["t5ctl.prefix"]; own != "" && t.recipe.Data.Prefix == "" {
		x.add(verdictNote, "prefix", fmt.Sprintf("--set data.prefix=%q", own), "the base was trained with the prefix %q, the recipe has none", own)
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
