package model

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"

	"github.com/t5ctl/t5ctl/internal/atomicfile"
	"github.com/t5ctl/t5ctl/internal/decode"
	"github.com/t5ctl/t5ctl/internal/device"
	"github.com/t5ctl/t5ctl/internal/lora"
	"github.com/t5ctl/t5ctl/internal/safetensors"
	"github.com/t5ctl/t5ctl/internal/t5"
	"github.com/t5ctl/t5ctl/internal/vocab"
)

// Finished is a trained model that is to become a folder.
type Finished struct {
	Weights    string            // folder of the weights: a checkpoint
	ConfigJSON []byte            // config.json; nil: an adapter's folder has none
	Generation decode.Options    // for generation_config.json
	Tokenizer  *vocab.Tokenizer  // whose files go beside the weights
	Metadata   map[string]string // kept in the weights
	DType      safetensors.DType // of the weights on disk: F32 or BF16
	Under      string            // folder of the adapter that an adapter was trained on; empty: none
}

// Write makes a Hugging Face folder (or, of an adapter, a PEFT folder) at dir, which must not
// exist, whole or not at all.
func Write(dir string, f Finished) error {
	return atomicfile.WriteDir(dir, func(dir string) error {
		stem, files := "model", []string(nil)
		if f.ConfigJSON == nil {
			stem, files = "adapter_model", []string{"adapter_config.json"}
		} else if err := atomicfile.WriteBytes(filepath.Join(dir, "config.json"), f.ConfigJSON); err != nil {
			return err
		}
		for _, name := range files {
			data, err := os.ReadFile(filepath.Join(f.Weights, name))
			if err != nil {
				return err
			}
			if err := atomicfile.WriteBytes(filepath.Join(dir, name), data); err != nil {
				return err
			}
		}
		if err := convert(f.Weights, dir, stem, f.Metadata, f.DType); err != nil {
			return err
		}
		if err := writeGeneration(dir, f.Generation); err != nil {
			return err
		}
		if f.Under != "" {
			if err := lora.CopyUnder(f.Under, dir); err != nil {
				return err
			}
		}
		return f.Tokenizer.WriteFiles(dir)
	})
}

// convert writes the weights of one folder into another with the given element type.
func convert(from, to, stem string, metadata map[string]string, dtype safetensors.DType) error {
	source, err := safetensors.OpenFolder(from, stem)
	if err != nil {
		return err
	}
	defer func() { _ = source.Close() }() // opened for reading
	var list []safetensors.Tensor
	for _, name := range source.Names() {
		t, _ := source.Tensor(name)
		values, err := t.Float32s()
		if err != nil {
			return fmt.Errorf("reading %s: %w", name, err)
		}
		if t, err = safetensors.FromFloat32s(name, dtype, t.Shape, values); err != nil {
			return err
		}
		list = append(list, t)
	}
	return safetensors.WriteFolder(to, stem, metadata, list, safetensors.ShardBytes)
}

// writeGeneration writes the settings that transformers' generate reads.
func writeGeneration(dir string, o decode.Options) error {
	settings := map[string]any{
		"decoder_start_token_id": 0, "eos_token_id": 1, "pad_token_id": 0,
		"max_new_tokens": o.MaxNewTokens, "num_beams": o.Beams, "do_sample": o.Sample,
	}
	if o.Beams > 1 {
		settings["length_penalty"] = o.LengthPenalty
		settings["early_stopping"] = map[string]any{"true": true, "false": false, "never": "never"}[o.EarlyStopping]
	}
	if o.Sample {
		settings["temperature"], settings["top_k"], settings["top_p"] = o.Temperature, o.TopK, o.TopP
	}
	for key, v := range map[string]struct {
		value any
		set   bool
	}{
		"num_return_sequences":  {o.NumReturnSequences, o.NumReturnSequences > 1},
		"min_p":                 {o.MinP, o.Sample && o.MinP > 0},
		"typical_p":             {o.TypicalP, o.Sample && o.TypicalP < 1},
		"min_new_tokens":        {o.MinNewTokens, o.MinNewTokens > 0},
		"repetition_penalty":    {o.RepetitionPenalty, o.RepetitionPenalty != 1},
		"no_repeat_ngram_size":  {o.NoRepeatNGram, o.NoRepeatNGram > 0},
		"bad_words_ids":         {o.BadWords, len(o.BadWords) > 0},
		"suppress_tokens":       {o.SuppressTokens, len(o.SuppressTokens) > 0},
		"begin_suppress_tokens": {o.BeginSuppress, len(o.BeginSuppress) > 0},
		"forced_bos_token_id":   {o.ForcedFirst, o.ForcedFirst != 0},
		"forced_eos_token_id":   {o.ForcedLast, o.ForcedLast != 0},
	} {
		if v.set {
			settings[key] = v.value
		}
	}
	data, err := json.MarshalIndent(settings, "", "  ")
	if err != nil {
		return err
	}
	return atomicfile.WriteBytes(filepath.Join(dir, "generation_config.json"), append(data, '\n'))
}

// Merge writes the model that an adapter makes of its base, with the adapter's update added to
// the weights it sits on, and beside it the certificate that compares them. A result that is not
// what it was merged of is not kept.
func Merge(ctx context.Context, b device.Opening, dir, base, adapter string) (certificate Certificate, err error) {
	err = merge(dir, base, adapter, func(dir string) error {
		if certificate, err = Certify(ctx, b, base, adapter, dir); err != nil {
			return err
		}
		data, err := json.MarshalIndent(certificate, "", "  ")
		if err != nil {
			return err
		}
		return atomicfile.WriteBytes(filepath.Join(dir, "merge.json"), append(data, '\n'))
	})
	return certificate, err
}

func merge(dir, base, adapter string, certify func(dir string) error) error {
	checkpoint, err := t5.Open(base)
	if err != nil {
		return err
	}
	defer func() { _ = checkpoint.Close() }() // opened for reading
	folder, err := lora.Read(adapter, checkpoint.Config)
	if err != nil {
		return err
	}
	metadata := checkpoint.Metadata
	if folder.Metadata[metaTokenizerHash] != "" {
		metadata = folder.Metadata
	}
	tok, err := OpenTokenizer(base, "", "", metadata)
	if err != nil {
		return err
	}
	generation, err := decode.ReadOptions(base, decode.DefaultOptions())
	if err != nil {
		return err
	}
	if generation, err = decode.ReadOptions(adapter, generation); err != nil {
		return err
	}
	return atomicfile.WriteDir(dir, func(dir string) error {
		merged, err := mergeTensors(checkpoint, folder)
		if err != nil {
			return err
		}
		if err := safetensors.WriteFolder(dir, "model", metadata, merged, safetensors.ShardBytes); err != nil {
			return err
		}
		if err := atomicfile.WriteBytes(filepath.Join(dir, "config.json"), checkpoint.JSON); err != nil {
			return err
		}
		if err := writeGeneration(dir, generation); err != nil {
			return err
		}
		if err := tok.WriteFiles(dir); err != nil {
			return err
		}
		return certify(dir)
	})
}

func mergeTensors(c *t5.Checkpoint, f *lora.Folder) ([]safetensors.Tensor, error) {
	var merged []safetensors.Tensor
	for _, t := range c.Tensors {
		values, err := t.Float32s()
		if err != nil {
			return nil, err
		}
		values = f.Adapter.Merge(t.Name, values, f.Values)
		if t, err = safetensors.FromFloat32s(t.Name, "F32", t.Shape, values); err != nil {
			return nil, err
		}
		merged = append(merged, t)
	}
	return merged, nil
}

// PutUnder makes the base of a training run what an adapter makes of it, in memory: the adapter
// that is trained then lies on that one. The metadata are the adapter's, where it has any.
func PutUnder(base *t5.Checkpoint, adapter string) error {
	folder, err := lora.Read(adapter, base.Config)
	if err != nil {
		return err
	}
	for _, o := range folder.Layers {
		if err := o.Stackable(adapter); err != nil {
			return err
		}
	}
	base.Change = func(name string, values []float32) []float32 {
		return folder.Adapter.Merge(name, values, folder.Values)
	}
	if folder.Metadata[metaTokenizerHash] != "" {
		base.Metadata = folder.Metadata
	}
	return nil
}
