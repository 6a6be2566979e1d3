package view

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path"
	"slices"
	"time"

	"github.com/t5ctl/t5ctl/internal/runfolder"
)

// mediaTypes are the files that are shown, by their endings; weights and caches are not.
func mediaTypes() map[string]string {
	const text = "text/plain; charset=utf-8"
	return map[string]string{
		".json": text, ".jsonl": text, ".yaml": text, ".md": text, ".txt": text,
		".html": "text/html; charset=utf-8", ".png": "image/png",
	}
}

// shown names the files of a folder in a run's that may be shown; one that is not there has none.
func shown(root *os.Root, folder string) ([]string, error) {
	entries, err := fs.ReadDir(root.FS(), path.Join(".", folder))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var names []string
	for _, e := range entries {
		if _, known := mediaTypes()[path.Ext(e.Name())]; known && e.Type().IsRegular() {
			names = append(names, e.Name())
		}
	}
	return names, nil
}

// file gives a file of a run, from a folder in it. No name leads out of the run's folder. Reports are
// shown as pages; what others wrote runs no script and has an origin of its own.
func (s *Server) file(folder string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if err := s.serveFile(w, r, folder, r.PathValue("file")); err != nil {
			w.Header().Set("Content-Security-Policy", policy)
			s.show(func(*http.Request) (string, page, error) { return "", page{}, err })(w, r)
		}
	}
}

func (s *Server) serveFile(w http.ResponseWriter, r *http.Request, folder, name string) error {
	one, err := s.find(r.PathValue("run"))
	if err != nil {
		return err
	}
	root, err := os.OpenRoot(string(one.Dir))
	if err != nil {
		return err
	}
	defer func() { _ = root.Close() }() // opened for reading
	names, err := shown(root, folder)
	if err != nil {
		return err
	}
	if !slices.Contains(names, name) {
		return &NotFoundError{"run " + one.ID + " shows no file " + name}
	}
	f, err := root.Open(path.Join(folder, name))
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }() // opened for reading
	w.Header().Set("Content-Security-Policy", strangerPolicy)
	if folder == runfolder.ReportsDir && path.Ext(name) == ".json" && r.URL.Query().Get("as") != "json" {
		data, err := io.ReadAll(f)
		if err != nil {
			return err
		}
		if report, err := s.options.Source.Report(name, data); err == nil && report.Page {
			return s.report(w, r, one.Dir.Path(folder, name))
		}
		if _, err := f.Seek(0, io.SeekStart); err != nil {
			return err
		}
	}
	w.Header().Set("Content-Type", mediaTypes()[path.Ext(name)])
	http.ServeContent(w, r, "", time.Time{}, f)
	return nil
}

// report writes a report as its own page.
func (s *Server) report(w http.ResponseWriter, r *http.Request, name string) error {
	var b bytes.Buffer
	if err := s.options.Source.WriteReport(r.Context(), &b, name); err != nil {
		return err
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(b.Bytes()))
	return nil
}
