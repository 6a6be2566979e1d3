package cli

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/t5ctl/t5ctl/datasets"
	"github.com/t5ctl/t5ctl/eval/exposure"
	"github.com/t5ctl/t5ctl/internal/atomicfile"
	"github.com/t5ctl/t5ctl/internal/digest"
	"github.com/t5ctl/t5ctl/internal/runfolder"
)

// shadowModels are models trained like the one under test, each on a half of all rows that a hash
// draws. Of every row it is known which of them saw it.
type shadowModels struct {
	app  *App
	opts exposureMembershipOptions
	test exposure.Membership
}

// saw says whether a shadow model is trained on a row. Equal rows go together, and of each pair of
// models one sees the row and the other does not, so that no row lacks either kind.
func saw(shadow int, input, target string) bool {
	sum := sha256.Sum256(fmt.Appendf(nil, "shadow %d\x00%s\x00%s", shadow/2, input, target))
	return (sum[0]&1 == 1) == (shadow%2 == 0)
}

// statistics trains what is not trained yet, scores all rows under every shadow model, and sorts the
// scores by who saw what.
func (s *shadowModels) statistics(ctx context.Context) (*exposure.Shadows, error) {
	rows := append(append([]exposure.Row{}, s.test.Members...), s.test.Nonmembers...)
	out := &exposure.Shadows{In: make([][]float64, len(rows)), Out: make([][]float64, len(rows))}
	for i := range s.opts.shadows {
		phi, err := s.scores(ctx, i)
		if err != nil {
			return nil, fmt.Errorf("shadow model %d: %w", i+1, err)
		}
		for k, r := range rows {
			if saw(i, r.Input, r.Target) {
				out.In[k] = append(out.In[k], phi[k])
			} else {
				out.Out[k] = append(out.Out[k], phi[k])
			}
		}
	}
	return out, nil
}

// shadowScores is what is kept of a scored shadow model.
type shadowScores struct {
	Schema int       `json:"schema"`
	Rows   string    `json:"rows"` // fingerprint of the rows, and the prefix
	Phi    []float64 `json:"phi"`
}

// scores gives the statistic of every row under one shadow model, from its folder if it is there.
func (s *shadowModels) scores(ctx context.Context, i int) ([]float64, error) {
	dir := filepath.Join(s.opts.shadowDir, fmt.Sprintf("shadow-%02d", i+1))
	if err := s.train(ctx, i, dir); err != nil {
		return nil, err
	}
	key := digest.Bytes([]byte(s.test.Fingerprint + "\x00" + s.opts.prefix))
	path := filepath.Join(s.opts.shadowDir, fmt.Sprintf("shadow-%02d.scores.json", i+1))
	if data, err := os.ReadFile(path); err == nil {
		var kept shadowScores
		if json.Unmarshal(data, &kept) == nil && kept.Schema == 1 && kept.Rows == key && len(kept.Phi) == len(s.test.Members)+len(s.test.Nonmembers) {
			return kept.Phi, nil
		}
	}
	sides, err := s.opts.score(ctx, s.app, dir, "", s.test, fmt.Sprintf("scoring shadow %d", i+1))
	if err != nil {
		return nil, err
	}
	kept := shadowScores{Schema: 1, Rows: key}
	for _, t := range append(sides.Members, sides.Nonmembers...) {
		kept.Phi = append(kept.Phi, t.Phi())
	}
	data, err := json.Marshal(kept)
	if err != nil {
		return nil, err
	}
	return kept.Phi, atomicfile.WriteBytes(path, append(data, '\n'))
}

// train makes one shadow model: nothing where it is done, the rest where it was interrupted.
func (s *shadowModels) train(ctx context.Context, i int, dir string) error {
	_, record, err := runfolder.Open(dir)
	if err == nil && record.Outcome == runfolder.Done {
		return nil
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	data := filepath.Join(s.opts.shadowDir, fmt.Sprintf("shadow-%02d.jsonl", i+1))
	if err := s.half(ctx, i, data); err != nil {
		return err
	}
	absolute, err := filepath.Abs(data)
	if err != nil {
		return err
	}
	quoted, err := json.Marshal(absolute)
	if err != nil {
		return err
	}
	sets := append([]string{
		"data.train=" + string(quoted), fmt.Sprintf("train.seed=%d", i+1),
		"data.columns.input=input", "data.columns.target=target",
	}, s.opts.sets...)
	loaded, err := s.app.loadRecipe(s.opts.recipe, sets)
	if err != nil {
		return err
	}
	t := &training{app: s.app, recipe: loaded, opts: trainOptions{recipe: s.opts.recipe, sets: sets, output: dir, resume: record.Fingerprint != "", base: loaded.Base != ""}}
	_, err = t.execute(ctx)
	return err
}

// half writes the rows that a shadow model is trained on.
func (s *shadowModels) half(ctx context.Context, i int, path string) error {
	files, err := datasets.Paths(append(append([]string{}, s.opts.members...), s.opts.nonmembers...)).Files()
	if err != nil {
		return err
	}
	if err := os.MkdirAll(s.opts.shadowDir, 0o755); err != nil {
		return err
	}
	return atomicfile.Write(path, func(w io.Writer) error {
		out := bufio.NewWriter(w)
		enc := json.NewEncoder(out)
		enc.SetEscapeHTML(false)
		for e, err := range datasets.ReadFiles(files, datasets.ReadOptions{Columns: s.opts.columns}) {
			if err == nil {
				err = ctx.Err()
			}
			if err != nil {
				return err
			}
			if !saw(i, e.Input, e.Target) {
				continue
			}
			if err := enc.Encode(map[string]string{"input": e.Input, "target": e.Target}); err != nil {
				return err
			}
		}
		return out.Flush()
	})
}
