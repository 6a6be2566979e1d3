package jobfile_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/parquet-go/parquet-go"

	"github.com/t5ctl/t5ctl/internal/jobfile"
)

func open(t *testing.T, path, fingerprint string) *jobfile.Job {
	t.Helper()
	j, err := jobfile.Open(path, fingerprint)
	if err != nil {
		t.Fatal(err)
	}
	return j
}

func content(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// A job killed while it writes a piece leaves bytes behind the last record; the next one drops
// them and goes on.
func TestKilledJobGoesOn(t *testing.T) {
	path := filepath.Join(t.TempDir(), "out.jsonl")
	j := open(t, path, "a")
	j.Progress.Counts["cut"] = 3
	if err := j.Append([]byte("1\n2\n"), []byte("x\n"), 3); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{j.Part(), j.FailedPath()} { // half of the next piece
		f, err := os.OpenFile(name, os.O_APPEND|os.O_WRONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = f.WriteString("half a li")
		_ = f.Close()
	}
	if _, err := jobfile.Open(path, "b"); err == nil {
		t.Error("a job with other settings went on with it")
	} else if _, ok := errors.AsType[*jobfile.ConflictError](err); !ok {
		t.Errorf("%v, want a ConflictError", err)
	}
	j = open(t, path, "a")
	if j.Progress.Rows != 3 || j.Progress.Counts["cut"] != 3 {
		t.Errorf("the job stands at %+v", j.Progress)
	}
	if err := j.Append([]byte("3\n"), nil, 4); err != nil {
		t.Fatal(err)
	}
	if err := j.Commit(false); err != nil {
		t.Fatal(err)
	}
	if got := content(t, path); got != "1\n2\n3\n" {
		t.Errorf("the file holds %q", got)
	}
	if got := content(t, j.FailedPath()); got != "x\n" {
		t.Errorf("the failures are %q", got)
	}
	if left, _ := filepath.Glob(path + ".part*"); left != nil {
		t.Errorf("%v are left", left)
	}
}

func TestConvert(t *testing.T) {
	dir := t.TempDir()
	from := filepath.Join(dir, "part")
	rows := `{"b":"x, \"y\"","a":3,"output":"é"}` + "\n" + `{"a":null,"b":"line\nend","output":"ü"}` + "\n"
	if err := os.WriteFile(from, []byte(rows), 0o600); err != nil {
		t.Fatal(err)
	}
	csv := filepath.Join(dir, "out.csv")
	if err := jobfile.Convert(from, csv, "csv"); err != nil {
		t.Fatal(err)
	}
	if got, want := content(t, csv), "b,a,output\n\"x, \"\"y\"\"\",3,é\n\"line\nend\",,ü\n"; got != want {
		t.Errorf("csv is %q, want %q", got, want)
	}
	table := filepath.Join(dir, "out.parquet")
	if err := jobfile.Convert(from, table, "parquet"); err != nil {
		t.Fatal(err)
	}
	got, err := parquet.ReadFile[struct {
		B      string `parquet:"b"`
		A      string `parquet:"a"`
		Output string `parquet:"output"`
	}](table)
	if err != nil || len(got) != 2 || got[0].B != `x, "y"` || got[1].Output != "ü" || got[0].A != "3" {
		t.Errorf("parquet holds %+v, %v", got, err)
	}
}

func TestFormat(t *testing.T) {
	for path, want := range map[string]string{"a.jsonl": "jsonl", "b.CSV": "csv", "c.parquet": "parquet", "d.txt": "", "e": ""} {
		got, err := jobfile.Format(path)
		if got != want || (err == nil) != (want != "") || err != nil && !strings.Contains(err.Error(), path) {
			t.Errorf("Format(%q) = %q, %v; want %q", path, got, err, want)
		}
	}
}
