package pii_test

import (
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/t5ctl/t5ctl/internal/pii"
)

func TestScan(t *testing.T) {
	tests := map[string]struct {
		in   string
		want []string // type and value of each span
	}{
		"no e-mail":        {in: "@x a@b a@-b.com a..b@c.de .@x.org"},
		"e-mail":           {in: "<Ab.C@x-y.example.museum>,q@xn--bcher-kva.xn--p1ai.", want: []string{"email Ab.C@x-y.example.museum", "email q@xn--bcher-kva.xn--p1ai"}},
		"long local":       {in: strings.Repeat("a", 65) + "@x.org"},
		"card in digits":   {in: "0.4111111111111111 4111111111111111.5 a4111111111111111"},
		"card, then more":  {in: "4111 1111 1111 1111 2031", want: []string{"credit_card 4111 1111 1111 1111"}},
		"no issuer":        {in: "9999999999999995"},
		"iban in a word":   {in: "XDE89370400440532013000 DE89370400440532013000X"},
		"ssn with context": {in: "SSN: 219099998, order 219099998. " + strings.Repeat("-", 40) + " order 219099998", want: []string{"us_ssn 219099998", "us_ssn 219099998"}},
		"phone words":      {in: "call 415-555-0132. " + strings.Repeat("-", 40) + "case 415-555-0132", want: []string{"phone 415-555-0132"}},
		"no phone":         {in: "+1 23, C++ 2020 2024, 1+4155550132, +10000000000"},
		"addresses":        {in: "version 1.2.3.4, 10.0.0.1. a::b Foo::Bar 12:30:45 fe80::1 00:1B:44:11:3A:B7", want: []string{"ip 10.0.0.1", "ip fe80::1", "mac 00:1B:44:11:3A:B7"}},
		"login":            {in: "https://me:pa55@host/ https://host:8080/@x", want: []string{"url_credentials me:pa55"}},
		"secret":           {in: `{"api_key": "q9X2mZ7Lw4Kd8Rt1Vb6N"} key=aaaaaaaaaaaaaaaaaaaaaa1 token: word`, want: []string{"secret q9X2mZ7Lw4Kd8Rt1Vb6N"}},
		"slack":            {in: "xoxb-123456789012-abcdefABCDEF xoxq-123456789012-abcdefABCDEF", want: []string{"slack_token xoxb-123456789012-abcdefABCDEF"}},
		"not a token":      {in: "eyJhbGciOi.b.c eyJ0.x"},
		"cut key":          {in: "-----BEGIN PRIVATE KEY-----\nMIIB", want: []string{"private_key -----BEGIN PRIVATE KEY-----\nMIIB"}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			var got []string
			for _, s := range pii.Scan(tt.in) {
				got = append(got, s.Type+" "+tt.in[s.Start:s.End])
				if n := utf8.RuneCountInString(tt.in[:s.Start]); n != s.StartRune {
					t.Errorf("rune %d; want %d", s.StartRune, n)
				}
			}
			if !slices.Equal(got, tt.want) {
				t.Errorf("%q: %q; want %q", tt.in, got, tt.want)
			}
		})
	}
}

func TestRedact(t *testing.T) {
	d := pii.Redactor{}.Document()
	first, found := d.Redact("a@x.org, b@x.org, a@x.org and 10.0.0.1")
	second, _ := d.Redact("b@x.org")
	if first != "[EMAIL_1], [EMAIL_2], [EMAIL_1] and [IP_1]" || second != "[EMAIL_2]" || len(found) != 4 {
		t.Errorf("%q, %q, %d found", first, second, len(found))
	}
	again, found := pii.Redactor{}.Document().Redact(first + " c@x.org")
	if again != first+" [EMAIL_3]" || len(found) != 1 {
		t.Errorf("%q: a number that is taken must not be given again", again)
	}
	key := pii.Redactor{Key: []byte("k")}
	one, _ := key.Document().Redact("a@x.org")
	two, _ := key.Document().Redact("to a@x.org")
	other, _ := pii.Redactor{Key: []byte("l")}.Document().Redact("a@x.org")
	if two != "to "+one || one == other || strings.Contains(one, "@") {
		t.Errorf("%q, %q, %q", one, two, other)
	}
	if s, _ := (pii.Redactor{Types: []string{pii.IP}}).Document().Redact("a@x.org 10.0.0.1"); s != "a@x.org [IP_1]" {
		t.Errorf("%q", s)
	}
}

// What is redacted has nothing left to find, and redacting it again changes nothing.
func FuzzRedact(f *testing.F) {
	for _, s := range []string{"a@b.org", "4111 1111 1111 1111", "GB82 WEST 1234 5698 7654 32", "+1 415-555-0132 (212) 555-0187", "2001:db8::1 1.2.3.4", "key=AKIAIOSFODNN7EXAMPLE", "https://a:b@c", "-----BEGIN PRIVATE KEY-----\n", "eyJhbGciOiJIUzI1NiJ9.eyJ9.c"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		last := 0
		for _, s := range pii.Scan(text) {
			if s.Start < last || s.End <= s.Start || s.End > len(text) {
				t.Fatalf("span %+v of %q", s, text)
			}
			last = s.End
		}
		for _, r := range []pii.Redactor{{}, {Key: []byte("k")}} {
			clean, _ := r.Document().Redact(text)
			if left := pii.Scan(clean); len(left) > 0 {
				t.Fatalf("%q became %q, which has %+v", text, clean, left)
			}
			if again, _ := r.Document().Redact(clean); again != clean {
				t.Fatalf("%q became %q", clean, again)
			}
		}
	})
}

// Hostile texts take no longer than others: at quadratic cost each of these would take minutes.
func TestLinear(t *testing.T) {
	for _, unit := range []string{"@", "a@", "a.b@c.", "1", "1 ", "1-", "1.", "a:", ":", "::1", "DE89 3704 ", "eyJ.", "eyJ", "-----BEGIN PRIVATE KEY-----", "key=", "+1 (", "://a:", "xoxb-", "-----BEGIN PRIVATE KEY-----\nAAAA", "219-09-9998 ", "a@b.co ", "4111111111111111 "} {
		text := strings.Repeat(unit, (2<<20)/len(unit))
		start := time.Now()
		pii.Scan(text)
		if took := time.Since(start); took > 4*time.Second {
			t.Errorf("%q: %v for 2 MiB", unit, took)
		}
	}
}

func BenchmarkScan(b *testing.B) {
	text := strings.Repeat("In the year 2024 some 1,234 people wrote to the office (see page 17), and one of them, jo@example.org, called +1 415-555-0132 at 12:30. Nothing else of note was said there, which the minutes of the meeting also show at length.\n", 500)
	b.SetBytes(int64(len(text)))
	for b.Loop() {
		pii.Scan(text)
	}
}
