package eval

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
)

// jsonScan reads one JSON value piece by piece, many times as fast as a decoder that does not know
// what comes: rows files have a line of numbers for every row.
type jsonScan struct {
	b []byte
	i int
}

var errShortJSON = errors.New("the JSON ends too early")

// peek is the next byte that is no white space; 0 at the end.
func (s *jsonScan) peek() byte {
	for ; s.i < len(s.b); s.i++ {
		switch c := s.b[s.i]; c {
		case ' ', '\t', '\r', '\n':
		default:
			return c
		}
	}
	return 0
}

func (s *jsonScan) take(want byte) error {
	switch got := s.peek(); got {
	case want:
		s.i++
		return nil
	case 0:
		return errShortJSON
	default:
		return fmt.Errorf("byte %d is %q where JSON needs %q", s.i+1, got, want)
	}
}

// end makes sure that nothing follows.
func (s *jsonScan) end() error {
	if s.peek() != 0 || s.i < len(s.b) {
		return fmt.Errorf("byte %d: something follows the JSON value", s.i+1)
	}
	return nil
}

// object calls field for each key; field must read the value.
func (s *jsonScan) object(field func(key []byte) error) error {
	return s.list('{', '}', func() error {
		key, err := s.text()
		if err == nil {
			err = s.take(':')
		}
		if err != nil {
			return err
		}
		return field(key)
	})
}

// array calls element at each element, which it must read.
func (s *jsonScan) array(element func() error) error { return s.list('[', ']', element) }

func (s *jsonScan) list(open, end byte, part func() error) error {
	if err := s.take(open); err != nil {
		return err
	}
	if s.peek() == end {
		s.i++
		return nil
	}
	for {
		if err := part(); err != nil {
			return err
		}
		if s.peek() == ',' {
			s.i++
			continue
		}
		return s.take(end)
	}
}

// text is a string, as a part of the line where nothing in it is escaped.
func (s *jsonScan) text() ([]byte, error) {
	if err := s.take('"'); err != nil {
		return nil, err
	}
	start := s.i
	for ; s.i < len(s.b); s.i++ {
		switch s.b[s.i] {
		case '"':
			s.i++
			return s.b[start : s.i-1], nil
		case '\\':
			return s.escaped(start)
		}
	}
	return nil, errShortJSON
}

// escaped is a string that begins at start and holds escapes.
func (s *jsonScan) escaped(start int) ([]byte, error) {
	for ; s.i < len(s.b); s.i++ {
		switch s.b[s.i] {
		case '\\':
			s.i++
		case '"':
			s.i++
			var out string
			err := json.Unmarshal(s.b[start-1:s.i], &out)
			return []byte(out), err
		}
	}
	return nil, errShortJSON
}

// number is a finite number.
func (s *jsonScan) number() (float64, error) {
	s.peek()
	start, whole := s.i, 0
	for ; s.i < len(s.b) && s.b[s.i]-'0' <= 9; s.i++ {
		whole = whole*10 + int(s.b[s.i]-'0')
	}
	if n := s.i - start; n > 0 && n < 16 && (s.i == len(s.b) || !bytes.ContainsRune([]byte(".eE+-"), rune(s.b[s.i]))) {
		return float64(whole), nil
	}
	for s.i < len(s.b) && (s.b[s.i]-'0' <= 9 || bytes.ContainsRune([]byte(".eE+-"), rune(s.b[s.i]))) {
		s.i++
	}
	v, err := strconv.ParseFloat(string(s.b[start:s.i]), 64)
	if err != nil {
		return 0, fmt.Errorf("byte %d: a statistic is no finite number", start+1)
	}
	return v, nil
}

// skip passes over a value of any kind. Brackets must match in number, not in kind.
func (s *jsonScan) skip() error {
	depth := 0
	for {
		switch c := s.peek(); c {
		case 0:
			return errShortJSON
		case '"':
			if _, err := s.text(); err != nil {
				return err
			}
		case '{', '[':
			depth++
			s.i++
		case '}', ']':
			depth--
			s.i++
		case ',', ':':
			if depth == 0 {
				return fmt.Errorf("byte %d: a value is missing", s.i+1)
			}
			s.i++
		default:
			for s.i < len(s.b) && !bytes.ContainsRune([]byte(",:]} \t"), rune(s.b[s.i])) {
				s.i++
			}
		}
		if depth <= 0 {
			break
		}
	}
	if depth < 0 {
		return fmt.Errorf("byte %d: a value is missing", s.i)
	}
	return nil
}
