package oci

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"testing"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/t5ctl/t5ctl/internal/digest"
)

var (
	errLost    = errors.New("too late")
	errBlocked = errors.New("waited enough")
	errCrashed = errors.New("crashed")
)

// board is a server that lets tags move, and on which every request takes effect at once.
type board struct {
	live    []string
	written []string // who has written the record, in order
}

// writer is one client of a board, which takes its steps when the test says so and may die before
// one of them.
type writer struct {
	board *board
	name  string
	turn  chan struct{} // one more step
	done  chan bool     // after each: whether it was the last
	steps int
	die   int // before this step; 0: never
	err   error
}

func (w *writer) step(act func()) error {
	if w.steps > 0 {
		w.done <- false
	}
	<-w.turn
	if w.steps++; w.steps == w.die {
		return errCrashed
	}
	act()
	return nil
}

func (w *writer) announce(context.Context) (string, error) {
	return w.name, w.step(func() { w.board.live = append(w.board.live, w.name) })
}

func (w *writer) rivals(_ context.Context, mine string) (rivals []string, err error) {
	err = w.step(func() {
		rivals = slices.DeleteFunc(slices.Clone(w.board.live), func(s string) bool { return s == mine })
	})
	return rivals, err
}

func (w *writer) taken(context.Context) (taken bool, err error) {
	err = w.step(func() { taken = len(w.board.written) > 0 })
	return taken, err
}

func (w *writer) write(context.Context) error {
	return w.step(func() { w.board.written = append(w.board.written, w.name) })
}

func (w *writer) withdraw(context.Context, string) error {
	if w.die > 0 && w.steps >= w.die {
		return nil // the dead withdraw nothing
	}
	return w.step(func() {
		w.board.live = slices.DeleteFunc(w.board.live, func(s string) bool { return s == w.name })
	})
}

func (w *writer) lost(context.Context) error              { return errLost }
func (w *writer) blocked(context.Context, []string) error { return errBlocked }

// play runs writers in the order that choose gives and tells how many could go on at each step.
func play(n, dying, die int, choose func(alive int) int) (*board, []*writer, []int) {
	b := &board{}
	var all, alive []*writer
	for i := range n {
		w := &writer{board: b, name: fmt.Sprint("writer-", i), turn: make(chan struct{}), done: make(chan bool)}
		if i == dying {
			w.die = die
		}
		all, alive = append(all, w), append(alive, w)
		go func() {
			w.err = guarded(context.Background(), w, -1)
			w.done <- true
		}()
	}
	var widths []int
	for len(alive) > 0 {
		widths = append(widths, len(alive))
		i := choose(len(alive))
		alive[i].turn <- struct{}{}
		if <-alive[i].done {
			alive = slices.Delete(alive, i, i+1)
		}
	}
	return b, all, widths
}

// checkPlay fails if two have written, or one was told another result than it had.
func checkPlay(t *testing.T, b *board, all []*writer) {
	t.Helper()
	if len(b.written) > 1 {
		t.Fatalf("written by %v", b.written)
	}
	for _, w := range all {
		if wrote := slices.Contains(b.written, w.name); wrote != (w.err == nil) && !errors.Is(w.err, errCrashed) {
			t.Fatalf("%s: written %v, told %v", w.name, wrote, w.err)
		}
	}
}

// everyOrder plays every order of the writers' steps.
func everyOrder(t *testing.T, n, dying, die int) (orders, won int) {
	var path []int
	for {
		at := 0
		b, all, widths := play(n, dying, die, func(int) int {
			if at == len(path) {
				path = append(path, 0)
			}
			at++
			return path[at-1]
		})
		checkPlay(t, b, all)
		orders, won = orders+1, won+len(b.written)
		i := len(path) - 1
		for i >= 0 && path[i] == widths[i]-1 {
			i--
		}
		if i < 0 {
			return orders, won
		}
		path = append(path[:i], path[i]+1)
	}
}

// TestEveryOrderOfSteps plays two writers in every order of their steps, each dying before each
// step or not at all; three in every order when T5CTL_FAULTS is set, else in some.
func TestEveryOrderOfSteps(t *testing.T) {
	orders, won := everyOrder(t, 2, -1, 0)
	if won == 0 {
		t.Error("nobody ever wrote")
	}
	for die := 1; die <= 5; die++ {
		more, _ := everyOrder(t, 2, 0, die)
		orders += more
	}
	t.Logf("faults: guarded mode, 2 writers and deaths: %d orders of steps, never two records", orders)
	if os.Getenv("T5CTL_FAULTS") != "" {
		orders, _ := everyOrder(t, 3, -1, 0)
		t.Logf("faults: guarded mode, 3 writers: %d orders of steps, never two records", orders)
		return
	}
	random := rand.New(rand.NewPCG(3, 3))
	for range 5000 {
		b, all, _ := play(3, random.IntN(4), 1+random.IntN(5), random.IntN)
		checkPlay(t, b, all)
	}
}

// FuzzParseRecordManifest holds that what is read out of a manifest is what its digest says.
func FuzzParseRecordManifest(f *testing.F) {
	sound, err := recordManifest([]byte(`{"schema":"t5ctl.event/v1"}`), "writer")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(sound)
	f.Add([]byte(`{"artifactType":"application/vnd.t5ctl.record.v1+json","layers":[{"digest":"sha256:00","data":"e30="}]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		record, err := parseRecordManifest(data)
		if err != nil {
			return
		}
		var manifest ocispec.Manifest
		if err := json.Unmarshal(data, &manifest); err != nil || manifest.Layers[0].Digest.String() != digest.Bytes(record) {
			t.Errorf("%q was read, whose digest is another, %v", record, err)
		}
	})
}
