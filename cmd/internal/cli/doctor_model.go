package cli

import (
	"math"
	"os"
	"path/filepath"
	"strings"

	"github.com/t5ctl/t5ctl/internal/atomicfile"
	"github.com/t5ctl/t5ctl/internal/decode"
	"github.com/t5ctl/t5ctl/internal/safetensors"
	"github.com/t5ctl/t5ctl/internal/strictyaml"
	"github.com/t5ctl/t5ctl/internal/t5"
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
