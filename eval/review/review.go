// Package review draws a sample of outputs for people to rate, and makes figures of their ratings:
// quality with an interval, and how far raters agree.
package review

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/t5ctl/t5ctl/eval"
	"github.com/t5ctl/t5ctl/eval/pytext"
)

// Item is one row to rate.
type Item struct {
	ID        string `json:"id"`
	Task      string `json:"task,omitempty"`
	Input     string `json:"input"`
	Output    string `json:"output"`
	Reference string `json:"reference,omitempty"`
	Rating    string `json:"rating"` // empty until somebody rates it
	Comment   string `json:"comment,omitempty"`

	Correction string `json:"correction,omitempty"` // what the output should have been, where a rater says so
}

// columns are the fields of an Item in a CSV file.
func columns() []string {
	return []string{"id", "task", "input", "output", "reference", "rating", "comment", "correction"}
}

func (i Item) cells() []string {
	return []string{i.ID, i.Task, i.Input, i.Output, i.Reference, i.Rating, i.Comment, i.Correction}
}

// Sample draws n answers: from every stratum, which is a task and a third of the lengths of outputs,
// in proportion to its size, and in an order that says nothing about it. The same seed draws the same.
func Sample(answers []eval.Answered, n int, seed uint64) []Item {
	strata := stratify(answers)
	rng := rand.New(rand.NewPCG(seed, uint64(len(answers))))
	n = min(n, len(answers))
	var picked []int
	for k, take := range shares(strata, n) {
		members := strata[k]
		rng.Shuffle(len(members), func(i, j int) { members[i], members[j] = members[j], members[i] })
		picked = append(picked, members[:take]...)
	}
	rng.Shuffle(len(picked), func(i, j int) { picked[i], picked[j] = picked[j], picked[i] })
	out := make([]Item, len(picked))
	for i, at := range picked {
		a := answers[at]
		out[i] = Item{ID: a.Pair.ID, Task: a.Pair.Task, Input: a.Pair.Input, Output: a.Output, Reference: a.Pair.Target}
		if out[i].Reference == "" && len(a.Pair.References) > 0 {
			out[i].Reference = a.Pair.References[0]
		}
	}
	return out
}

// stratify parts rows by task, and each task into thirds by the length of outputs.
func stratify(answers []eval.Answered) [][]int {
	byTask := map[string][]int{}
	var tasks []string
	for i, a := range answers {
		if byTask[a.Pair.Task] == nil {
			tasks = append(tasks, a.Pair.Task)
		}
		byTask[a.Pair.Task] = append(byTask[a.Pair.Task], i)
	}
	var out [][]int
	for _, task := range tasks {
		rows := byTask[task]
		slices.SortStableFunc(rows, func(x, y int) int {
			return len(pytext.Fields(answers[x].Output)) - len(pytext.Fields(answers[y].Output))
		})
		for third := range 3 {
			out = append(out, slices.Clone(rows[len(rows)*third/3:len(rows)*(third+1)/3]))
		}
	}
	return out
}

// shares divides n over strata by size; what rounding leaves goes to the largest remainders.
func shares(strata [][]int, n int) []int {
	total := 0
	for _, s := range strata {
		total += len(s)
	}
	out, order := make([]int, len(strata)), make([]int, len(strata))
	left := n
	for i, s := range strata {
		order[i] = i
		out[i] = n * len(s) / max(1, total)
		left -= out[i]
	}
	slices.SortStableFunc(order, func(a, b int) int {
		return n*len(strata[b])%max(1, total) - n*len(strata[a])%max(1, total)
	})
	for _, i := range order[:min(left, len(order))] {
		out[i]++
	}
	return out
}

// Encode writes items in the form that a file's name asks for: .csv, else JSON lines.
func Encode(w io.Writer, name string, items []Item) error {
	if isCSV(name) {
		c := csv.NewWriter(w)
		if err := c.Write(columns()); err != nil {
			return err
		}
		for _, i := range items {
			if err := c.Write(i.cells()); err != nil {
				return err
			}
		}
		c.Flush()
		return c.Error()
	}
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	for _, i := range items {
		if err := enc.Encode(i); err != nil {
			return err
		}
	}
	return nil
}

func isCSV(name string) bool { return strings.EqualFold(filepath.Ext(name), ".csv") }

// FileError says what is wrong with a file of ratings.
type FileError struct {
	Path   string
	Row    int // from 1, the heading of a CSV file not counted; 0: the whole file
	Reason string
}

func (e *FileError) Error() string {
	if e.Row == 0 {
		return fmt.Sprintf("ratings %s: %s", e.Path, e.Reason)
	}
	return fmt.Sprintf("ratings %s: row %d: %s", e.Path, e.Row, e.Reason)
}

// Read reads a file of one rater: CSV by its name, else JSON lines.
func Read(path string) (map[string]float64, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	return Parse(path, data)
}

// Parse reads the ratings of one rater by id: numbers, or good and bad, which are 1 and 0. Rows without
// a rating are left out; a file without any is refused.
func Parse(path string, data []byte) (map[string]float64, error) {
	read := parseJSON
	if isCSV(path) {
		read = parseCSV
	}
	items, err := read(path, data)
	if err != nil {
		return nil, err
	}
	out := map[string]float64{}
	for i, item := range items {
		text := strings.ToLower(strings.TrimSpace(item.Rating))
		if text == "" {
			continue
		}
		v, err := strconv.ParseFloat(text, 64)
		switch {
		case text == "good" || text == "yes":
			v, err = 1, nil
		case text == "bad" || text == "no":
			v, err = 0, nil
		}
		if _, twice := out[item.ID]; twice || item.ID == "" {
			return nil, &FileError{path, i + 1, fmt.Sprintf("id %q is empty or stands twice", item.ID)}
		}
		if err != nil || math.IsNaN(v) || math.IsInf(v, 0) {
			return nil, &FileError{path, i + 1, fmt.Sprintf("rating %q is no number, good or bad", item.Rating)}
		}
		out[item.ID] = v
	}
	if len(out) == 0 {
		return nil, &FileError{path, 0, "no row has a rating"}
	}
	return out, nil
}

// Corrected is a row that raters corrected.
type Corrected struct {
	ID     string `json:"id"`
	Task   string `json:"task,omitempty"`
	Input  string `json:"input"`
	Target string `json:"target"` // what they say
}

// Corrections gathers what the raters of some files corrected, in the order of the rows. Rows on which two
// raters differ are left out and counted.
func Corrections(paths []string) (rows []Corrected, differ int, err error) {
	at := map[string]int{}
	split := map[string]bool{}
	for _, path := range paths {
		data, err := os.ReadFile(path)
		if err != nil {
			return nil, 0, err
		}
		read := parseJSON
		if isCSV(path) {
			read = parseCSV
		}
		items, err := read(path, data)
		if err != nil {
			return nil, 0, err
		}
		for i, item := range items {
			text := strings.TrimSpace(item.Correction)
			if text == "" {
				continue
			}
			if item.ID == "" || item.Input == "" {
				return nil, 0, &FileError{path, i + 1, "a correction needs the columns id and input of its row"}
			}
			row := Corrected{ID: item.ID, Task: item.Task, Input: item.Input, Target: text}
			known, there := at[item.ID]
			if !there {
				at[item.ID] = len(rows)
				rows = append(rows, row)
			} else if rows[known].Target != text || rows[known].Input != item.Input {
				split[item.ID] = true
			}
		}
	}
	rows = slices.DeleteFunc(rows, func(r Corrected) bool { return split[r.ID] })
	return rows, len(split), nil
}

func parseJSON(path string, data []byte) ([]Item, error) {
	var out []Item
	for line := range bytes.Lines(data) {
		var row struct {
			Item
			Rating any `json:"rating"`
		}
		if err := json.Unmarshal(line, &row); err != nil {
			return nil, &FileError{path, len(out) + 1, "is not JSON: " + err.Error()}
		}
		if row.Rating != nil {
			row.Item.Rating = fmt.Sprint(row.Rating)
		}
		out = append(out, row.Item)
	}
	return out, nil
}

func parseCSV(path string, data []byte) ([]Item, error) {
	r := csv.NewReader(bytes.NewReader(bytes.TrimPrefix(data, []byte("\xef\xbb\xbf"))))
	head, err := r.Read()
	if err != nil {
		return nil, &FileError{path, 0, "has no heading"}
	}
	id, rating := slices.Index(head, "id"), slices.Index(head, "rating")
	if id < 0 || rating < 0 {
		return nil, &FileError{path, 0, "needs the columns id and rating"}
	}
	var out []Item
	for {
		cells, err := r.Read()
		if errors.Is(err, io.EOF) {
			return out, nil
		}
		if err != nil {
			return nil, &FileError{path, len(out) + 1, err.Error()}
		}
		cell := func(name string) string {
			if at := slices.Index(head, name); at >= 0 {
				return cells[at]
			}
			return ""
		}
		out = append(out, Item{ID: cells[id], Rating: cells[rating], Task: cell("task"), Input: cell("input"), Correction: cell("correction")})
	}
}
