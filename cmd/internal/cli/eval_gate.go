package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"github.com/t5ctl/t5ctl/cmd/internal/term"
	"github.com/t5ctl/t5ctl/eval"
	"github.com/t5ctl/t5ctl/internal/atomicfile"
	"github.com/t5ctl/t5ctl/internal/digest"
	"github.com/t5ctl/t5ctl/recipes"
)

// evalGateOptions is what the command line of eval gate says, not yet checked.
type evalGateOptions struct {
	reports         []string
	gates, baseline string
	output          string
	junit, markdown string
	schema          bool
}

func (o *evalGateOptions) bind(flags *pflag.FlagSet) {
	flags.StringArrayVar(&o.reports, "report", nil, "`file` or folder of a report to judge (repeatable: an evaluation and an exposure test)")
	flags.StringVar(&o.gates, "gates", "", "`file` of gates")
	flags.StringVar(&o.baseline, "baseline", "", "`report` to compare with, or a version (name@vN, name@channel) that has one")
	flags.StringVar(&o.output, "output", "", "write the result as JSON to this `file`, to push with the model")
	flags.StringVar(&o.junit, "junit", "", "write JUnit XML to this `file`")
	flags.BoolVar(&o.schema, "schema", false, "write the JSON schema of a gates file, and do nothing else")
	flags.StringVar(&o.markdown, "markdown", "", "write a Markdown table to this `file`")
}

// gateRequest is a checked request to judge reports.
type gateRequest struct {
	gates    eval.Gates
	reports  []eval.Evidence
	baseline *eval.Evidence
}

func (o *evalGateOptions) request(ctx context.Context, app *App) (gateRequest, error) {
	var req gateRequest
	err := missing(map[string]bool{"report": len(o.reports) > 0, "gates": o.gates != ""}, "report", "gates")
	if err != nil {
		return req, err
	}
	data, err := os.ReadFile(o.gates)
	if err != nil {
		return req, err
	}
	if req.gates, err = eval.ParseGates(o.gates, data); err != nil {
		return req, err
	}
	for _, path := range o.reports {
		found, err := readEvidence(path)
		if err != nil {
			return req, err
		}
		req.reports = append(req.reports, found...)
	}
	if o.baseline != "" {
		if req.baseline, err = app.baseline(ctx, o.baseline, req.reports); err != nil {
			return req, err
		}
	}
	return req, nil
}

// baseline finds the report to compare with: a file, a folder, or what is stored with a version in the
// registry. Of several, the one on the same data is meant.
func (a *App) baseline(ctx context.Context, ref string, reports []eval.Evidence) (*eval.Evidence, error) {
	if _, err := os.Stat(ref); err == nil || !strings.Contains(ref, "@") {
		e, err := oneReport(ref)
		return &e, err
	}
	files, err := a.evidence(ctx, ref)
	if err != nil {
		return nil, err
	}
	var found []eval.Evidence
	for _, f := range files {
		report, err := eval.ParseReport(ref+"/"+f.Name, f.Data)
		if err != nil || report.Kind != eval.KindEvaluation {
			continue // records and gate results lie there too
		}
		e := eval.Evidence{Path: ref + "/" + f.Name, SHA256: digest.Bytes(f.Data), Report: report}
		same := func(other eval.Evidence) bool { return other.Report.Data.Fingerprint == report.Data.Fingerprint }
		if slices.ContainsFunc(reports, same) {
			return &e, nil
		}
		found = append(found, e)
	}
	if len(found) == 0 {
		return nil, fmt.Errorf("no evaluation is stored with %s: %w", ref, fs.ErrNotExist)
	}
	return &found[0], nil // other data, which the gates will say
}

func newEvalGateCommand(app *App) *cobra.Command {
	var opts evalGateOptions
	cmd := &cobra.Command{
		Use:   "gate --report FILE --gates FILE",
		Short: "Pass, or exit with code 3 and say what failed by how much",
		Long: "A metric that is missing, undefined, or measured on other data or otherwise than the\n" +
			"baseline's does not pass. Where GITHUB_STEP_SUMMARY is set, the table is appended to it; where\n" +
			"GITHUB_ACTIONS is true, what failed is said in annotations.",
		Example: "  t5ctl eval gate --report runs/g2p-1/reports/test --gates gates.yaml --baseline base/report.json",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return runEvalGate(cmd.Context(), app, opts)
		},
	}
	opts.bind(cmd.Flags())
	return cmd
}

func runEvalGate(ctx context.Context, app *App, opts evalGateOptions) error {
	if opts.schema {
		return showSchema(app, recipes.GatesSchema)
	}
	req, err := opts.request(ctx, app)
	if err != nil {
		return err
	}
	result := eval.Judge(req.gates, req.reports, req.baseline)
	if err := publishGates(result, opts, os.Getenv("GITHUB_STEP_SUMMARY")); err != nil {
		return err
	}
	if err := app.show(result, func(t *term.Terminal) { showGates(t, result) }); err != nil {
		return err
	}
	if os.Getenv("GITHUB_ACTIONS") == "true" {
		_, _ = io.WriteString(app.Term.Err(), result.Annotations()) // the exit code says it too
	}
	return result.Err()
}

// showSchema writes a JSON schema to the results.
func showSchema(app *App, of func() ([]byte, error)) error {
	text, err := of()
	if err != nil {
		return err
	}
	return app.show(json.RawMessage(text), func(t *term.Terminal) { t.Printf("%s\n", text) })
}

func showGates(t *term.Terminal, result eval.GateResult) {
	tab := term.Table{Header: eval.CheckColumns(), Right: []int{1}}
	for _, c := range result.Checks {
		tab.Add(c.Cells()...)
	}
	t.Table(tab)
}

// publishGates writes the forms that servers read.
func publishGates(result eval.GateResult, opts evalGateOptions, summary string) error {
	if opts.output != "" {
		body, err := json.MarshalIndent(result, "", "  ")
		if err != nil {
			return err
		}
		if err := atomicfile.WriteBytes(opts.output, append(body, '\n')); err != nil {
			return err
		}
	}
	if opts.junit != "" {
		body, err := result.JUnit()
		if err != nil {
			return err
		}
		if err := atomicfile.WriteBytes(opts.junit, body); err != nil {
			return err
		}
	}
	if opts.markdown != "" {
		if err := atomicfile.WriteBytes(opts.markdown, []byte(result.Markdown())); err != nil {
			return err
		}
	}
	if summary == "" {
		return nil
	}
	f, err := os.OpenFile(summary, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	if _, err := f.WriteString(result.Markdown() + "\n"); err != nil {
		_ = f.Close() // the first error says more
		return err
	}
	return f.Close()
}
