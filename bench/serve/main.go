// Program serve measures `t5ctl serve` and tries to break it.
//
//	make build
//	go run ./bench/serve --soak 10m            # all works, the soak at twice the capacity
//	go run ./bench/serve --work hostile        # one of them
//
// Every answer is held against what `t5ctl generate` made of the same input. Rows are those of the
// test set of g2p-base. It exits with 1 where an answer was wrong or lost, and prints one JSON object.
package main

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

type settings struct {
	t5ctl, model, rows, work string
	clients, count, rounds   int
	soak, latency            time.Duration
	load                     float64
}

func main() {
	var s settings
	flag.StringVar(&s.t5ctl, "t5ctl", "bin/t5ctl", "`binary` to measure")
	flag.StringVar(&s.model, "model", "models/g2p-base", "model `folder`")
	flag.StringVar(&s.rows, "rows", "recipes/data/cmudict-g2p-base/test.jsonl.gz", "`file` of rows")
	flag.StringVar(&s.work, "work", "", "only this one: throughput, latency, soak, hostile or kill")
	flag.IntVar(&s.clients, "clients", 32, "clients at once")
	flag.IntVar(&s.count, "count", 4000, "rows of a turn")
	flag.IntVar(&s.rounds, "rounds", 3, "turns of each side")
	flag.DurationVar(&s.soak, "soak", 10*time.Minute, "length of the soak")
	flag.Float64Var(&s.load, "load", 2, "of the soak, in capacities")
	flag.DurationVar(&s.latency, "latency", 20*time.Second, "length of the measurement at half load")
	flag.Parse()
	if err := run(s); err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(1)
	}
}

// bench is what all works share.
type bench struct {
	settings
	dir         string
	inputs      []string
	expected    []string  // of each input, by generate
	generate    []float64 // rows/s of each turn
	generateCPU float64   // seconds of processor time of all turns
	capacity    float64   // rows/s of the server with all clients at work
	process     *exec.Cmd
	url         string
}

func run(s settings) error {
	dir, err := os.MkdirTemp("", "t5ctl-serve-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	b := &bench{settings: s, dir: dir}
	if err := b.read(); err != nil {
		return err
	}
	if err := b.expect(len(b.inputs)); err != nil {
		return err
	}
	if err := b.start("--cache", "0", "--queue", "64"); err != nil {
		return err
	}
	defer func() { _ = b.stop(syscall.SIGKILL) }()
	results := map[string]any{}
	var failed error
	for _, work := range []struct {
		name string
		do   func() (any, error)
	}{{"throughput", b.throughput}, {"latency", b.halfLoad}, {"soak", b.overload}, {"hostile", b.hostile}, {"kill", b.kill}} {
		if s.work != "" && s.work != work.name {
			continue
		}
		fmt.Fprintln(os.Stderr, work.name)
		result, err := work.do()
		if err != nil {
			failed = errors.Join(failed, fmt.Errorf("%s: %w", work.name, err))
		}
		results[work.name] = result
	}
	out := json.NewEncoder(os.Stdout)
	out.SetIndent("", "  ")
	return errors.Join(out.Encode(results), failed)
}

// read takes different inputs, in the order of the file.
func (b *bench) read() error {
	f, err := os.Open(b.rows)
	if err != nil {
		return err
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		return err
	}
	seen := map[string]bool{}
	lines := bufio.NewScanner(z)
	for lines.Scan() && len(b.inputs) < b.count {
		var row struct{ Input string }
		if err := json.Unmarshal(lines.Bytes(), &row); err != nil {
			return err
		}
		if !seen[row.Input] {
			seen[row.Input] = true
			b.inputs = append(b.inputs, row.Input)
		}
	}
	return lines.Err()
}

// expect has generate answer the first inputs, and takes its time.
func (b *bench) expect(rows int) error {
	var in bytes.Buffer
	for _, input := range b.inputs[:rows] {
		line, err := json.Marshal(map[string]string{"input": input})
		if err != nil {
			return err
		}
		in.Write(append(line, '\n'))
	}
	from, to := filepath.Join(b.dir, "in.jsonl"), filepath.Join(b.dir, fmt.Sprintf("out%d.jsonl", len(b.generate)))
	if err := os.WriteFile(from, in.Bytes(), 0o600); err != nil {
		return err
	}
	command := exec.Command(b.t5ctl, "generate", "--json", "--model", b.model, "--input", from, "--output", to, "--quiet")
	command.Stderr = os.Stderr
	out, err := command.Output()
	if err != nil {
		return err
	}
	var summary struct {
		Speed float64 `json:"rows_per_second"`
	}
	if err := json.Unmarshal(out, &summary); err != nil {
		return err
	}
	b.generate = append(b.generate, summary.Speed)
	b.generateCPU += (command.ProcessState.UserTime() + command.ProcessState.SystemTime()).Seconds()
	data, err := os.ReadFile(to)
	if err != nil {
		return err
	}
	var expected []string
	for line := range bytes.Lines(data) {
		var row struct{ Output string }
		if err := json.Unmarshal(line, &row); err != nil {
			return err
		}
		expected = append(expected, row.Output)
	}
	if len(expected) != rows {
		return fmt.Errorf("generate answered %d of %d rows", len(expected), rows)
	}
	if len(b.expected) < rows {
		b.expected = expected
	}
	return nil
}

// start starts a server and waits until it is ready.
func (b *bench) start(flags ...string) error {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	address := l.Addr().String()
	if err := l.Close(); err != nil {
		return err
	}
	b.url = "http://" + address
	b.process = exec.Command(b.t5ctl, append([]string{"serve", "--model", b.model, "--listen", address, "--batch", "32"}, flags...)...)
	log, err := os.OpenFile(filepath.Join(b.dir, "serve.log"), os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	b.process.Stderr = log
	if err := b.process.Start(); err != nil {
		return err
	}
	for range 300 {
		if response, err := http.Get(b.url + "/readyz"); err == nil {
			_ = response.Body.Close()
			if response.StatusCode == http.StatusOK {
				return nil
			}
		}
		time.Sleep(100 * time.Millisecond)
	}
	text, _ := os.ReadFile(log.Name())
	return fmt.Errorf("the server did not become ready: %s", text)
}

func (b *bench) stop(signal syscall.Signal) error {
	if err := b.process.Process.Signal(signal); err != nil {
		return err
	}
	return b.process.Wait()
}

// processor is the processor time that the server has used, in seconds.
func (b *bench) processor() float64 {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", b.process.Process.Pid))
	if err != nil {
		return 0
	}
	_, rest, _ := strings.Cut(string(data), ") ")
	fields := strings.Fields(rest) // from the third on; user time is the 14th, in hundredths
	user, _ := strconv.ParseFloat(fields[11], 64)
	system, _ := strconv.ParseFloat(fields[12], 64)
	return (user + system) / 100
}

// resident is the server's memory, in MiB.
func (b *bench) resident() float64 {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", b.process.Process.Pid))
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(data)) {
		if rest, found := strings.CutPrefix(line, "VmRSS:"); found {
			kb, _ := strconv.ParseFloat(strings.Fields(rest)[0], 64)
			return kb / 1024
		}
	}
	return 0
}

// client asks, keeping its connections, for as long as Go's own client does.
func client() *http.Client {
	return &http.Client{Transport: &http.Transport{MaxIdleConns: 1024, MaxIdleConnsPerHost: 1024, IdleConnTimeout: 90 * time.Second}, Timeout: time.Minute}
}

// ask sends one row. It gives the status, and an error where the answer is none or wrong.
func (b *bench) ask(c *http.Client, row int) (status int, err error) {
	body, err := json.Marshal(map[string]string{"input": b.inputs[row]})
	if err != nil {
		return 0, err
	}
	request, err := http.NewRequest(http.MethodPost, b.url+"/v1/generate", bytes.NewReader(body))
	if err != nil {
		return 0, err
	}
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("X-Request-Id", fmt.Sprintf("row-%d", row))
	response, err := c.Do(request)
	if err != nil {
		return 0, err
	}
	defer response.Body.Close()
	data, err := io.ReadAll(response.Body)
	if err != nil {
		return 0, err
	}
	if response.StatusCode == http.StatusTooManyRequests && response.Header.Get("Retry-After") == "" {
		return 0, errors.New("429 without Retry-After")
	}
	if response.StatusCode != http.StatusOK {
		return response.StatusCode, nil
	}
	var answer struct{ Output string }
	if err := json.Unmarshal(data, &answer); err != nil {
		return 0, err
	}
	if answer.Output != b.expected[row] {
		return 0, &wrongAnswer{b.inputs[row], answer.Output, b.expected[row]}
	}
	return response.StatusCode, nil
}

type wrongAnswer struct{ input, got, want string }

func (e *wrongAnswer) Error() string {
	return fmt.Sprintf("%q was answered with %q, generate says %q", e.input, e.got, e.want)
}

// quantile of the values, 0 to 1.
func quantile(values []float64, q float64) float64 {
	if len(values) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(values))
	return sorted[min(len(sorted)-1, int(q*float64(len(sorted))))]
}
