package datasets_test

import (
	"context"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/t5ctl/t5ctl/datasets"
	"github.com/t5ctl/t5ctl/internal/seq2seq"
	"github.com/t5ctl/t5ctl/internal/vocab"
)

// lotStream is a stream of lots over rows of several lengths.
func lotStream(t *testing.T, rows, lot int, seed uint64) *datasets.Stream {
	t.Helper()
	path := filepath.Join(t.TempDir(), "train.jsonl")
	var text strings.Builder
	for i := range rows {
		fmt.Fprintf(&text, "{\"id\":\"%d\",\"input\":%q,\"target\":\"x\"}\n", i, strings.Repeat("a", 1+i%40))
	}
	if err := os.WriteFile(path, []byte(text.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	data, err := datasets.Source{Train: datasets.Paths{path}}.Open(context.Background(), datasets.Train, datasets.OpenOptions{Tokenizer: vocab.Bytes()})
	if err != nil {
		t.Fatal(err)
	}
	stream, err := data.Batches(datasets.BatchOptions{Rows: 4, Lot: lot, Seed: seed, Shuffle: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = stream.Close(), data.Close() })
	return stream
}

// takeLot gives the ids of the next lot.
func takeLot(t *testing.T, s *datasets.Stream) (ids []string) {
	t.Helper()
	for {
		b, err := s.Next(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		if len(b.IDs) > b.Rows || b.Rows != 4 {
			t.Fatalf("%d examples in %d rows", len(b.IDs), b.Rows)
		}
		ids = append(ids, b.IDs...)
		if !b.More {
			return ids
		}
	}
}

// Every row is in a lot with the same probability, whoever else is: means, variances and
// covariances of being taken are those of independent draws.
func TestLotsTakeEveryRowByItself(t *testing.T) {
	const rows, lot, steps = 60, 12, 3000
	s := lotStream(t, rows, lot, 1)
	rate := s.Rate()
	if rate != 0.2 || s.PerEpoch() != 5 {
		t.Fatalf("rate %g, %d lots a pass; want 0.2 and 5", rate, s.PerEpoch())
	}
	taken, sizes, square, together := make([]int, rows), 0.0, 0.0, 0
	for range steps {
		ids := takeLot(t, s)
		if len(slices.Compact(slices.Sorted(slices.Values(ids)))) != len(ids) {
			t.Fatal("a row is in a lot twice")
		}
		sizes, square = sizes+float64(len(ids)), square+float64(len(ids)*len(ids))
		for _, id := range ids {
			var i int
			_, _ = fmt.Sscan(id, &i)
			taken[i]++
		}
		if slices.Contains(ids, "0") && slices.Contains(ids, "40") { // of one length
			together++
		}
	}
	for i, n := range taken {
		if off := math.Abs(float64(n)-rate*steps) / math.Sqrt(steps*rate*(1-rate)); off > 4 {
			t.Errorf("row %d was taken %d times: %.1f deviations off", i, n, off)
		}
	}
	mean := sizes / steps
	if variance := square/steps - mean*mean; math.Abs(variance/(rows*rate*(1-rate))-1) > 0.12 {
		t.Errorf("sizes vary by %.3g, want %.3g", variance, rows*rate*(1-rate))
	}
	if off := math.Abs(float64(together)-rate*rate*steps) / math.Sqrt(steps*rate*rate); off > 4 {
		t.Errorf("two rows were together %d times", together)
	}
}

func TestLotsAreReachedFromAnywhere(t *testing.T) {
	s := lotStream(t, 60, 1, 7)
	var all [][]string
	var places []seq2seq.Position
	empty := 0
	for range 50 {
		places = append(places, s.Position())
		all = append(all, takeLot(t, s))
		if len(all[len(all)-1]) == 0 {
			empty++
		}
	}
	if empty == 0 {
		t.Error("no lot was empty; such lots must come too")
	}
	again := lotStream(t, 60, 1, 7)
	for i := len(all) - 1; i >= 0; i -= 7 {
		if err := again.Seek(places[i]); err != nil {
			t.Fatal(err)
		}
		if got := takeLot(t, again); !slices.Equal(got, all[i]) {
			t.Errorf("lot %d is %v, was %v", i, got, all[i])
		}
	}
	other := lotStream(t, 60, 1, 8)
	if slices.EqualFunc(all[:5], [][]string{takeLot(t, other), takeLot(t, other), takeLot(t, other), takeLot(t, other), takeLot(t, other)}, slices.Equal) {
		t.Error("another seed gives the same lots")
	}
}
