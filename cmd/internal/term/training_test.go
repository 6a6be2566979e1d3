package term_test

import (
	"encoding/json"
	"errors"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/charmbracelet/x/ansi"

	"github.com/t5ctl/t5ctl/cmd/internal/term"
	"github.com/t5ctl/t5ctl/trainer"
)

// story is what a run says, one event a second.
func story() []trainer.Event {
	return []trainer.Event{
		trainer.Started{Total: 1000, Parameters: 2_600_000, Learning: 98_304, Backend: "cpu"},
		trainer.Compiled{Program: "train.grad [64, 32]→80", Took: 4200 * time.Millisecond},
		trainer.Stepped{Step: 420, Total: 1000, Epoch: 0.8, Loss: 1.23456, LearningRate: 1.3e-3, GradientNorm: 0.71, TokensPerSecond: 12_345, Remaining: 130 * time.Second, Memory: 1_234_567_890},
		trainer.Evaluated{Step: 500, Metrics: map[string]float64{"loss": 1.1, "token_accuracy": 0.75}, Best: true, Took: 3 * time.Second},
		trainer.Saved{Step: 500, Path: "runs/x-1/checkpoints/00000500", Bytes: 31_000_000, Took: 210 * time.Millisecond},
		trainer.Damaged{Path: "runs/x-1/checkpoints/00000400", Err: errors.New("cut short")},
		trainer.Stepped{Step: 1000, Total: 1000, Loss: math.NaN(), LearningRate: 0, TokensPerSecond: 11_000},
		trainer.Stopped{Step: 1000, Reason: "steps"},
	}
}

// clock goes on by a second at each event.
type clock struct{ at time.Time }

func (c *clock) now() time.Time { return c.at }

func TestTrainingBar(t *testing.T) {
	for _, columns := range []string{"40", "80", "200"} {
		t.Run(columns, func(t *testing.T) {
			tty, out, errs := piped(map[string]string{"COLUMNS": columns, "TERM": "xterm"})
			c := clock{time.Unix(0, 0)}
			view := tty.Watched(c.now).Training()
			for _, e := range story() {
				c.at = c.at.Add(time.Second)
				view.Sink(e)
			}
			view.Done()
			if out.Len() > 0 {
				t.Errorf("stdout %q; want nothing", out)
			}
			drawn := 0
			for line := range strings.SplitSeq(strings.ReplaceAll(errs.String(), "\n", "\r"), "\r") {
				if !strings.HasPrefix(line, "\x1b[K") || !strings.Contains(line, "step 420/1000") {
					continue
				}
				drawn++
				if width := ansi.StringWidth(line); width >= map[string]int{"40": 40, "80": 80, "200": 200}[columns] {
					t.Errorf("%d columns in a terminal of %s: %q", width, columns, line)
				}
				for _, part := range []string{"loss 1.2346", "12k tok/s", "eta 2m10s", "1.2 GB"} {
					if columns != "40" && !strings.Contains(line, part) {
						t.Errorf("%q lacks %s", line, part)
					}
				}
			}
			if drawn == 0 || !strings.HasSuffix(errs.String(), "\r\x1b[Kstep 1000: done\n") {
				t.Errorf("the bar was drawn %d times and must be taken away at the end: %q", drawn, errs)
			}
		})
	}
}

func TestTrainingLines(t *testing.T) {
	tty, _, errs := piped(nil)
	view := tty.Training()
	for _, e := range story() {
		view.Sink(e)
	}
	view.Done()
	want := `training on cpu: 1000 steps, 98k of 2.6M weights learn
compiled train.grad [64, 32]→80 in 4.2s
step 500: validation  loss 1.1000  token_accuracy 0.7500  (best so far)  in 3.0s
step 500: saved 31 MB to runs/x-1/checkpoints/00000500 in 0.2s
t5ctl: warning: checkpoint runs/x-1/checkpoints/00000400 is damaged and was passed over: cut short
step 1000: done
`
	if got := errs.String(); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestTrainingJSON(t *testing.T) {
	tty, _, errs := piped(nil)
	tty.SetMode(true, false)
	view := tty.Training()
	for _, e := range story() {
		view.Sink(e)
	}
	view.Done()
	var names []string
	for line := range strings.Lines(errs.String()) {
		var event map[string]any
		if err := json.Unmarshal([]byte(line), &event); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		names = append(names, event["event"].(string))
	}
	if got := strings.Join(names, " "); got != "started compiled step evaluated saved damaged step stopped" {
		t.Errorf("events %s", got)
	}
}

func TestTableFits(t *testing.T) {
	for _, columns := range []string{"80", "200"} {
		tty, out, _ := piped(map[string]string{"COLUMNS": columns, "TERM": "xterm"})
		tab := term.Table{Header: []string{"NAME", "WHAT IT IS"}}
		tab.Add("first", strings.Repeat("a word and another ", 8))
		tty.WatchedOut().Table(tab)
		for line := range strings.Lines(out.String()) {
			if w := ansi.StringWidth(strings.TrimRight(line, "\n")); w > map[string]int{"80": 80, "200": 200}[columns] {
				t.Errorf("%d columns in a terminal of %s: %q", w, columns, line)
			}
		}
		if n := strings.Count(out.String(), "another"); n != 8 {
			t.Errorf("%d of 8 words are there:\n%s", n, out)
		}
	}
}

func TestNoColor(t *testing.T) {
	tty, out, _ := piped(map[string]string{"NO_COLOR": "1", "TERM": "xterm-256color"})
	tty.WatchedOut()
	tty.Printf("%s %s %s", tty.Strong("a"), tty.Good("b"), tty.Bad("c"))
	if out.String() != "a b c" {
		t.Errorf("got %q; want no escape sequences", out)
	}
	colored, out, _ := piped(map[string]string{"TERM": "xterm-256color"})
	colored.WatchedOut()
	colored.Printf("%s", colored.Bad("c"))
	if !strings.Contains(out.String(), "\x1b[") {
		t.Errorf("got %q; want color on a terminal", out)
	}
}
