package term

import "time"

// Watched makes the second stream count as a terminal, with a clock of the test's.
func (t *Terminal) Watched(now func() time.Time) *Terminal {
	t.err.tty, t.now = true, now
	return t
}

// WatchedOut makes the first stream count as a terminal.
func (t *Terminal) WatchedOut() *Terminal {
	t.out.tty = true
	return t
}

// Timed gives the Terminal a clock of the test's.
func (t *Terminal) Timed(now func() time.Time) *Terminal {
	t.now = now
	return t
}
