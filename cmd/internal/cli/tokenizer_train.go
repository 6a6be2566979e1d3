package cli

import (
	"context"
	"fmt"
	"iter"

	"github.com/spf13/cobra"

	"github.com/t5ctl/t5ctl/cmd/internal/term"
	"github.com/t5ctl/t5ctl/internal/atomicfile"
	"github.com/t5ctl/t5ctl/internal/vocab"
)

// tokenizerTrainOptions is what the command line of tokenizer train says, not yet checked.
type tokenizerTrainOptions struct {
	texts     textOptions
	output    string
	size      int
	sentinels int
	coverage  float64
	longest   int
}

// trainedTokenizer is what tokenizer train shows.
type trainedTokenizer struct {
	Output    string `json:"output"`
	Pieces    int    `json:"pieces"`
	Sentinels int    `json:"sentinels"`
	Size      int    `json:"size"`
	Mode      string `json:"mode"`
	SHA256    string `json:"sha256"`
}

func newTokenizerTrainCommand(app *App) *cobra.Command {
	var opts tokenizerTrainOptions
	cmd := &cobra.Command{
		Use:   "train --vocab-size <n> --output <dir> [file …]",
		Short: "Make a vocabulary from text",
		Long: "Make a Unigram vocabulary as SentencePiece does, from files or from the lines of stdin. Files are\n" +
			"plain text, one text a line, or tables (.jsonl, .csv, .tsv, .parquet, each also .gz or .zst), of\n" +
			"which all inputs and targets are read. SentencePiece and transformers load the result, and the\n" +
			"same text gives the same bytes. Train a vocabulary on training data only.",
		Example: "  t5ctl tokenizer train --vocab-size 8000 --output bible-8k data/train.jsonl.gz\n" +
			"  t5ctl tokenizer train --vocab-size 32000 --output mine --column text corpus.parquet",
		RunE: func(cmd *cobra.Command, args []string) error {
			opts.texts.files = args
			return runTokenizerTrain(cmd.Context(), app, opts)
		},
	}
	flags := cmd.Flags()
	opts.texts.bind(flags)
	flags.StringVarP(&opts.output, "output", "o", "", "`folder` for the vocabulary; it must not exist")
	flags.IntVar(&opts.size, "vocab-size", 0, "make `n` pieces, <pad>, </s> and <unk> among them, sentinels not")
	flags.IntVar(&opts.sentinels, "sentinels", 100, "`n` sentinels <extra_id_k> behind the pieces")
	flags.Float64Var(&opts.coverage, "character-coverage", 0.9995, "`share` of the text's characters that get a piece each")
	flags.IntVar(&opts.longest, "max-piece-length", 16, "longest piece, in `characters`")
	return cmd
}

func (o *tokenizerTrainOptions) request() (vocab.TrainOptions, error) {
	if err := missing(map[string]bool{"vocab-size": o.size > 0, "output": o.output != ""}, "vocab-size", "output"); err != nil {
		return vocab.TrainOptions{}, err
	}
	switch {
	case o.sentinels < 0:
		return vocab.TrainOptions{}, usageErrorf("--sentinels is %d", o.sentinels)
	case o.coverage <= 0 || o.coverage > 1:
		return vocab.TrainOptions{}, usageErrorf("--character-coverage is %v; it must be above 0 and at most 1", o.coverage)
	case o.longest < 1 || o.longest > vocab.MaxPieceLength:
		return vocab.TrainOptions{}, usageErrorf("--max-piece-length is %d; it must be from 1 to %d", o.longest, vocab.MaxPieceLength)
	case o.size > vocab.MaxVocabSize:
		return vocab.TrainOptions{}, usageErrorf("--vocab-size is %d; it must be at most %d", o.size, vocab.MaxVocabSize)
	}
	sentinels := o.sentinels
	if sentinels == 0 {
		sentinels = -1
	}
	return vocab.TrainOptions{VocabSize: o.size, Sentinels: sentinels, CharacterCoverage: o.coverage, MaxPieceLength: o.longest}, nil
}

func runTokenizerTrain(ctx context.Context, app *App, opts tokenizerTrainOptions) error {
	request, err := opts.request()
	if err != nil {
		return err
	}
	var tok *vocab.Tokenizer
	err = atomicfile.WriteDir(opts.output, func(dir string) error {
		progress := app.Term.Progress("training the vocabulary", 0, "texts")
		defer progress.Done()
		request.Progress = func(pieces int) { progress.Detail(fmt.Sprintf("%d pieces", pieces)) }
		tok, err = vocab.Train(untilCancelled(ctx, opts.texts.texts(app.Term.In()), func() { progress.Add(1) }), request)
		if err != nil {
			return err
		}
		return tok.WriteFiles(dir)
	})
	if err != nil {
		return err
	}
	result := trainedTokenizer{
		Output: opts.output, Pieces: opts.size, Sentinels: opts.sentinels, Size: tok.Size(), Mode: string(tok.Mode()), SHA256: tok.Hash(),
	}
	return app.show(result, func(t *term.Terminal) {
		t.Printf("%s: %d pieces and %d sentinels, %s\n", result.Output, result.Pieces, result.Sentinels, result.SHA256)
	})
}

// untilCancelled gives the texts on, telling of each, until the context is cancelled.
func untilCancelled(ctx context.Context, texts iter.Seq2[string, error], each func()) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		for text, err := range texts {
			if err == nil {
				err = ctx.Err()
			}
			if each(); !yield(text, err) || err != nil {
				return
			}
		}
	}
}
