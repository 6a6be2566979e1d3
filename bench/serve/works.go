package main

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// turn has all clients ask all rows once, and gives rows/s.
func (b *bench) turn() (float64, error) {
	c := client()
	defer c.CloseIdleConnections()
	var next atomic.Int64
	var group sync.WaitGroup
	failed := make(chan error, b.clients)
	began := time.Now()
	for range b.clients {
		group.Go(func() {
			for {
				row := int(next.Add(1)) - 1
				if row >= len(b.inputs) {
					return
				}
				if status, err := b.ask(c, row); err != nil || status != http.StatusOK {
					failed <- fmt.Errorf("row %d: status %d, %w", row, status, err)
					return
				}
			}
		})
	}
	group.Wait()
	speed := float64(len(b.inputs)) / time.Since(began).Seconds()
	close(failed)
	return speed, <-failed
}

type throughputResult struct {
	Clients  int       `json:"clients"`
	Rows     int       `json:"rows"`
	Generate []float64 `json:"generate_rows_per_s"`
	Serve    []float64 `json:"serve_rows_per_s"`
	Ratio    float64   `json:"ratio"` // of the medians

	GenerateCPU float64 `json:"generate_cpu_ms_per_row"` // processor time, without that of a start with few rows
	ServeCPU    float64 `json:"serve_cpu_ms_per_row"`
}

// startRows are enough for generate to compile what all rows need.
const startRows = 256

// throughput takes turns with generate over the same rows.
func (b *bench) throughput() (any, error) {
	r := throughputResult{Clients: b.clients, Rows: len(b.inputs)}
	if _, err := b.turn(); err != nil { // compiles
		return r, err
	}
	b.generate, b.generateCPU = nil, 0
	serveCPU := 0.0
	for range b.rounds {
		if err := b.expect(len(b.inputs)); err != nil {
			return r, err
		}
		all, speeds := b.generateCPU, b.generate
		if err := b.expect(startRows); err != nil {
			return r, err
		}
		b.generateCPU, b.generate = 2*all-b.generateCPU, speeds // less the start
		before := b.processor()
		speed, err := b.turn()
		if err != nil {
			return r, err
		}
		serveCPU += b.processor() - before
		r.Serve = append(r.Serve, speed)
	}
	r.Generate = b.generate
	b.capacity = quantile(r.Serve, .5)
	r.Ratio = b.capacity / quantile(r.Generate, .5)
	rows := float64(b.rounds * len(b.inputs))
	r.GenerateCPU, r.ServeCPU = b.generateCPU/(rows-float64(b.rounds*startRows))*1000, serveCPU/rows*1000
	return r, nil
}

// measure finds the capacity where no other work has.
func (b *bench) measure() error {
	if b.capacity > 0 {
		return nil
	}
	_, err := b.turn()
	if err == nil {
		b.capacity, err = b.turn()
	}
	return err
}

// arrivals are what became of requests that came at random times, at a rate, whatever the server did.
type arrivals struct {
	mu       sync.Mutex
	sent     int
	answered int
	refused  int
	took     []float64 // ms
	errors   []error   // wrong and lost
}

func (b *bench) arrive(rate float64, length time.Duration, each func()) *arrivals {
	a := &arrivals{}
	c := client()
	defer c.CloseIdleConnections()
	var group sync.WaitGroup
	rng := rand.New(rand.NewPCG(1, 2))
	began := time.Now()
	due := time.Duration(0)
	tick := began
	for due < length {
		due += time.Duration(rng.ExpFloat64() / rate * float64(time.Second))
		time.Sleep(time.Until(began.Add(due)))
		if each != nil && time.Since(tick) > 10*time.Second {
			tick = time.Now()
			each()
		}
		row := rng.IntN(len(b.inputs))
		a.sent++
		group.Go(func() {
			at := time.Now()
			status, err := b.ask(c, row)
			took := float64(time.Since(at).Microseconds()) / 1000
			a.mu.Lock()
			defer a.mu.Unlock()
			switch {
			case err == nil && status == http.StatusOK:
				a.answered++
				a.took = append(a.took, took)
			case err == nil && status == http.StatusTooManyRequests:
				a.refused++
			case err == nil:
				a.errors = append(a.errors, fmt.Errorf("status %d", status))
			default:
				a.errors = append(a.errors, err)
			}
		})
	}
	group.Wait()
	return a
}

func (a *arrivals) failure() error {
	if len(a.errors) == 0 {
		return nil
	}
	return fmt.Errorf("%d of %d requests, the first: %w", len(a.errors), a.sent, a.errors[0])
}

// counts gives how many answers were wrong, and how many requests came to nothing.
func (a *arrivals) counts() (wrong, lost int) {
	for _, err := range a.errors {
		if errors.As(err, new(*wrongAnswer)) {
			wrong++
		} else {
			lost++
		}
	}
	return wrong, lost
}

type latencyResult struct {
	Capacity float64 `json:"capacity_rows_per_s"`
	Rate     float64 `json:"rate_rows_per_s"`
	Requests int     `json:"requests"`
	P50      float64 `json:"p50_ms"`
	P95      float64 `json:"p95_ms"`
	P99      float64 `json:"p99_ms"`
	Refused  int     `json:"refused"`
}

// halfLoad measures latency at half the capacity, requests coming at random times.
func (b *bench) halfLoad() (any, error) {
	if err := b.measure(); err != nil {
		return nil, err
	}
	a := b.arrive(b.capacity/2, b.latency, nil)
	return latencyResult{
		Capacity: b.capacity, Rate: b.capacity / 2, Requests: a.sent, P50: quantile(a.took, .5), P95: quantile(a.took, .95), P99: quantile(a.took, .99), Refused: a.refused,
	}, a.failure()
}

type soakResult struct {
	Seconds  float64   `json:"seconds"`
	Load     float64   `json:"load_in_capacities"`
	Sent     int       `json:"sent"`
	Answered int       `json:"answered"`
	Refused  int       `json:"refused_with_429"`
	Lost     int       `json:"lost"`
	Wrong    int       `json:"wrong"`
	P50      float64   `json:"p50_ms"`
	P99      float64   `json:"p99_ms"`
	Memory   []float64 `json:"server_mib_every_10_s"`
	Growth   float64   `json:"growth"` // memory of the last quarter over that of the second, medians
}

// overload sends more than the server can answer.
func (b *bench) overload() (any, error) {
	if err := b.measure(); err != nil {
		return nil, err
	}
	r := soakResult{Seconds: b.soak.Seconds(), Load: b.load}
	a := b.arrive(b.load*b.capacity, b.soak, func() { r.Memory = append(r.Memory, b.resident()) })
	r.Sent, r.Answered, r.Refused = a.sent, a.answered, a.refused
	r.Wrong, r.Lost = a.counts()
	r.P50, r.P99 = quantile(a.took, .5), quantile(a.took, .99)
	if n := len(r.Memory); n >= 8 {
		r.Growth = quantile(r.Memory[3*n/4:], .5) / quantile(r.Memory[n/4:n/2], .5)
	}
	err := a.failure()
	if err == nil && a.refused == 0 {
		err = errors.New("nothing was refused: this was no overload")
	}
	if err == nil && r.Growth > 1.1 {
		err = fmt.Errorf("memory grew by %.0f %%", 100*(r.Growth-1))
	}
	return r, err
}

type hostileResult struct {
	Stalled  int     `json:"stalled_clients_cut_off"`
	Garbage  int     `json:"garbage_refused"`
	Vanished int     `json:"vanished"`
	Asked    int     `json:"asked_meanwhile"`
	P99      float64 `json:"p99_ms"`
}

// hostile has clients that stall, vanish and send garbage beside one that asks.
func (b *bench) hostile() (any, error) {
	var r hostileResult
	address := strings.TrimPrefix(b.url, "http://")
	var group sync.WaitGroup
	var mu sync.Mutex
	var failed error
	tell := func(count *int, err error) {
		mu.Lock()
		defer mu.Unlock()
		if err != nil {
			failed = errors.Join(failed, err)
			return
		}
		*count++
	}
	head := "POST /v1/generate HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
	for _, start := range []string{"POST /v1/gen", head, head + "Content-Length: 1000\r\n\r\n{\"input\":"} {
		for range 64 {
			group.Go(func() { tell(&r.Stalled, stall(address, start)) })
		}
	}
	garbage := map[string]string{
		"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 no HTTP\r\n\r\n":                    "400",
		head + "Content-Length: 5\r\n\r\n{{{{{":                                           "400",
		head + "Content-Length: 99999999\r\n\r\n{":                                        "413",
		head + "Content-Length: 13\r\n\r\n{\"input\":\"\xff\"}":                           "400",
		"GET /v1/generate HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n":                            "405",
		"POST /v1/generate HTTP/1.1\r\nHost: evil.example\r\nContent-Length: 2\r\n\r\n{}": "403",
		"GET /etc/passwd HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n":                             "404",
		head + "X: " + strings.Repeat("x", 64<<10) + "\r\n\r\n":                           "431",
	}
	for text, want := range garbage {
		group.Go(func() { tell(&r.Garbage, send(address, text, want)) })
	}
	body := `{"input":"tomato","stream":true}`
	for range 64 {
		group.Go(func() {
			c, err := net.Dial("tcp", address)
			if err == nil {
				_, err = fmt.Fprintf(c, "%sContent-Length: %d\r\n\r\n%s", head, len(body), body)
				err = errors.Join(err, c.Close())
			}
			tell(&r.Vanished, err)
		})
	}
	a := b.arrive(20, 20*time.Second, nil)
	group.Wait()
	r.Asked, r.P99 = a.answered, quantile(a.took, .99)
	return r, errors.Join(failed, a.failure())
}

// stall sends the start of a request and nothing more: the server must end the connection.
func stall(address, start string) error {
	c, err := net.Dial("tcp", address)
	if err != nil {
		return err
	}
	defer c.Close()
	if _, err := c.Write([]byte(start)); err != nil {
		return err
	}
	if err := c.SetReadDeadline(time.Now().Add(25 * time.Second)); err != nil {
		return err
	}
	buffer := make([]byte, 4096)
	for {
		if _, err = c.Read(buffer); err != nil {
			break
		}
	}
	if timeout := (net.Error)(nil); errors.As(err, &timeout) && timeout.Timeout() {
		return fmt.Errorf("a client that stalled behind %q was kept for 25 s", start)
	}
	return nil
}

// send sends a text and reads the status of the answer.
func send(address, text, want string) error {
	c, err := net.Dial("tcp", address)
	if err != nil {
		return err
	}
	defer c.Close()
	if _, err := c.Write([]byte(text)); err != nil {
		return err
	}
	if err := c.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
		return err
	}
	buffer := make([]byte, 4096)
	n, err := c.Read(buffer)
	if n == 0 {
		return fmt.Errorf("%.40q: no answer: %w", text, err)
	}
	if answer := string(buffer[:n]); !strings.HasPrefix(answer, "HTTP/1.1 "+want) {
		return fmt.Errorf("%.40q was answered with %.20q, not %s", text, answer, want)
	}
	return nil
}

type killResult struct {
	Kills int     `json:"kills"`
	Ready float64 `json:"ready_again_s"`       // the median
	Drain int     `json:"answered_at_sigterm"` // of 200 that were sent just before
	Late  int     `json:"too_late_at_sigterm"` // the server had not read them, as its log says
}

// late is a request that found nobody, or was let down.
type late struct {
	row   int
	cause error
}

func (e *late) Error() string { return e.cause.Error() }

// kill ends the server with SIGKILL under load and starts it again; then with SIGTERM, which must
// lose nothing that was let in.
func (b *bench) kill() (any, error) {
	r := killResult{}
	var ready []float64
	for range 3 {
		under := make(chan struct{})
		go func() { b.arrive(100, time.Second, nil); close(under) }()
		time.Sleep(500 * time.Millisecond)
		_ = b.stop(syscall.SIGKILL) // the error says that it was killed
		<-under
		began := time.Now()
		if err := b.start("--cache", "0"); err != nil {
			return r, err
		}
		ready = append(ready, time.Since(began).Seconds())
		r.Kills++
		for row := range 50 {
			if _, err := b.ask(client(), row); err != nil {
				return r, err
			}
		}
	}
	r.Ready = quantile(ready, .5)
	answers := make(chan error, 200)
	for row := range 200 {
		row += 100 // the log of this server knows no such request yet
		go func() {
			status, err := b.ask(client(), row)
			if err != nil && !errors.As(err, new(*wrongAnswer)) {
				err = &late{row, err}
			}
			if err == nil && status != http.StatusOK {
				err = fmt.Errorf("status %d", status)
			}
			answers <- err
		}()
	}
	time.Sleep(30 * time.Millisecond)
	if err := b.stop(syscall.SIGTERM); err != nil {
		return r, fmt.Errorf("SIGTERM: %w", err)
	}
	log, err := os.ReadFile(filepath.Join(b.dir, "serve.log"))
	if err != nil {
		return r, err
	}
	for range 200 {
		err := <-answers
		if l := (*late)(nil); errors.As(err, &l) {
			if !strings.Contains(string(log), fmt.Sprintf(`"id":"row-%d"`, l.row)) {
				r.Late++
				continue
			}
		}
		if err != nil {
			return r, fmt.Errorf("in drain: %w", err)
		}
		r.Drain++
	}
	return r, b.start("--cache", "0")
}
