package card

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"regexp"
	"strconv"
	"strings"
)

// claims is what Compare reads of a card, its own or another tool's.
type claims struct {
	Index []struct {
		Results []struct {
			Dataset struct {
				Name     string `yaml:"name"`
				Revision string `yaml:"revision"`
			} `yaml:"dataset"`
			Metrics []claim `yaml:"metrics"`
			Source  struct {
				URL string `yaml:"url"`
			} `yaml:"source"`
		} `yaml:"results"`
	} `yaml:"model-index"`
	Own *struct {
		Schema  int `yaml:"schema"`
		Reports []struct {
			Role   string `yaml:"role"`
			Name   string `yaml:"name"`
			Digest string `yaml:"digest"`
		} `yaml:"reports"`
	} `yaml:"t5ctl"`
}

type claim struct {
	Type   string `yaml:"type"`
	Name   string `yaml:"name"`
	Value  any    `yaml:"value"`
	Config string `yaml:"config"`
	Args   any    `yaml:"args"`
}

// key tells one figure of a report from the others.
func key(report, name, title, slice, signature string) string {
	return strings.Join([]string{report, name, title, slice, signature}, "\x00")
}

func (r report) key(m metric) string { return key(r.digest, m.Name, m.title(), m.Slice, m.Signature) }

// slice is the part of the rows that a claim is about.
func (c claim) slice() string {
	if m, ok := c.Args.(map[string]any); ok {
		if s, ok := m["slice"].(string); ok {
			return s
		}
	}
	return ""
}

func (c claim) value() (float64, bool) {
	switch v := c.Value.(type) {
	case float64:
		return v, !math.IsNaN(v) && !math.IsInf(v, 0)
	case uint64:
		return float64(v), true
	case int64:
		return float64(v), true
	}
	return 0, false
}

// Compare lists where a card's figures are not those of the reports; subject is the digest of
// the model files, so that figures of another model do not count. A card that this tool has
// written must agree in every figure, in front matter and text; of a card of other origin those
// figures are compared that the reports speak of too.
func Compare(text []byte, files []Named, subject string) ([]string, error) {
	front, body, err := split(text)
	if errors.Is(err, errNoFront) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var c claims
	if err := decode(front, &c); err != nil {
		return nil, err
	}
	list, err := reports(files, subject)
	if err != nil {
		return nil, err
	}
	if c.Own == nil {
		return c.contradictions(list), nil
	}
	return append(c.differences(list), figureLines(body, list)...), nil
}

// contradictions compares what a foreign card and the reports both speak of.
func (c claims) contradictions(list []report) []string {
	var found []string
	for _, entry := range c.Index {
		for _, result := range entry.Results {
			for _, r := range withRole(list, kindEvaluation) {
				same := result.Dataset.Revision != "" && result.Dataset.Revision == r.Data.Fingerprint ||
					result.Dataset.Name != "" && result.Dataset.Name == r.Title
				if same {
					found = append(found, contradicted(result.Metrics, r)...)
				}
			}
		}
	}
	return found
}

func contradicted(claims []claim, r report) []string {
	var found []string
	for _, claim := range claims {
		got, ok := claim.value()
		for _, m := range r.Metrics {
			if m.Name != claim.Type || m.Slice != claim.slice() || !m.defined() {
				continue
			}
			if !ok || !rounds(got, *m.Score) {
				found = append(found, fmt.Sprintf("%s is %v on the card, %v in %s", m.title(), claim.Value, *m.Score, r.file))
			}
		}
	}
	return found
}

// rounds says whether a figure is the score, rounded to the decimals that the figure has.
func rounds(figure, score float64) bool {
	written := strconv.FormatFloat(figure, 'f', -1, 64)
	_, decimals, _ := strings.Cut(written, ".")
	return math.Abs(figure-score) <= 0.5000001*math.Pow10(-len(decimals))
}

// differences compares a card of our own with the reports: the same reports, the same figures.
func (c claims) differences(list []report) []string {
	var found []string
	known := map[string]report{}
	for _, r := range list {
		known[r.digest] = r
	}
	spoken := map[string]bool{}
	for _, entry := range c.Own.Reports {
		spoken[entry.Digest] = true
		if r, ok := known[entry.Digest]; !ok {
			found = append(found, fmt.Sprintf("the card rests on report %s (%s), which is not here", entry.Name, entry.Digest))
		} else if r.role != entry.Role {
			found = append(found, fmt.Sprintf("report %s is %q on the card, it is %q", entry.Name, entry.Role, r.role))
		}
	}
	for _, r := range list {
		if !spoken[r.digest] && (r.role == kindEvaluation || r.role == kindExposure || r.role == kindGate) {
			found = append(found, fmt.Sprintf("the card says nothing of report %s (%s)", r.file, r.digest))
		}
	}
	return append(found, c.figures(list)...)
}

// figures compares the model-index with the reports that its entries name.
func (c claims) figures(list []report) []string {
	want := map[string]float64{} // report, metric and slice → score
	title := map[string]string{}
	for _, r := range withRole(list, kindEvaluation) {
		for _, m := range r.Metrics {
			if m.defined() {
				want[r.key(m)], title[r.key(m)] = *m.Score, m.title()
			}
		}
	}
	var found []string
	got := map[string]bool{}
	for _, entry := range c.Index {
		for _, result := range entry.Results {
			_, sum, _ := strings.Cut(result.Source.URL, "#")
			for _, claim := range result.Metrics {
				id := key(sum, claim.Type, claim.Name, claim.slice(), claim.Config)
				score, wanted := want[id]
				value, number := claim.value()
				switch {
				case !wanted:
					found = append(found, fmt.Sprintf("%s is on the card, not in report %s", claim.Name, sum))
				case !number || value != score:
					found = append(found, fmt.Sprintf("%s is %v on the card, %v in report %s", title[id], claim.Value, score, sum))
				}
				got[id] = true
			}
		}
	}
	for _, r := range withRole(list, kindEvaluation) { // in order, unlike the map
		for _, m := range r.Metrics {
			if _, wanted := want[r.key(m)]; wanted && !got[r.key(m)] {
				found = append(found, fmt.Sprintf("%s of report %s is not on the card", m.title(), r.file))
			}
		}
	}
	return found
}

// picture is a line that shows one.
//
//nolint:gochecknoglobals // compiled once, never changed
var picture = regexp.MustCompile(`(?m)^!\[[^\]\n]*\]\([^)\n]*\)$`)

// figureLines compares the sections that hold figures with what the reports give.
func figureLines(body []byte, list []report) []string {
	_, rest, found := bytes.Cut(body, []byte(beginFigures))
	section, _, ends := bytes.Cut(rest, []byte(endFigures))
	if !found || !ends {
		return []string{"the sections with the figures have lost their marks"}
	}
	var b builder
	b.evaluation(list)
	b.privacy(list)
	want := strings.Split(tidy(b.String()), "\n")
	got := strings.Split(tidy(picture.ReplaceAllString(string(section), "")), "\n")
	for i := range max(len(want), len(got)) {
		var w, g string
		if i < len(want) {
			w = want[i]
		}
		if i < len(got) {
			g = got[i]
		}
		if w != g {
			return []string{fmt.Sprintf("the text says %q, the reports give %q", g, w)}
		}
	}
	return nil
}
