package cli

import (
	"context"
	"errors"

	"github.com/spf13/cobra"

	"github.com/t5ctl/t5ctl/cmd/internal/term"
	"github.com/t5ctl/t5ctl/registry"
)

func newVerifyCommand(app *App) *cobra.Command {
	var deep bool
	cmd := &cobra.Command{
		Use:   "verify REF",
		Short: "Hash everything a version is made of, and check the log that names it",
		Long: "Exit code 6 if a byte has changed, a blob is missing, or the log is not one chain. With\n" +
			"--deep, all versions of the model, its tags, and blobs that nothing names are checked too.",
		Example: "  t5ctl verify summarizer@production",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return runVerify(cmd.Context(), app, args[0], deep)
		},
	}
	cmd.Flags().BoolVar(&deep, "deep", false, "check the whole model, not this version alone")
	return cmd
}

func runVerify(ctx context.Context, app *App, text string, deep bool) error {
	ref, err := registry.ParseRef(text)
	if err != nil {
		return err
	}
	r, err := app.registry()
	if err != nil {
		return err
	}
	result, failed := r.Verify(ctx, ref)
	if failed != nil && len(result.Problems) == 0 {
		return failed
	}
	if deep {
		audit, err := r.Audit(ctx, ref.Model, true)
		if err != nil && len(audit.Problems) == 0 {
			return err
		}
		if failed == nil {
			failed = err
		}
		result.Problems, result.Blobs, result.Bytes = audit.Problems, audit.Blobs, audit.Bytes
	}
	err = app.show(result, func(t *term.Terminal) {
		for _, problem := range result.Problems {
			t.Printf("%s %s\n", t.Bad("✗"), term.Clean(problem))
		}
		for _, warning := range result.Warnings {
			t.Warnf("%s", term.Clean(warning))
		}
		if len(result.Problems) == 0 && result.Policy != "" && result.Policy != "off" && len(result.Warnings) == 0 {
			t.Printf("%s the signatures are those that the policy asks for\n", t.Good("✓"))
		}
		if len(result.Problems) == 0 {
			t.Printf("%s %s %s: %d blobs of %s hashed, log of %d records is one chain\n",
				t.Good("✓"), result.Name, result.Digest, result.Blobs, term.Size(result.Bytes), result.Records)
		}
	})
	return errors.Join(err, failed)
}
