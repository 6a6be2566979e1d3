// Package card writes and checks model cards in the format of the Hugging Face hub: YAML front
// matter with a model-index, then Markdown.
//
// A card is generated from records (run, data manifest, reports, results of gates), so its figures
// are the reports' figures. Compare finds where a card says something else, Lint finds what the
// hub or its readers would stumble over. The same facts give the same bytes.
package card

import (
	"time"
)

// Facts are what a card is made of. Empty fields leave their line out.
type Facts struct {
	Name        string // of the model in the registry
	Title       string // heading; Name where empty
	Summary     string // one paragraph
	Languages   []string
	License     string // SPDX identifier, or other
	LicenseName string // of an other licence
	LicenseLink string
	Library     string // transformers or peft
	Task        string // pipeline tag
	Tags        []string

	Kind       string // model or adapter
	Base       string // model it was tuned from
	BaseDigest string // of the base's files
	Relation   string // adapter, finetune, merge

	Data     []Dataset
	Training []Fact // procedure, in order
	Canaries *Canaries

	Reports []Named // evaluation, exposure, results of gates; their figures become the card's
	Subject string  // digest of the model's files: reports of other models are baselines

	Pictures []Picture // of the reports

	Provenance []Fact
	Verify     []string // commands with which a reader checks the model
	Changes    []Change // from the event log, the latest first

	Intended    string // hand-written; a generic sentence where empty
	OutOfScope  string
	Limitations string
	Notes       string // hand-written Markdown, put at the end
}

// The sections that pictures stand in.
const (
	SectionEvaluation = "evaluation"
	SectionPrivacy    = "privacy"
)

// Picture is a file beside the card that one of its sections shows.
type Picture struct {
	Section string
	Path    string // below the card's folder, with slashes
	Text    string // for whoever does not see it
}

// Fact is one line of a table.
type Fact struct{ Name, Value string }

// Dataset is one file or set that the model was trained or tested on.
type Dataset struct {
	Name        string
	Split       string
	Rows        int64
	Fingerprint string
	License     string
	Source      string
}

// Canaries say what was planted into the training data.
type Canaries struct {
	Count    int
	Manifest string // digest of the list
	Why      string
}

// Change is one move of a channel.
type Change struct {
	Time    time.Time
	What    string
	Version string
	Reason  string
}

// Named is a report with the name of its file.
type Named struct {
	Name string
	Data []byte
}
