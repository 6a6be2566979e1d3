package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/t5ctl/t5ctl/cmd/internal/term"
	"github.com/t5ctl/t5ctl/internal/atomicfile"
	"github.com/t5ctl/t5ctl/internal/hub"
	"github.com/t5ctl/t5ctl/registry"
)

func newPullCommand(app *App) *cobra.Command {
	var output string
	cmd := &cobra.Command{
		Use:   "pull REF",
		Short: "Write a version's files to a folder, every byte checked",
		Long: "The folder (default: the model's name) must not exist, be empty, or hold that version\n" +
			"already. After an error nothing is left in it.\n\n" +
			"hf:owner/name[@revision] is a model of the Hugging Face hub, hf:owner/name[@revision]/file a file of a data " +
			"set there, where * and ? match names. It is fetched into the cache that the hub's own tools share, and copied " +
			"where --output is given. A download that was broken off goes on; every file is checked. HF_TOKEN, HF_HOME, " +
			"HF_ENDPOINT and HF_HUB_OFFLINE are honoured.",
		Example: "  t5ctl pull summarizer@production --output summarizer\n" +
			"  t5ctl pull hf:google/flan-t5-small\n" +
			"  t5ctl pull 'hf:owner/words@v2/data/train-*.parquet'",
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return runPull(cmd.Context(), app, args[0], output)
		},
	}
	cmd.Flags().StringVar(&output, "output", "", "`folder` to write")
	return cmd
}

func runPull(ctx context.Context, app *App, text, output string) error {
	if hub.IsRef(text) {
		return runPullHub(ctx, app, text, output)
	}
	ref, err := registry.ParseRef(text)
	if err != nil {
		return err
	}
	if output == "" {
		output = filepath.Base(filepath.FromSlash(ref.Model))
	}
	r, err := app.registry()
	if err != nil {
		return err
	}
	result, err := r.Pull(ctx, ref, output)
	if err != nil {
		return fmt.Errorf("pulling %s: %w", ref, err)
	}
	return app.show(result, func(t *term.Terminal) {
		state := ""
		if !result.Fresh {
			state = " (already there)"
		}
		t.Printf("%s %s -> %s%s\n", result.Name, result.Digest, result.Dir, state)
		if result.Base != nil {
			t.Printf("  adapter of %s (files %s)\n", result.Base.Name, short(result.Base.Tree))
		}
	})
}

func runRegistryExport(ctx context.Context, app *App, text, output string) (err error) {
	if output == "" {
		return usageErrorf("--output is missing")
	}
	ref, err := registry.ParseRef(text)
	if err != nil {
		return err
	}
	r, err := app.registry()
	if err != nil {
		return err
	}
	version, err := r.Resolve(ctx, ref)
	if err != nil {
		return err
	}
	files, err := r.Evidence(ctx, version.Ref)
	if err != nil {
		return err
	}
	err = atomicfile.WriteDir(filepath.Clean(output), func(stage string) error {
		if _, err := r.Pull(ctx, version.Ref, filepath.Join(stage, "model")); err != nil {
			return err
		}
		return writeEvidence(filepath.Join(stage, "evidence"), files)
	})
	if err != nil {
		return fmt.Errorf("exporting %s: %w", version.Name, err)
	}
	return app.show(map[string]any{"version": version, "dir": output}, func(t *term.Terminal) {
		t.Printf("%s -> %s (model/, evidence/)\n", version.Name, output)
	})
}

// writeEvidence puts files below a folder; their names come from the registry and cannot lead
// out of it.
func writeEvidence(dir string, files []registry.File) (err error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, root.Close()) }()
	for _, file := range files {
		name := filepath.FromSlash(file.Name)
		if err := root.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			return err
		}
		if err := root.WriteFile(name, file.Data, 0o644); err != nil {
			return err
		}
	}
	return nil
}
