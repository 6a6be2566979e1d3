package pii

import (
	"encoding/base64"
	"encoding/json"
	"strings"
)

// keys looks for the beginnings that keys and tokens of known issuers have.
func (s *scanner) keys() {
	for _, k := range []struct {
		mark  string
		check func(at int)
	}{
		{"AKIA", s.aws}, {"ASIA", s.aws}, {"ghp_", s.github}, {"gho_", s.github}, {"ghu_", s.github}, {"ghs_", s.github}, {"ghr_", s.github},
		{"github_pat_", s.github}, {"xox", s.slack}, {"eyJ", s.jwt}, {"-----BEGIN ", s.pem},
	} {
		for from := 0; ; {
			i := strings.Index(s.text[from:], k.mark)
			if i < 0 {
				break
			}
			k.check(from + i)
			from += i + len(k.mark)
		}
	}
}

// over is the end of the bytes from a place that all satisfy a condition, at most so many.
func (s *scanner) over(from, most int, of func(byte) bool) int {
	for i := from; ; i++ {
		if i == len(s.text) || i-from == most || !of(s.text[i]) {
			return i
		}
	}
}

func (s *scanner) aws(at int) {
	end := s.over(at, 21, func(c byte) bool { return isDigit(c) || c >= 'A' && c <= 'Z' })
	if end-at == 20 && !isAlnum(s.at(at-1)) && !isAlnum(s.at(end)) {
		s.add(AWSKey, at, end, 1)
	}
}

func (s *scanner) github(at int) {
	end := s.over(at, 256, func(c byte) bool { return isAlnum(c) || c == '_' })
	if end-at >= 40 && !isAlnum(s.at(at-1)) && s.at(at-1) != '_' {
		s.add(GitHub, at, end, 1)
	}
}

func (s *scanner) slack(at int) {
	if kind := s.at(at + 3); strings.IndexByte("abeprs", kind) < 0 || s.at(at+4) != '-' || isAlnum(s.at(at-1)) {
		return
	}
	end := s.over(at, 256, func(c byte) bool { return isAlnum(c) || c == '-' })
	if end-at >= 20 {
		s.add(Slack, at, end, 1)
	}
}

// maxJWT bounds a token's length.
const maxJWT = 8192

// jwt finds three parts of base64url, the first of which says in JSON how the token is signed.
func (s *scanner) jwt(at int) {
	letter := func(c byte) bool { return isAlnum(c) || c == '-' || c == '_' }
	if letter(s.at(at-1)) || s.at(at-1) == '.' {
		return
	}
	end, head := at, 0
	for part := range 3 {
		from := end
		end = s.over(from, maxJWT, letter)
		if end == from {
			return
		}
		if part == 0 {
			head = end
		}
		if part < 2 {
			if s.at(end) != '.' {
				return
			}
			end++
		}
	}
	plain, err := base64.RawURLEncoding.DecodeString(s.text[at:head])
	var header map[string]any
	if err == nil && json.Unmarshal(plain, &header) == nil {
		s.add(JWT, at, end, 1)
	}
}

// maxPEM bounds a key block's length.
const maxPEM = 16 << 10

// pem finds a private key from its first line to its last; one that is cut short counts to where it
// ends.
func (s *scanner) pem(at int) {
	label := s.text[at+len("-----BEGIN ") : min(len(s.text), at+64)]
	stop := strings.Index(label, "-----")
	if stop < 0 || !strings.HasSuffix(label[:stop], "PRIVATE KEY") && !strings.HasSuffix(label[:stop], "PRIVATE KEY BLOCK") {
		return
	}
	body := at + len("-----BEGIN ") + stop + len("-----")
	last := "-----END " + label[:stop] + "-----"
	if i := strings.Index(s.text[body:min(len(s.text), body+maxPEM)], last); i >= 0 {
		s.add(PrivateKey, at, body+i+len(last), 1)
		return
	}
	end := s.over(body, maxPEM, func(c byte) bool { return isAlnum(c) || strings.IndexByte("+/=\r\n \t", c) >= 0 })
	s.add(PrivateKey, at, end, 0.8)
}
