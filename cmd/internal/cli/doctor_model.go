package cli

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/t5ctl/t5ctl/datasets"
	"github.com/t5ctl/t5ctl/internal/atomicfile"
	"github.com/t5ctl/t5ctl/internal/decode"
	"github.com/t5ctl/t5ctl/internal/device"
	"github.com/t5ctl/t5ctl/internal/machine"
	"github.com/t5ctl/t5ctl/internal/safetensors"
	"github.com/t5ctl/t5ctl/internal/seq2seq"
	"github.com/t5ctl/t5ctl/internal/strictyaml"
	"github.com/t5ctl/t5ctl/internal/t5"
	"github.com/t5ctl/t5ctl/trainer"
)

// adHoc writes a recipe for a model, and data if there is any, that come without one.
func (o *doctorOptions) adHoc(dir, modelDir string) (string, error) {
	generation, err := decode.ReadOptions(modelDir, decode.DefaultOptions())
	if err != nil {
		return "", err
	}
	if modelDir, err = filepath.Abs(modelDir); err != nil {
		return "", err
	}
	data := map[string]any{}
	if len(o.data) > 0 {
		data["train"] = absolutePaths(o.data)
	}
	text, err := strictyaml.Marshal(map[string]any{
		"version": 1, "name": "doctor", "base": modelDir, "data": data,
		"train": map[string]any{"method": "full", "steps": 1}, "generation": map[string]any{"max_new_tokens": generation.MaxNewTokens},
	})
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, "doctor.yaml")
	return path, atomicfile.WriteBytes(path, text)
}

// absolutePaths makes paths mean the same from another folder.
func absolutePaths(paths []string) []string {
	var out []string
	for _, p := range paths {
		if absolute, err := filepath.Abs(p); err == nil && !strings.HasPrefix(p, "hf:") {
			p = absolute
		}
		out = append(out, p)
	}
	return out
}

// base looks at the weights that a recipe starts from.
func (x *examination) base(t *training) error {
	if t.base == nil {
		return nil
	}
	head := "of its own"
	if t.config.TieWordEmbeddings {
		head = "tied to the embedding, logits scaled by d_model^-0.5"
	}
	x.add(verdictOK, "base", "", "%s, %s, head %s", t.baseDir, t.config.FeedForwardProj, head)
	if said, err := t5.ParseConfig(t.base.JSON); err == nil && said.TieWordEmbeddings && !t.config.TieWordEmbeddings {
		x.add(verdictNote, "head", "set tie_word_embeddings to false in "+filepath.Join(t.baseDir, "config.json"),
			"config.json says that the head is the embedding, but the weights have one of its own, which t5ctl takes; other programs may not")
	}
	if own := t.base.Metadata["t5ctl.tokenizer.sha256"]; own != "" {
		x.add(verdictOK, "tokenizer hash", "", "%.19s, the one that the weights were trained with", t.tokenizer.Hash())
	} else {
		x.add(verdictNote, "tokenizer hash", "", "%.19s; the weights do not say which they were trained with", t.tokenizer.Hash())
	}
	half, worst, err := looks(t.base)
	if err != nil {
		return err
	}
	if len(worst) > 0 {
		x.add(verdictBad, "weights", "get the model again, in fp32 or bf16", "%d tensors hold values that are no numbers, the first %s", len(worst), worst[0])
	}
	if half > 0 {
		x.add(verdictNote, "fp16", "export it in bf16 or fp32", "%d tensors are stored in fp16; what computes in fp16 overflows in T5's feed-forward layers (t5ctl computes in fp32)", half)
	}
	if _, err := os.Stat(filepath.Join(t.baseDir, "generation_config.json")); err != nil {
		x.add(verdictNote, "generation", "t5ctl writes generation_config.json with every model", "the base has no generation_config.json: transformers would cut outputs after 20 tokens")
	}
	return nil
}

// layer is one whose values come near the largest of fp16, or pass it.
type layer struct {
	Name    string  `json:"name"`
	Largest float64 `json:"largest"`
}

// Limits of what doctor computes to see how large a model's values are.
const (
	peakRows  = 4
	mostWork  = 4e12 // operations: a minute or so
	nearFP16  = trainer.MaxFP16 / 2
	nameAtAll = 4 // layers in the text; the JSON has them all
)

// peaks runs the base on some rows of the data, and names the layers whose values fp16 cannot hold.
func (x *examination) peaks(ctx context.Context, t *training) error {
	if t.base == nil || len(t.splits) == 0 {
		return nil
	}
	const check = "fp16 overflow"
	stream, err := t.splits[0].Batches(datasets.BatchOptions{Rows: peakRows, Seed: 1, Shuffle: true, MaxBuckets: 1})
	if err != nil {
		return nil //nolint:nilerr // told by split
	}
	defer func() { _ = stream.Close() }() // opened for reading
	batch, err := stream.Next(ctx)
	if err != nil {
		return err
	}
	weights := 0.0
	for _, s := range t.config.Specs() {
		weights += float64(s.Size())
	}
	work := 2 * weights * float64(len(batch.Inputs)+len(batch.Labels))
	if free := machine.FreeMemory(); work > mostWork || (free > 0 && 4*weights > float64(free)/2) {
		x.add(verdictNote, check, "", "not looked at: the model is too large to be tried here in passing")
		return nil
	}
	backend, err := device.Open(t.app.Settings.Backend)
	if err != nil {
		return nil //nolint:nilerr // told by backend
	}
	defer backend.Finalize()
	all, err := trainer.Peaks(backend, t.base, []seq2seq.Batch{batch})
	if err != nil {
		return err
	}
	x.judgePeaks(check, len(batch.IDs), all)
	return nil
}

func (x *examination) judgePeaks(check string, rows int, all []trainer.Peak) {
	var over, near, broken []layer
	var most trainer.Peak
	for _, p := range all {
		l := layer{p.Layer, p.Largest}
		switch {
		case math.IsNaN(p.Largest) || math.IsInf(p.Largest, 0):
			broken = append(broken, layer{Name: p.Layer})
		case p.Largest > trainer.MaxFP16:
			over = append(over, l)
		case p.Largest > nearFP16:
			near = append(near, l)
		}
		if p.Largest > most.Largest {
			most = p
		}
	}
	const fix = "compute in bf16 or fp32, never in fp16 (t5ctl does not; elsewhere torch_dtype=torch.bfloat16)"
	found := "the largest value on %d rows is %.0f, in %s; fp16 ends at 65504"
	switch {
	case len(broken) > 0:
		x.add(verdictBad, check, "get the model again", "on %d rows these layers give no numbers even in fp32: %s", rows, named(broken))
		x.Findings[len(x.Findings)-1].Layers = broken
	case len(over) > 0:
		x.add(verdictNote, check, fix, "on %d rows these layers pass 65504, the end of fp16: %s", rows, named(over))
		x.Findings[len(x.Findings)-1].Layers = append(over, near...)
	case len(near) > 0:
		x.add(verdictNote, check, fix, "on %d rows these layers come near 65504, the end of fp16: %s", rows, named(near))
		x.Findings[len(x.Findings)-1].Layers = near
	default:
		x.add(verdictOK, check, "", found, rows, most.Largest, most.Layer)
	}
}

// named lists layers with their largest values, the largest first.
func named(layers []layer) string {
	layers = slices.Clone(layers)
	slices.SortStableFunc(layers, func(a, b layer) int { return cmp.Compare(b.Largest, a.Largest) })
	var parts []string
	for _, l := range layers[:min(nameAtAll, len(layers))] {
		part := l.Name
		if l.Largest > 0 {
			part += fmt.Sprintf(" (%.0f)", l.Largest)
		}
		parts = append(parts, part)
	}
	if more := len(layers) - len(parts); more > 0 {
		parts = append(parts, fmt.Sprintf("and %d more", more))
	}
	return strings.Join(parts, ", ")
}

// looks counts tensors in fp16, and names those with values that are no numbers.
func looks(c *t5.Checkpoint) (half int, bad []string, err error) {
	for _, tensor := range c.Tensors {
		if tensor.DType == safetensors.F16 {
			half++
		}
		values, err := c.Float32s(tensor.Name)
		if err != nil {
			return 0, nil, err
		}
		for _, v := range values {
			if math.IsNaN(float64(v)) || math.IsInf(float64(v), 0) {
				bad = append(bad, tensor.Name)
				break
			}
		}
	}
	return half, bad, nil
}

// offline says what the switches of the hub's tools come to.
func (x *examination) offline() {
	for _, name := range []string{"HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"} {
		if value := os.Getenv(name); value != "" && value != "0" {
			x.add(verdictNote, "offline", "unset "+name, "%s=%s: the hub is not asked, what is in its cache is used", name, value)
			return
		}
	}
	x.add(verdictOK, "offline", "", "HF_HUB_OFFLINE is not set: for hf: references the hub is asked where its cache lacks them")
}
