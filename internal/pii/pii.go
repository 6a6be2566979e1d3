// Package pii finds personal data and secrets of a fixed form in text: e-mail addresses, phone, card
// and account numbers, addresses of machines, keys and tokens. What only a model can see, names of
// people and places above all, it does not find.
//
// A cheap look for a character that every value of a kind has comes first; what is around it is then
// checked by rule and checksum, each time over a bounded length, so that no text takes more than
// linear time.
package pii

import (
	"cmp"
	"slices"
	"strings"
	"unicode/utf8"
)

// Types of values.
const (
	Email      = "email"
	Card       = "credit_card"
	IBAN       = "iban"
	SSN        = "us_ssn"
	Phone      = "phone"
	IP         = "ip"
	MAC        = "mac"
	AWSKey     = "aws_access_key"
	GitHub     = "github_token"
	Slack      = "slack_token"
	JWT        = "jwt"
	PrivateKey = "private_key"
	URLLogin   = "url_credentials"
	Secret     = "secret" // a random-looking value behind a word like token or password
)

// Types lists them all.
func Types() []string {
	return []string{Email, Card, IBAN, SSN, Phone, IP, MAC, AWSKey, GitHub, Slack, JWT, PrivateKey, URLLogin, Secret}
}

// Span is one value in a text.
type Span struct {
	Type      string
	Start     int // in bytes
	End       int
	StartRune int     // in characters
	Score     float64 // how sure it is, up to 1
}

// Scan gives the values in a text, in order and without overlap: of two that overlap the longer
// counts, of equals the surer.
func Scan(text string) []Span {
	s := scanner{text: text}
	s.marks()
	s.digits()
	s.colons()
	s.keys()
	if len(s.found) == 0 {
		return nil
	}
	slices.SortFunc(s.found, func(a, b Span) int {
		return cmp.Or(cmp.Compare(b.End-b.Start, a.End-a.Start), cmp.Compare(b.Score, a.Score), cmp.Compare(a.Start, b.Start), strings.Compare(a.Type, b.Type))
	})
	return settle(text, s.found)
}

// settle keeps the first of those that overlap, puts them in order and counts characters. None is longer
// than those before it, so one that overlaps has its first or last byte taken.
func settle(text string, found []Span) []Span {
	taken := make([]bool, len(text))
	kept := found[:0]
	for _, f := range found {
		if taken[f.Start] || taken[f.End-1] {
			continue
		}
		for i := f.Start; i < f.End; i++ {
			taken[i] = true
		}
		kept = append(kept, f)
	}
	slices.SortFunc(kept, func(a, b Span) int { return cmp.Compare(a.Start, b.Start) })
	runes, last := 0, 0
	for i := range kept {
		runes += utf8.RuneCountInString(text[last:kept[i].Start])
		last = kept[i].Start
		kept[i].StartRune = runes
	}
	return kept
}

// scanner gathers candidates that hold.
type scanner struct {
	text  string
	found []Span
}

func (s *scanner) add(kind string, start, end int, score float64) {
	s.found = append(s.found, Span{Type: kind, Start: start, End: end, Score: score})
}

// each calls visit at every place of a byte.
func (s *scanner) each(c byte, visit func(at int)) {
	for from := 0; ; {
		i := strings.IndexByte(s.text[from:], c)
		if i < 0 {
			return
		}
		visit(from + i)
		from += i + 1
	}
}

// at is the byte at a place, 0 outside.
func (s *scanner) at(i int) byte {
	if i < 0 || i >= len(s.text) {
		return 0
	}
	return s.text[i]
}

func isDigit(c byte) bool { return c-'0' < 10 }
func isAlpha(c byte) bool { return c|0x20-'a' < 26 }
func isAlnum(c byte) bool { return isDigit(c) || isAlpha(c) }
func isHex(c byte) bool   { return isDigit(c) || (c|0x20)-'a' < 6 }

// before says whether one of the words stands in the 40 bytes before a place.
func (s *scanner) before(at int, words ...string) bool {
	context := strings.ToLower(s.text[max(0, at-40):at])
	for _, w := range words {
		if strings.Contains(context, w) {
			return true
		}
	}
	return false
}

// marks looks around @ and "://".
func (s *scanner) marks() {
	s.each('@', s.email)
	if strings.IndexByte(s.text, '@') < 0 {
		return
	}
	for from := 0; ; {
		i := strings.Index(s.text[from:], "://")
		if i < 0 {
			return
		}
		from += i + 3
		s.login(from)
	}
}

func isLocal(c byte) bool {
	return isAlnum(c) || c == '.' || c == '_' || c == '%' || c == '+' || c == '-'
}

// email checks what stands around an @: a local part of ASCII, and a domain with a dot whose last label is
// letters, or xn--.
func (s *scanner) email(at int) {
	start := at
	for start > 0 && at-start <= 65 && isLocal(s.text[start-1]) {
		start--
	}
	for start < at && (s.text[start] == '.' || s.text[start] == '-' || s.text[start] == '+') {
		start++
	}
	if start == at || at-start > 64 || s.text[at-1] == '.' || strings.Contains(s.text[start:at], "..") {
		return
	}
	end, good := at+1, 0
	for label := end; ; {
		for end < len(s.text) && end-at <= 254 && (isAlnum(s.text[end]) || s.text[end] == '-') {
			end++
		}
		name := s.text[label:end]
		if name == "" || name[0] == '-' || len(name) > 63 {
			break
		}
		trimmed := strings.TrimRight(name, "-")
		if label > at+1 && topLevel(trimmed) {
			good = label + len(trimmed)
		}
		if len(trimmed) < len(name) || s.at(end) != '.' {
			break
		}
		end++
		label = end
	}
	if good > 0 {
		s.add(Email, start, good, 1)
	}
}

// topLevel says whether a domain may end in a label.
func topLevel(label string) bool {
	if len(label) > 4 && strings.EqualFold(label[:4], "xn--") {
		return true
	}
	for i := range len(label) {
		if !isAlpha(label[i]) {
			return false
		}
	}
	return len(label) >= 2
}

// login finds user:password@ behind "://".
func (s *scanner) login(from int) {
	colon := 0
	for i := from; i < len(s.text) && i < from+256; i++ {
		switch c := s.text[i]; {
		case c == ':' && colon == 0:
			colon = i
		case c == '@':
			if colon > from && i > colon+1 {
				s.add(URLLogin, from, i, 0.9)
			}
			return
		case c <= ' ' || c == '/' || c == '?' || c == '#' || c == '"' || c == '<' || c == '[' || c >= 0x80:
			return
		}
	}
}
