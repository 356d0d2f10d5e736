package migration

import (
	"fmt"
	"strings"
)

// expand replaces ${NAME} by the variable, ${NAME:-default} by the default where
// the variable is unset or empty, and $$ by one dollar sign. Any other dollar sign
// stays. Expanded text is not expanded again. used reports whether a variable was used.
func expand(s string, getenv func(string) (string, bool)) (text string, used bool, err error) {
	var b strings.Builder
	for {
		at := strings.IndexByte(s, '$')
		if at < 0 || at+1 == len(s) {
			b.WriteString(s)
			return b.String(), used, nil
		}
		b.WriteString(s[:at])
		switch s[at+1] {
		case '$':
			b.WriteByte('$')
			s = s[at+2:]
			continue
		case '{':
		default:
			b.WriteByte('$')
			s = s[at+1:]
			continue
		}
		inside, rest, ok := strings.Cut(s[at+2:], "}")
		if !ok {
			return "", used, fmt.Errorf("${ without }; write $${ for the characters themselves")
		}
		name, fallback, hasFallback := strings.Cut(inside, ":-")
		if !isVariable(name) {
			return "", used, fmt.Errorf("${%s}: want ${NAME} or ${NAME:-default}; write $${ for the characters themselves", inside)
		}
		if strings.Contains(fallback, "${") {
			return "", used, fmt.Errorf("${%s}: a default can't contain a variable", name)
		}
		value, set := getenv(name)
		switch {
		case hasFallback && value == "":
			value = fallback
		case !set:
			return "", used, fmt.Errorf("the environment variable %s is not set; set it, or write ${%s:-default}", name, name)
		}
		b.WriteString(value)
		used, s = true, rest
	}
}

func isVariable(s string) bool {
	for i := range len(s) {
		c := s[i]
		if c != '_' && (c < 'A' || c > 'Z') && (c < 'a' || c > 'z') && (i == 0 || c < '0' || c > '9') {
			return false
		}
	}
	return s != ""
}

// unexpanded escapes a text such that expand returns it.
func unexpanded(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		run := 0
		for i+run < len(s) && s[i+run] == '$' {
			run++
		}
		switch {
		case run == 0:
			b.WriteByte(s[i])
			continue
		case run > 1 || i+run < len(s) && s[i+run] == '{':
			b.WriteString(strings.Repeat("$$", run))
		default:
			b.WriteByte('$')
		}
		i += run - 1
	}
	return b.String()
}
