package registry_test

import (
	"strings"
	"testing"

	"github.com/t5ctl/t5ctl/registry"
)

const someDigest = "sha256:1111111111111111111111111111111111111111111111111111111111111111"

func TestParseRef(t *testing.T) {
	tests := map[string]struct {
		in   string
		want registry.Ref // zero: must be refused
	}{
		"plain":               {in: "summarizer@v7", want: registry.Ref{Model: "summarizer", Version: 7}},
		"a team's":            {in: "team/sum-2_x.y@v12", want: registry.Ref{Model: "team/sum-2_x.y", Version: 12}},
		"a channel":           {in: "summarizer@production", want: registry.Ref{Model: "summarizer", Channel: "production"}},
		"a digest":            {in: "summarizer@" + someDigest, want: registry.Ref{Model: "summarizer", Digest: someDigest}},
		"version 0":           {in: "summarizer@v0"},
		"leading zero":        {in: "summarizer@v07"},
		"too large":           {in: "summarizer@v99999999999999999999"},
		"a path":              {in: "../summarizer@v1"},
		"an absolute path":    {in: "/summarizer@v1"},
		"upper case":          {in: "Summarizer@v1"},
		"no version":          {in: "summarizer"},
		"empty version":       {in: "summarizer@"},
		"empty name":          {in: "@v1"},
		"half a digest":       {in: "summarizer@sha256:1234"},
		"another hash":        {in: "summarizer@sha512:1234"},
		"a reserved name":     {in: "team/blobs@v1"},
		"our own tags":        {in: "summarizer@t5ev-12"},
		"none":                {in: "summarizer@none"},
		"channel in capitals": {in: "summarizer@Prod"},
		"two at signs":        {in: "a@b@v1"},
		"a very long name":    {in: strings.Repeat("a", 200) + "@v1"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			got, err := registry.ParseRef(tt.in)
			if got != tt.want || (err == nil) != (tt.want != registry.Ref{}) {
				t.Errorf("ParseRef(%q) = %v, %v; want %v", tt.in, got, err, tt.want)
			}
			if err == nil && got.String() != tt.in {
				t.Errorf("%q is written as %q", tt.in, got)
			}
		})
	}
}

// FuzzParseRef holds that what is accepted is written the same, and names no path.
func FuzzParseRef(f *testing.F) {
	for _, seed := range []string{"a@v1", "a/b@prod", "a@" + someDigest, "../x@v1", "@", "a@v"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		ref, err := registry.ParseRef(text)
		if err != nil {
			return
		}
		if ref.String() != text || strings.Contains(ref.Model, "..") || strings.HasPrefix(ref.Model, "/") {
			t.Errorf("%q is read as %+v", text, ref)
		}
	})
}
