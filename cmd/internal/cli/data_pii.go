package cli

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/klauspost/compress/gzip"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/t5ctl/t5ctl/cmd/internal/term"
	"github.com/t5ctl/t5ctl/datasets"
	"github.com/t5ctl/t5ctl/internal/atomicfile"
	"github.com/t5ctl/t5ctl/internal/pii"
)

// piiOptions are what data scan and data redact share.
type piiOptions struct {
	files    []string
	column   string
	types    []string
	keyFile  string
	report   string
	onBadRow string
}

func (o *piiOptions) bind(flags *pflag.FlagSet) {
	flags.StringVar(&o.column, "input-column", "", "`name` of a column that every row has (default input); all texts of a row are looked at")
	flags.StringSliceVar(&o.types, "type", nil, "look for these `types` alone: "+strings.Join(pii.Types(), ", "))
	flags.StringVar(&o.keyFile, "key-file", "", "`file` with a secret key of at least 16 bytes, for hashes (default: a key of its own each time)")
	flags.StringVar(&o.report, "report", "", "`file` for the report as JSON: types, places and keyed hashes, never values")
	bindOnBadRow(flags, &o.onBadRow)
}

// key reads the key, or makes one; given says which.
func (o *piiOptions) key() (key []byte, given bool, err error) {
	if o.keyFile == "" {
		key = make([]byte, 32)
		_, err = rand.Read(key)
		return key, false, err
	}
	key, err = os.ReadFile(o.keyFile)
	if err == nil && len(bytes.TrimSpace(key)) < 16 {
		err = usageErrorf("--key-file %s has fewer than 16 bytes", o.keyFile)
	}
	return bytes.TrimSpace(key), true, err
}

func (o *piiOptions) check() error {
	for _, t := range o.types {
		if !slices.Contains(pii.Types(), t) {
			return usageErrorf("--type %s is none of %s", t, strings.Join(pii.Types(), ", "))
		}
	}
	return checkOnBadRow(o.onBadRow)
}

// piiReport is what data scan and data redact say.
type piiReport struct {
	Schema   int                       `json:"schema"`
	Kind     string                    `json:"kind"` // "pii"
	Files    []string                  `json:"files"`
	Output   string                    `json:"output,omitempty"`
	Rows     int64                     `json:"rows"`
	Hit      int64                     `json:"rows_with_values"`
	Skipped  int64                     `json:"skipped"`
	Values   int64                     `json:"values"`
	Types    map[string]int64          `json:"types"`
	Hashed   string                    `json:"hashed"` // how: with the given key, or one that is forgotten
	Findings []piiFinding              `json:"findings"`
	distinct map[string]map[string]int // hashes by type
	Distinct map[string]int            `json:"distinct"`
}

// piiFinding is one value by place and keyed hash.
type piiFinding struct {
	File string `json:"file"`
	Line int64  `json:"line"`
	Type string `json:"type"`
	Hash string `json:"hash"`
}

// maxPIIFindings bounds the report; all are counted.
const maxPIIFindings = 10_000

func newPIIReport(files []string, keyed bool) *piiReport {
	r := &piiReport{Schema: 1, Kind: "pii", Files: files, Types: map[string]int64{}, Findings: []piiFinding{}, Distinct: map[string]int{}, distinct: map[string]map[string]int{}}
	r.Hashed = "HMAC-SHA-256 with a key that was thrown away"
	if keyed {
		r.Hashed = "HMAC-SHA-256 with the given key"
	}
	return r
}

// add counts the values of one row.
func (r *piiReport) add(file string, line int64, key []byte, values []pii.Value) {
	r.Rows++
	if len(values) > 0 {
		r.Hit++
	}
	for _, v := range values {
		r.Values++
		r.Types[v.Type]++
		hash := pii.Hash(key, v.Type, v.Text)
		if r.distinct[v.Type] == nil {
			r.distinct[v.Type] = map[string]int{}
		}
		if len(r.distinct[v.Type]) < 1_000_000 {
			r.distinct[v.Type][hash]++
		}
		if len(r.Findings) < maxPIIFindings {
			r.Findings = append(r.Findings, piiFinding{file, line, v.Type, hash})
		}
	}
}

// finish writes the report where that is wanted.
func (r *piiReport) finish(path string) error {
	for kind, hashes := range r.distinct {
		r.Distinct[kind] = len(hashes)
	}
	if path == "" {
		return nil
	}
	return atomicfile.Write(path, func(w io.Writer) error { return encodeIndented(w, r) })
}

// encodeIndented writes JSON for people to read as well.
func encodeIndented(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}

func (r *piiReport) show(t *term.Terminal) {
	tab := term.Table{Header: []string{"type", "values", "different"}, Right: []int{1, 2}}
	for _, kind := range slices.Sorted(maps.Keys(r.Types)) {
		tab.Add(kind, fmt.Sprint(r.Types[kind]), fmt.Sprint(r.Distinct[kind]))
	}
	if r.Values > 0 {
		t.Table(tab)
	}
	t.Printf("%d values in %d of %d rows\n", r.Values, r.Hit, r.Rows)
	for i, f := range r.Findings {
		if i == 10 {
			t.Printf("… --report keeps the places of %d\n", len(r.Findings))
			break
		}
		t.Printf("%s:%d: %s %s\n", f.File, f.Line, f.Type, f.Hash)
	}
}

// piiError says that more values were found than may be.
type piiError struct{ found, limit int64 }

func (e *piiError) Error() string {
	return fmt.Sprintf("found %d values of personal data, at most %d may be", e.found, e.limit)
}

func newDataScanCommand(app *App) *cobra.Command {
	var opts piiOptions
	limit := int64(-1)
	cmd := &cobra.Command{
		Use:   "scan <file …>",
		Short: "Look for personal data and secrets in data",
		Long: "Look through every text of every row for e-mail addresses, phone, card and account numbers,\n" +
			"network addresses, keys and tokens, checked by rule and checksum. A file that is no table is\n" +
			"read line by line. Names of people and places have no fixed form and are not found. What is\n" +
			"told are types, places and keyed hashes, never values. Exit code 3 where --max is passed.",
		Example: "  t5ctl data scan train.jsonl.gz --max 0\n  t5ctl data scan outputs.txt --type email,phone --report pii.json",
		Args:    cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			opts.files = args
			return runDataScan(cmd.Context(), app, opts, limit)
		},
	}
	opts.bind(cmd.Flags())
	cmd.Flags().Int64Var(&limit, "max", -1, "most `values` that may be found; -1 only counts them")
	return cmd
}

func runDataScan(ctx context.Context, app *App, opts piiOptions, limit int64) error {
	if err := opts.check(); err != nil {
		return err
	}
	report, err := opts.walk(ctx, app, pii.Redactor{Types: opts.types}, nil)
	if err != nil {
		return err
	}
	if err := app.show(report, report.show); err != nil {
		return err
	}
	if limit >= 0 && report.Values > limit {
		return &piiError{report.Values, limit}
	}
	return nil
}

// dataRedactOptions is what the command line of data redact says, not yet checked.
type dataRedactOptions struct {
	piiOptions
	output, brackets string
	pseudonyms, drop bool
	force            bool
}

func newDataRedactCommand(app *App) *cobra.Command {
	var opts dataRedactOptions
	cmd := &cobra.Command{
		Use:   "redact <file …> --output FILE",
		Short: "Replace personal data and secrets by placeholders",
		Long: "Write all rows as JSON lines (a text file as lines) with what data scan finds replaced:\n" +
			"[EMAIL_1] for the first e-mail address of a row, the same for it in all texts of the row.\n" +
			"--pseudonyms gives a value one name in all rows, made with the key of --key-file. A\n" +
			"second scan finds nothing, and redacting again changes nothing.",
		Example: "  t5ctl data redact train.jsonl.gz --output clean.jsonl.gz --report pii.json\n" +
			"  t5ctl data redact all.csv --output clean.jsonl --pseudonyms --key-file secret.key",
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			opts.files = args
			return runDataRedact(cmd.Context(), app, opts)
		},
	}
	flags := cmd.Flags()
	opts.bind(flags)
	flags.StringVarP(&opts.output, "output", "o", "", "`file` for the redacted rows (.jsonl or .txt, also .gz)")
	flags.StringVar(&opts.brackets, "brackets", "[]", "the two `characters` around a placeholder; T5's vocabulary cannot spell < and >")
	flags.BoolVar(&opts.pseudonyms, "pseudonyms", false, "give a value one name in all rows; needs --key-file")
	flags.BoolVar(&opts.drop, "drop", false, "leave out rows with such values instead")
	flags.BoolVar(&opts.force, "force", false, "replace the output")
	return cmd
}

// request checks the options and makes the redactor.
func (o *dataRedactOptions) request() (pii.Redactor, error) {
	r := pii.Redactor{Types: o.types}
	if err := errors.Join(missing(map[string]bool{"output": o.output != ""}, "output"), o.check()); err != nil {
		return r, err
	}
	runes := []rune(o.brackets)
	if len(runes) != 2 || strings.Trim(o.brackets, "[]<>(){}«»‹›") != "" {
		return r, usageErrorf("--brackets %q must be two brackets, as in []", o.brackets)
	}
	r.Open, r.Close = string(runes[0]), string(runes[1])
	if o.pseudonyms && o.keyFile == "" {
		return r, usageError{errors.New("--pseudonyms needs --key-file: without a key that is kept, names could not be given again")}
	}
	if _, err := os.Stat(o.output); err == nil && !o.force {
		return r, fmt.Errorf("%s: %w", o.output, os.ErrExist)
	}
	if o.pseudonyms {
		key, _, err := o.key()
		r.Key = key
		return r, err
	}
	return r, nil
}

func runDataRedact(ctx context.Context, app *App, opts dataRedactOptions) error {
	redactor, err := opts.request()
	if err != nil {
		return err
	}
	var report *piiReport
	err = atomicfile.Write(opts.output, func(w io.Writer) (err error) {
		var packed *gzip.Writer
		if strings.HasSuffix(opts.output, ".gz") {
			packed = gzip.NewWriter(w)
			w = packed
		}
		out := bufio.NewWriterSize(w, 1<<18)
		report, err = opts.walk(ctx, app, redactor, func(row []byte, hit bool) error {
			if hit && opts.drop {
				return nil
			}
			_, err := out.Write(append(row, '\n'))
			return err
		})
		if err = errors.Join(err, out.Flush()); packed != nil {
			err = errors.Join(err, packed.Close())
		}
		return err
	})
	if err != nil {
		return err
	}
	report.Output = opts.output
	if err := datasets.CarryCanaries(report.Files, opts.output); err != nil {
		return err
	}
	how := map[string]any{"types": opts.types, "pseudonyms": opts.pseudonyms, "drop": opts.drop, "values": report.Values}
	if err := recordLineage(opts.output, "data redact", how, report.Files); err != nil {
		return err
	}
	return app.show(report, func(t *term.Terminal) {
		report.show(t)
		t.Printf("redacted: %s\n", opts.output)
	})
}

// walk looks through all files and gives each row, redacted, to write, if there is one.
func (o *piiOptions) walk(ctx context.Context, app *App, r pii.Redactor, write func(row []byte, hit bool) error) (*piiReport, error) {
	if err := app.fetchData(ctx, o.files); err != nil {
		return nil, err
	}
	files, err := datasets.Paths(o.files).Files()
	if err != nil {
		return nil, err
	}
	key, given, err := o.key()
	if err != nil {
		return nil, err
	}
	report := newPIIReport(files, given)
	progress := app.Term.Progress("looking for personal data", 0, "rows")
	defer progress.Done()
	take := func(path string, line int64, row []byte, values []pii.Value) error {
		if report.Rows%256 == 0 {
			progress.Set(report.Rows)
			if err := ctx.Err(); err != nil {
				return err
			}
		}
		report.add(path, line, key, values)
		if write == nil {
			return nil
		}
		return write(row, len(values) > 0)
	}
	for _, path := range files {
		if isTable(path) {
			err = o.table(path, r, report, take)
		} else {
			err = redactLines(path, r, take)
		}
		if err != nil {
			return nil, err
		}
	}
	return report, report.finish(o.report)
}

// table looks through the texts of the rows of a table.
func (o *piiOptions) table(path string, r pii.Redactor, report *piiReport, take func(string, int64, []byte, []pii.Value) error) error {
	read := datasets.ReadOptions{Columns: datasets.Columns{Input: o.column}, Need: datasets.Inputs, OnBadRow: o.onBadRow, Raw: true,
		OnSkip: func(*datasets.RowError) { report.Skipped++ }}
	for e, err := range datasets.Read(path, read) {
		if err != nil {
			return err
		}
		row, values, err := redactJSON(e.Raw, r.Document())
		if err == nil {
			err = take(path, e.Line, row, values)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", path+":"+strconv.FormatInt(e.Line, 10), err)
		}
	}
	return nil
}

// redactLines looks through the lines of a text file.
func redactLines(path string, r pii.Redactor, take func(string, int64, []byte, []pii.Value) error) error {
	f, err := openPacked(path)
	if err != nil {
		return err
	}
	defer f.Close() //nolint:errcheck // read only
	lines := bufio.NewScanner(f)
	lines.Buffer(make([]byte, 1<<16), datasets.DefaultMaxRowBytes)
	for n := int64(1); lines.Scan(); n++ {
		text, values := r.Document().Redact(lines.Text())
		if err := take(path, n, []byte(text), values); err != nil {
			return err
		}
	}
	if errors.Is(lines.Err(), bufio.ErrTooLong) {
		return &datasets.FormatError{Path: path, Reason: fmt.Sprintf("has a line of more than %d bytes", datasets.DefaultMaxRowBytes)}
	}
	return lines.Err()
}

// redactJSON redacts the texts in a sound JSON object and leaves the rest as it is: keys, numbers, order
// and white space.
func redactJSON(row []byte, d *pii.Document) ([]byte, []pii.Value, error) {
	var out []byte
	var all []pii.Value
	last := 0
	for i := 0; i < len(row); i++ {
		if row[i] != '"' {
			continue
		}
		end := i + 1
		for end < len(row) && row[end] != '"' {
			if row[end] == '\\' {
				end++
			}
			end++
		}
		end = min(end+1, len(row))
		if next := bytes.TrimLeft(row[end:], " \t\r\n"); len(next) > 0 && next[0] == ':' { // a key
			i = end - 1
			continue
		}
		var text string
		if err := json.Unmarshal(row[i:end], &text); err != nil {
			return nil, nil, err
		}
		clean, values := d.Redact(text)
		if len(values) > 0 {
			var b bytes.Buffer
			enc := json.NewEncoder(&b)
			enc.SetEscapeHTML(false)
			if err := enc.Encode(clean); err != nil {
				return nil, nil, err
			}
			out = append(append(out, row[last:i]...), bytes.TrimRight(b.Bytes(), "\n")...)
			last = end
			all = append(all, values...)
		}
		i = end - 1
	}
	return append(out, row[last:]...), all, nil
}

// packed is a file behind a decompressor.
type packed struct {
	io.Reader
	io.Closer
}

func openPacked(path string) (io.ReadCloser, error) {
	f, err := os.Open(path)
	if err != nil || !strings.HasSuffix(path, ".gz") {
		return f, err
	}
	z, err := gzip.NewReader(f)
	if err != nil {
		_ = f.Close() // the other error says more
		return nil, &datasets.FormatError{Path: path, Reason: "is not gzip data, though its name says so: " + err.Error()}
	}
	return packed{z, f}, nil
}
