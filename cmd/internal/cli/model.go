package cli

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/t5ctl/t5ctl/cmd/internal/term"
	"github.com/t5ctl/t5ctl/internal/lora"
	"github.com/t5ctl/t5ctl/internal/model"
	"github.com/t5ctl/t5ctl/internal/t5"
)

func newModelCommand(app *App) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "model",
		Short: "Look into model folders, merge adapters into them, write them for other programs",
	}
	cmd.AddCommand(newModelInspectCommand(app), newModelMergeCommand(app), newModelExportCommand(app))
	return cmd
}

func newModelInspectCommand(app *App) *cobra.Command {
	return &cobra.Command{
		Use:     "inspect <model>",
		Short:   "Show a model's shape, weights and tokenizer",
		Example: "  t5ctl model inspect models/g2p-base\n  t5ctl model inspect g2p@production --json",
		Args:    cobra.ExactArgs(1),
		RunE:    func(cmd *cobra.Command, args []string) error { return runModelInspect(cmd.Context(), app, args[0]) },
	}
}

// inspection is what model inspect shows.
type inspection struct {
	Model      string            `json:"model"`
	Dir        string            `json:"dir"`
	Config     t5.Config         `json:"config"`
	Parameters int               `json:"parameters"`
	Bytes      int64             `json:"bytes"` // of the weights on disk
	DTypes     map[string]int    `json:"dtypes"`
	Parts      map[string]int    `json:"parts"` // parameters of embedding, encoder, decoder, head
	Adapter    *adapterFacts     `json:"adapter,omitempty"`
	Tokenizer  *tokenizerFacts   `json:"tokenizer,omitempty"`
	Metadata   map[string]string `json:"metadata,omitempty"`
}

type adapterFacts struct {
	Dir        string   `json:"dir"`
	Rank       int      `json:"rank"`
	Alpha      float64  `json:"alpha"`
	RSLoRA     bool     `json:"rslora,omitempty"`
	Targets    []string `json:"targets"`
	Parameters int      `json:"parameters"`
	Under      []string `json:"under,omitempty"` // the adapters that it lies on, the lowest first
}

type tokenizerFacts struct {
	Mode   string `json:"mode"`
	Size   int    `json:"size"`
	SHA256 string `json:"sha256"`
}

func runModelInspect(ctx context.Context, app *App, ref string) error {
	resolved, err := resolveModel(ctx, app, ref)
	if err != nil {
		return err
	}
	checkpoint, err := t5.Open(resolved.Dir)
	if err != nil {
		return err
	}
	defer func() { _ = checkpoint.Close() }() // opened for reading
	found := inspection{
		Model: ref, Dir: resolved.Dir, Config: checkpoint.Config, Metadata: checkpoint.Metadata,
		DTypes: map[string]int{}, Parts: map[string]int{},
	}
	for _, t := range checkpoint.Tensors {
		found.Parameters += t.Len()
		found.Bytes += int64(len(t.Data))
		found.DTypes[string(t.DType)] += t.Len()
		part, _, _ := strings.Cut(t.Name, ".")
		found.Parts[part] += t.Len()
	}
	if resolved.Adapter != "" {
		folder, err := lora.Read(resolved.Adapter, checkpoint.Config)
		if err != nil {
			return err
		}
		found.Adapter = adapterOf(resolved.Adapter, folder)
		if len(folder.Metadata) > 0 {
			found.Metadata = folder.Metadata
		}
	}
	tok, err := model.OpenTokenizer(resolved.Dir, "", "", found.Metadata)
	if err != nil {
		return err
	}
	found.Tokenizer = &tokenizerFacts{Mode: string(tok.Mode()), Size: tok.Size(), SHA256: tok.Hash()}
	return app.show(found, found.show)
}

func adapterOf(dir string, folder *lora.Folder) *adapterFacts {
	o := folder.Adapter.Options
	facts := &adapterFacts{Dir: dir, Rank: o.Rank, Alpha: o.Alpha, RSLoRA: o.RSLoRA, Targets: o.Targets}
	for _, below := range folder.Layers[:len(folder.Layers)-1] {
		facts.Under = append(facts.Under, fmt.Sprintf("rank %d, alpha %g on %s", below.Rank, below.Alpha, strings.Join(below.Targets, ", ")))
	}
	for _, values := range folder.Values {
		facts.Parameters += len(values)
	}
	return facts
}

func (i inspection) show(t *term.Terminal) {
	c := i.Config
	table := term.Table{Header: []string{"WHAT", "VALUE"}}
	table.Add("model", i.Dir)
	table.Add("type", fmt.Sprintf("%s, %s, head %s", c.ModelType, c.FeedForwardProj, map[bool]string{true: "tied", false: "of its own"}[c.TieWordEmbeddings]))
	table.Add("layers", fmt.Sprintf("%d encoder, %d decoder", c.NumLayers, c.NumDecoderLayers))
	table.Add("width", fmt.Sprintf("d_model %d, d_ff %d, %d heads of %d", c.DModel, c.DFF, c.NumHeads, c.DKV))
	table.Add("vocabulary", fmt.Sprint(c.VocabSize))
	table.Add("parameters", fmt.Sprintf("%d (%s, %s)", i.Parameters, strings.Join(slices.Sorted(maps.Keys(i.DTypes)), " "), term.Size(i.Bytes)))
	for _, part := range slices.Sorted(maps.Keys(i.Parts)) {
		table.Add("  "+part, fmt.Sprint(i.Parts[part]))
	}
	if a := i.Adapter; a != nil {
		table.Add("adapter", fmt.Sprintf("%s: LoRA rank %d, alpha %g on %s, %d parameters", a.Dir, a.Rank, a.Alpha, strings.Join(a.Targets, ", "), a.Parameters))
		for _, below := range slices.Backward(a.Under) {
			table.Add("  on adapter", below)
		}
	}
	table.Add("tokenizer", fmt.Sprintf("%s, %d entries, %.19s", i.Tokenizer.Mode, i.Tokenizer.Size, i.Tokenizer.SHA256))
	t.Table(table)
}

func newModelMergeCommand(app *App) *cobra.Command {
	var adapter, output string
	cmd := &cobra.Command{
		Use:   "merge <model>",
		Short: "Write the model that an adapter makes of its base",
		Long: "Add an adapter's update to the weights it sits on, so that the result needs no adapter.\n" +
			"The result is compared with the two apart, and refused where it differs; merge.json keeps the figures.\n" +
			"The model is an adapter's run or version, or a base with --adapter.",
		Example: "  t5ctl model merge runs/mine --output merged",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return runModelMerge(cmd.Context(), app, args[0], adapter, output)
		},
	}
	cmd.Flags().StringVar(&adapter, "adapter", "", "`adapter` to merge, where the model is a base")
	cmd.Flags().StringVarP(&output, "output", "o", "", "`folder` for the result; it must not exist")
	return cmd
}

func runModelMerge(ctx context.Context, app *App, ref, adapter, output string) error {
	if output == "" {
		return usageError{errors.New("--output is missing")}
	}
	resolved, err := app.withAdapter(ctx, ref, adapter)
	if err != nil {
		return err
	}
	if resolved.Adapter == "" {
		return usageError{fmt.Errorf("%s has no adapter to merge", ref)}
	}
	backend, err := app.decodingBackend()
	if err != nil {
		return err
	}
	defer backend.Finalize()
	certificate, err := model.Merge(ctx, backend, output, resolved.Dir, resolved.Adapter)
	if err != nil {
		return fmt.Errorf("merging %s: %w", ref, err)
	}
	return app.show(map[string]any{"model": output, "base": resolved.Dir, "adapter": resolved.Adapter, "certificate": certificate}, func(t *term.Terminal) {
		t.Printf("merged %s into %s\n", resolved.Adapter, output)
		t.Printf("on %d probes: logits differ by at most %.2g, greedy outputs are identical\n", certificate.Probes, certificate.Difference)
	})
}

// modelRules are the failures of model.
func modelRules() []rule {
	return []rule{as(exitGate, func(*model.CertificateError) string { return "nothing was written" })}
}
