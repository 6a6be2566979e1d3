package decode_test

import (
	"context"
	"errors"
	"slices"
	"testing"

	"github.com/t5ctl/t5ctl/internal/decode"
	"github.com/t5ctl/t5ctl/internal/device/devicetest"
)

// Rows that come one after the other, with settings of their own, become what each becomes alone.
func TestStream(t *testing.T) {
	b := devicetest.Go(t)
	e := engine(t, b, "../t5/testdata/t5-1.0")
	inputs := [][]int32{{17, 45, 91, 8, 1}, {5, 1}, {33, 34, 35, 36, 37, 38, 39, 40, 1}, {9, 99, 1}, {120, 7, 7, 7, 1}, {64, 1}}
	greedy := decode.DefaultOptions()
	sampled, beams := greedy, greedy
	sampled.Sample, sampled.Seed = true, 3
	beams.Beams = 3
	for name, c := range map[string]struct{ frame, even, odd decode.Options }{
		"greedy":             {greedy, greedy, greedy},
		"greedy and sampled": {sampled, greedy, sampled},
		"beams":              {beams, beams, beams},
	} {
		t.Run(name, func(t *testing.T) {
			c.frame.BatchRows, c.frame.MaxNewTokens = 2, 24
			wrote, got := make([][]int32, len(inputs)), make([][]decode.Sequence, len(inputs))
			var list []decode.Request
			for i, source := range sourcesOf(inputs) {
				o := c.even
				if i%2 == 1 {
					o = c.odd
				}
				o.MaxNewTokens = 4 + 4*i
				list = append(list, decode.Request{
					Source: source, Options: o,
					Wrote: func(token int32) { wrote[i] = append(wrote[i], token) },
					Done: func(outputs []decode.Sequence, err error) {
						if err != nil || got[i] != nil {
							t.Errorf("row %d: done twice, or %v", i, err)
						}
						got[i] = outputs
					},
				})
			}
			options := map[int]decode.Options{}
			for i, r := range list {
				options[i] = r.Options
			}
			calls := 0
			err := e.Stream(context.Background(), c.frame, 9, func(free int, idle bool) []decode.Request {
				calls++
				if !idle && calls%3 != 0 { // rows come late
					return nil
				}
				var now []decode.Request
				now, list = list[:min(1, free, len(list))], list[min(1, free, len(list)):]
				return now
			})
			if err != nil {
				t.Fatal(err)
			}
			for i, source := range sourcesOf(inputs) {
				alone, err := e.Generate(context.Background(), []decode.Source{source}, options[i])
				if err != nil {
					t.Fatal(err)
				}
				if len(got[i]) == 0 || !slices.Equal(got[i][0].Tokens, alone[0][0].Tokens) {
					t.Errorf("row %d became %v, alone %v", i, got[i], alone[0])
				}
				if options[i].Beams == 1 && !slices.Equal(wrote[i], alone[0][0].Tokens) {
					t.Errorf("row %d wrote %v, alone %v", i, wrote[i], alone[0])
				}
			}
		})
	}
}

// What does not fit the frame is refused, a row that nobody waits for gives up its slot, and an error
// reaches all who wait.
func TestStreamEndsEachRequest(t *testing.T) {
	b := devicetest.Go(t)
	e := engine(t, b, "../t5/testdata/t5-1.0")
	frame := decode.DefaultOptions()
	frame.BatchRows, frame.MaxNewTokens = 3, 16
	more, beams, plain := frame, frame, frame
	more.MaxNewTokens, beams.Beams = 17, 2
	gone := make(chan struct{})
	close(gone)
	var ends []error
	done := func(_ []decode.Sequence, err error) { ends = append(ends, err) }
	source := decode.Source{Tokens: []int32{17, 45, 1}}
	list := []decode.Request{
		{Source: source, Options: more, Done: done},
		{Source: source, Options: beams, Done: done},
		{Source: decode.Source{Tokens: make([]int32, 33)}, Options: plain, Done: done},
		{Source: source, Options: plain, Gone: gone, Done: done},
	}
	if err := e.Stream(context.Background(), frame, 3, func(int, bool) []decode.Request {
		now := list
		list = nil
		return now
	}); err != nil {
		t.Fatal(err)
	}
	if len(ends) != 4 || slices.Contains(ends, nil) || !errors.Is(ends[3], context.Canceled) {
		t.Fatalf("the requests ended with %v", ends)
	}
	ends = nil
	ctx, cancel := context.WithCancel(context.Background())
	err := e.Stream(ctx, frame, 3, func(int, bool) []decode.Request {
		cancel()
		return []decode.Request{{Source: source, Options: plain, Done: done}}
	})
	if !errors.Is(err, context.Canceled) || len(ends) == 0 || slices.Contains(ends, nil) {
		t.Fatalf("%v; the requests ended with %v", err, ends)
	}
}
