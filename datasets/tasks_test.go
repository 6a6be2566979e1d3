package datasets_test

import (
	"context"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/t5ctl/t5ctl/datasets"
	"github.com/t5ctl/t5ctl/internal/seq2seq"
	"github.com/t5ctl/t5ctl/internal/vocab"
)

// mixtureOf is a source of tasks a, b, … with so many rows, whose ids begin with the task's name.
func mixtureOf(t *testing.T, rows ...int) datasets.Source {
	t.Helper()
	var s datasets.Source
	for k, n := range rows {
		name := string(rune('a' + k))
		var text strings.Builder
		for i := range n {
			fmt.Fprintf(&text, "{\"id\":\"%s%d\",\"input\":%q,\"target\":%q}\n", name, i, strings.Repeat("x", 1+(i+5*k)%23), strings.Repeat("y", 1+i%7))
		}
		path := filepath.Join(t.TempDir(), name+".jsonl")
		if err := os.WriteFile(path, []byte(text.String()), 0o600); err != nil {
			t.Fatal(err)
		}
		s.Tasks = append(s.Tasks, datasets.Task{Name: name, Train: datasets.Paths{path}, Validation: datasets.Paths{path}, Prefix: name + ": "})
	}
	return s
}

func openTasks(t *testing.T, s datasets.Source, split datasets.Split, o datasets.BatchOptions) (*datasets.Data, *datasets.Stream) {
	t.Helper()
	if err := s.Validate(); err != nil {
		t.Fatal(err)
	}
	data, err := s.Open(context.Background(), split, datasets.OpenOptions{Tokenizer: vocab.Bytes()})
	if err != nil {
		t.Fatal(err)
	}
	o.Shuffle = split == datasets.Train
	stream, err := data.Batches(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = stream.Close(), data.Close() })
	return data, stream
}

// The shares are those of Raffel et al. 2020, section 3.5.2: r_m = min(e_m, K)/Σ min(e_n, K), raised
// to 1/T and normalised again.
func TestSharesOfTasks(t *testing.T) {
	for name, c := range map[string]struct {
		mixing datasets.Mixing
		rates  []float64
		want   []float64
	}{
		"in proportion":  {want: []float64{100. / 1000, 200. / 1000, 700. / 1000}},
		"with a maximum": {mixing: datasets.Mixing{Maximum: 300}, want: []float64{100. / 600, 200. / 600, 300. / 600}},
		"temperature 2": {mixing: datasets.Mixing{Temperature: 2}, want: []float64{10 / (10 + math.Sqrt(200) + math.Sqrt(700)),
			math.Sqrt(200) / (10 + math.Sqrt(200) + math.Sqrt(700)), math.Sqrt(700) / (10 + math.Sqrt(200) + math.Sqrt(700))}},
		"both":  {mixing: datasets.Mixing{Temperature: 2, Maximum: 400}, want: []float64{10 / (30 + math.Sqrt(200)), math.Sqrt(200) / (30 + math.Sqrt(200)), 20 / (30 + math.Sqrt(200))}},
		"rates": {rates: []float64{3, 1, 4}, want: []float64{.375, .125, .5}},
	} {
		s := mixtureOf(t, 100, 200, 700)
		s.Mixing = c.mixing
		for i, rate := range c.rates {
			s.Tasks[i].Rate = rate
		}
		data, stream := openTasks(t, s, datasets.Train, datasets.BatchOptions{Rows: 8, Seed: 3})
		for i, task := range data.Record.Tasks {
			if math.Abs(task.Share-c.want[i]) > 1e-12 {
				t.Errorf("%s: task %s has the share %g, want %g", name, task.Name, task.Share, c.want[i])
			}
		}
		// what is dealt out has these shares
		taken, total := map[byte]int{}, 0
		for range 4000 {
			b, err := stream.Next(context.Background())
			if err != nil {
				t.Fatal(err)
			}
			for _, id := range b.IDs {
				if id[0] != b.IDs[0][0] {
					t.Fatalf("%s: a batch of two tasks", name)
				}
				taken[id[0]]++
				total++
			}
		}
		counts := stream.Taken(stream.Position())
		for i, want := range c.want {
			task := byte('a' + i)
			if got := float64(taken[task]) / float64(total); math.Abs(got-want) > 3e-3 {
				t.Errorf("%s: %g of the examples are of task %c, want %g", name, got, task, want)
			}
			if counts[string(task)] != int64(taken[task]) {
				t.Errorf("%s: task %c: %d examples counted, %d came", name, task, counts[string(task)], taken[task])
			}
		}
	}
}

func TestMixtureIsReachedFromAnywhere(t *testing.T) {
	for _, packing := range []bool{false, true} {
		s := mixtureOf(t, 37, 90)
		s.Packing = packing
		o := datasets.BatchOptions{Rows: 4, Seed: 9}
		_, stream := openTasks(t, s, datasets.Train, o)
		_, other := openTasks(t, s, datasets.Train, o)
		taken := map[string]int64{}
		for i := range 150 {
			at := stream.Position()
			if i%13 == 0 {
				for name, n := range stream.Taken(at) {
					if taken[name] != n {
						t.Fatalf("batch %d, packing %t: %d examples of %s counted, %d came", i, packing, n, name, taken[name])
					}
				}
			}
			b, err := stream.Next(context.Background())
			if err != nil {
				t.Fatal(err)
			}
			for _, id := range b.IDs {
				taken[id[:1]]++
			}
			if i%11 != 0 {
				continue
			}
			if err := other.Seek(at); err != nil {
				t.Fatal(err)
			}
			if again, err := other.Next(context.Background()); err != nil || fmt.Sprint(again) != fmt.Sprint(b) {
				t.Errorf("batch %d, packing %t: another one after Seek (%v)", i, packing, err)
			}
		}
	}
}

// An evaluation sees every row of every task once, with its prefix.
func TestValidationOfTasks(t *testing.T) {
	data, stream := openTasks(t, mixtureOf(t, 30, 5), datasets.Validation, datasets.BatchOptions{Rows: 4})
	seen := map[string]int{}
	for range stream.PerEpoch() {
		b, err := stream.Next(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		for i, id := range b.IDs {
			seen[id]++
			if got := vocab.Bytes().Decode(b.Inputs[i*b.InputLen:][:3], true); got != id[:1]+": " {
				t.Errorf("%s begins with %q", id, got)
			}
		}
	}
	if len(seen) != 35 || data.Record.Rows != 35 || stream.Position() != (seq2seq.Position{Epoch: 1}) {
		t.Errorf("%d rows seen of %d", len(seen), data.Record.Rows)
	}
	if len(stream.Shapes()) > 3 {
		t.Errorf("%d shapes", len(stream.Shapes()))
	}
}

func TestWrongTasks(t *testing.T) {
	for name, change := range map[string]func(*datasets.Source){
		"twice":       func(s *datasets.Source) { s.Tasks[1].Name = "a" },
		"no name":     func(s *datasets.Source) { s.Tasks[1].Name = "" },
		"no train":    func(s *datasets.Source) { s.Tasks[0].Train = nil },
		"half rates":  func(s *datasets.Source) { s.Tasks[0].Rate = 2 },
		"prefix":      func(s *datasets.Source) { s.Prefix = "x" },
		"train":       func(s *datasets.Source) { s.Train = datasets.Paths{"x.jsonl"} },
		"objectives":  func(s *datasets.Source) { s.Objectives = []datasets.Objective{{Kind: datasets.Denoise}} },
		"temperature": func(s *datasets.Source) { s.Mixing.Temperature = 0.5 },
		"both":        func(s *datasets.Source) { s.Tasks[0].Rate, s.Tasks[1].Rate, s.Mixing.Maximum = 1, 1, 5 },
		"no tasks":    func(s *datasets.Source) { s.Tasks, s.Train, s.Mixing.Maximum = nil, datasets.Paths{"x.jsonl"}, 5 },
	} {
		s := mixtureOf(t, 2, 2)
		if change(&s); s.Validate() == nil {
			t.Errorf("%s is accepted", name)
		}
	}
}
