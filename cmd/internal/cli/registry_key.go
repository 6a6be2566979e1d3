package cli

import (
	"context"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/t5ctl/t5ctl/cmd/internal/settings"
	"github.com/t5ctl/t5ctl/cmd/internal/term"
	"github.com/t5ctl/t5ctl/registry"
	"github.com/t5ctl/t5ctl/registry/seal"
	"github.com/t5ctl/t5ctl/registry/sign"
)

// keys is the folder with the keys of this user.
func keys() sign.Keys { return sign.Keys{Dir: filepath.Join(settings.DataHome(), "t5ctl", "keys")} }

func newRegistryKeyCommand(app *App) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "key",
		Short: "Make, replace and revoke the keys that sign",
		Long: "Keys are ECDSA on P-256, in $XDG_DATA_HOME/t5ctl/keys, the private one readable by its owner\n" +
			"alone. --key NAME (or T5CTL_KEY) signs what push and promote write; --policy FILE says whose\n" +
			"signatures count.",
	}
	cmd.AddCommand(newKeyCreateCommand(app), newKeyListCommand(app), newKeyRotateCommand(app), newKeyRevokeCommand(app))
	return cmd
}

// agePath is where the key lies that opens bundles encrypted to it.
func agePath(name string) string { return filepath.Join(keys().Dir, name+".age") }

func newKeyCreateCommand(app *App) *cobra.Command {
	var opens bool
	cmd := &cobra.Command{
		Use:     "create NAME",
		Short:   "Make a key",
		Long:    "With --age, a key that does not sign but opens bundles that were encrypted to it.",
		Example: "  t5ctl registry key create ci\n  t5ctl push runs/summarizer-3 summarizer --key ci",
		Args:    cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			if opens {
				return runAgeKeyCreate(app, args[0])
			}
			key, err := keys().Create(args[0])
			if err != nil {
				return err
			}
			public := filepath.Join(keys().Dir, args[0]+".pub")
			return app.show(sign.Named{Name: args[0], ID: key.ID, Path: public}, func(t *term.Terminal) {
				t.Printf("%s\n%s\n", key.ID, public)
			})
		},
	}
	cmd.Flags().BoolVar(&opens, "age", false, "make a key for registry bundle create --encrypt")
	return cmd
}

func runAgeKeyCreate(app *App, name string) error {
	if err := sign.CheckName(name); err != nil {
		return err
	}
	path := agePath(name)
	recipient, err := seal.Create(path)
	if err != nil {
		return err
	}
	return app.show(map[string]string{"name": name, "recipient": recipient, "path": path}, func(t *term.Terminal) {
		t.Printf("%s\n%s\n", recipient, path)
	})
}

func newKeyListCommand(app *App) *cobra.Command {
	return &cobra.Command{
		Use:   "list [MODEL]",
		Short: "List the keys of this user, or those that count for a model",
		Args:  cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return runKeyStates(cmd.Context(), app, args[0])
			}
			list, err := keys().List()
			if err != nil {
				return err
			}
			return app.show(map[string]any{"keys": list}, func(t *term.Terminal) {
				tab := term.Table{Header: []string{"name", "id"}}
				for _, k := range list {
					tab.Add(k.Name, k.ID)
				}
				t.Table(tab)
			})
		},
	}
}

func runKeyStates(ctx context.Context, app *App, model string) error {
	r, err := app.registry()
	if err != nil {
		return err
	}
	list, err := r.Keys(ctx, model)
	if err != nil {
		return err
	}
	return app.show(map[string]any{"model": model, "keys": list}, func(t *term.Terminal) {
		tab := term.Table{Header: []string{"name", "roles", "records", "id"}}
		for _, k := range list {
			tab.Add(k.Name, strings.Join(k.Roles, " "), k.String(), k.ID[:16])
		}
		t.Table(tab)
	})
}

// keyChange is one model's log after a key was rotated or revoked.
type keyChange struct {
	Model string `json:"model"`
	Seq   int64  `json:"seq"` // 0: it stood there already
}

func newKeyRotateCommand(app *App) *cobra.Command {
	var reason string
	cmd := &cobra.Command{
		Use:   "rotate NAME [MODEL…]",
		Short: "Replace a key by a new one",
		Long: "The log of each model (all that the registry lists, where none is named) records that the new\n" +
			"key follows the old one, which signs that. Interrupted, the same command goes on.",
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return runKeyRotate(cmd.Context(), app, args[0], args[1:], reason)
		},
	}
	cmd.Flags().StringVar(&reason, "reason", "", "why, for the history")
	return cmd
}

func runKeyRotate(ctx context.Context, app *App, name string, models []string, reason string) error {
	old, fresh, err := keys().Follow(name)
	if err != nil {
		return err
	}
	app.Settings.Key = name
	changes, err := changeKeys(ctx, app, models, func(r *registry.Registry, model string) (int64, error) {
		return r.RotateKey(ctx, model, fresh.PublicKey, reason)
	})
	if err != nil {
		return err
	}
	if err := keys().Finish(name, old); err != nil {
		return err
	}
	return showKeyChanges(app, fresh.ID, changes)
}

func newKeyRevokeCommand(app *App) *cobra.Command {
	var reason string
	cmd := &cobra.Command{
		Use:   "revoke NAME|ID [MODEL…]",
		Short: "Record that what a key signs from now on does not count",
		Long:  "It is signed by --key, which the policy calls root; without it by the key itself.",
		Args:  cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return runKeyRevoke(cmd.Context(), app, args[0], args[1:], reason)
		},
	}
	cmd.Flags().StringVar(&reason, "reason", "", "why, for the history")
	return cmd
}

func runKeyRevoke(ctx context.Context, app *App, name string, models []string, reason string) error {
	if strings.TrimSpace(reason) == "" {
		return usageErrorf("--reason is missing")
	}
	id := name
	if len(name) != 64 {
		key, err := keys().Load(name)
		if err != nil {
			return err
		}
		if id = key.ID; app.Settings.Key == "" {
			app.Settings.Key = name
		}
	}
	changes, err := changeKeys(ctx, app, models, func(r *registry.Registry, model string) (int64, error) {
		return r.RevokeKey(ctx, model, id, reason)
	})
	if err != nil {
		return err
	}
	return showKeyChanges(app, id, changes)
}

// changeKeys records a change of keys in each model's log.
func changeKeys(ctx context.Context, app *App, models []string, change func(*registry.Registry, string) (int64, error)) ([]keyChange, error) {
	r, err := app.registry()
	if err != nil {
		return nil, err
	}
	if models, err = modelsOr(ctx, r, models); err != nil {
		return nil, err
	}
	changes := []keyChange{}
	for _, model := range models {
		seq, err := change(r, model)
		if err != nil {
			return nil, err
		}
		changes = append(changes, keyChange{model, seq})
	}
	return changes, nil
}

func showKeyChanges(app *App, id string, changes []keyChange) error {
	return app.show(map[string]any{"id": id, "models": changes}, func(t *term.Terminal) {
		t.Println(id)
		for _, c := range changes {
			where := "record " + strconv.FormatInt(c.Seq, 10)
			if c.Seq == 0 {
				where = "recorded before"
			}
			t.Printf("  %s: %s\n", c.Model, where)
		}
	})
}
