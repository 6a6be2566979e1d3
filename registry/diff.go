package registry

import (
	"context"
	"slices"
	"strings"
)

// Difference is what differs between two versions: files by digest, and what else their
// manifests and evidence say.
type Difference struct {
	From  string       `json:"from"`
	To    string       `json:"to"`
	Files []FileChange `json:"files"` // of the model and its card
	Notes []FileChange `json:"notes"` // of the evidence: run records, reports
	Base  []string     `json:"base,omitempty"`
}

// FileChange is a file that is not the same in two versions; an empty digest says that it is not
// there.
type FileChange struct {
	Path string `json:"path"`
	From string `json:"from,omitempty"`
	To   string `json:"to,omitempty"`
}

// Diff compares two versions, of one model or two.
func (r *Registry) Diff(ctx context.Context, from, to Ref) (Difference, error) {
	a, err := r.Show(ctx, from)
	if err != nil {
		return Difference{}, err
	}
	b, err := r.Show(ctx, to)
	if err != nil {
		return Difference{}, err
	}
	d := Difference{From: a.Name, To: b.Name, Files: changes(layerDigests(a.Layers), layerDigests(b.Layers))}
	before, err := r.noteDigests(ctx, a)
	if err != nil {
		return Difference{}, err
	}
	after, err := r.noteDigests(ctx, b)
	if err != nil {
		return Difference{}, err
	}
	d.Notes = changes(before, after)
	if one, two := baseTree(a.Base), baseTree(b.Base); one != two {
		d.Base = []string{one, two}
	}
	return d, nil
}

func baseTree(base *Base) string {
	if base == nil {
		return ""
	}
	return base.Tree
}

func layerDigests(layers []Layer) map[string]string {
	sums := map[string]string{}
	for _, layer := range layers {
		sums[layer.Path] = layer.Digest
	}
	return sums
}

func (r *Registry) noteDigests(ctx context.Context, d Detail) (map[string]string, error) {
	sums := map[string]string{}
	target := Target{Version: d.Version.Version, Digest: d.Digest}
	for _, e := range d.Evidence {
		blobs, err := r.evidenceLayers(ctx, d.Model, target, e)
		if err != nil {
			return nil, err
		}
		for _, blob := range blobs {
			sums[blob.Annotations["org.opencontainers.image.title"]] = blob.Digest.String()
		}
	}
	return sums, nil
}

func changes(from, to map[string]string) []FileChange {
	list := []FileChange{}
	for path, sum := range from {
		if to[path] != sum {
			list = append(list, FileChange{path, sum, to[path]})
		}
	}
	for path, sum := range to {
		if _, both := from[path]; !both {
			list = append(list, FileChange{path, "", sum})
		}
	}
	slices.SortFunc(list, func(a, b FileChange) int { return strings.Compare(a.Path, b.Path) })
	return list
}
