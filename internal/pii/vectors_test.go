package pii_test

import (
	"bufio"
	"compress/gzip"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/t5ctl/t5ctl/internal/pii"
)

// vectors opens the reference values: those of $T5CTL_VECTORS, else our own.
func vectors(t *testing.T) io.Reader {
	t.Helper()
	if root := os.Getenv("T5CTL_VECTORS"); root != "" {
		f, err := os.Open(filepath.Join(root, "exposure", "pii.jsonl"))
		if err != nil {
			t.Skipf("vectors: pii.jsonl: skipped, %v", err)
		}
		t.Cleanup(func() { f.Close() })
		return f
	}
	f, err := os.Open("testdata/pii.jsonl.gz")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	return z
}

// The reference decides by the published rules of each number, written out in Python.
func TestVectorsPII(t *testing.T) {
	cases, differ := 0, 0
	in := bufio.NewScanner(vectors(t))
	in.Buffer(nil, 1<<20)
	for in.Scan() {
		var l struct {
			Kind, Value, Text string
			Valid             bool
			Spans             []struct {
				Type, Value string
				StartRune   int `json:"start_rune"`
				StartByte   int `json:"start_byte"`
				EndByte     int `json:"end_byte"`
			}
		}
		if err := json.Unmarshal(in.Bytes(), &l); err != nil {
			t.Fatal(err)
		}
		cases++
		ok := true
		switch l.Kind {
		case "card":
			ok = pii.Luhn(l.Value) == l.Valid
		case "iban":
			ok = pii.ValidIBAN(l.Value) == l.Valid
		case "us_ssn":
			ok = pii.ValidSSN(l.Value) == l.Valid
		case "ip":
			ok = pii.ValidIP(l.Value) == l.Valid
		case "text":
			got := pii.Scan(l.Text)
			ok = len(got) == len(l.Spans)
			for i := 0; ok && i < len(got); i++ {
				w := l.Spans[i]
				ok = got[i].Type == w.Type && got[i].Start == w.StartByte && got[i].End == w.EndByte && got[i].StartRune == w.StartRune
			}
			if !ok {
				t.Errorf("%q: %+v; want %+v", l.Text, got, l.Spans)
			}
		default:
			t.Fatalf("kind %q", l.Kind)
		}
		if !ok {
			differ++
			t.Errorf("%s %q: want %v", l.Kind, l.Value, l.Valid)
		}
	}
	t.Logf("vectors: pii.jsonl: %d cases, %d differ", cases, differ)
	if cases == 0 {
		t.Error("vectors: pii.jsonl: holds no case")
	}
}
