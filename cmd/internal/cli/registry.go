package cli

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/t5ctl/t5ctl/cmd/internal/settings"
	"github.com/t5ctl/t5ctl/cmd/internal/term"
	"github.com/t5ctl/t5ctl/eval"
	"github.com/t5ctl/t5ctl/internal/digest"
	"github.com/t5ctl/t5ctl/registry"
	"github.com/t5ctl/t5ctl/registry/local"
	"github.com/t5ctl/t5ctl/registry/oci"
	"github.com/t5ctl/t5ctl/registry/seal"
	"github.com/t5ctl/t5ctl/registry/sign"
)

// store is a place that holds a registry.
type store interface {
	registry.Backend
	Init(ctx context.Context) error
	Root() string
}

// registryStore opens the place that --registry names.
func (a *App) registryStore() (store, error) {
	place := a.Settings.Registry
	scheme, _, found := strings.Cut(place, "://")
	switch {
	case !found:
		return local.Open(place), nil
	case scheme+"://" != oci.Scheme:
		return nil, usageErrorf("registry %s: a registry is a folder or oci://host/prefix", place)
	}
	return oci.Open(place, oci.Options{
		PlainHTTP: a.Settings.Plain, Journal: actor(), Memory: filepath.Join(settings.StateHome(), "t5ctl", "registries"),
	})
}

// registry opens the registry under the name of the user who runs the command.
func (a *App) registry() (*registry.Registry, error) {
	store, err := a.registryStore()
	if err != nil {
		return nil, err
	}
	options := registry.Options{Actor: actor(), Tool: "t5ctl " + versionOf().Version}
	if a.Settings.Key != "" {
		if options.Key, err = keys().Load(a.Settings.Key); err != nil {
			return nil, err
		}
	}
	if a.Settings.Policy != "" {
		if options.Policy, err = registry.ReadPolicy(a.Settings.Policy); err != nil {
			return nil, err
		}
	}
	if _, remote := store.(*oci.Store); remote {
		options.Parallel = 4
		options.Progress = func(done bool, _ string, layer registry.Layer) {
			if done && layer.Size > 1<<20 {
				a.Term.Notef("%s, %s", layer.Path, term.Size(layer.Size))
			}
		}
	}
	return registry.New(store, options), nil
}

// actor is who is written into the log.
func actor() string {
	name := "unknown"
	if u, err := user.Current(); err == nil {
		name = u.Username
	}
	if host, err := os.Hostname(); err == nil {
		name += "@" + host
	}
	return name
}

// registryRules maps the failures of the registry to exit codes.
func registryRules() []rule {
	return []rule{
		as(exitNotFound, func(e *registry.NotFoundError) string { return nearestRefs(e.Nearest) }),
		as(exitConflict, func(e *registry.ConflictError) string {
			return fmt.Sprintf("look at t5ctl history %s --channel %s, then decide again", e.Model, e.Channel)
		}),
		as(exitConflict, func(e *registry.OlderError) string {
			return fmt.Sprintf("to go back on purpose: t5ctl rollback %s --channel %s --reason WHY", e.Ref.Model, e.Channel)
		}),
		as(exitGate, func(e *registry.GateError) string {
			return fmt.Sprintf("the refusal is record %d of the log; t5ctl promote --evidence FILE gives the result of eval gate --output", e.Seq)
		}),
		as(exitGate, saying[*registry.CanaryError]("--allow-canaries pushes it all the same; the version stays marked")),
		as(exitGate, saying[*registry.CardError]("t5ctl card render makes a card of the reports")),
		as(exitCorrupt, func(e *registry.CorruptError) string {
			return fmt.Sprintf("t5ctl registry audit %s lists all that is damaged; pushing the same model again mends it", e.Model)
		}),
		as(exitCorrupt, saying[*digest.MismatchError]("the file has changed since its digest was recorded")),
		as(exitCorrupt, func(e *registry.BaseError) string {
			return "push the base model, or run the command where its folder is"
		}),
		as(exitNotFound, func(e *registry.NoWayBackError) string { return "served so far: " + refNames(e.Served) }),
		as[*registry.RefError](exitUsage, nil),
		as[*registry.RequestError](exitUsage, nil),
		as[*registry.FolderError](exitUsage, nil),
		as(exitConflict, saying[*registry.OutputError]("name another folder, or remove that one")),
		as[*registry.NotKeptError](exitUsage, nil),
		as(exitCorrupt, saying[*registry.PolicyError]("the policy says whose signatures count; t5ctl registry key list MODEL shows the keys")),
		as[*sign.KeyError](exitUsage, nil),
		as[*seal.KeyError](exitUsage, nil),
		explainSealed,
		as[*registry.ForkError](exitConflict, nil),
		as(exitNetwork, saying[*webhookError]("the channel has moved; do not repeat the command")),
		as[*oci.PlaceError](exitUsage, nil),
		as(exitConflict, func(e *oci.BlockedError) string {
			return "if that writer is dead: t5ctl registry repair " + e.Model + " --break-intents"
		}),
		as(exitNetwork, func(e *oci.ServerError) string {
			if e.Status == http.StatusUnauthorized || e.Status == http.StatusForbidden {
				return "credentials are Docker's: docker login " + e.Host
			}
			return ""
		}),
		as(exitNetwork, saying[*oci.UnreachableError]("the same command goes on where it was")),
		as(exitGate, saying[*lintError]("the findings are above")),
	}
}

// explainSealed is the rule for a bundle that is encrypted.
func explainSealed(err error) (exitCode, string, bool) {
	e, ok := errors.AsType[*seal.OpenError](err)
	if !ok || !e.Key {
		return exitCorrupt, "", ok
	}
	return exitUsage, "--identity names the key that it was encrypted to", true
}

// nearestRefs is the hint for something that the registry does not hold.
func nearestRefs(refs []registry.Ref) string {
	var names []string
	for _, ref := range refs[:min(2, len(refs))] {
		names = append(names, ref.String())
	}
	return didYouMean(names...)
}

func refNames(refs []registry.Ref) string {
	if len(refs) == 0 {
		return "nothing"
	}
	var names []string
	for _, ref := range refs {
		names = append(names, ref.String())
	}
	return strings.Join(names, ", ")
}

// when shows a time of the log.
func when(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05Z") }

// short shows the start of a digest.
func short(sum string) string {
	if digest.Valid(sum) {
		return sum[:len(digest.Prefix)+12]
	}
	return sum
}

// evidence is what is stored with the version that a reference names.
func (a *App) evidence(ctx context.Context, ref string) ([]registry.File, error) {
	parsed, err := registry.ParseRef(ref)
	if err != nil {
		return nil, err
	}
	r, err := a.registry()
	if err != nil {
		return nil, err
	}
	return r.Evidence(ctx, parsed)
}

// modelsOr is the models that a command names or, where it names none, all that there are.
func modelsOr(ctx context.Context, r *registry.Registry, named []string) ([]string, error) {
	if len(named) > 0 {
		return named, nil
	}
	return r.Models(ctx)
}

// newRegistryCommand groups what is not said every day.
func newRegistryCommand(app *App) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "registry",
		Short: "List, compare, check and look after the models of a registry",
		Long: "A registry is a folder (--registry DIR) with an OCI image layout for every model, so that\n" +
			"other tools can read it, or a place on an OCI server (--registry oci://HOST/PREFIX), to\n" +
			"which Docker's credentials are given. One that does not exist reads as empty.",
	}
	cmd.AddCommand(newRegistryInitCommand(app), newRegistryListCommand(app), newRegistryShowCommand(app),
		newRegistryDiffCommand(app), newRegistryExportCommand(app), newRegistryAuditCommand(app),
		newRegistryGCCommand(app), newRegistryRepairCommand(app), newRegistryKeyCommand(app), newRegistryBundleCommand(app))
	return cmd
}

func newRegistryInitCommand(app *App) *cobra.Command {
	return &cobra.Command{
		Use:   "init",
		Short: "Make the folder of the registry, or try the server",
		Long:  "Not needed before the first push, which does it too.",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			store, err := app.registryStore()
			if err != nil {
				return err
			}
			if err := store.Init(cmd.Context()); err != nil {
				return err
			}
			return app.show(map[string]string{"registry": store.Root()}, func(t *term.Terminal) { t.Println(store.Root()) })
		},
	}
}

// listOptions is what the command line of registry list says, not yet checked.
type listOptions struct {
	models   []string
	channel  string
	evidence []string
	columns  []string
}

// listColumns are the columns that registry list can show.
func listColumns() []string {
	return []string{"version", "channels", "registered", "evidence", "digest", "tree", "reason", "notes"}
}

// column is a version's cell in one of them.
func column(v registry.Version, name string) string {
	switch name {
	case "version":
		return v.Name
	case "channels":
		return strings.Join(v.Channels, " ")
	case "registered":
		return when(v.Registered)
	case "evidence":
		return evidenceNames(v.Evidence)
	case "digest":
		return short(v.Digest)
	case "tree":
		return short(v.Tree)
	case "reason":
		return term.Clean(v.Reason)
	}
	return noteOf(v)
}

// keeps says whether a version is to be listed.
func (o listOptions) keeps(v registry.Version) bool {
	for _, kind := range o.evidence {
		if !slices.ContainsFunc(v.Evidence, func(e registry.Evidence) bool { return e.Kind == kind }) {
			return false
		}
	}
	return o.channel == "" || slices.Contains(v.Channels, o.channel)
}

func newRegistryListCommand(app *App) *cobra.Command {
	var opts listOptions
	cmd := &cobra.Command{
		Use:     "list [MODEL]",
		Short:   "List the models, or the versions of one",
		Example: "  t5ctl registry list\n  t5ctl registry list summarizer --evidence gate --columns version,channels,reason",
		Args:    cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			opts.models = args
			return runRegistryList(cmd.Context(), app, opts)
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&opts.channel, "channel", "", "only versions that this `channel` serves")
	flags.StringArrayVar(&opts.evidence, "evidence", nil, "only versions with evidence of this `kind`, such as gate or signature (repeatable)")
	flags.StringSliceVar(&opts.columns, "columns", []string{"version", "channels", "registered", "evidence", "digest", "notes"},
		"`columns` to show, of "+strings.Join(listColumns(), ", "))
	return cmd
}

func runRegistryList(ctx context.Context, app *App, opts listOptions) error {
	for _, name := range opts.columns {
		if !slices.Contains(listColumns(), name) {
			return usageErrorf("--columns: %q is none of %s", name, strings.Join(listColumns(), ", "))
		}
	}
	models := opts.models
	r, err := app.registry()
	if err != nil {
		return err
	}
	if models, err = modelsOr(ctx, r, models); err != nil {
		return err
	}
	versions := []registry.Version{}
	for _, model := range models {
		list, err := r.List(ctx, model)
		if err != nil {
			return err
		}
		for _, v := range list {
			if opts.keeps(v) {
				versions = append(versions, v)
			}
		}
	}
	return app.show(map[string]any{"registry": app.Settings.Registry, "versions": versions}, func(t *term.Terminal) {
		if len(versions) == 0 {
			t.Notef("no such versions in %s", app.Settings.Registry)
			return
		}
		tab := term.Table{Header: opts.columns}
		for _, v := range versions {
			cells := make([]string, 0, len(opts.columns))
			for _, name := range opts.columns {
				cells = append(cells, column(v, name))
			}
			tab.Add(cells...)
		}
		t.Table(tab)
	})
}

func evidenceNames(list []registry.Evidence) string {
	var kinds []string
	for _, e := range list {
		if !slices.Contains(kinds, e.Kind) {
			kinds = append(kinds, e.Kind)
		}
	}
	slices.Sort(kinds)
	return strings.Join(kinds, " ")
}

func noteOf(v registry.Version) string {
	if v.Canaries {
		return "canaries"
	}
	return ""
}

func newRegistryShowCommand(app *App) *cobra.Command {
	return &cobra.Command{
		Use:     "show REF",
		Short:   "Show a version: its files, base, evidence and channels",
		Example: "  t5ctl registry show summarizer@production",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return runRegistryShow(cmd.Context(), app, args[0])
		},
	}
}

func runRegistryShow(ctx context.Context, app *App, text string) error {
	ref, err := registry.ParseRef(text)
	if err != nil {
		return err
	}
	r, err := app.registry()
	if err != nil {
		return err
	}
	d, err := r.Show(ctx, ref)
	if err != nil {
		return err
	}
	return app.show(d, func(t *term.Terminal) { showDetail(t, d) })
}

func showDetail(t *term.Terminal, d registry.Detail) {
	t.Printf("%s %s\n", t.Strong(d.Name), d.Digest)
	t.Printf("  kind        %s, %s in %d files\n", d.Kind, term.Size(d.Size), len(d.Layers))
	t.Printf("  registered  %s\n", when(d.Registered))
	if len(d.Channels) > 0 {
		t.Printf("  channels    %s\n", strings.Join(d.Channels, ", "))
	}
	if d.Base != nil {
		t.Printf("  base        %s (files %s)\n", d.Base.Name, short(d.Base.Tree))
	}
	if d.Canaries {
		t.Printf("  canaries    trained on planted canaries\n")
	}
	if d.Reason != "" {
		t.Printf("  reason      %s\n", term.Clean(d.Reason))
	}
	tab := term.Table{Header: []string{"file", "size", "digest"}, Right: []int{1}}
	for _, layer := range d.Layers {
		tab.Add(layer.Path, term.Size(layer.Size), short(layer.Digest))
	}
	for _, e := range d.Evidence {
		tab.Add("evidence: "+e.Name, "", short(e.Digest))
	}
	t.Table(tab)
}

func newRegistryDiffCommand(app *App) *cobra.Command {
	return &cobra.Command{
		Use:     "diff REF REF",
		Short:   "Show what differs between two versions",
		Example: "  t5ctl registry diff summarizer@v6 summarizer@v7",
		Args:    cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			return runRegistryDiff(cmd.Context(), app, args[0], args[1])
		},
	}
}

// metricChange is a metric that two versions were both measured by.
type metricChange struct {
	Metric string  `json:"metric"`
	Report string  `json:"report"`
	From   float64 `json:"from"`
	To     float64 `json:"to"`
}

func runRegistryDiff(ctx context.Context, app *App, from, to string) error {
	a, errA := registry.ParseRef(from)
	b, errB := registry.ParseRef(to)
	r, err := app.registry()
	if err := errors.Join(errA, errB, err); err != nil {
		return err
	}
	d, err := r.Diff(ctx, a, b)
	if err != nil {
		return err
	}
	metrics, err := metricChanges(ctx, r, a, b)
	if err != nil {
		return err
	}
	result := struct {
		registry.Difference
		Metrics []metricChange `json:"metrics"`
	}{d, metrics}
	return app.show(result, func(t *term.Terminal) {
		tab := term.Table{Header: []string{"what", d.From, d.To}}
		for _, f := range slices.Concat(d.Files, d.Notes) {
			tab.Add(f.Path, orDash(short(f.From)), orDash(short(f.To)))
		}
		if len(d.Base) == 2 {
			tab.Add("base", orDash(short(d.Base[0])), orDash(short(d.Base[1])))
		}
		for _, m := range metrics {
			tab.Add(m.Metric+" ("+m.Report+")", fmt.Sprintf("%.2f", m.From), fmt.Sprintf("%.2f", m.To))
		}
		if len(tab.Rows) == 0 {
			t.Println("no difference")
			return
		}
		t.Table(tab)
	})
}

// metricChanges compares the scores that both versions have on the same data.
func metricChanges(ctx context.Context, r *registry.Registry, from, to registry.Ref) ([]metricChange, error) {
	before, err := scoresOf(ctx, r, from)
	if err != nil {
		return nil, err
	}
	after, err := scoresOf(ctx, r, to)
	if err != nil {
		return nil, err
	}
	list := []metricChange{}
	for _, a := range after {
		for _, b := range before {
			if a.report == b.report && a.data == b.data && a.Name == b.Name && a.Slice == b.Slice && a.Signature == b.Signature {
				list = append(list, metricChange{Metric: a.title(), Report: a.report, From: float64(b.Score), To: float64(a.Score)})
			}
		}
	}
	return list, nil
}

// score is a metric of a stored report.
type score struct {
	eval.Result
	report, data string
}

func (s score) title() string {
	if s.Slice != "" {
		return s.Name + " (" + s.Slice + ")"
	}
	return s.Name
}

// scoresOf reads the scores that are stored with a version.
func scoresOf(ctx context.Context, r *registry.Registry, ref registry.Ref) ([]score, error) {
	files, err := r.Evidence(ctx, ref)
	if err != nil {
		return nil, err
	}
	var scores []score
	for _, file := range files {
		report, err := eval.ParseReport(file.Name, file.Data)
		if err != nil {
			continue // a record of the run, or a report of another kind
		}
		for _, result := range report.Metrics {
			if result.Score.Defined() {
				scores = append(scores, score{result, file.Name, report.Data.Fingerprint})
			}
		}
	}
	return scores, nil
}

func orDash(s string) string {
	if s == "" {
		return "–"
	}
	return s
}

func newRegistryExportCommand(app *App) *cobra.Command {
	var output string
	cmd := &cobra.Command{
		Use:     "export REF --output DIR",
		Short:   "Write a version with its evidence to a plain folder",
		Long:    "The folder holds model/, which is what pull writes, and evidence/ with reports and run records.",
		Example: "  t5ctl registry export summarizer@v7 --output summarizer-v7",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return runRegistryExport(cmd.Context(), app, args[0], output)
		},
	}
	cmd.Flags().StringVar(&output, "output", "", "`folder` to write, which must not exist")
	return cmd
}

func newRegistryAuditCommand(app *App) *cobra.Command {
	var shallow bool
	var checkpoints []string
	cmd := &cobra.Command{
		Use:   "audit [MODEL…]",
		Short: "Check everything: log, versions, evidence, tags, every stored byte",
		Long:  "Exit code 6 if anything is damaged or a tag was moved by another tool.",
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := checkCheckpoints(cmd.Context(), app, checkpoints); err != nil {
				return err
			}
			return runRegistryAudit(cmd.Context(), app, args, !shallow)
		},
	}
	cmd.Flags().BoolVar(&shallow, "shallow", false, "leave out blobs that no version names")
	cmd.Flags().StringArrayVar(&checkpoints, "checkpoint", nil, "`file` of registry audit export that the log must go on from (repeatable)")
	cmd.AddCommand(newAuditExportCommand(app))
	return cmd
}

func runRegistryAudit(ctx context.Context, app *App, models []string, deep bool) error {
	r, err := app.registry()
	if err != nil {
		return err
	}
	if models, err = modelsOr(ctx, r, models); err != nil {
		return err
	}
	audits := []registry.Audit{}
	var failed error
	for _, model := range models {
		audit, err := r.Audit(ctx, model, deep)
		if err != nil && len(audit.Problems) == 0 {
			return err
		}
		if failed == nil {
			failed = err
		}
		audits = append(audits, audit)
	}
	err = app.show(map[string]any{"audits": audits}, func(t *term.Terminal) {
		for _, a := range audits {
			t.Printf("%s: %d versions, %d records (head %s), %d blobs of %s hashed\n",
				a.Model, a.Versions, a.Head.Seq, short(a.Head.Digest), a.Blobs, term.Size(a.Bytes))
			for _, problem := range a.Problems {
				t.Printf("  %s %s\n", t.Bad("✗"), term.Clean(problem))
			}
		}
	})
	return errors.Join(err, failed)
}

func newRegistryGCCommand(app *App) *cobra.Command {
	var options registry.SweepOptions
	cmd := &cobra.Command{
		Use:   "gc [MODEL…]",
		Short: "Remove what no version names: leftovers of pushes that died",
		Long:  "Versions, their evidence and the log are never removed.",
		RunE: func(cmd *cobra.Command, args []string) error {
			return runRegistryGC(cmd.Context(), app, args, options)
		},
	}
	cmd.Flags().DurationVar(&options.Grace, "grace", 24*time.Hour, "keep what is younger than this `time`: a push may be about to name it")
	cmd.Flags().BoolVar(&options.DryRun, "dry-run", false, "only say what would be removed")
	return cmd
}

func runRegistryGC(ctx context.Context, app *App, models []string, options registry.SweepOptions) error {
	r, err := app.registry()
	if err != nil {
		return err
	}
	if models, err = modelsOr(ctx, r, models); err != nil {
		return err
	}
	swept := []registry.Swept{}
	var bytes int64
	for _, model := range models {
		list, err := r.Collect(ctx, model, options)
		if err != nil {
			return err
		}
		swept = append(swept, list...)
	}
	for _, s := range swept {
		bytes += s.Size
	}
	result := map[string]any{"dry_run": options.DryRun, "removed": swept, "bytes": bytes}
	return app.show(result, func(t *term.Terminal) {
		verb := "removed"
		if options.DryRun {
			verb = "would remove"
		}
		t.Printf("%s %s files, %s\n", verb, strconv.Itoa(len(swept)), term.Size(bytes))
	})
}

func newRegistryRepairCommand(app *App) *cobra.Command {
	var breakIntents bool
	cmd := &cobra.Command{
		Use:   "repair MODEL",
		Short: "Mend a damaged log and tags from what is left",
		Long:  "A damaged file of a version cannot be mended from the registry itself: push the same model again.",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if breakIntents {
				return runBreakIntents(cmd.Context(), app, args[0])
			}
			return runRegistryRepair(cmd.Context(), app, args[0])
		},
	}
	cmd.Flags().BoolVar(&breakIntents, "break-intents", false, "withdraw what a dead writer has announced on a server; never while one may be alive")
	return cmd
}

// runBreakIntents frees a log that a dead writer blocks.
func runBreakIntents(ctx context.Context, app *App, model string) error {
	place, err := app.registryStore()
	if err != nil {
		return err
	}
	remote, ok := place.(*oci.Store)
	if !ok {
		return usageErrorf("--break-intents is for registries on a server; in a folder a dead writer blocks nobody")
	}
	tags, err := remote.BreakIntents(ctx, model)
	if err != nil {
		return err
	}
	return app.show(map[string]any{"model": model, "withdrawn": append([]string{}, tags...)}, func(t *term.Terminal) {
		t.Printf("withdrew %d announcements %s\n", len(tags), strings.Join(tags, " "))
	})
}

func runRegistryRepair(ctx context.Context, app *App, model string) error {
	r, err := app.registry()
	if err != nil {
		return err
	}
	result, err := r.Repair(ctx, model)
	if err != nil {
		return err
	}
	err = app.show(result, func(t *term.Terminal) {
		if len(result.Done)+len(result.Lost) == 0 {
			t.Println("nothing is damaged")
		}
		for _, done := range result.Done {
			t.Printf("%s mended: %s\n", t.Good("✓"), term.Clean(done))
		}
		for _, lost := range result.Lost {
			t.Printf("%s still damaged: %s\n", t.Bad("✗"), term.Clean(lost))
		}
	})
	if err == nil && len(result.Lost) > 0 {
		err = &registry.CorruptError{Model: model, What: "part", Reason: fmt.Sprintf("%d things could not be mended", len(result.Lost))}
	}
	return err
}

// bindReason adds --reason and --ticket.
func bindReason(flags *pflag.FlagSet, reason, ticket *string) {
	flags.StringVar(reason, "reason", "", "why, for the history")
	flags.StringVar(ticket, "ticket", "", "`number` of the change request, for the history")
}
