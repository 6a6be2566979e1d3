package cli

import (
	"context"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"github.com/t5ctl/t5ctl/cmd/internal/term"
	"github.com/t5ctl/t5ctl/internal/vocab"
)

// tokenizerStatsOptions is what the command line of tokenizer stats says, not yet checked.
type tokenizerStatsOptions struct {
	tokenizer tokenizerOptions
	texts     textOptions
}

// tokenizerStats is how a vocabulary fits texts. Tokens are those that a model is fed, </s> included.
type tokenizerStats struct {
	Mode          string  `json:"mode"`
	SHA256        string  `json:"sha256"`
	Size          int     `json:"size"`
	Texts         int64   `json:"texts"`
	Bytes         int64   `json:"bytes"`
	Characters    int64   `json:"characters"`
	Words         int64   `json:"words"`
	Tokens        int64   `json:"tokens"`
	BytesPerToken float64 `json:"bytes_per_token"`
	TokensPerWord float64 `json:"tokens_per_word"`
	Unknown       int64   `json:"unknown"`
	UnknownShare  float64 `json:"unknown_share"`
	Used          int     `json:"used"` // ids that occur
	UsedShare     float64 `json:"used_share"`
	Length        lengths `json:"length"`
}

// lengths are quantiles of the number of tokens in a text.
type lengths struct {
	Mean float64 `json:"mean"`
	P50  int     `json:"p50"`
	P90  int     `json:"p90"`
	P99  int     `json:"p99"`
	Max  int     `json:"max"`
}

func newTokenizerStatsCommand(app *App) *cobra.Command {
	var opts tokenizerStatsOptions
	cmd := &cobra.Command{
		Use:   "stats --model <model> [file …]",
		Short: "Show how a vocabulary fits texts",
		Long: "Count what a tokenizer makes of files, or of the lines of stdin: tokens, unknown ones, lengths.\n" +
			"Files are plain text, one text a line, or tables, of which all inputs and targets are read.",
		Example: "  t5ctl tokenizer stats --model bible-8k data/test.jsonl.gz\n" +
			"  t5ctl tokenizer stats --mode bytes --column input data/train.jsonl",
		RunE: func(cmd *cobra.Command, args []string) error {
			opts.texts.files = args
			return runTokenizerStats(cmd.Context(), app, opts)
		},
	}
	opts.tokenizer.bind(cmd.Flags())
	opts.texts.bind(cmd.Flags())
	return cmd
}

func runTokenizerStats(ctx context.Context, app *App, opts tokenizerStatsOptions) error {
	tok, err := opts.tokenizer.open(ctx, app)
	if err != nil {
		return err
	}
	count := newTokenCounter(tok)
	if err := count.addAll(ctx, app, opts.texts); err != nil {
		return err
	}
	stats := count.stats()
	return app.show(stats, func(t *term.Terminal) { t.Table(stats.table()) })
}

// tokenCounter gathers counts; it grows with the vocabulary and the longest text only.
type tokenCounter struct {
	tok    *vocab.Tokenizer
	totals tokenizerStats
	used   []bool
	byLen  map[int]int64
}

func newTokenCounter(tok *vocab.Tokenizer) *tokenCounter {
	return &tokenCounter{
		tok: tok, used: make([]bool, tok.Size()), byLen: map[int]int64{},
		totals: tokenizerStats{Mode: string(tok.Mode()), SHA256: tok.Hash(), Size: tok.Size()},
	}
}

// addAll counts the texts, and shows how far it is.
func (c *tokenCounter) addAll(ctx context.Context, app *App, texts textOptions) error {
	progress := app.Term.Progress("reading", 0, "texts")
	defer progress.Done()
	for text, err := range untilCancelled(ctx, texts.texts(app.Term.In()), func() { progress.Add(1) }) {
		if err != nil {
			return err
		}
		c.add(text)
	}
	return nil
}

func (c *tokenCounter) add(text string) {
	ids := c.tok.Sequence(text)
	t := &c.totals
	t.Texts++
	t.Bytes += int64(len(text))
	t.Characters += int64(utf8.RuneCountInString(text))
	t.Words += int64(len(strings.Fields(text)))
	t.Tokens += int64(len(ids))
	c.byLen[len(ids)]++
	for _, id := range ids {
		c.used[id] = true
		if id == c.tok.UnkID() {
			t.Unknown++
		}
	}
}

func (c *tokenCounter) stats() tokenizerStats {
	t := c.totals
	for _, used := range c.used {
		if used {
			t.Used++
		}
	}
	share := func(a, b int64) float64 {
		if b == 0 {
			return 0
		}
		return float64(a) / float64(b)
	}
	t.BytesPerToken, t.TokensPerWord = share(t.Bytes, t.Tokens), share(t.Tokens, t.Words)
	t.UnknownShare, t.UsedShare = share(t.Unknown, t.Tokens), share(int64(t.Used), int64(t.Size))
	t.Length.Mean = share(t.Tokens, t.Texts)
	seen := int64(0)
	quantiles := []struct {
		share float64
		to    *int
	}{{0.5, &t.Length.P50}, {0.9, &t.Length.P90}, {0.99, &t.Length.P99}, {1, &t.Length.Max}}
	for _, length := range slices.Sorted(maps.Keys(c.byLen)) {
		seen += c.byLen[length]
		for len(quantiles) > 0 && seen >= int64(math.Ceil(quantiles[0].share*float64(t.Texts))) {
			*quantiles[0].to = length
			quantiles = quantiles[1:]
		}
	}
	return t
}

func (s tokenizerStats) table() term.Table {
	tab := term.Table{Header: []string{"WHAT", "HOW MUCH"}, Right: []int{1}}
	tab.Add("texts", fmt.Sprint(s.Texts))
	tab.Add("characters", fmt.Sprint(s.Characters))
	tab.Add("bytes", fmt.Sprint(s.Bytes))
	tab.Add("words", fmt.Sprint(s.Words))
	tab.Add("tokens, </s> included", fmt.Sprint(s.Tokens))
	tab.Add("bytes a token", fmt.Sprintf("%.2f", s.BytesPerToken))
	tab.Add("tokens a word", fmt.Sprintf("%.2f", s.TokensPerWord))
	tab.Add("unknown tokens", fmt.Sprintf("%d (%.2f %%)", s.Unknown, 100*s.UnknownShare))
	tab.Add("ids in use", fmt.Sprintf("%d of %d (%.0f %%)", s.Used, s.Size, 100*s.UsedShare))
	tab.Add("tokens a text, mean", fmt.Sprintf("%.1f", s.Length.Mean))
	tab.Add("median", fmt.Sprint(s.Length.P50))
	tab.Add("90 % have at most", fmt.Sprint(s.Length.P90))
	tab.Add("99 % have at most", fmt.Sprint(s.Length.P99))
	tab.Add("longest", fmt.Sprint(s.Length.Max))
	return tab
}
