package cli

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"math"
	"slices"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/t5ctl/t5ctl/cmd/internal/term"
	"github.com/t5ctl/t5ctl/eval"
)

// evalCompareOptions is what the command line of eval compare says, not yet checked.
type evalCompareOptions struct {
	a, b    string
	compare eval.CompareOptions
}

func (o *evalCompareOptions) bind(flags *pflag.FlagSet) {
	flags.IntVar(&o.compare.Samples, "bootstrap", 1000, "paired bootstrap `resamples`")
	flags.IntVar(&o.compare.Trials, "trials", 10000, "`trials` of approximate randomization")
	flags.Uint64Var(&o.compare.Seed, "seed", eval.DefaultBootstrap().Seed, "`seed` of both tests")
	flags.Float64Var(&o.compare.Margin, "margin", 0, "how many `points` worse B may be and count as no worse; 0 does not ask")
	flags.IntVar(&o.compare.Moved, "moved", 10, "name the `n` rows that moved most")
}

func (o *evalCompareOptions) request() (a, b eval.Evidence, err error) {
	switch c := o.compare; {
	case c.Samples < 1 || c.Trials < 1:
		return a, b, usageErrorf("--bootstrap and --trials must be positive")
	case c.Margin < 0 || c.Moved < 0:
		return a, b, usageErrorf("--margin and --moved must not be negative")
	}
	if a, err = oneReport(o.a); err != nil {
		return a, b, err
	}
	b, err = oneReport(o.b)
	return a, b, err
}

// oneReport reads the report in a file, or the only one in a folder.
func oneReport(path string) (eval.Evidence, error) {
	found, err := readEvidence(path)
	if err != nil {
		return eval.Evidence{}, err
	}
	if len(found) > 1 {
		return eval.Evidence{}, usageErrorf("%s holds %d reports: name one", path, len(found))
	}
	return found[0], nil
}

func newEvalCompareCommand(app *App) *cobra.Command {
	var opts evalCompareOptions
	cmd := &cobra.Command{
		Use:   "compare A B",
		Short: "Test whether two evaluations of the same rows differ",
		Long: "A and B are reports with their rows beside them. The p-values are sacreBLEU's; no text is\n" +
			"needed.",
		Example: "  t5ctl eval compare base/test.json runs/g2p-1/reports/test.json --margin 0.5",
		Args:    cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			opts.a, opts.b = args[0], args[1]
			return runEvalCompare(cmd.Context(), app, opts)
		},
	}
	opts.bind(cmd.Flags())
	return cmd
}

func runEvalCompare(ctx context.Context, app *App, opts evalCompareOptions) error {
	a, b, err := opts.request()
	if err != nil {
		return err
	}
	c, err := eval.Compare(ctx, a, b, opts.compare)
	if err != nil {
		return err
	}
	return app.show(c, func(t *term.Terminal) { showComparison(t, c) })
}

func showComparison(t *term.Terminal, c eval.Comparison) {
	tab := term.Table{Header: []string{"metric", "A", "B", "better by", "interval", "p (bootstrap)", "p (randomization)", "says"}, Right: []int{1, 2, 3, 5, 6}}
	for _, m := range c.Metrics {
		name, interval := m.Name, ""
		if m.Slice != "" {
			name += " (" + m.Slice + ")"
		}
		if m.CI != nil {
			interval = m.CI[0].Format() + " to " + m.CI[1].Format()
		}
		tab.Add(name, m.A.Format(), m.B.Format(), m.Delta.Format(), interval, pValue(m.BootstrapP), pValue(m.RandomP), verdictOf(m))
	}
	t.Table(tab)
	for _, key := range slices.Sorted(maps.Keys(c.Differ)) {
		t.Printf("setting differs: %s is %v in A and %v in B\n", key, c.Differ[key][0], c.Differ[key][1])
	}
	for _, m := range c.Metrics {
		if len(m.Moved) == 0 || m.Slice != "" {
			continue
		}
		t.Printf("\n%s: %d rows are better in B, %d worse, %d the same\n", m.Name, m.Better, m.Worse, m.Same)
		showSlices(t, c, m.Name)
		t.Printf("rows that moved most by %s:\n", m.Name)
		for _, r := range m.Moved {
			t.Printf("  %s: %s to %s\n", term.Clean(r.ID), r.A.Format(), r.B.Format())
		}
	}
}

// showSlices names the slices by how far a metric moved in them, the furthest first.
func showSlices(t *term.Terminal, c eval.Comparison, metric string) {
	var parts []eval.MetricDelta
	for _, m := range c.Metrics {
		if m.Name == metric && m.Slice != "" && m.Delta.Defined() {
			parts = append(parts, m)
		}
	}
	slices.SortStableFunc(parts, func(a, b eval.MetricDelta) int {
		return cmp.Compare(math.Abs(float64(b.Delta)), math.Abs(float64(a.Delta)))
	})
	for _, m := range parts {
		t.Printf("  slice %s: %s to %s\n", term.Clean(m.Slice), m.A.Format(), m.B.Format())
	}
}

func pValue(p *float64) string {
	if p == nil {
		return ""
	}
	return fmt.Sprintf("%.4f", *p)
}

// verdictOf puts a comparison in words.
func verdictOf(m eval.MetricDelta) string {
	switch {
	case m.Why != "":
		return "not compared: " + m.Why
	case m.Identical:
		return "identical"
	case m.NonInferior != nil && *m.NonInferior:
		return "no worse within the margin"
	case m.NonInferior != nil:
		return "worse than the margin allows, or not known"
	case m.BootstrapP != nil && *m.BootstrapP < 0.05 && m.Delta > 0:
		return "better"
	case m.BootstrapP != nil && *m.BootstrapP < 0.05:
		return "worse"
	}
	return "no difference shown"
}
