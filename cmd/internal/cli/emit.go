package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/t5ctl/t5ctl/cmd/internal/term"
	"github.com/t5ctl/t5ctl/internal/atomicfile"
	"github.com/t5ctl/t5ctl/internal/emit"
	"github.com/t5ctl/t5ctl/registry"
)

// emitOptions is what the command line of an emit command says, not yet checked.
type emitOptions struct {
	kind, ref, output string
	force             bool
	emit.Facts
}

func (o *emitOptions) bind(flags *pflag.FlagSet) {
	flags.StringVarP(&o.output, "output", "o", "", "`folder` for the files (default operations/<kind>)")
	flags.BoolVar(&o.force, "force", false, "replace files that are there")
	flags.Float64Var(&o.P95, "p95", 0.5, "objective: 95 % of the answers come within this many `seconds`, a bound of the histogram")
	flags.Float64Var(&o.Availability, "availability", 0.999, "objective: `share` of the requests that do not fail")
	flags.Float64Var(&o.Burn, "burn", 4, "alert where the error budget is spent `n` times too fast for 30 minutes")
	flags.IntVar(&o.Maximum, "max-replicas", 8, "the most `replicas` that the autoscaler starts")
	o.Image, o.Namespace, o.Replicas, o.Shards, o.Share, o.Input = "ghcr.io/t5ctl/t5ctl:latest", "t5ctl", 2, 4, 10, "input.jsonl"
	o.Recipe, o.Sweep = "recipe.yaml", "sweep.yaml"
	o.Facts.Registry = "oci://registry.example/models"
	if o.kind == "grafana" {
		flags.Float64Var(&o.Price, "price-per-hour", 0, "`price` of an hour of one server, to show what 1,000 requests cost")
	}
	if o.kind != "kubernetes" {
		return
	}
	flags.StringVar(&o.Image, "image", o.Image, "container `image` with t5ctl and a shell")
	flags.StringVar(&o.Namespace, "namespace", o.Namespace, "Kubernetes `namespace`")
	flags.IntVar(&o.Replicas, "replicas", o.Replicas, "the fewest `replicas`")
	flags.IntVar(&o.Shards, "shards", o.Shards, "divide the batch job and the sweep into `n` parts")
	flags.StringVar(&o.Input, "input", o.Input, "`file` of the batch job, in its volume")
	flags.StringVar(&o.Recipe, "recipe", o.Recipe, "`file` of the sweep's recipe, in the volume")
	flags.StringVar(&o.Sweep, "sweep", o.Sweep, "`file` of the sweep's settings, in the volume")
	flags.IntVar(&o.Share, "share", o.Share, "`percent` of the traffic that a canary gets first")
	flags.StringVar(&o.Facts.Registry, "pod-registry", o.Facts.Registry, "registry `URL` as pods reach it")
}

func newEmitCommand(app *App) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "emit",
		Short: "Write rules, dashboards, manifests and runbooks for a model that serves",
		Long: "Each writes files that are filled with the model's names, versions and history from the\n" +
			"registry. Files that are there are left alone, unless --force is given.",
	}
	for _, kind := range []struct{ name, short, long string }{
		{"prometheus", "Alerting rules for Prometheus, with unit tests", "Files: rules.yaml, rules_test.yaml. Latency, availability, burn rates of the error budget over\ntwo windows, drift (of t5ctl data drift --prometheus), personal data in outputs.\nCheck: promtool check rules rules.yaml; promtool test rules rules_test.yaml."},
		{"grafana", "Dashboards for Grafana: executive, on call, debug", "Files: executive.json, on-call.json, debug.json, over the metrics of t5ctl serve."},
		{"kubernetes", "Manifests for Kubernetes and Argo Rollouts", "Files: deployment.yaml (Deployment, Service, HorizontalPodAutoscaler, PodDisruptionBudget),\njob.yaml (an indexed Job that answers a file in parts), sweep.yaml (one that tries the settings of\na sweep, and a Job that ranks them), rollout.yaml (Rollout and\nAnalysisTemplate of Argo, judged by t5ctl canary judge)."},
		{"runbook", "Runbooks: rollback, latency, quality, privacy incident", "Files: rollback.md, latency.md, quality.md, privacy.md."},
		{"postmortem", "A postmortem to fill in, with the channel's history", "File: postmortem.md."},
	} {
		opts := emitOptions{kind: kind.name}
		sub := &cobra.Command{
			Use: kind.name + " <model>@<channel>", Short: kind.short, Long: kind.long,
			Example: "  t5ctl emit " + kind.name + " summarizer@production --output ops",
			Args:    cobra.ExactArgs(1),
			RunE: func(cmd *cobra.Command, args []string) error {
				opts.ref = args[0]
				return runEmit(cmd.Context(), app, opts)
			},
		}
		opts.bind(sub.Flags())
		cmd.AddCommand(sub)
	}
	return cmd
}

// emitRules maps the failures of emit to exit codes.
func emitRules() []rule {
	return []rule{
		as[*emit.FactsError](exitUsage, nil),
		as(exitConflict, saying[*occupiedError]("--force replaces it; another --output leaves it alone")),
	}
}

// occupiedError says that a file is there already.
type occupiedError struct{ path string }

func (e *occupiedError) Error() string { return e.path + " is there already" }

// emitResult is what emit shows.
type emitResult struct {
	Model   string   `json:"model"`
	Channel string   `json:"channel"`
	Version string   `json:"version"`
	Files   []string `json:"files"`
}

func runEmit(ctx context.Context, app *App, opts emitOptions) error {
	if err := opts.Check(); err != nil {
		return err
	}
	if err := app.serving(ctx, opts.ref, &opts.Facts); err != nil {
		return err
	}
	if opts.output == "" {
		opts.output = filepath.Join("operations", opts.kind)
	}
	files, err := emit.Write(opts.kind, opts.Facts)
	if err != nil {
		return err
	}
	result := emitResult{Model: opts.Model, Channel: opts.Channel, Version: opts.Version}
	for _, f := range files {
		path := filepath.Join(opts.output, f.Name)
		if _, err := os.Stat(path); err == nil && !opts.force {
			return &occupiedError{path}
		}
		result.Files = append(result.Files, path)
	}
	if err := os.MkdirAll(opts.output, 0o755); err != nil {
		return err
	}
	for i, f := range files {
		if err := atomicfile.WriteBytes(result.Files[i], f.Data); err != nil {
			return err
		}
	}
	return app.show(result, func(t *term.Terminal) {
		for _, path := range result.Files {
			t.Printf("%s\n", path)
		}
	})
}

// serving reads what the registry knows of a channel.
func (a *App) serving(ctx context.Context, text string, facts *emit.Facts) error {
	ref, err := registry.ParseRef(text)
	if err != nil {
		return err
	}
	if ref.Channel == "" {
		return usageErrorf("%s is one version; operations are about a channel, as %s@production", text, ref.Model)
	}
	r, err := a.registry()
	if err != nil {
		return err
	}
	version, err := r.Resolve(ctx, ref)
	if err != nil {
		return err
	}
	history, err := r.History(ctx, ref.Model, ref.Channel, registry.Moment{})
	if err != nil {
		return err
	}
	back, err := r.Rollback(ctx, registry.RollbackRequest{Model: ref.Model, Channel: ref.Channel, Reason: "to be written down", DryRun: true})
	if err == nil {
		facts.Previous = versionName(&back.To)
	} else if _, first := errors.AsType[*registry.NoWayBackError](err); !first {
		return fmt.Errorf("looking for the version before %s: %w", version.Name, err)
	}
	facts.Model, facts.Channel, facts.Version, facts.Digest = ref.Model, ref.Channel, "v"+strconv.Itoa(version.Version), version.Digest
	facts.Tool = versionOf().Version
	for _, e := range version.Evidence {
		facts.Evidence = append(facts.Evidence, e.Name)
	}
	for _, e := range history.Events {
		facts.History = append(facts.History, emit.Change{
			Seq: e.Seq, Time: e.Time, Kind: string(e.Kind), To: versionName(e.To), From: versionName(e.From), Who: term.Clean(e.Actor), Reason: term.Clean(e.Reason),
		})
	}
	return nil
}
