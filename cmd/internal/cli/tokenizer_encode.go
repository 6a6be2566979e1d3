package cli

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"iter"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/t5ctl/t5ctl/cmd/internal/term"
	"github.com/t5ctl/t5ctl/internal/vocab"
)

// tokenizerEncodeOptions is what the command line of tokenizer encode says, not yet checked.
type tokenizerEncodeOptions struct {
	tokenizer tokenizerOptions
	pieces    bool
	given     []string
}

func newTokenizerEncodeCommand(app *App) *cobra.Command {
	var opts tokenizerEncodeOptions
	cmd := &cobra.Command{
		Use:   "encode --model <model> [text …]",
		Short: "Turn texts into ids",
		Long: "Turn arguments, or else the lines of stdin, into ids: one JSON array a line.\n" +
			"They are those of the mode's reference, so sp leaves </s> out.",
		Example: "  t5ctl tokenizer encode --model summarizer@v7 'Hello world'\n" +
			"  t5ctl tokenizer encode --model spiece.model --mode sp < lines.txt\n" +
			"  t5ctl tokenizer encode --mode bytes 'Hello'",
		RunE: func(cmd *cobra.Command, args []string) error {
			opts.given = args
			return runTokenizerEncode(cmd.Context(), app, opts)
		},
	}
	opts.tokenizer.bind(cmd.Flags())
	cmd.Flags().BoolVar(&opts.pieces, "pieces", false, "show pieces of text in place of ids")
	return cmd
}

func runTokenizerEncode(ctx context.Context, app *App, opts tokenizerEncodeOptions) error {
	tok, err := opts.tokenizer.open(ctx, app)
	if err != nil {
		return err
	}
	var ids []int32
	return eachLine(ctx, app, opts.given, func(out []byte, text string) ([]byte, error) {
		ids = tok.AppendEncode(ids[:0], text)
		if opts.pieces {
			return appendPieces(out, tok, ids)
		}
		return appendIDs(out, ids), nil
	})
}

func appendIDs(out []byte, ids []int32) []byte {
	out = append(out, '[')
	for i, id := range ids {
		if i > 0 {
			out = append(out, ',')
		}
		out = strconv.AppendInt(out, int64(id), 10)
	}
	return append(out, ']')
}

func appendPieces(out []byte, tok *vocab.Tokenizer, ids []int32) ([]byte, error) {
	pieces := make([]string, len(ids))
	for i, id := range ids {
		pieces[i] = pieceOf(tok, id)
	}
	return appendJSON(out, pieces)
}

// appendJSON appends value as JSON on one line, in which < and > stay readable.
func appendJSON(out []byte, value any) ([]byte, error) {
	var text strings.Builder
	encoder := json.NewEncoder(&text)
	encoder.SetEscapeHTML(false)
	err := encoder.Encode(value)
	return append(out, strings.TrimSuffix(text.String(), "\n")...), err
}

// eachLine answers each of the texts, or of the lines of stdin, with a JSON value on a line of its
// own; under --json these are the elements of one array.
func eachLine(ctx context.Context, app *App, texts []string, answer func(out []byte, text string) ([]byte, error)) error {
	lines := textLines(app.Term.In(), "stdin")
	if len(texts) > 0 {
		lines = given(texts)
	}
	writer := bufio.NewWriterSize(app.Term.Out(), 1<<16)
	defer func() { _ = writer.Flush() }() // the terminal keeps the error
	open, between, end := "", "\n", "\n"
	if app.Settings.JSON {
		open, between, end = "[\n", ",\n", "\n]\n"
	}
	before := open
	var line []byte
	for text, err := range lines {
		if err == nil {
			err = ctx.Err()
		}
		if err == nil {
			line, err = answer(append(line[:0], before...), text)
		}
		if err != nil {
			return err
		}
		before = between
		if _, err := writer.Write(line); err != nil {
			return &outputError{err}
		}
	}
	switch {
	case before == between:
		_, _ = writer.WriteString(end) // the terminal keeps the error
	case app.Settings.JSON:
		_, _ = writer.WriteString("[]\n")
	}
	return nil
}

func given(texts []string) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		for _, text := range texts {
			if !yield(text, nil) {
				return
			}
		}
	}
}

// tokenizerDecodeOptions is what the command line of tokenizer decode says, not yet checked.
type tokenizerDecodeOptions struct {
	tokenizer tokenizerOptions
	special   bool
	given     []string
}

func newTokenizerDecodeCommand(app *App) *cobra.Command {
	var opts tokenizerDecodeOptions
	cmd := &cobra.Command{
		Use:   "decode --model <model> [ids …]",
		Short: "Turn ids into texts",
		Long: "Turn ids into text. An argument, or else a line of stdin, is one text: a JSON array as encode\n" +
			"writes it, or numbers with spaces or commas between. Line breaks in a text come out as spaces;\n" +
			"--json keeps them.",
		Example: "  t5ctl tokenizer decode --model spiece.model '[8774,296,1]'\n" +
			"  t5ctl tokenizer encode -m t5 < in.txt | t5ctl tokenizer decode -m t5 --special",
		RunE: func(cmd *cobra.Command, args []string) error {
			opts.given = args
			return runTokenizerDecode(cmd.Context(), app, opts)
		},
	}
	opts.tokenizer.bind(cmd.Flags())
	cmd.Flags().BoolVar(&opts.special, "special", false, "show </s>, sentinels and the like")
	return cmd
}

func runTokenizerDecode(ctx context.Context, app *App, opts tokenizerDecodeOptions) error {
	tok, err := opts.tokenizer.open(ctx, app)
	if err != nil {
		return err
	}
	row := 0
	return eachLine(ctx, app, opts.given, func(out []byte, line string) ([]byte, error) {
		row++
		ids, err := parseIDs(line)
		if err != nil {
			return nil, usageError{fmt.Errorf("line %d: %w", row, err)}
		}
		text := tok.Decode(ids, !opts.special)
		if app.Settings.JSON {
			return appendJSON(out, text)
		}
		return append(out, term.Clean(strings.NewReplacer("\r\n", " ", "\n", " ").Replace(text))...), nil
	})
}

// parseIDs reads ids with brackets and commas or without.
func parseIDs(line string) ([]int32, error) {
	text := strings.TrimSpace(line)
	if inner, ok := strings.CutPrefix(text, "["); ok {
		if text, ok = strings.CutSuffix(inner, "]"); !ok {
			return nil, fmt.Errorf("%.40q has no ] at its end", line)
		}
	}
	var ids []int32
	for _, field := range strings.FieldsFunc(text, func(r rune) bool { return r == ',' || r == ' ' || r == '\t' }) {
		id, err := strconv.ParseInt(field, 10, 32)
		if err != nil {
			return nil, fmt.Errorf("%.20q is no id", field)
		}
		ids = append(ids, int32(id))
	}
	return ids, nil
}
