package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/t5ctl/t5ctl/cmd/internal/term"
	"github.com/t5ctl/t5ctl/internal/model"
)

// exportOptions is what the command line of model export says, not yet checked.
type exportOptions struct{ model, format, precision, output string }

func newModelExportCommand(app *App) *cobra.Command {
	var opts exportOptions
	cmd := &cobra.Command{
		Use:   "export <model> --format ctranslate2 --output <folder>",
		Short: "Write a model for another program",
		Long: "Write a model as the folder that another program reads. ctranslate2 is the format of CTranslate2 4.8, with the\n" +
			"tokenizer's files beside it; CTranslate2 takes tokens, the end token </s> included, and gives tokens.",
		Example: "  t5ctl model export g2p@production --format ctranslate2 --precision int8 --output g2p-ct2",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			opts.model = args[0]
			return runModelExport(cmd.Context(), app, opts)
		},
	}
	cmd.Flags().StringVar(&opts.format, "format", "", "ctranslate2")
	cmd.Flags().StringVar(&opts.precision, "precision", "fp32", "of the weights: fp32, bf16 or int8")
	cmd.Flags().StringVarP(&opts.output, "output", "o", "", "`folder` for the result; it must not exist")
	return cmd
}

func (o exportOptions) check() error {
	switch {
	case o.output == "":
		return usageError{errors.New("--output is missing")}
	case o.format == "":
		return usageError{errors.New("--format is missing; there is ctranslate2")}
	case o.format != "ctranslate2":
		return usageError{fmt.Errorf("no format %s; there is ctranslate2", o.format)}
	case !slices.Contains([]string{"fp32", "bf16", "int8"}, o.precision):
		return usageError{fmt.Errorf("--precision is %q; it is fp32, bf16 or int8", o.precision)}
	}
	return nil
}

func runModelExport(ctx context.Context, app *App, opts exportOptions) error {
	if err := opts.check(); err != nil {
		return err
	}
	resolved, err := resolveModel(ctx, app, opts.model)
	if err != nil {
		return err
	}
	if resolved.Adapter != "" {
		return usageError{fmt.Errorf("%s is an adapter; t5ctl model merge %s makes a model of it, which can be exported", opts.model, opts.model)}
	}
	if err := model.ExportCTranslate2(opts.output, resolved.Dir, opts.precision); err != nil {
		return fmt.Errorf("exporting %s: %w", opts.model, err)
	}
	result := map[string]string{"model": resolved.Dir, "format": opts.format, "precision": opts.precision, "output": opts.output}
	return app.show(result, func(t *term.Terminal) {
		t.Printf("wrote %s for CTranslate2 into %s, %s\n", strings.TrimSuffix(opts.model, "/"), opts.output, opts.precision)
	})
}
