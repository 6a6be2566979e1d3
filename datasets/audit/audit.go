// Package audit looks through data before a model is trained on it: rows that repeat, within a part
// and across parts, parts that leak into each other, texts that are empty, copied or damaged, and
// what the texts are made of.
//
// Texts are read two or three times and never kept: what must be compared across rows goes through
// temporary files, so that memory does not grow with the data but for a bit a row. Reports name rows by file and
// line, and hold no texts.
package audit

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"

	"github.com/t5ctl/t5ctl/datasets"
)

// Part is one part of a data set: a split, or any file.
type Part struct {
	Name  string   `json:"name"`
	Files []string `json:"files"`
}

// Options say what is looked through. The first part is what a model is trained on, the others are
// held out from it.
type Options struct {
	Parts    []Part
	Columns  datasets.Columns
	OnBadRow string
	Near     float64 // least Jaccard similarity of near duplicates, 0 for none
	Ngram    int     // words of the runs that must not be in training and held-out rows, 0 for none
	TempDir  string  // for temporary files; empty: the system's
	Progress func(pass string, rows int64)
}

// Schema is the version of the report that this package writes.
const Schema = 1

// Report is what was found.
type Report struct {
	Schema   int          `json:"schema"`
	Kind     string       `json:"kind"` // "data_audit"
	Near     float64      `json:"near_similarity,omitempty"`
	NearCut  bool         `json:"near_candidates_cut,omitempty"` // there were too many candidates to compare all
	Ngram    int          `json:"contamination_words,omitempty"`
	Parts    []PartReport `json:"parts"`
	Cross    []Cross      `json:"cross"`
	Findings []Finding    `json:"findings"`
	Checks   []Check      `json:"checks"`
	Passed   bool         `json:"passed"`
}

// PartReport is about one part.
type PartReport struct {
	Part
	Fingerprint  string           `json:"fingerprint"`
	Rows         int64            `json:"rows"`
	BadRows      int64            `json:"bad_rows"`
	Inputs       Repeats          `json:"repeated_inputs"`
	Pairs        Repeats          `json:"repeated_rows"`      // input and target alike
	Conflicting  int64            `json:"conflicting_inputs"` // distinct inputs with more than one target
	NearPairs    int64            `json:"near_duplicate_pairs"`
	NearRows     int64            `json:"near_duplicate_rows"`
	EmptyInputs  int64            `json:"empty_inputs"`
	EmptyTargets int64            `json:"empty_targets"`
	Copied       int64            `json:"copied_targets"`   // the target is the input
	Damaged      int64            `json:"damaged_texts"`    // rows whose texts were decoded wrongly somewhere
	Languages    map[string]int64 `json:"languages"`        // guess of each input's language, or its script
	Labels       *Labels          `json:"labels,omitempty"` // where there are few different targets
}

// Repeats counts rows that repeat an earlier one of the same part.
type Repeats struct {
	Surplus  int64 `json:"surplus_rows"` // that could be left out
	Distinct int64 `json:"distinct"`     // different values that occur more than once
}

// Cross is what two parts share.
type Cross struct {
	A            string `json:"a"`
	B            string `json:"b"`
	Inputs       int64  `json:"shared_inputs"` // distinct
	RowsA        int64  `json:"rows_a"`        // of A, with an input that B has
	RowsB        int64  `json:"rows_b"`
	Pairs        int64  `json:"shared_rows"` // distinct pairs of input and target
	NearPairs    int64  `json:"near_duplicate_pairs"`
	Contaminated int64  `json:"contaminated_rows"` // of B, with a run of words that A has; 0 where A is held out
}

// Labels says how even the targets of a classification are.
type Labels struct {
	Distinct int     `json:"distinct"`
	Largest  float64 `json:"largest_share"`
	Smallest float64 `json:"smallest_share"`
	Entropy  float64 `json:"entropy_share"` // of an even distribution's entropy
}

// Finding is one thing at one place.
type Finding struct {
	Rule string `json:"rule"`
	Part string `json:"part"`
	File string `json:"file"`
	Line int64  `json:"line"`
	Note string `json:"note"`
}

// keepFindings is how many findings of one rule are kept; all are counted.
const keepFindings = 100

// Run looks through the data.
func Run(ctx context.Context, o Options) (_ *Report, err error) {
	dir, err := os.MkdirTemp(o.TempDir, "t5ctl-audit-")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	a := &auditor{options: o, ctx: ctx, report: &Report{Schema: Schema, Kind: "data_audit", Near: o.Near, Ngram: o.Ngram, Findings: []Finding{}}, kept: map[string]int{}, speakers: speakers()}
	if err := a.first(dir); err != nil {
		return nil, err
	}
	if err := a.duplicates(); err != nil {
		return nil, err
	}
	if o.Near > 0 {
		if err := a.near(); err != nil {
			return nil, err
		}
	}
	if o.Ngram > 0 {
		if err := a.contamination(); err != nil {
			return nil, err
		}
	}
	slices.SortStableFunc(a.report.Findings, compareFindings)
	return a.report, nil
}

// auditor is one audit under way.
type auditor struct {
	options  Options
	ctx      context.Context //nolint:containedctx // lives as long as Run
	report   *Report
	exact    *spill // a record for each row, by input
	pairs    *spill // a record for each row, by input and target
	bands    *spill // records of rows that may be alike
	kept     map[string]int
	speakers map[string][]string // of frequent words
	rows     int64               // of all parts
}

// where is a row's place.
type where struct {
	part, file int
	line       int64
}

func (a *auditor) finding(rule string, w where, format string, args ...any) {
	if a.kept[rule]++; a.kept[rule] > keepFindings {
		return
	}
	p := a.options.Parts[w.part]
	a.report.Findings = append(a.report.Findings, Finding{Rule: rule, Part: p.Name, File: p.Files[w.file], Line: w.line, Note: fmt.Sprintf(format, args...)})
}

// each reads all rows of a part.
func (a *auditor) each(part int, pass string, skipped func(*datasets.RowError), visit func(w where, e datasets.Example) error) error {
	read := datasets.ReadOptions{Columns: a.options.Columns, OnBadRow: a.options.OnBadRow, OnSkip: skipped}
	rows := int64(0)
	for file, path := range a.options.Parts[part].Files {
		for e, err := range datasets.Read(path, read) {
			if err == nil && rows%1024 == 0 {
				err = context.Cause(a.ctx)
			}
			if err != nil {
				return err
			}
			if err := visit(where{part, file, e.Line}, e); err != nil {
				return err
			}
			if rows++; a.options.Progress != nil && rows%4096 == 0 {
				a.options.Progress(pass, 4096)
			}
		}
	}
	return nil
}

// first reads everything once: counts, and records for what is compared later.
func (a *auditor) first(dir string) (err error) {
	for _, s := range []struct {
		to   **spill
		name string
		size int
	}{{&a.exact, "exact", exactRecord}, {&a.pairs, "pairs", pairRecord}, {&a.bands, "bands", bandRecord}} {
		if *s.to, err = newSpill(dir, s.name, s.size, 0); err != nil {
			return err
		}
	}
	defer func() { // what was not read for want of a sound file
		if err != nil {
			err = errors.Join(err, a.exact.close(), a.pairs.close(), a.bands.close())
		}
	}()
	for part, p := range a.options.Parts {
		r := PartReport{Part: p, Languages: map[string]int64{}}
		print, labels := datasets.NewFingerprinter(), newLabelCounts()
		skip := func(*datasets.RowError) { r.BadRows++ }
		err := a.each(part, "reading", skip, func(w where, e datasets.Example) error {
			print.Add(e)
			labels.add(e.Target)
			a.look(&r, w, e)
			number := a.rows
			a.rows++
			exact, pair := newExact(w, e)
			if err := errors.Join(a.exact.write(exact), a.pairs.write(pair)); err != nil {
				return err
			}
			if a.options.Near == 0 {
				return nil
			}
			return a.band(number, e.Input)
		})
		if err != nil {
			return err
		}
		r.Rows, r.Fingerprint, r.Labels = print.Rows(), print.Sum(), labels.result(print.Rows())
		a.report.Parts = append(a.report.Parts, r)
	}
	for i := range a.options.Parts {
		for j := i + 1; j < len(a.options.Parts); j++ {
			a.report.Cross = append(a.report.Cross, Cross{A: a.options.Parts[i].Name, B: a.options.Parts[j].Name})
		}
	}
	return nil
}

// look finds what one row shows by itself.
func (a *auditor) look(r *PartReport, w where, e datasets.Example) {
	count := func(n *int64, rule, note string) {
		*n++
		a.finding(rule, w, "%s", note)
	}
	if blank(e.Input) {
		count(&r.EmptyInputs, "empty-input", "the input is empty")
	}
	if blank(e.Target) {
		count(&r.EmptyTargets, "empty-target", "the target is empty")
	} else if e.Target == e.Input {
		count(&r.Copied, "copied-target", "the target is the input")
	}
	for _, text := range []string{e.Input, e.Target} {
		if problem := damage(text); problem != "" {
			count(&r.Damaged, "damaged-text", problem)
			break
		}
	}
	r.Languages[a.language(e.Input)]++
}

// cross finds what two parts share, a before b.
func (a *auditor) cross(x, y int) *Cross {
	if x > y {
		x, y = y, x
	}
	n := len(a.options.Parts)
	return &a.report.Cross[x*n-x*(x+1)/2+y-x-1]
}
