package server

import (
	"bytes"
	"encoding/json"
	"fmt"
	"hash/fnv"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/t5ctl/t5ctl/internal/pii"
)

// Sample is one request that was kept for review, a line of a file of samples.
type Sample struct {
	ID     string  `json:"id"` // of the request
	Time   string  `json:"time"`
	Model  string  `json:"model"` // that answered, as in g2p@v3
	Digest string  `json:"digest,omitempty"`
	Input  string  `json:"input"`  // redacted
	Output string  `json:"output"` // redacted
	Score  float64 `json:"score,omitempty"`
	Cut    bool    `json:"cut,omitempty"`

	Settings json.RawMessage `json:"settings,omitempty"` // what the request asked for
	TotalMS  float64         `json:"total_ms"`
}

// Sampler keeps a share of the requests in files of a day each, which only their owner can read.
// Personal data is replaced by pseudonyms that only the holder of the key can try out.
type Sampler struct {
	Dir    string
	Rate   float64       // share of the requests, 0 to 1
	Key    []byte        // of the pseudonyms
	Retain time.Duration // files of days before that are removed; 0: none is

	mu   sync.Mutex
	day  string
	file *os.File
}

// Open makes the folder and removes what is too old.
func (s *Sampler) Open() error {
	if err := os.MkdirAll(s.Dir, 0o700); err != nil {
		return err
	}
	return s.expire(time.Now())
}

// Close closes the file of the day.
func (s *Sampler) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.file == nil {
		return nil
	}
	err := s.file.Close()
	s.file = nil
	return err
}

// draws says whether a request is drawn: by a hash of its id, so that the same ones are drawn
// by every server that the requests came through.
func (s *Sampler) draws(id string) bool {
	h := fnv.New64a()
	h.Write([]byte(id))
	x := h.Sum64()
	x ^= x >> 33 // the high bits of the hash alone are poorly mixed for short ids
	x *= 0xff51afd7ed558ccd
	x ^= x >> 33
	return float64(x>>11)/(1<<53) < s.Rate
}

// take keeps a request that was answered, if it is drawn.
func (s *Sampler) take(c *call, m *metrics) {
	if s == nil || c.answer.Cached || !s.draws(c.id) {
		return
	}
	document := pii.Redactor{Key: s.Key}.Document()
	now := time.Now().UTC()
	row := Sample{
		ID: c.id, Time: now.Format(time.RFC3339), Model: c.answer.Model, Digest: c.answer.Digest, Score: c.answer.Outputs[0].Score,
		Cut: c.answer.Outputs[0].Cut, TotalMS: c.answer.TotalMS,
	}
	row.Input, _ = document.Redact(c.request.Input)
	row.Output, _ = document.Redact(c.answer.Output)
	result := "kept"
	if err := s.write(row, redacted(c.request.Settings, document), now); err != nil {
		result = "failed"
		c.server.log.Error("sample not kept", "id", c.id, "error", err.Error())
	}
	m.samples.WithLabelValues(result).Inc()
}

// redacted gives settings whose texts, those that outputs are held to, are redacted as the input is. A schema
// that is none after that is left out.
func redacted(s Settings, document *pii.Document) Settings {
	if s.Regex != nil {
		expression, _ := document.Redact(*s.Regex)
		s.Regex = &expression
	}
	schema, _ := document.Redact(string(s.Schema))
	if s.Schema = json.RawMessage(schema); !json.Valid(s.Schema) {
		s.Schema = nil
	}
	s.Choices = slices.Clone(s.Choices)
	for i, choice := range s.Choices {
		s.Choices[i], _ = document.Redact(choice)
	}
	return s
}

func (s *Sampler) write(row Sample, settings Settings, now time.Time) error {
	var err error
	if row.Settings, err = json.Marshal(settings); err != nil {
		return err
	}
	var line bytes.Buffer
	enc := json.NewEncoder(&line)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(row); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if day := now.Format(time.DateOnly); s.file == nil || s.day != day {
		if s.file != nil {
			_ = s.file.Close() // every line was written by then
		}
		if s.file, err = os.OpenFile(filepath.Join(s.Dir, sampleFile(day)), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600); err != nil {
			return err
		}
		s.day = day
		if err := s.expire(now); err != nil {
			return err
		}
	}
	_, err = s.file.Write(line.Bytes())
	return err
}

func sampleFile(day string) string { return "samples-" + day + ".jsonl" }

// expire removes the files of days that ended longer than Retain ago.
func (s *Sampler) expire(now time.Time) error {
	if s.Retain == 0 {
		return nil
	}
	files, err := filepath.Glob(filepath.Join(s.Dir, sampleFile("*")))
	if err != nil {
		return err
	}
	for _, path := range files {
		var day time.Time
		if day, err = time.Parse(sampleFile(time.DateOnly), filepath.Base(path)); err != nil {
			continue // no file of ours
		}
		if now.Sub(day.AddDate(0, 0, 1)) > s.Retain {
			if err := os.Remove(path); err != nil {
				return fmt.Errorf("removing samples past their time: %w", err)
			}
		}
	}
	return nil
}
