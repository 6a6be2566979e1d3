package view_test

import (
	"bytes"
	"context"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// dom opens a page in the browser and gives what is there after so many milliseconds of its clock, which
// stands still while an answer is awaited. The browser must have nothing to complain of.
func dom(t *testing.T, browser, url, milliseconds string, more ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	arguments := append([]string{"--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", "--virtual-time-budget=" + milliseconds, "--dump-dom"}, more...)
	cmd := exec.CommandContext(ctx, browser, append(arguments, url)...)
	var out, log bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &log
	if err := cmd.Run(); err != nil {
		t.Fatalf("%s: %v\n%s", browser, err, log.String())
	}
	for _, line := range strings.Split(log.String(), "\n") {
		if strings.Contains(line, "CONSOLE") {
			t.Errorf("%s: the browser complained: %s", url, line)
		}
	}
	return out.String()
}

// picture is what a page of 1100 by 1400 looks like.
func picture(t *testing.T, browser, url string, more ...string) []byte {
	t.Helper()
	path := filepath.Join(t.TempDir(), "page.png")
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	arguments := append([]string{"--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--window-size=1100,1400", "--screenshot=" + path}, more...)
	if out, err := exec.CommandContext(ctx, browser, append(arguments, url)...).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", browser, err, out)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// TestChromium opens the pages in the browser that T5CTL_CHROMIUM names (make check-view): a page that is
// open shows the step that a training logs meanwhile; without scripts a page looks the same.
func TestChromium(t *testing.T) {
	browser := os.Getenv("T5CTL_CHROMIUM")
	if browser == "" {
		t.Skip("T5CTL_CHROMIUM names no browser: make check-view")
	}
	root := project(t)
	pages, asked := handler(t, root, 10*time.Second), atomic.Int32{}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/runs/live" && asked.Add(1) == 2 {
			log, err := os.OpenFile(filepath.Join(root, "live", "events.jsonl"), os.O_APPEND|os.O_WRONLY, 0)
			if err == nil {
				_, err = log.WriteString("\n" + `{"event":"step","step":300,"loss":0.75,"learning_rate":0.1,"tokens_per_second":70,"time":"2026-11-22T20:03:00Z"}` + "\n")
				log.Close()
			}
			if err != nil {
				t.Error(err)
			}
		}
		pages.ServeHTTP(w, r)
	}))
	defer server.Close()
	live := dom(t, browser, server.URL+"/runs/live", "9000")
	if !strings.Contains(live, "300 of 400") || !strings.Contains(live, `data-steps="100 200 300"`) {
		t.Errorf("the open page did not follow the training, though it asked %d times", asked.Load())
	}
	for _, path := range []string{"/", "/curves?run=g2p-base&run=live", "/models", "/models/team/g2p", "/runs/g2p-base", "/runs/live/reports/exposure.json"} {
		if text := dom(t, browser, server.URL+path, "3000"); !strings.Contains(text, "<h1>") {
			t.Errorf("%s: %s", path, text)
		}
	}
	still := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		answer := httptest.NewRecorder()
		pages.ServeHTTP(answer, r)
		w.Header().Set("Content-Type", answer.Header().Get("Content-Type"))
		_, _ = w.Write(regexp.MustCompile(`<script.*</script>`).ReplaceAll(answer.Body.Bytes(), nil)) // the browser is gone
	}))
	defer still.Close()
	usual := picture(t, browser, server.URL+"/runs/g2p-base")
	if !bytes.Equal(usual, picture(t, browser, still.URL+"/runs/g2p-base")) {
		t.Error("without scripts the page looks different")
	}
	if bytes.Equal(usual, picture(t, browser, server.URL+"/runs/g2p-base", "--blink-settings=preferredColorScheme=0")) {
		t.Error("the page is not dark where dark is asked for")
	}
}
