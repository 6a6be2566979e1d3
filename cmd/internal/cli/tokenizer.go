package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/t5ctl/t5ctl/internal/model"
	"github.com/t5ctl/t5ctl/internal/safetensors"
	"github.com/t5ctl/t5ctl/internal/vocab"
)

func newTokenizerCommand(app *App) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "tokenizer",
		Short: "Make a vocabulary, and see what it makes of text",
		Long: "A tokenizer turns text into the ids that a model reads. The same vocabulary gives other ids in\n" +
			"another mode, so the mode belongs to a model as its vocabulary does:\n\n" +
			"  hf5    what T5Tokenizer of transformers 5 gives (the usual one)\n" +
			"  json   what the tokenizers library makes of a tokenizer.json\n" +
			"  sp     what SentencePiece gives; it adds no </s>\n" +
			"  bytes  ByT5: one id a byte, no vocabulary",
	}
	cmd.AddCommand(newTokenizerTrainCommand(app), newTokenizerEncodeCommand(app), newTokenizerDecodeCommand(app), newTokenizerStatsCommand(app))
	return cmd
}

// tokenizerRules maps the failures of tokenizers to exit codes.
func tokenizerRules() []rule {
	return append(textRules(),
		as[*vocab.NotFoundError](exitNotFound, nil),
		as[*vocab.CorruptError](exitCorrupt, nil),
		as[*vocab.UnsupportedError](exitUsage, nil),
		as[*vocab.ModeError](exitUsage, nil),
		as[*vocab.NoTextError](exitUsage, nil),
		as(exitUsage, func(e *vocab.SizeError) string {
			if e.Most > 0 {
				return fmt.Sprintf("--vocab-size %d is what this text has to offer; more text has more", e.Most)
			}
			return "give a larger --vocab-size, or a smaller --character-coverage"
		}),
	)
}

// tokenizerOptions say which tokenizer is meant.
type tokenizerOptions struct{ model, mode string }

func (o *tokenizerOptions) bind(flags *pflag.FlagSet) {
	flags.StringVarP(&o.model, "model", "m", "", "`model`: a folder, a run, name@vN, name@channel, or a spiece.model or tokenizer.json")
	flags.StringVar(&o.mode, "mode", "", "`mode`: hf5, json, sp or bytes (default: the model's own, else hf5)")
}

// open finds the tokenizer: in a file, in a folder, or in that of a model, in whose own mode it is
// opened unless another is asked for.
func (o *tokenizerOptions) open(ctx context.Context, app *App) (*vocab.Tokenizer, error) {
	mode, err := vocab.ParseMode(o.mode)
	if err != nil {
		return nil, err
	}
	if o.model == "" {
		if mode == vocab.ModeBytes {
			return vocab.Bytes(), nil
		}
		return nil, usageError{errors.New("--model is missing")}
	}
	dir := o.model
	info, err := os.Stat(dir)
	if err == nil && !info.IsDir() {
		return vocab.Load(dir, mode)
	}
	if err != nil || !holdsTokenizer(dir) {
		resolved, err := resolveModel(ctx, app, o.model)
		if err != nil {
			return nil, err
		}
		dir = resolved.Dir
	}
	if mode != "" {
		return vocab.Load(dir, mode)
	}
	metadata, err := weightsMetadata(dir)
	if err != nil {
		return nil, err
	}
	return model.OpenTokenizer(dir, "", "", metadata)
}

// holdsTokenizer says whether the folder has tokenizer files of its own.
func holdsTokenizer(dir string) bool {
	for _, name := range []string{"spiece.model", "tokenizer.json", "tokenizer_config.json"} {
		if _, err := os.Stat(filepath.Join(dir, name)); err == nil {
			return true
		}
	}
	return false
}

// weightsMetadata is what the weights of a folder say about themselves; nothing where there are none.
func weightsMetadata(dir string) (map[string]string, error) {
	for _, name := range []string{"model.safetensors", "model.safetensors.index.json"} {
		if _, err := os.Stat(filepath.Join(dir, name)); err == nil {
			weights, err := safetensors.OpenFolder(dir, "model")
			if err != nil {
				return nil, err
			}
			defer func() { _ = weights.Close() }() // it was only read
			return weights.Metadata(), nil
		}
	}
	return nil, nil
}

// pieceOf shows an id as the vocabulary spells it.
func pieceOf(tok *vocab.Tokenizer, id int32) string {
	piece, ok := tok.Piece(id)
	if !ok {
		return fmt.Sprintf("#%d", id)
	}
	return strings.ToValidUTF8(piece, "\uFFFD")
}
