package model

import (
	"context"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/t5ctl/t5ctl/internal/constrain"
	"github.com/t5ctl/t5ctl/internal/vocab"
)

// Constrain holds every output to a regular expression.
func (m *Model) Constrain(expression string) error {
	c, err := m.Constraint(expression)
	if err != nil {
		return err
	}
	m.Generation.Constraint = c
	return nil
}

// Constraint is what holds outputs to a regular expression; see constrain.Regexp. It may be called from many
// goroutines; what it gives is for the one that decodes.
func (m *Model) Constraint(expression string) (*constrain.Constraint, error) {
	return constrain.Regexp(expression, m.words())
}

// vocabulary is what the tokens spell, for constraints.
func (m *Model) vocabulary() *constrain.Vocabulary {
	t := m.Tokenizer
	v := &constrain.Vocabulary{Texts: make([]string, m.Config.VocabSize), End: t.EOSID(), LeadingSpace: t.Mode() != vocab.ModeBytes}
	mute := []int32{t.PadID(), t.EOSID(), t.UnkID()}
	for k := range t.Sentinels() {
		id, _ := t.Sentinel(k)
		mute = append(mute, id)
	}
	for id := range int32(min(t.Size(), len(v.Texts))) {
		if slices.Contains(mute, id) {
			continue
		}
		if t.Mode() == vocab.ModeBytes {
			if id >= 3 && id < 3+256 { // behind padding, end and unknown
				v.Texts[id] = string([]byte{byte(id - 3)})
			}
			continue
		}
		piece, ok := t.Piece(id)
		if !ok {
			continue
		}
		if hex, is := strings.CutPrefix(piece, "<0x"); is && len(hex) == 3 { // a byte of what has no piece
			if b, err := strconv.ParseUint(hex[:2], 16, 8); err == nil {
				v.Texts[id] = string([]byte{byte(b)})
			}
			continue
		}
		v.Texts[id] = strings.ReplaceAll(piece, "▁", " ")
	}
	return v
}

// Choose gives, for each row, all choices as outputs, the likeliest first, each with its
// probability among them: that of the whole text, its end included, over their sum.
func (m *Model) Choose(ctx context.Context, rows []Row, o Rows, choices []string) ([]RowResult, error) {
	targets := make([][]int32, len(choices))
	for i, c := range choices {
		targets[i] = m.Tokenizer.Sequence(c)
	}
	results := make([]RowResult, len(rows))
	for i, row := range rows {
		pieces, cut, err := m.pieces(row.Text, o)
		results[i] = RowResult{Cut: cut, Err: err, Pieces: len(pieces)}
		if err != nil {
			continue
		}
		sums := make([]float64, len(choices))
		for _, piece := range pieces { // several pieces are taken as independent
			scores, err := m.engine.Score(ctx, piece, targets)
			if err != nil {
				return nil, err
			}
			for j, tokens := range scores {
				for _, p := range tokens {
					sums[j] += float64(p)
				}
			}
		}
		results[i].Outputs = ranked(choices, sums)
		results[i].Tokens = len(targets[slices.Index(choices, results[i].Outputs[0].Text)])
	}
	return results, nil
}

// ranked orders choices by their log-probabilities; of equals the first stays first.
func ranked(choices []string, logs []float64) []Output {
	most, total := slices.Max(logs), 0.0
	for _, l := range logs {
		total += math.Exp(l - most)
	}
	outputs := make([]Output, len(choices))
	for i, l := range logs {
		p := math.Exp(l-most) / total
		outputs[i] = Output{Text: choices[i], Score: l, Probability: &p}
	}
	slices.SortStableFunc(outputs, func(a, b Output) int {
		switch {
		case a.Score > b.Score:
			return -1
		case a.Score < b.Score:
			return 1
		default:
			return 0
		}
	})
	return outputs
}
