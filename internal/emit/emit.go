// Package emit writes what others need to run and watch a model that t5ctl serves: rules for
// Prometheus with their tests, dashboards for Grafana, manifests for Kubernetes and Argo Rollouts,
// runbooks, and a postmortem to fill in. All of it is about one model and the channel it serves on,
// and names the versions that the registry knows.
package emit

import (
	"bytes"
	"cmp"
	"embed"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"text/template"
	"time"
)

// Facts are what the documents are filled with.
type Facts struct {
	Model   string
	Channel string
	Version string // that serves now, such as v3
	Digest  string // of its manifest
	// Previous is the version that a rollback returns to; "" where there is none.
	Previous string
	History  []Change // of the channel, oldest first
	Evidence []string // names of what is bound to the version
	Tool     string   // version of t5ctl

	// P95 is the latency in seconds that 95 % of the answers must stay below. It must be a bound of
	// the histogram's buckets.
	P95          float64
	Availability float64 // share of requests that must not fail
	Burn         float64 // burn rate that alerts when it lasts 30 minutes

	Price float64 // of an hour of one server; 0: not known

	Image     string
	Namespace string
	Replicas  int
	Maximum   int // of replicas
	Shards    int // of the jobs
	Share     int // of the traffic that a canary gets first, in percent
	Input     string
	Recipe    string // of the sweep's job
	Sweep     string // the settings that it tries
	Registry  string // as pods reach it
}

// Change is one move of the channel.
type Change struct {
	Seq                         int64
	Time                        time.Time
	Kind, To, From, Who, Reason string
}

// File is one document.
type File struct {
	Name string
	Data []byte
}

// Write makes the documents of a kind.
func Write(kind string, f Facts) ([]File, error) {
	if kind == "grafana" {
		return dashboards(f)
	}
	var files []File
	for _, name := range map[string][]string{
		"prometheus": {"rules.yaml", "rules_test.yaml"},
		"kubernetes": {"deployment.yaml", "job.yaml", "sweep.yaml", "rollout.yaml"},
		"runbook":    {"rollback.md", "latency.md", "quality.md", "privacy.md"},
		"postmortem": {"postmortem.md"},
	}[kind] {
		file, err := f.fill(name)
		if err != nil {
			return nil, err
		}
		files = append(files, file)
	}
	return files, nil
}

//go:embed templates
var templates embed.FS //nolint:gochecknoglobals // embedding needs a variable

// fill makes one document of its template.
func (f Facts) fill(name string) (File, error) {
	functions := template.FuncMap{
		"budget":  func() string { return short(1 - f.Availability) },
		"percent": func(share float64) string { return short(100 * share) },
		"ms":      func(seconds float64) string { return short(1000 * seconds) },
		"short":   short,
		"day":     func(t time.Time) string { return t.UTC().Format("2006-01-02 15:04") },
		"object":  f.object,
		"cell":    func(s string) string { return strings.NewReplacer("|", `\|`, "\n", " ", "\r", " ").Replace(s) },
		"quote":   strconv.Quote,
		"windows": func() []string { return []string{"5m", "30m", "1h", "3d"} },
		"served":  func(ref string) pod { return f.pod(ref) },
		"labels":  f.labels,
		"told":    f.told,
		"rules":   func() []rule { return f.rules() },
		"rate":    f.errorRatio,
	}
	t, err := template.New(name).Delims("<<", ">>").Funcs(functions).Option("missingkey=error").ParseFS(templates, "templates/"+name, "templates/*.tmpl")
	if err != nil {
		return File{}, err
	}
	var b bytes.Buffer
	if err := t.Execute(&b, f); err != nil {
		return File{}, fmt.Errorf("writing %s: %w", name, err)
	}
	return File{name, b.Bytes()}, nil
}

// Baseline is the version that a canary is compared with: the one before, else the only one.
func (f Facts) Baseline() string { return cmp.Or(f.Previous, f.Version) }

// pod is what the pods of one version, or of a channel that they follow, are filled with.
type pod struct {
	Image, Object string
	Args          []string
}

func (f Facts) pod(ref string) pod {
	return pod{f.Image, f.object(), []string{
		"--registry", f.Registry, "serve", "--model", f.Model + "@" + ref, "--listen", "0.0.0.0:8443",
		"--tls-cert", "/run/t5ctl/tls.crt", "--tls-key", "/run/t5ctl/tls.key", "--auth-token-file", "/run/t5ctl/token", "--scan-outputs",
	}}
}

// short is a number without a tail of rounding.
func short(v float64) string { return strconv.FormatFloat(v, 'g', 10, 64) }

// object is the model's name as Kubernetes takes it: at most 40 lower-case letters, digits and
// dashes.
func (f Facts) object() string {
	name := strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' {
			return r
		}
		return '-'
	}, f.Model)
	if len(name) > 40 {
		name = name[:40]
	}
	return "t5ctl-" + strings.Trim(name, "-")
}

// Buckets are the bounds in seconds of the latency histogram that t5ctl serve keeps.
func Buckets() []float64 {
	return []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30}
}

// FactsError says what cannot be written so.
type FactsError struct{ Reason string }

func (e *FactsError) Error() string { return e.Reason }

// Check refuses objectives that the rules could not hold.
func (f Facts) Check() error {
	switch {
	case !slices.Contains(Buckets(), f.P95):
		return &FactsError{fmt.Sprintf("a latency of %s s is no bound of the histogram; take one of %v", short(f.P95), Buckets())}
	case !(f.Availability > 0 && f.Availability < 1):
		return &FactsError{fmt.Sprintf("an availability of %s is not between 0 and 1", short(f.Availability))}
	case !(f.Burn > 1) || f.Burn*(1-f.Availability) >= maxRatio:
		return &FactsError{fmt.Sprintf("a burn rate of %s cannot be reached: it lies between 1 and %s", short(f.Burn), short(maxRatio/(1-f.Availability)))}
	case !(f.Price >= 0) || math.IsInf(f.Price, 0):
		return &FactsError{fmt.Sprintf("--price-per-hour %g is no price", f.Price)}
	case f.Replicas < 1 || f.Maximum < f.Replicas:
		return &FactsError{fmt.Sprintf("%d to %d replicas", f.Replicas, f.Maximum)}
	case f.Shards < 1:
		return &FactsError{fmt.Sprintf("%d shards", f.Shards)}
	case f.Share < 1 || f.Share > 99:
		return &FactsError{fmt.Sprintf("a canary's share of %d %% is not between 1 and 99", f.Share)}
	}
	return nil
}
