//go:build unix

// Command tokenizer is the Go side of this folder's comparisons: it measures how fast a file is
// encoded and decoded, on one thread, prints ids, and trains a vocabulary.
package main

import (
	"bufio"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"runtime"
	"time"

	"golang.org/x/sys/unix"

	"github.com/t5ctl/t5ctl/internal/vocab"
)

// result is what one measurement prints.
type result struct {
	EncodeMBs float64 `json:"encode"`
	DecodeMBs float64 `json:"decode"`
	Tokens    int     `json:"tokens"`
}

func main() {
	path := flag.String("model", "", "folder or file of the tokenizer")
	mode := flag.String("mode", "", "hf5, json, sp or bytes")
	text := flag.String("text", "", "file with one text a line")
	show := flag.Bool("print", false, "print the ids in place of the speed")
	corpus := flag.String("train", "", "file with text to make a vocabulary from, written to -model")
	size := flag.Int("size", 8000, "how many pieces it gets")
	flag.Parse()
	runtime.GOMAXPROCS(1)
	work := func() error { return measure(*path, vocab.Mode(*mode), *text) }
	if *corpus != "" {
		work = func() error { return train(*corpus, *size, *path) }
	} else if *show {
		work = func() error { return printIDs(*path, vocab.Mode(*mode), *text) }
	}
	if err := work(); err != nil {
		fmt.Fprintln(os.Stderr, "tokenizer:", err)
		os.Exit(1)
	}
}

func train(corpus string, size int, folder string) error {
	lines, _, err := readLines(corpus)
	if err != nil {
		return err
	}
	tok, err := vocab.Train(func(yield func(string, error) bool) {
		for _, line := range lines {
			if !yield(line, nil) {
				return
			}
		}
	}, vocab.TrainOptions{VocabSize: size})
	if err != nil {
		return err
	}
	return tok.WriteFiles(folder)
}

func printIDs(path string, mode vocab.Mode, text string) error {
	tok, err := vocab.Load(path, mode)
	if err != nil {
		return err
	}
	lines, _, err := readLines(text)
	if err != nil {
		return err
	}
	out := json.NewEncoder(os.Stdout)
	for _, line := range lines {
		if err := out.Encode(tok.Encode(line)); err != nil {
			return err
		}
	}
	return nil
}

func measure(path string, mode vocab.Mode, text string) error {
	tok, err := vocab.Load(path, mode)
	if err != nil {
		return err
	}
	lines, size, err := readLines(text)
	if err != nil {
		return err
	}
	ids := make([][]int32, len(lines))
	start := cpuTime()
	tokens := 0
	for i, line := range lines {
		ids[i] = tok.Encode(line)
		tokens += len(ids[i])
	}
	encode := cpuTime() - start
	start = cpuTime()
	for _, row := range ids {
		_ = tok.Decode(row, false)
	}
	decode := cpuTime() - start
	return json.NewEncoder(os.Stdout).Encode(result{
		EncodeMBs: size / 1e6 / encode.Seconds(), DecodeMBs: size / 1e6 / decode.Seconds(), Tokens: tokens,
	})
}

// cpuTime is the processor time of this process, all threads together: garbage collection counts,
// what else the machine does counts little.
func cpuTime() time.Duration {
	var usage unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &usage); err != nil {
		panic(err) // it cannot fail with these arguments
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

func readLines(path string) (lines []string, size float64, err error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, 0, err
	}
	defer func() { _ = f.Close() }() // it was only read
	scanner := bufio.NewScanner(f)
	scanner.Buffer(nil, 64<<20)
	for scanner.Scan() {
		lines = append(lines, scanner.Text())
		size += float64(len(scanner.Text()))
	}
	return lines, size, scanner.Err()
}
