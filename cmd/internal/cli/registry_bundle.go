package cli

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"filippo.io/age"
	"github.com/spf13/cobra"

	"github.com/t5ctl/t5ctl/cmd/internal/term"
	"github.com/t5ctl/t5ctl/internal/atomicfile"
	"github.com/t5ctl/t5ctl/registry"
	"github.com/t5ctl/t5ctl/registry/seal"
)

func newRegistryBundleCommand(app *App) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "bundle",
		Short: "Carry models to where no network reaches, in one file",
	}
	cmd.AddCommand(newBundleCreateCommand(app), newBundleLoadCommand(app))
	return cmd
}

// bundleOptions is what the command line of bundle create says, not yet checked.
type bundleOptions struct {
	refs       []string
	output     string
	publicKeys []string
	encrypt    []string
}

func newBundleCreateCommand(app *App) *cobra.Command {
	var opts bundleOptions
	cmd := &cobra.Command{
		Use:   "create MODEL|REF… --output FILE",
		Short: "Put versions with evidence, signatures, bases and logs into one tar file",
		Long: "The file is an OCI image layout. MODEL takes all its versions. REF takes the files of one\n" +
			"version alone: where it is loaded, an audit tells that those of the others are missing.",
		Example: "  t5ctl registry bundle create summarizer --output summarizer.tar --public-key ci.pub\n" +
			"  t5ctl registry bundle create summarizer --output summarizer.tar.age --encrypt recipients.txt",
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			opts.refs = args
			return runBundleCreate(cmd.Context(), app, opts)
		},
	}
	cmd.Flags().StringVar(&opts.output, "output", "", "`file` to write")
	cmd.Flags().StringArrayVar(&opts.publicKeys, "public-key", nil, "`file` of a public key to carry along (repeatable)")
	cmd.Flags().StringArrayVar(&opts.encrypt, "encrypt", nil, "age `recipient` (age1…), or a file of them, who alone can read it (repeatable)")
	return cmd
}

// expand turns models into all their versions.
func (o bundleOptions) expand(ctx context.Context, r *registry.Registry) ([]registry.Ref, error) {
	var refs []registry.Ref
	for _, text := range o.refs {
		if strings.Contains(text, "@") {
			ref, err := registry.ParseRef(text)
			if err != nil {
				return nil, err
			}
			refs = append(refs, ref)
			continue
		}
		versions, err := r.List(ctx, text)
		if err != nil {
			return nil, err
		}
		for _, v := range versions {
			refs = append(refs, v.Ref)
		}
	}
	return refs, nil
}

func runBundleCreate(ctx context.Context, app *App, opts bundleOptions) error {
	if opts.output == "" {
		return usageErrorf("--output is missing")
	}
	var public []registry.File
	for _, path := range opts.publicKeys {
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		public = append(public, registry.File{Name: filepath.Base(path), Data: data})
	}
	recipients, err := seal.Recipients(opts.encrypt)
	if err != nil {
		return err
	}
	r, err := app.registry()
	if err != nil {
		return err
	}
	refs, err := opts.expand(ctx, r)
	if err != nil {
		return err
	}
	var packed registry.Carried
	err = atomicfile.Write(opts.output, func(w io.Writer) error {
		buffered := bufio.NewWriterSize(w, 1<<20)
		var err error
		packed, err = packTo(ctx, r, buffered, refs, public, recipients)
		return errors.Join(err, buffered.Flush())
	})
	if err != nil {
		return fmt.Errorf("bundling: %w", err)
	}
	return app.show(packed, func(t *term.Terminal) {
		t.Printf("%s: %s, %d blobs of %s\n", opts.output, strings.Join(packed.Refs, " "), packed.Blobs, term.Size(packed.Bytes))
	})
}

// packTo writes the bundle, encrypted where there are recipients.
func packTo(ctx context.Context, r *registry.Registry, w io.Writer, refs []registry.Ref, public []registry.File, recipients []age.Recipient) (registry.Carried, error) {
	if len(recipients) == 0 {
		return r.Pack(ctx, w, refs, public)
	}
	sealed, err := age.Encrypt(w, recipients...)
	if err != nil {
		return registry.Carried{}, err
	}
	packed, err := r.Pack(ctx, sealed, refs, public)
	return packed, errors.Join(err, sealed.Close())
}

func newBundleLoadCommand(app *App) *cobra.Command {
	var identities []string
	cmd := &cobra.Command{
		Use:   "load FILE",
		Short: "Take over what a bundle holds",
		Long: "Names, numbers, signatures and history stay as they are. The log of a model must go on where\n" +
			"the one that is here ends; with --policy the versions must be signed as it asks.",
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return runBundleLoad(cmd.Context(), app, args[0], identities)
		},
	}
	cmd.Flags().StringArrayVar(&identities, "identity", nil, "`key` that opens an encrypted bundle: a name of registry key create --age, or a file (repeatable)")
	return cmd
}

func runBundleLoad(ctx context.Context, app *App, path string, identities []string) (err error) {
	for i, name := range identities {
		if !strings.ContainsAny(name, `/\.`) {
			identities[i] = agePath(name)
		}
	}
	secrets, err := seal.Identities(identities)
	if err != nil {
		return err
	}
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	r, err := app.registry()
	if err != nil {
		return err
	}
	content, err := seal.Open(bufio.NewReaderSize(file, 1<<20), secrets)
	if err != nil {
		return fmt.Errorf("loading %s: %w", path, err)
	}
	loaded, err := r.Unpack(ctx, content)
	if content.Err != nil {
		err = content.Err
	}
	if err != nil {
		return fmt.Errorf("loading %s: %w", path, err)
	}
	return app.show(loaded, func(t *term.Terminal) {
		t.Printf("%s, %d blobs of %s\n", strings.Join(loaded.Refs, " "), loaded.Blobs, term.Size(loaded.Bytes))
	})
}

func newAuditExportCommand(app *App) *cobra.Command {
	var output string
	cmd := &cobra.Command{
		Use:   "export MODEL --output FILE --key KEY",
		Short: "Write a signed checkpoint of a model's log",
		Long: "To be kept where whoever runs the registry cannot reach, such as in git: registry audit\n" +
			"--checkpoint FILE tells a log that was cut or replaced since.",
		Example: "  t5ctl registry audit export summarizer --output summarizer.checkpoint --key auditor",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return runAuditExport(cmd.Context(), app, args[0], output)
		},
	}
	cmd.Flags().StringVar(&output, "output", "", "`file` to write")
	return cmd
}

func runAuditExport(ctx context.Context, app *App, model, output string) error {
	if output == "" {
		return usageErrorf("--output is missing")
	}
	r, err := app.registry()
	if err != nil {
		return err
	}
	checkpoint, data, err := r.Checkpoint(ctx, model)
	if err != nil {
		return err
	}
	if err := atomicfile.WriteBytes(output, data); err != nil {
		return err
	}
	return app.show(checkpoint, func(t *term.Terminal) {
		t.Printf("%s: record %d %s\n", checkpoint.Model, checkpoint.Head.Seq, checkpoint.Head.Digest)
	})
}

// checkCheckpoints holds the logs against checkpoints of them.
func checkCheckpoints(ctx context.Context, app *App, paths []string) error {
	r, err := app.registry()
	if err != nil {
		return err
	}
	for _, path := range paths {
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		c, err := r.CheckAgainst(ctx, data)
		if err != nil {
			return fmt.Errorf("checkpoint %s: %w", path, err)
		}
		app.Term.Notef("%s goes on from record %d of checkpoint %s", c.Model, c.Head.Seq, path)
	}
	return nil
}
