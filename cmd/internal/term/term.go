// Package term is how a command speaks: results on one stream, everything else on the other.
//
// A Terminal knows whether somebody watches. Only then does it color, draw tables with lines,
// or redraw a progress bar; piped output is plain text without escape sequences. Under JSON the
// result is one value on the first stream, and the second carries one JSON object a line.
package term

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode"

	xterm "golang.org/x/term"

	"github.com/charmbracelet/lipgloss"
	"github.com/muesli/termenv"
)

// defaultWidth is assumed where the terminal does not tell its own.
const defaultWidth = 80

// Terminal is the pair of streams of one run. Its methods may be called from any goroutine.
type Terminal struct {
	in       io.Reader
	out, err *stream
	getenv   func(string) string
	now      func() time.Time
	json     bool
	quiet    bool

	mu    sync.Mutex    // guards what follows and keeps lines whole
	bar   *Progress     // the bar that stands on the last line, nil where there is none
	lines *bufio.Reader // over in, once a question was asked
}

// stream remembers the first failed write, so that a full disk behind > is not lost.
type stream struct {
	w     io.Writer
	file  *os.File // nil unless a file descriptor stands behind w
	tty   bool
	fails error
}

func (s *stream) Write(p []byte) (int, error) {
	n, err := s.w.Write(p)
	if err != nil && s.fails == nil {
		s.fails = err
	}
	return n, err
}

func newStream(w io.Writer) *stream {
	s := &stream{w: w}
	if f, ok := w.(*os.File); ok {
		s.file, s.tty = f, xterm.IsTerminal(int(f.Fd()))
	}
	return s
}

// New makes a Terminal of three streams; getenv is asked for NO_COLOR, TERM and COLUMNS.
func New(in io.Reader, out, err io.Writer, getenv func(string) string) *Terminal {
	return &Terminal{in: in, out: newStream(out), err: newStream(err), getenv: getenv, now: time.Now}
}

// SetMode says how results are shown from here on.
func (t *Terminal) SetMode(json, quiet bool) { t.json, t.quiet = json, quiet }

// IsJSON says whether results are JSON values.
func (t *Terminal) IsJSON() bool { return t.json }

// In is what the user or a pipe sends.
func (t *Terminal) In() io.Reader { return t.in }

// Out is the stream of results. A failed write is kept for Failure.
func (t *Terminal) Out() io.Writer { return t.out }

// Err is the stream of everything that is no result.
func (t *Terminal) Err() io.Writer { return t.err }

// Failure is the first error of writing a result, nil where all was written.
func (t *Terminal) Failure() error { return t.out.fails }

// InIsTerminal says whether somebody types, so that a question can be answered.
func (t *Terminal) InIsTerminal() bool {
	f, ok := t.in.(*os.File)
	return ok && xterm.IsTerminal(int(f.Fd()))
}

// Width is how many columns a line of results may take: those of the terminal, else COLUMNS, else 80.
func (t *Terminal) Width() int { return t.widthOf(t.out) }

func (t *Terminal) widthOf(s *stream) int {
	if s.tty && s.file != nil {
		if w, _, err := xterm.GetSize(int(s.file.Fd())); err == nil && w > 0 {
			return w
		}
	}
	if w, err := strconv.Atoi(t.getenv("COLUMNS")); err == nil && w > 0 {
		return w
	}
	return defaultWidth
}

// JSON writes v as the one value of the run.
func (t *Terminal) JSON(v any) error {
	enc := json.NewEncoder(t.out)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}

// Printf writes to the results. Errors of writing are kept for Failure.
func (t *Terminal) Printf(format string, args ...any) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.clearBar()
	_, _ = fmt.Fprintf(t.out, format, args...) // kept by the stream
}

// Println writes a line to the results.
func (t *Terminal) Println(args ...any) { t.Printf("%s", fmt.Sprintln(args...)) }

// Notef tells what is going on; nothing under --quiet.
func (t *Terminal) Notef(format string, args ...any) {
	if !t.quiet {
		t.say("note", fmt.Sprintf(format, args...), "")
	}
}

// Warnf tells what the user should know before trusting the result.
func (t *Terminal) Warnf(format string, args ...any) {
	t.say("warning", fmt.Sprintf(format, args...), "t5ctl: "+t.errStyle().Foreground(lipgloss.Color("3")).Render("warning:")+" ")
}

// Failed tells why the run ended: a text and a hint, or one JSON object with its exit code.
func (t *Terminal) Failed(code int, message, hint string) {
	if t.json {
		t.event(map[string]any{"error": errorObject{code, message, hint}})
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.clearBar()
	label := t.errStyle().Bold(true).Foreground(lipgloss.Color("1")).Render("error:")
	_, _ = fmt.Fprintf(t.err, "t5ctl: %s %s\n", label, Clean(message)) // nowhere left to tell
	for line := range strings.SplitSeq(hint, "\n") {
		if line != "" {
			_, _ = fmt.Fprintf(t.err, "t5ctl: hint: %s\n", Clean(line)) // nowhere left to tell
		}
	}
}

// errorObject is the JSON form of a failure; its keys are an interface.
type errorObject struct {
	Code    int    `json:"code"`
	Message string `json:"message"`
	Hint    string `json:"hint"`
}

// Event writes one JSON object as a line of the second stream; for use under JSON only.
func (t *Terminal) event(v any) {
	line, err := json.Marshal(v)
	if err != nil {
		line = []byte(`{"warning":{"message":` + strconv.Quote(err.Error()) + `}}`)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	_, _ = t.err.Write(append(line, '\n')) // nowhere left to tell
}

func (t *Terminal) say(kind, message, prefix string) {
	if t.json {
		t.event(map[string]any{kind: map[string]string{"message": message}})
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.clearBar()
	_, _ = fmt.Fprintf(t.err, "%s%s\n", prefix, Clean(message)) // nowhere left to tell
}

// clearBar takes the bar off its line; the next drawing puts it back. t.mu is held.
func (t *Terminal) clearBar() {
	if t.bar != nil && t.bar.drawn {
		_, _ = io.WriteString(t.err, "\r\x1b[K")
		t.bar.drawn = false
	}
}

// Clean makes text from files and models harmless for a terminal: control characters other
// than line ends and tabs are shown as \x1b and the like.
func Clean(s string) string {
	harmless := func(r rune) bool { return r == '\n' || r == '\t' || !unicode.IsControl(r) }
	if strings.IndexFunc(s, func(r rune) bool { return !harmless(r) }) < 0 {
		return s
	}
	var b strings.Builder
	for _, r := range s {
		if harmless(r) {
			b.WriteRune(r)
		} else {
			fmt.Fprintf(&b, "\\x%02x", r)
		}
	}
	return b.String()
}

// profile is plain where the stream is no terminal or wants no color; NO_COLOR wins.
func (t *Terminal) profile(s *stream) termenv.Profile {
	if s.tty && t.getenv("NO_COLOR") == "" && t.getenv("TERM") != "dumb" && t.getenv("TERM") != "" {
		return termenv.ANSI
	}
	return termenv.Ascii
}

func (t *Terminal) style(s *stream) lipgloss.Style {
	r := lipgloss.NewRenderer(s)
	r.SetColorProfile(t.profile(s))
	return r.NewStyle()
}

func (t *Terminal) errStyle() lipgloss.Style { return t.style(t.err) }
func (t *Terminal) outStyle() lipgloss.Style { return t.style(t.out) }

// Strong renders text of a result so that it stands out on a terminal.
func (t *Terminal) Strong(s string) string { return t.outStyle().Bold(true).Render(s) }

// Good and Bad render a verdict; without color the words alone must tell.
func (t *Terminal) Good(s string) string {
	return t.outStyle().Foreground(lipgloss.Color("2")).Render(s)
}

// Bad renders a verdict that did not pass.
func (t *Terminal) Bad(s string) string {
	return t.outStyle().Bold(true).Foreground(lipgloss.Color("1")).Render(s)
}

// Ask puts a question on the second stream and reads a line; an empty one takes the default. It
// is for terminals: ask InIsTerminal first.
func (t *Terminal) Ask(question, byDefault string) (string, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.clearBar()
	_, _ = fmt.Fprintf(t.err, "%s [%s]: ", Clean(question), Clean(byDefault)) // nowhere left to tell
	if t.lines == nil {
		t.lines = bufio.NewReader(t.in)
	}
	line, err := t.lines.ReadString('\n')
	if err != nil && (!errors.Is(err, io.EOF) || line == "") {
		return "", fmt.Errorf("reading the answer: %w", err)
	}
	if line = strings.TrimSpace(line); line != "" {
		return line, nil
	}
	return byDefault, nil
}
