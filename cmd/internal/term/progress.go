package term

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/charmbracelet/lipgloss"
	"github.com/charmbracelet/x/ansi"
)

const (
	quietStart    = time.Second            // work that is done by then needs no progress
	redrawEvery   = 100 * time.Millisecond // a bar on a terminal
	reportEvery   = 10 * time.Second       // lines elsewhere
	barColumns    = 20                     // of the bar itself on a wide terminal
	slimColumns   = 8                      // of the bar on one of 80 columns
	wideColumns   = 100                    // from here on a terminal is wide
	minBarColumns = 60                     // narrower terminals get the text alone
)

// Progress is a piece of work that takes a while. Its methods may be called from any goroutine.
type Progress struct {
	term   *Terminal
	title  string
	unit   string
	total  int64
	done   int64
	detail string
	status []string // instead of counts, rate and detail
	start  time.Time
	last   time.Time
	drawn  bool  // stands on the terminal's last line now
	shown  bool  // was shown at all
	told   int64 // what was done at the last line
	ended  chan struct{}
	closed bool
}

// progressEvent is the JSON form of a state of the work.
type progressEvent struct {
	Task    string  `json:"task"`
	Done    int64   `json:"done"`
	Total   int64   `json:"total,omitempty"`
	Unit    string  `json:"unit,omitempty"`
	Detail  string  `json:"detail,omitempty"`
	Seconds float64 `json:"seconds"`
}

// Progress starts to show a piece of work: total of unit, 0 where that is not known. Nothing is
// shown during its first second. A terminal gets a bar, a pipe a line now and then, JSON an event.
func (t *Terminal) Progress(title string, total int64, unit string) *Progress {
	p := &Progress{term: t, title: title, unit: unit, total: total, start: t.now()}
	p.last = p.start
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.bar == nil {
		t.bar = p
	}
	if t.err.file != nil && t.err.tty && !t.json && !t.quiet {
		p.ended = make(chan struct{})
		go p.refresh(p.ended)
	}
	return p
}

// refresh keeps a bar alive while the work says nothing, as during a long compilation.
func (p *Progress) refresh(ended <-chan struct{}) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-ended:
			return
		case <-tick.C:
			p.update(func() {})
		}
	}
}

// Set tells how much is done.
func (p *Progress) Set(done int64) { p.update(func() { p.done = done }) }

// Add tells how much more is done.
func (p *Progress) Add(n int64) { p.update(func() { p.done += n }) }

// Detail sets the text behind the numbers.
func (p *Progress) Detail(text string) { p.update(func() { p.detail = text }) }

// Status sets how much is done, and in parts what is told of it, the most telling first: where the
// terminal is too narrow, the last ones are left out.
func (p *Progress) Status(done int64, parts ...string) {
	p.update(func() { p.done, p.status = done, parts })
}

// Done ends the work; a bar is taken away, what a pipe or JSON saw is closed by a last line.
func (p *Progress) Done() {
	t := p.term
	t.mu.Lock()
	p.closed = true
	if p.ended != nil {
		close(p.ended)
		p.ended = nil
	}
	if t.bar == p {
		t.clearBar()
		t.bar = nil
	}
	shown, line := p.shown && !t.err.tty && p.told != p.done, p.line()
	t.mu.Unlock()
	if shown && !t.json {
		t.Notef("%s", line)
	} else if shown {
		t.event(map[string]any{"progress": p.state()})
	}
}

func (p *Progress) state() progressEvent {
	return progressEvent{p.title, p.done, p.total, p.unit, p.detail, p.term.now().Sub(p.start).Seconds()}
}

func (p *Progress) update(change func()) {
	t := p.term
	t.mu.Lock()
	change()
	now := t.now()
	every := reportEvery
	if t.err.tty && !t.json {
		every = redrawEvery
	}
	if t.quiet || p.closed || now.Sub(p.start) < quietStart || (p.shown && now.Sub(p.last) < every) {
		t.mu.Unlock()
		return
	}
	p.last, p.shown = now, true
	if t.err.tty && !t.json {
		p.draw()
		t.mu.Unlock()
		return
	}
	p.told = p.done
	line, state := p.line(), p.state()
	t.mu.Unlock()
	if t.json {
		t.event(map[string]any{"progress": state})
	} else {
		t.Notef("%s", line)
	}
}

// draw puts the bar on the last line; the terminal's lock is held.
func (p *Progress) draw() {
	t := p.term
	if t.bar == nil {
		t.bar = p
	}
	if t.bar != p {
		return // one bar at a time: the one that came first
	}
	width, bar := t.widthOf(t.err)-1, ""
	if p.total > 0 && width >= minBarColumns {
		bar = t.barOf(float64(p.done)/float64(p.total), width) + " "
	}
	text := fitting(p.parts(), width-ansi.StringWidth(bar))
	_, _ = io.WriteString(t.err, "\r\x1b[K"+bar+text) // redrawn soon
	p.drawn = true
}

// barOf draws a share of the work. Bubbles' progress bar would do, but its package asks the
// terminal for its colors at every start of the program, which costs time and can hang.
func (t *Terminal) barOf(share float64, width int) string {
	columns := slimColumns
	if width >= wideColumns {
		columns = barColumns
	}
	share = min(1, max(0, share))
	full := int(share*float64(columns) + 0.5)
	done := t.errStyle().Foreground(lipgloss.Color("4")).Render(strings.Repeat("█", full))
	return fmt.Sprintf("%s%s %3.0f%%", done, strings.Repeat("░", columns-full), 100*share)
}

// fitting joins the parts that fit the width, the first one cut where even that does not.
func fitting(parts []string, width int) string {
	if len(parts) == 0 || width <= 0 {
		return ""
	}
	text := ansi.Truncate(parts[0], width, "…")
	for _, part := range parts[1:] {
		if longer := text + "  " + part; ansi.StringWidth(longer) <= width {
			text = longer
		}
	}
	return text
}

// line is the state in words.
func (p *Progress) line() string { return strings.Join(p.parts(), "  ") }

// parts are title and count, rate, time left and detail, or the status that was set.
func (p *Progress) parts() []string {
	if p.status != nil {
		return p.status
	}
	count := amount(p.done, p.unit)
	if p.total > 0 {
		count += "/" + amount(p.total, p.unit)
	}
	parts := []string{strings.TrimSpace(fmt.Sprintf("%s: %s %s", Clean(p.title), count, unitName(p.unit)))}
	elapsed := p.term.now().Sub(p.start)
	if rate := float64(p.done) / elapsed.Seconds(); rate > 0 && elapsed >= quietStart {
		parts = append(parts, amount(int64(rate), p.unit)+"/s")
		if left := p.total - p.done; left > 0 {
			parts = append(parts, "eta "+Duration(time.Duration(float64(left)/rate*float64(time.Second))))
		}
	}
	if p.detail != "" {
		parts = append(parts, Clean(p.detail))
	}
	return parts
}

// Bytes is the unit whose amounts are shown in MB and the like.
const Bytes = "B"

func amount(n int64, unit string) string {
	if unit == Bytes {
		return Size(n)
	}
	return fmt.Sprint(n)
}

func unitName(unit string) string {
	if unit == Bytes {
		return ""
	}
	return unit
}

// Size shows a number of bytes in three digits: 1.2 MB.
func Size(n int64) string {
	const step = 1000
	if n < step {
		return fmt.Sprintf("%d B", n)
	}
	value, units := float64(n), []string{"kB", "MB", "GB", "TB"}
	unit := ""
	for _, unit = range units {
		value /= step
		if value < step-0.5 {
			break
		}
	}
	if value < 9.95 {
		return fmt.Sprintf("%.1f %s", value, unit)
	}
	return fmt.Sprintf("%.0f %s", value, unit)
}

// Duration shows a time in the two units that matter: 3.2s, 4m10s, 2h05m.
func Duration(d time.Duration) string {
	switch {
	case d < 10*time.Second:
		return fmt.Sprintf("%.1fs", d.Seconds())
	case d < time.Minute:
		return fmt.Sprintf("%.0fs", d.Seconds())
	case d < time.Hour:
		return fmt.Sprintf("%dm%02ds", int(d.Minutes()), int(d.Seconds())%60)
	default:
		return fmt.Sprintf("%dh%02dm", int(d.Hours()), int(d.Minutes())%60)
	}
}
