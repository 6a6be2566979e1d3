// Package evaltest opens reference vectors for the tests of the evaluation packages.
package evaltest

import (
	"bufio"
	"compress/gzip"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Lines calls each with every line of a vector file: the one in the folder that $T5CTL_VECTORS names
// (below kind: metrics, exposure), else the one in testdata, plain or gzipped. A file that is absent
// where the variable points is logged as skipped.
func Lines(t *testing.T, kind, file string, each func(line []byte)) {
	t.Helper()
	dirs := []string{"testdata", filepath.Join("..", "testdata")}
	root := os.Getenv("T5CTL_VECTORS")
	if root != "" {
		dirs = []string{filepath.Join(root, kind)}
	}
	f, err := open(dirs, file)
	if errors.Is(err, fs.ErrNotExist) && root != "" {
		t.Skipf("vectors: %s: skipped, %v", file, err)
	}
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	r := bufio.NewReaderSize(f, 1<<20)
	for {
		line, err := r.ReadBytes('\n')
		if len(line) > 0 {
			each(line)
		}
		if err == io.EOF {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// JSON calls each with every line of a JSONL vector file, decoded.
func JSON[T any](t *testing.T, kind, file string, each func(T)) {
	t.Helper()
	Lines(t, kind, file, func(line []byte) {
		var v T
		if err := json.Unmarshal(line, &v); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		each(v)
	})
}

func open(dirs []string, file string) (io.ReadCloser, error) {
	var firstErr error
	for _, dir := range dirs {
		for _, name := range []string{file, file + ".gz"} {
			f, err := os.Open(filepath.Join(dir, name))
			if err != nil {
				if firstErr == nil {
					firstErr = err
				}
				continue
			}
			if !strings.HasSuffix(name, ".gz") {
				return f, nil
			}
			z, err := gzip.NewReader(f)
			return struct {
				io.Reader
				io.Closer
			}{z, f}, err
		}
	}
	return nil, firstErr
}

// Count tells how a run over a vector file went, and fails if a case differs.
type Count struct {
	File          string
	cases, differ int
}

// Check counts one case; where it differs, the first ten are reported.
func (c *Count) Check(t *testing.T, ok bool, format string, args ...any) {
	t.Helper()
	c.cases++
	if ok {
		return
	}
	c.differ++
	if c.differ <= 10 {
		t.Errorf(format, args...)
	}
}

// Done logs the line that summarizes the file.
func (c *Count) Done(t *testing.T) {
	t.Helper()
	t.Logf("vectors: %s: %d cases, %d differ", c.File, c.cases, c.differ)
	if c.cases == 0 {
		t.Errorf("vectors: %s: holds no case", c.File)
	}
}

// Near reports whether two numbers agree within a relative tolerance; NaN agrees with NaN.
func Near(got, want, rel float64) bool {
	if math.IsNaN(want) {
		return math.IsNaN(got)
	}
	return got == want || math.Abs(got-want) <= rel*math.Max(math.Abs(got), math.Abs(want))
}

// Number is a JSON number, or one of the strings NaN, Inf and -Inf.
type Number float64

// UnmarshalJSON reads either form.
func (n *Number) UnmarshalJSON(b []byte) error {
	switch string(b) {
	case `"NaN"`, "NaN":
		*n = Number(math.NaN())
	case `"Inf"`, "Infinity":
		*n = Number(math.Inf(1))
	case `"-Inf"`, "-Infinity":
		*n = Number(math.Inf(-1))
	default:
		return json.Unmarshal(b, (*float64)(n))
	}
	return nil
}

// Corpus is a line of corpora.jsonl: texts, and what the reference tools make of them.
type Corpus struct {
	ID       string
	Hyps     []string
	Refs     [][]*string // streams; null: no reference there
	Cases    []Case
	Sentence []Sentence
}

// Case is one corpus score.
type Case struct {
	Metric                       string
	Opts                         Options
	Score                        float64
	Name, Signature, Short, Text string
	Counts, Totals, Precisions   []float64
	BP                           float64
	SysLen                       int     `json:"sys_len"`
	RefLen                       int     `json:"ref_len"`
	NumEdits                     int     `json:"num_edits"`
	RefLength                    float64 `json:"ref_length"`
	Error                        string
}

// Sentence is the score of one segment.
type Sentence struct {
	I      int
	Metric string
	Opts   Options
	Score  *float64
}

// Options are the arguments of sacreBLEU's constructors that the vectors use.
type Options struct {
	Tokenize       string
	Lowercase      bool
	SmoothMethod   string   `json:"smooth_method"`
	SmoothValue    *float64 `json:"smooth_value"`
	MaxNgramOrder  int      `json:"max_ngram_order"`
	EffectiveOrder bool     `json:"effective_order"`
	WordOrder      int      `json:"word_order"`
	CharOrder      int      `json:"char_order"`
	Beta           int
	Whitespace     bool
	EpsSmoothing   bool `json:"eps_smoothing"`
	CaseSensitive  bool `json:"case_sensitive"`
	Normalized     bool
	NoPunct        bool `json:"no_punct"`
	AsianSupport   bool `json:"asian_support"`
}

// Segment is the references of segment i, those that there are.
func (c Corpus) Segment(i int) []string {
	var refs []string
	for _, stream := range c.Refs {
		if r := stream[i]; r != nil {
			refs = append(refs, *r)
		}
	}
	return refs
}

// RefCount is how many references each segment has, as a signature names it: -1 where they differ.
func (c Corpus) RefCount() int {
	refs := 0
	for i := range c.Hyps {
		n := len(c.Segment(i))
		if i > 0 && n != refs {
			return -1
		}
		refs = n
	}
	return refs
}

// TokenLine is a line of tokenize.jsonl.
type TokenLine struct {
	Line, Lower, RStrip string
	Split               []string
	CHRFWords           []string `json:"chrf_words"`
	T13a                string   `json:"13a"`
	Intl, Char, Zh      string
	None                string
	Ter                 string
	TerCase             string `json:"ter_case"`
	TerNorm             string `json:"ter_norm"`
	TerNopunct          string `json:"ter_nopunct"`
	TerNormAsian        string `json:"ter_norm_asian"`
	TerNormAsianNopunct string `json:"ter_norm_asian_nopunct"`
	TerAsianNopunct     string `json:"ter_asian_nopunct"`
}
