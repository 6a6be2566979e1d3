package term_test

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/t5ctl/t5ctl/cmd/internal/term"
)

// piped makes a Terminal whose streams are no terminals.
func piped(env map[string]string) (t *term.Terminal, out, errs *bytes.Buffer) {
	out, errs = new(bytes.Buffer), new(bytes.Buffer)
	return term.New(strings.NewReader(""), out, errs, func(name string) string { return env[name] }), out, errs
}

func TestTable(t *testing.T) {
	tty, out, _ := piped(nil)
	tab := term.Table{Header: []string{"NAME", "N", "WHAT"}, Right: []int{1}}
	tab.Add("a", "7", "short")
	tab.Add("längerer", "12", "two\nlines and \x1b[31mred")
	tab.Add("few")
	tty.Table(tab)
	want := "NAME       N  WHAT\n" +
		"a          7  short\n" +
		"längerer  12  two lines and \\x1b[31mred\n" +
		"few\n"
	if out.String() != want {
		t.Errorf("got\n%s\nwant\n%s", out, want)
	}
}

func TestStreams(t *testing.T) {
	tty, out, errs := piped(nil)
	tty.Printf("result %d\n", 1)
	tty.Notef("note")
	tty.Warnf("watch \x07out")
	tty.Failed(4, "no such thing", "look there\nor here")
	if got := out.String(); got != "result 1\n" {
		t.Errorf("stdout %q", got)
	}
	want := "note\nt5ctl: warning: watch \\x07out\nt5ctl: error: no such thing\nt5ctl: hint: look there\nt5ctl: hint: or here\n"
	if got := errs.String(); got != want {
		t.Errorf("stderr %q; want %q", got, want)
	}
}

func TestQuiet(t *testing.T) {
	tty, _, errs := piped(nil)
	tty.SetMode(false, true)
	tty.Notef("note")
	p := tty.Progress("work", 10, "rows")
	p.Add(3)
	p.Done()
	tty.Warnf("still told")
	if got := errs.String(); got != "t5ctl: warning: still told\n" {
		t.Errorf("stderr %q; want the warning alone", got)
	}
}

// TestJSON holds that each line of stderr is one JSON object.
func TestJSON(t *testing.T) {
	tty, out, errs := piped(nil)
	tty.SetMode(true, false)
	tty.Notef("a <note>")
	tty.Warnf("w")
	tty.Failed(2, "bad \"thing\"", "")
	if err := tty.JSON(map[string]string{"a": "<b>"}); err != nil || out.String() != "{\n  \"a\": \"<b>\"\n}\n" {
		t.Errorf("stdout %q, %v", out, err)
	}
	var kinds []string
	for line := range strings.Lines(errs.String()) {
		var event map[string]any
		if err := json.Unmarshal([]byte(line), &event); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		for kind := range event {
			kinds = append(kinds, kind)
		}
	}
	if got := strings.Join(kinds, " "); got != "note warning error" {
		t.Errorf("events %s; want note warning error", got)
	}
}

func TestSize(t *testing.T) {
	for n, want := range map[int64]string{
		0: "0 B", 999: "999 B", 1000: "1.0 kB", 9949: "9.9 kB", 12345: "12 kB", 999_499: "999 kB", 999_500: "1.0 MB",
		62_000_000: "62 MB", 5_000_000_000_000_000: "5000 TB",
	} {
		if got := term.Size(n); got != want {
			t.Errorf("Size(%d) = %q; want %q", n, got, want)
		}
	}
}

func TestDuration(t *testing.T) {
	for d, want := range map[time.Duration]string{
		1234 * time.Millisecond: "1.2s", 59 * time.Second: "59s", 250 * time.Second: "4m10s", 125 * time.Minute: "2h05m",
	} {
		if got := term.Duration(d); got != want {
			t.Errorf("Duration(%v) = %q; want %q", d, got, want)
		}
	}
}

// TestProgressLines says that a pipe sees a line now and then, and each state once.
func TestProgressLines(t *testing.T) {
	tty, _, errs := piped(nil)
	c := clock{time.Unix(0, 0)}
	p := tty.Timed(c.now).Progress("reading", 100, "rows")
	for range 100 {
		c.at = c.at.Add(300 * time.Millisecond)
		p.Add(1)
	}
	p.Done()
	want := "reading: 4/100 rows  3/s  eta 29s\n" +
		"reading: 38/100 rows  3/s  eta 19s\n" +
		"reading: 72/100 rows  3/s  eta 8.4s\n" +
		"reading: 100/100 rows  3/s\n"
	if got := errs.String(); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	errs.Reset()
	q := tty.Progress("writing", 10, "rows")
	c.at = c.at.Add(2 * time.Second)
	q.Set(10)
	q.Done()
	if got := errs.String(); got != "writing: 10/10 rows  5/s\n" {
		t.Errorf("got %q; want one line", got)
	}
}
