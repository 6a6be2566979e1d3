package cli

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/t5ctl/t5ctl/cmd/internal/term"
	"github.com/t5ctl/t5ctl/eval/golden"
	"github.com/t5ctl/t5ctl/registry"
)

// promoteOptions is what the command line of promote says, not yet checked.
type promoteOptions struct {
	ref, channel, expect, reason, ticket string
	evidence                             []string
	dryRun, approve                      bool
	share                                int
	hook                                 webhookOptions
}

func (o *promoteOptions) bind(flags *pflag.FlagSet) {
	flags.StringVar(&o.channel, "to", "", "`channel` that shall serve the version")
	flags.StringVar(&o.expect, "expect", "", "`version` that the channel must serve now: v6, sha256:…, or none")
	flags.StringArrayVar(&o.evidence, "evidence", nil, "`file` of a report or gate result to bind to the version first (repeatable)")
	flags.BoolVar(&o.dryRun, "dry-run", false, "only say what would happen; nothing is written")
	flags.IntVar(&o.share, "share", 0, "record that the version is meant for this `percent` of the traffic, as a canary")
	flags.BoolVar(&o.approve, "approve", false, "only agree, as the second person; another makes the promotion")
	bindReason(flags, &o.reason, &o.ticket)
	o.hook.bind(flags)
}

func (o *promoteOptions) request() (registry.PromoteRequest, error) {
	if o.channel == "" {
		return registry.PromoteRequest{}, usageErrorf("--to is missing")
	}
	if o.dryRun && len(o.evidence) > 0 {
		return registry.PromoteRequest{}, usageErrorf("--evidence is written; give it with push, or leave out --dry-run")
	}
	ref, err := registry.ParseRef(o.ref)
	return registry.PromoteRequest{Ref: ref, Channel: o.channel, Expect: o.expect, Reason: o.reason, Ticket: o.ticket, Share: o.share, DryRun: o.dryRun, Approve: o.approve}, err
}

func newPromoteCommand(app *App) *cobra.Command {
	var opts promoteOptions
	cmd := &cobra.Command{
		Use:   "promote <model>@v<N> --to <channel>",
		Short: "Make a channel serve a version that passed its gates",
		Long: "A version without the result of passing gates is refused (exit code 3), and the refusal is\n" +
			"recorded. With --expect, a channel that serves something else by now is a conflict (exit\n" +
			"code 5); of several promotions that expect the same, one wins. --share records what part of\n" +
			"the traffic is meant for the version; whatever divides the traffic must be told as well.",
		Example: "  t5ctl promote summarizer@v7 --to production --expect v6 --reason 'ROUGE-L +1.2'",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			opts.ref = args[0]
			return runPromote(cmd.Context(), app, opts)
		},
	}
	opts.bind(cmd.Flags())
	return cmd
}

func runPromote(ctx context.Context, app *App, opts promoteOptions) error {
	request, err := opts.request()
	if err != nil {
		return err
	}
	return app.move(ctx, opts.hook, fmt.Sprintf("promoting %s", request.Ref), func(r *registry.Registry) (registry.Move, error) {
		if err := attach(ctx, r, request.Ref, opts.evidence); err != nil {
			return registry.Move{}, err
		}
		return r.Promote(ctx, request)
	})
}

// move opens the registry, has change move a channel, and shows and sends on what came of it.
func (a *App) move(ctx context.Context, to webhookOptions, doing string, change func(*registry.Registry) (registry.Move, error)) error {
	r, err := a.registry()
	if err != nil {
		return err
	}
	hook, err := to.webhook()
	if err != nil {
		return err
	}
	move, err := change(r)
	if err != nil {
		return fmt.Errorf("%s: %w", doing, err)
	}
	return errors.Join(a.showMove(move), hook.send(ctx, move))
}

// attach binds evidence that a later job has made.
func attach(ctx context.Context, r *registry.Registry, ref registry.Ref, paths []string) error {
	var reports []registry.File
	for _, path := range paths {
		report, err := registry.ReadReport(path)
		if err != nil {
			return err
		}
		reports = append(reports, report)
	}
	if len(reports) == 0 {
		return nil
	}
	_, err := r.Attach(ctx, ref, reports, "given with a promotion")
	return err
}

// showMove tells a channel's change.
func (a *App) showMove(move registry.Move) error {
	return a.show(move, func(t *term.Terminal) {
		share, from := "", "nothing"
		if move.Share > 0 {
			share = fmt.Sprintf(" to %d %% of the traffic", move.Share)
		}
		if move.From != nil {
			from = fmt.Sprintf("v%d", move.From.Version)
		}
		for _, warning := range move.Warnings {
			t.Warnf("%s", term.Clean(warning))
		}
		if move.DryRun {
			t.Printf("%s@%s would serve v%d (now: %s)\n", move.Model, move.Channel, move.To.Version, from)
			return
		}
		if move.Approve {
			t.Printf("%s@v%d may serve %s as far as this key goes, record %d\n", move.Model, move.To.Version, move.Channel, move.Seq)
			return
		}
		if move.Seq == 0 {
			t.Printf("%s@%s serves v%d already\n", move.Model, move.Channel, move.To.Version)
			return
		}
		t.Printf("%s@%s serves v%d%s (before: %s), record %d\n", move.Model, move.Channel, move.To.Version, share, from, move.Seq)
		t.Printf("  %s\n", move.To.Digest)
	})
}

// rollbackOptions is what the command line of rollback says, not yet checked.
type rollbackOptions struct {
	model, channel, to, expect, reason, ticket string
	golden                                     string
	dryRun                                     bool
	hook                                       webhookOptions
}

func (o *rollbackOptions) bind(flags *pflag.FlagSet) {
	flags.StringVar(&o.channel, "channel", "", "`channel` to take back")
	flags.StringVar(&o.to, "to", "", "`version` to return to, which must have served there (default: the one before)")
	flags.StringVar(&o.expect, "expect", "", "`version` that the channel must serve now: v6 or sha256:…")
	flags.StringVar(&o.golden, "golden", "", "`file` of eval golden record: the version must still write what was accepted from it")
	flags.BoolVar(&o.dryRun, "dry-run", false, "only say what would happen; nothing is written")
	bindReason(flags, &o.reason, &o.ticket)
	o.hook.bind(flags)
}

func (o *rollbackOptions) request() (registry.RollbackRequest, error) {
	request := registry.RollbackRequest{Model: o.model, Channel: o.channel, Expect: o.expect, Reason: o.reason, Ticket: o.ticket, DryRun: o.dryRun}
	if err := missing(map[string]bool{"channel": o.channel != "", "reason": o.reason != ""}, "channel", "reason"); err != nil {
		return request, err
	}
	if err := registry.CheckModel(o.model); err != nil {
		return request, err
	}
	if o.to == "" {
		return request, nil
	}
	version, err := registry.ParseVersion(o.to)
	request.To = registry.Ref{Model: o.model, Version: version}
	return request, err
}

func newRollbackCommand(app *App) *cobra.Command {
	var opts rollbackOptions
	cmd := &cobra.Command{
		Use:     "rollback <model> --channel <channel> --reason <why>",
		Short:   "Make a channel serve again what it served before",
		Long:    "The version to return to is hashed first. Nothing is erased: the way back is recorded too.",
		Example: "  t5ctl rollback summarizer --channel production --reason 'v7 cuts long texts'",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			opts.model = args[0]
			return runRollback(cmd.Context(), app, opts)
		},
	}
	opts.bind(cmd.Flags())
	return cmd
}

func runRollback(ctx context.Context, app *App, opts rollbackOptions) error {
	request, err := opts.request()
	if err != nil {
		return err
	}
	return app.move(ctx, opts.hook, fmt.Sprintf("rolling back %s@%s", request.Model, request.Channel), func(r *registry.Registry) (registry.Move, error) {
		if opts.golden != "" {
			if request, err = goldenFirst(ctx, app, r, request, opts.golden); err != nil {
				return registry.Move{}, err
			}
		}
		return r.Rollback(ctx, request)
	})
}

// goldenFirst holds the version that a rollback would return to to its golden samples, and makes
// the request one for that very version.
func goldenFirst(ctx context.Context, app *App, r *registry.Registry, request registry.RollbackRequest, file string) (registry.RollbackRequest, error) {
	planned := request
	planned.DryRun = true
	move, err := r.Rollback(ctx, planned)
	if err != nil {
		return request, err
	}
	request.To = registry.Ref{Model: request.Model, Version: move.To.Version}
	samples, err := golden.Read(file)
	if err != nil {
		return request, err
	}
	inputs := make([]string, len(samples))
	for i, s := range samples {
		inputs[i] = s.Input
	}
	opts := evalGoldenOptions{model: request.To.String(), rule: golden.Rule{Model: request.To.String()}}
	outputs, name, err := opts.answer(ctx, app, inputs)
	if err != nil {
		return request, err
	}
	result, err := golden.Check(samples, outputs, name, opts.rule)
	if err != nil {
		return request, err
	}
	return request, result.Err()
}
