package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strconv"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/t5ctl/t5ctl/cmd/internal/term"
	"github.com/t5ctl/t5ctl/eval"
	"github.com/t5ctl/t5ctl/internal/digest"
	"github.com/t5ctl/t5ctl/internal/hub"
	"github.com/t5ctl/t5ctl/registry"
)

// pushOptions is what the command line of push says, not yet checked.
type pushOptions struct {
	dir, name       string
	reports         []string
	gates, baseline string
	base, card      string
	output          string // for the hub
	allowCanaries   bool
	reason          string
	text            cardTextOptions
}

func (o *pushOptions) bind(flags *pflag.FlagSet) {
	flags.StringArrayVar(&o.reports, "report", nil, "`file` of a report to keep with the version, beside those in DIR/reports (repeatable)")
	flags.StringVar(&o.gates, "gates", "", "`file` of gates to judge the reports by; the result is kept as evidence for promotions")
	flags.StringVar(&o.baseline, "baseline", "", "`report` to compare with, for gates with max_drop")
	flags.StringVar(&o.base, "base", "", "`model` that an adapter belongs to, where DIR does not say: a folder or name@vN")
	flags.StringVar(&o.output, "output", "", "`folder` to write for the hub, where NAME is hf:owner/name")
	flags.StringVar(&o.card, "card", "", "`file` of the model card (default: README.md of a model folder, else made of the records)")
	flags.BoolVar(&o.allowCanaries, "allow-canaries", false, "push a model that was trained on planted canaries; the version stays marked")
	flags.StringVar(&o.reason, "reason", "", "why, for the history")
	o.text.bind(flags)
}

func newPushCommand(app *App) *cobra.Command {
	var opts pushOptions
	cmd := &cobra.Command{
		Use:   "push DIR NAME",
		Short: "Keep a model as the next version, with its card and evidence",
		Long: "DIR is the folder of a run, or one with a Hugging Face model or a PEFT adapter. The same\n" +
			"input gives the same digest; pushing it again adds what evidence is new and mends what is\n" +
			"damaged. With --gates the reports are judged, and the result is what promote asks for.\n" +
			"With hf:owner/name instead of a name, --output gets a folder as the Hugging Face hub keeps it.",
		Example: "  t5ctl push runs/summarizer-3 summarizer --gates gates.yaml --baseline base/report.json\n" +
			"  t5ctl push runs/summarizer-3 hf:me/summarizer --output upload",
		Args: cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			opts.dir, opts.name = args[0], args[1]
			if hub.IsRef(opts.name) {
				return runPushHub(app, opts)
			}
			return runPush(cmd.Context(), app, opts)
		},
	}
	opts.bind(cmd.Flags())
	return cmd
}

// request gathers what is to be pushed.
func (o *pushOptions) request() (registry.PushRequest, error) {
	var none registry.PushRequest
	if err := registry.CheckModel(o.name); err != nil {
		return none, err
	}
	source, err := o.source()
	if err != nil {
		return none, err
	}
	if o.gates != "" {
		result, err := o.judge(source)
		if err != nil {
			return none, err
		}
		if err := source.AddReport(result); err != nil {
			return none, err
		}
	}
	request := source.Request(o.name)
	request.AllowCanaries, request.Reason = o.allowCanaries, o.reason
	if request.Created, err = createdTime(source.Created); err != nil {
		return none, err
	}
	text, err := o.text.load(source)
	if err != nil {
		return none, err
	}
	request.About = aboutOf(source, text)
	if o.card != "" {
		request.Card, err = os.ReadFile(o.card)
		return request, err
	}
	if _, err := os.Stat(source.ModelDir + "/README.md"); err == nil && source.ModelDir == source.Dir && !o.text.given() {
		return request, nil // the folder's own card
	}
	request.Card, request.Pictures, err = renderCard(source, o.name, text)
	return request, err
}

// source looks through the folder and adds the reports that were named.
func (o *pushOptions) source() (registry.Source, error) {
	source, err := registry.OpenSource(o.dir)
	if err != nil {
		return source, err
	}
	for _, path := range o.reports {
		found, err := reportFiles(path)
		if err != nil {
			return source, err
		}
		for _, file := range found {
			report, err := registry.ReadReport(file)
			if err != nil {
				return source, err
			}
			if err := source.AddReport(report); err != nil {
				return source, err
			}
		}
	}
	if o.base != "" {
		source.Base = o.base
	}
	return source, nil
}

// judge holds the source's reports against the gates, as eval gate does. The reports of other
// models, such as the baseline's, are not judged.
func (o *pushOptions) judge(source registry.Source) (registry.File, error) {
	text, err := os.ReadFile(o.gates)
	if err != nil {
		return registry.File{}, err
	}
	gates, err := eval.ParseGates(o.gates, text)
	if err != nil {
		return registry.File{}, err
	}
	baseline, err := o.baselineReport()
	if err != nil {
		return registry.File{}, err
	}
	var reports []eval.Evidence
	for _, report := range source.Reports {
		sum := digest.Bytes(report.Data)
		if !isReportOf(report, source.Tree) || baseline != nil && sum == baseline.SHA256 {
			continue
		}
		parsed, err := eval.ParseReport(report.Name, report.Data)
		if err != nil {
			return registry.File{}, err
		}
		reports = append(reports, eval.Evidence{Path: report.Path, SHA256: sum, Report: parsed})
	}
	if len(reports) == 0 {
		return registry.File{}, usageErrorf("--gates %s: there is no report to judge; evaluate the model into %s/reports, or name one with --report", o.gates, o.dir)
	}
	data, err := json.MarshalIndent(eval.Judge(gates, reports, baseline), "", "  ")
	return registry.File{Name: "gate.json", Data: append(data, '\n')}, err
}

// baselineReport reads what --baseline names.
func (o *pushOptions) baselineReport() (*eval.Evidence, error) {
	if o.baseline == "" {
		return nil, nil
	}
	found, err := readEvidence(o.baseline)
	if err != nil {
		return nil, err
	}
	if len(found) != 1 {
		return nil, usageErrorf("--baseline %s holds %d reports: name one", o.baseline, len(found))
	}
	return &found[0], nil
}

// isReportOf says whether a report is an evaluation or exposure test of the model with these
// files; one that names no model is taken for one of it.
func isReportOf(report registry.File, tree string) bool {
	var head struct {
		Kind  string `json:"kind"`
		Model string `json:"model_digest"`
	}
	if json.Unmarshal(report.Data, &head) != nil {
		return false
	}
	return (head.Kind == eval.KindEvaluation || head.Kind == eval.KindExposure) && (head.Model == "" || head.Model == tree)
}

// createdTime is when the model was made: SOURCE_DATE_EPOCH, else as recorded.
func createdTime(recorded time.Time) (time.Time, error) {
	text := os.Getenv("SOURCE_DATE_EPOCH")
	if text == "" {
		return recorded, nil
	}
	seconds, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return time.Time{}, usageErrorf("SOURCE_DATE_EPOCH %q is not a number of seconds", text)
	}
	return time.Unix(seconds, 0), nil
}

func runPush(ctx context.Context, app *App, opts pushOptions) error {
	if opts.output != "" {
		return usageErrorf("--output goes with hf:owner/name; %s is a name in the registry", opts.name)
	}
	request, err := opts.request()
	if err != nil {
		return fmt.Errorf("pushing %s: %w", opts.dir, err)
	}
	r, err := app.registry()
	if err != nil {
		return err
	}
	result, err := r.Push(ctx, request)
	if err != nil {
		return fmt.Errorf("pushing %s: %w", opts.dir, err)
	}
	for _, warning := range result.Warnings {
		app.Term.Warnf("%s", warning)
	}
	if result.Canaries {
		app.Term.Notef("%s was trained on planted canaries; it is marked, and pushed because --allow-canaries says so", result.Name)
	}
	if len(result.Skipped) > 0 {
		app.Term.Notef("not part of a model, left out: %v", result.Skipped)
	}
	return app.show(result, func(t *term.Terminal) {
		state := "new"
		if !result.New {
			state = "already there"
		}
		t.Printf("%s %s (%s, evidence: %s)\n", result.Name, result.Digest, state, orDash(evidenceNames(result.Evidence)))
	})
}

// reportFiles names the reports that a path means: a file, or those of a folder.
func reportFiles(path string) ([]string, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.IsDir() {
		return []string{path}, nil
	}
	found, err := readEvidence(path)
	if err != nil {
		return nil, err
	}
	files := make([]string, 0, len(found))
	for _, e := range found {
		files = append(files, e.Path)
	}
	return files, nil
}
