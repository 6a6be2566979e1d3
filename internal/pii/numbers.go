package pii

import (
	"math"
	"net/netip"
	"strings"
)

// digits looks at every run of digits.
func (s *scanner) digits() {
	text := s.text
	for i := 0; i < len(text); i++ {
		if !isDigit(text[i]) {
			continue
		}
		start := i
		for i < len(text) && isDigit(text[i]) {
			i++
		}
		n := i - start // the run's length
		before := s.at(start - 1)
		if n == 2 && isAlpha(before) || n > 2 && isAlpha(before) {
			s.iban(start)
		}
		if isAlnum(before) {
			continue
		}
		if n <= 3 && s.at(i) == '.' && before != '.' {
			s.ipv4(start)
		}
		if n <= 19 && !(before == '.' && isDigit(s.at(start-2))) {
			s.card(start)
		}
		if n == 3 || n == 9 {
			s.ssn(start)
		}
		if before == '+' || before == '(' || n == 3 {
			s.phone(start, before)
		}
	}
}

// Luhn says whether the last digit of a card number is the check digit of the others.
func Luhn(digits string) bool {
	sum := 0
	for i := range len(digits) {
		c := digits[len(digits)-1-i]
		if !isDigit(c) {
			return false
		}
		d := int(c - '0')
		if i%2 == 1 {
			if d *= 2; d > 9 {
				d -= 9
			}
		}
		sum += d
	}
	return digits != "" && sum%10 == 0
}

// issued says whether an issuer gives out numbers that begin and are as long as these.
func issued(d string) bool {
	n := len(d)
	two, four := int(d[0]-'0')*10+int(d[1]-'0'), 0
	for i := range 4 {
		four = four*10 + int(d[i]-'0')
	}
	switch {
	case d[0] == '4':
		return n == 13 || n == 16 || n == 19
	case two >= 51 && two <= 55, four >= 2221 && four <= 2720:
		return n == 16
	case two == 34, two == 37:
		return n == 15
	case two == 30, two == 36, two == 38, two == 39:
		return n == 14 || two != 36 && n == 16 || n > 16
	case four == 6011, two == 64, two == 65, four >= 3528 && four <= 3589, two == 62, two == 60, two == 81:
		return n >= 16
	case two == 50, two >= 56 && two <= 69:
		return n >= 13
	}
	return false
}

// card tries the ends of groups of digits behind a start: 13 to 19 digits with single spaces or hyphens
// between.
func (s *scanner) card(start int) {
	if b := s.at(start - 1); b == '-' && isDigit(s.at(start-2)) {
		return
	}
	var digits [20]byte
	n, best := 0, 0
	for i := start; n < 20 && i < len(s.text); i++ {
		c := s.text[i]
		if (c == ' ' || c == '-') && isDigit(s.at(i+1)) {
			continue
		}
		if !isDigit(c) {
			break
		}
		digits[n] = c
		n++
		next := s.at(i + 1)
		ends := !isAlnum(next) && !((next == '-' || next == '.') && isDigit(s.at(i+2)))
		if n >= 13 && n <= 19 && ends && issued(string(digits[:n])) && Luhn(string(digits[:n])) {
			best = i + 1
		}
	}
	if best > 0 {
		s.add(Card, start, best, 0.9)
	}
}

// ibanLength is how long the account numbers of a country are, 0 for none.
func ibanLength(country string) int {
	const table = "AD24AE23AL28AT20AZ28BA20BE16BG22BH22BI27BR29BY28CH21CR22CY28CZ24DE22DJ27DK18DO28EE20EG29ES24FI18FK18FO18FR27GB22GE22GI23GL18GR27GT28HR21HU28IE22IL23IQ23IS26IT27JO30KW30KZ20LB28LC32LI21LT20LU20LV21LY25MC27MD24ME22MK19MN20MR27MT31MU30NI28NL18NO15PK24PL28PS29PT25QA29RO24RS22RU33SA24SC31SD18SE24SI19SK24SM27SO23ST25SV28TL23TN24TR26UA29VA22VG24XK20"
	for i := 0; i < len(table); i += 4 {
		if table[i:i+2] == country {
			return int(table[i+2]-'0')*10 + int(table[i+3]-'0')
		}
	}
	return 0
}

// ValidIBAN checks country, length and check digits of an account number; spaces do not count.
func ValidIBAN(text string) bool {
	text = strings.ToUpper(strings.ReplaceAll(text, " ", ""))
	if len(text) < 5 || ibanLength(text[:2]) != len(text) || !isDigit(text[2]) || !isDigit(text[3]) {
		return false
	}
	rest := 0
	for i := range len(text) {
		c := text[(i+4)%len(text)]
		switch {
		case isDigit(c):
			rest = (rest*10 + int(c-'0')) % 97
		case c >= 'A' && c <= 'Z':
			rest = (rest*100 + int(c-'A') + 10) % 97
		default:
			return false
		}
	}
	return rest == 1
}

// iban checks an account number whose check digits start here.
func (s *scanner) iban(digits int) {
	start := digits - 2
	if start < 0 || !isAlpha(s.text[start]) || isAlnum(s.at(start-1)) {
		return
	}
	length := ibanLength(strings.ToUpper(s.text[start:digits]))
	if length == 0 {
		return
	}
	n, i := 0, start
	for ; i < len(s.text) && n < length; i++ {
		if s.text[i] == ' ' && n > 0 && s.text[i-1] != ' ' {
			continue
		}
		if !isAlnum(s.text[i]) {
			return
		}
		n++
	}
	if n == length && !isAlnum(s.at(i)) && ValidIBAN(s.text[start:i]) {
		s.add(IBAN, start, i, 1)
	}
}

// ValidSSN checks the form and areas of a US social security number.
func ValidSSN(text string) bool {
	digits := strings.NewReplacer("-", "", " ", "").Replace(text)
	switch {
	case len(digits) != 9 || strings.Trim(digits, "0123456789") != "":
		return false
	case len(text) == 11 && (isDigit(text[3]) || isDigit(text[6])), len(text) == 10 && isDigit(text[3]) == isDigit(text[5]), len(text) > 11:
		return false
	}
	area, group, serial := digits[:3], digits[3:5], digits[5:]
	return area != "000" && area != "666" && area[0] != '9' && group != "00" && serial != "0000"
}

// ssn finds three, two and four digits; nine alone count only where words say what they are.
func (s *scanner) ssn(start int) {
	if b := s.at(start - 1); (b == '-' || b == '.' || b == ' ') && isDigit(s.at(start-2)) || b == '+' || b == '(' {
		return
	}
	end, score := start+9, 0.5
	if separator := s.at(start + 3); separator == '-' || separator == ' ' {
		if s.at(start+6) != separator {
			return
		}
		end, score = start+11, 0.7
	} else if !s.before(start, "ssn", "social security") {
		return
	}
	if end > len(s.text) || isAlnum(s.at(end)) || (s.at(end) == '-' || s.at(end) == '.') && isDigit(s.at(end+1)) || !ValidSSN(s.text[start:end]) {
		return
	}
	s.add(SSN, start, end, score)
}

// phone finds numbers with a country code, US numbers with the area in brackets, and others where words say
// what they are.
func (s *scanner) phone(start int, before byte) {
	open := start
	if before == '+' || before == '(' {
		open--
	}
	if isAlnum(s.at(open-1)) || s.at(open-1) == '.' && isDigit(s.at(open-2)) || s.at(open-1) == '-' && isDigit(s.at(open-2)) {
		return
	}
	var d [16]byte
	n, end := 0, start
	for i := start; i < len(s.text) && n < 16; i++ {
		c := s.text[i]
		if isDigit(c) {
			d[n] = c
			n++
			end = i + 1
			continue
		}
		next := s.at(i + 1)
		if c == ')' && (next == ' ' || next == '-' || isDigit(next)) || (c == ' ' || c == '-' || c == '.') && (isDigit(next) || next == '(' && isDigit(s.at(i+2))) || c == '(' && isDigit(next) {
			continue
		}
		break
	}
	if n > 15 || isAlnum(s.at(end)) {
		return
	}
	nanp := func(d []byte) bool { return len(d) == 10 && d[0] >= '2' && d[3] >= '2' }
	switch {
	case before == '+':
		if n >= 8 && d[0] != '0' && (d[0] != '1' || n == 11 && nanp(d[1:n])) {
			s.add(Phone, open, end, 0.9)
		}
	case before == '(':
		if s.at(start+3) == ')' && nanp(d[:n]) {
			s.add(Phone, open, end, 0.8)
		}
	case nanp(d[:n]) && end-start >= 12 && s.before(start, "call", "phone", "tel", "mobile", "fax", "cell", "sms", "whatsapp"):
		s.add(Phone, start, end, 0.6)
	}
}

// ValidIP checks an address of version 4 or 6.
func ValidIP(text string) bool {
	_, err := netip.ParseAddr(text)
	return err == nil
}

// ipv4 finds four numbers; more of them are a version.
func (s *scanner) ipv4(start int) {
	i := start
	for i < len(s.text) && i < start+16 && (isDigit(s.text[i]) || s.text[i] == '.' && isDigit(s.at(i+1))) {
		i++
	}
	if isAlnum(s.at(i)) || !ValidIP(s.text[start:i]) || s.version(start) {
		return
	}
	s.add(IP, start, i, 0.8)
}

// version says whether what starts here is called a version.
func (s *scanner) version(start int) bool {
	word := strings.ToLower(strings.TrimRight(s.text[max(0, start-12):start], " "))
	return strings.HasSuffix(word, "version") || strings.HasSuffix(word, "release")
}

// colons looks at IPv6 and MAC addresses, and values behind names of secrets.
func (s *scanner) colons() {
	last := 0 // no candidate is looked at twice
	s.each(':', func(at int) {
		if at < last {
			return
		}
		start, end := at, at
		for start > last && at-start < 40 && isHex(s.text[start-1]) {
			start--
		}
		for end < len(s.text) && end-at < 48 && (isHex(s.text[end]) || s.text[end] == ':' || s.text[end] == '.' && isDigit(s.at(end+1)) && strings.Contains(s.text[start:end], ":")) {
			end++
		}
		if strings.IndexByte(s.text[at+1:end], ':') < 0 {
			return
		}
		last = end
		s.address(start, end)
	})
	s.each(':', s.assigned)
	s.each('=', s.assigned)
}

func (s *scanner) address(start, end int) {
	for end > start && s.text[end-1] == ':' && !(end-start >= 2 && s.text[end-2] == ':') {
		end--
	}
	text := s.text[start:end]
	if isAlnum(s.at(start-1)) || isAlnum(s.at(end)) {
		return
	}
	if len(text) == 17 && strings.Count(text, ":") == 5 && strings.Trim(text[2:3]+text[5:6]+text[8:9]+text[11:12]+text[14:15], ":") == "" {
		s.add(MAC, start, end, 0.8)
		return
	}
	if strings.Count(text, ":") >= 2 && len(text) > 2 && strings.ContainsAny(text, "0123456789") && ValidIP(text) {
		s.add(IP, start, end, 0.8)
	}
}

// assigned finds a random-looking value behind key, token, secret or password and = or a colon.
func (s *scanner) assigned(at int) {
	name := strings.ToLower(s.text[max(0, at-24):at])
	name = strings.TrimRight(name, " \t\"'")
	for i := len(name); ; i-- {
		if i > 0 && (isAlnum(name[i-1]) || name[i-1] == '_' || name[i-1] == '-') {
			continue
		}
		name = name[i:]
		break
	}
	known := false
	for _, w := range []string{"key", "token", "secret", "passw", "pwd", "credential"} {
		known = known || strings.Contains(name, w)
	}
	if !known {
		return
	}
	start := at + 1
	for start < len(s.text) && start < at+4 && strings.IndexByte(" \t\"'", s.text[start]) >= 0 {
		start++
	}
	end := start
	for end < len(s.text) && end-start < 256 && (isAlnum(s.text[end]) || strings.IndexByte("_-+/=.", s.text[end]) >= 0) {
		end++
	}
	value := strings.TrimRight(s.text[start:end], ".=-")
	if len(value) >= 20 && entropy(value) >= 3.5 && strings.ContainsAny(value, "0123456789") {
		s.add(Secret, start, start+len(value), 0.6)
	}
}

// entropy is that of a value's characters, in bits.
func entropy(value string) float64 {
	var counts [256]int
	for i := range len(value) {
		counts[value[i]]++
	}
	sum := 0.0
	for _, n := range counts {
		if n > 0 {
			p := float64(n) / float64(len(value))
			sum -= p * math.Log2(p)
		}
	}
	return sum
}
