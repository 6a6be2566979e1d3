package cli

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/t5ctl/t5ctl/cmd/internal/term"
	"github.com/t5ctl/t5ctl/registry"
)

// historyOptions is what the command line of history says, not yet checked.
type historyOptions struct{ model, channel, at string }

// moment reads --at: a record's number, a day, or a time.
func (o historyOptions) moment() (registry.Moment, error) {
	if o.at == "" {
		return registry.Moment{}, nil
	}
	if seq, err := strconv.ParseInt(o.at, 10, 64); err == nil && seq > 0 {
		return registry.Moment{Seq: seq}, nil
	}
	if at, err := time.Parse(time.RFC3339, o.at); err == nil {
		return registry.Moment{Time: at}, nil
	}
	if day, err := time.Parse(time.DateOnly, o.at); err == nil {
		return registry.Moment{Time: day.AddDate(0, 0, 1).Add(-time.Second)}, nil // to the end of the day
	}
	return registry.Moment{}, usageErrorf("--at %q is neither a record's number nor a time such as 2026-03-01T12:00:00Z", o.at)
}

func newHistoryCommand(app *App) *cobra.Command {
	var opts historyOptions
	cmd := &cobra.Command{
		Use:   "history <model> --channel <channel>",
		Short: "Show what a channel served when, and why",
		Long: "Without --channel, everything that happened to the model. --at answers what served at a\n" +
			"record of the log or at a time (as the clocks of those who promoted told it).",
		Example: "  t5ctl history summarizer --channel production\n  t5ctl history summarizer --channel production --at 2026-03-01",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			opts.model = args[0]
			return runHistory(cmd.Context(), app, opts)
		},
	}
	cmd.Flags().StringVar(&opts.channel, "channel", "", "`channel` to tell about")
	cmd.Flags().StringVar(&opts.at, "at", "", "only up to this `moment`: a record's number, a day, or a time")
	return cmd
}

func runHistory(ctx context.Context, app *App, opts historyOptions) error {
	at, err := opts.moment()
	if err != nil {
		return err
	}
	if opts.channel != "" {
		if err := registry.CheckChannel(opts.channel); err != nil {
			return err
		}
	}
	r, err := app.registry()
	if err != nil {
		return err
	}
	history, err := r.History(ctx, opts.model, opts.channel, at)
	if err != nil {
		return err
	}
	return app.show(history, func(t *term.Terminal) {
		tab := term.Table{Header: []string{"record", "time", "what", "version", "before", "by", "reason"}, Right: []int{0}}
		for _, e := range history.Events {
			what := string(e.Kind)
			if e.Channel != "" && opts.channel == "" {
				what += " " + e.Channel
			}
			reason := e.Reason
			if e.Share > 0 {
				reason = strings.TrimSuffix(fmt.Sprintf("%d %% of the traffic; %s", e.Share, reason), "; ")
			}
			if len(e.Refused) > 0 {
				reason = strings.TrimPrefix(reason+"; "+strings.Join(e.Refused, "; "), "; ")
			}
			tab.Add(strconv.FormatInt(e.Seq, 10), when(e.Time), what, versionName(e.To), versionName(e.From), e.Actor, reason)
		}
		t.Table(tab)
		if opts.channel != "" {
			t.Printf("serving: %s\n", versionName(history.Serving))
		}
	})
}

func versionName(target *registry.Target) string {
	if target == nil {
		return "–"
	}
	return "v" + strconv.Itoa(target.Version)
}
