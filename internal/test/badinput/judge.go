package badinput

import (
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// MaxOutput is how much a refusal may print, in bytes.
const MaxOutput = 16 << 10

// Result is what came of a case.
type Result struct {
	Code           int    // the exit code, or HTTP's
	Stdout, Stderr string // an answer's body is Stdout
}

// Refused reports whether the input was refused.
func (c Case) Refused(r Result) bool { return r.Code != 0 && r.Code != 200 }

var (
	trace  = regexp.MustCompile(`panic:|goroutine \d|runtime error|\.go:\d+|%!|<nil>|0xc0[0-9a-f]{6,}|SIGSEGV|map\[|&\{|reflect\.|mapstructure|unmarshal`)
	advice = regexp.MustCompile(`\bTry: |"hint":|\bwant\b|did you mean|the keys are|leave (it|one|out)|give (it|them)|put .* in quotes|\bonce\b|\bmust\b|may have|is missing|unknown (flag|shorthand|command)|see the checks|refused  `)
)

// Judge returns what is wrong with the answer to a case.
func (c Case) Judge(r Result) (faults []string) {
	add := func(format string, args ...any) { faults = append(faults, fmt.Sprintf(format, args...)) }
	all := r.Stdout + r.Stderr
	refused := c.Refused(r)
	switch {
	case c.Sure && !refused:
		add("it was taken")
	case c.Body != "" && r.Code >= 500:
		add("HTTP %d: the sender would try it for ever", r.Code)
	case c.Body == "" && refused && r.Code != 1 && r.Code != 2 && (c.Sure || r.Code != 8):
		add("exit code %d", r.Code)
	}
	if strings.Contains(all, Secret) {
		add("it shows a password")
	}
	if len(all) > MaxOutput && refused {
		add("it prints %d bytes", len(all))
	}
	if !utf8.ValidString(all) {
		add("it prints what is no UTF-8")
	}
	for _, ch := range all {
		if ch != '\n' && ch != ' ' && !unicode.IsPrint(ch) {
			add("it prints %q", ch)
			break
		}
	}
	if found := trace.FindString(all); found != "" && refused && !slices.ContainsFunc(append(c.Args, c.Name), func(a string) bool { return strings.Contains(a, found) }) {
		add("it prints %q", found)
	}
	if refused && c.Body == "" {
		faults = append(faults, c.says(r)...)
	}
	return faults
}

// says checks that a refusal has what, where and what to try.
func (c Case) says(r Result) (faults []string) {
	printed := r.Stderr + r.Stdout
	if len(c.Args) > 1 && c.Args[0] == "-o" && r.Code != 8 && !slices.ContainsFunc(c.Args[2:], func(a string) bool { return strings.HasPrefix(a, "--output") }) {
		var problem struct {
			Error, Hint string
			Code        int
		}
		if err := json.Unmarshal([]byte(r.Stderr), &problem); err != nil {
			if c.Args[2] != "plan" && c.Args[2] != "doctor" {
				faults = append(faults, "stderr is no JSON")
			}
		} else {
			printed = problem.Error
			if problem.Hint != "" {
				printed += "\nTry: " + problem.Hint
			}
			printed += r.Stdout
		}
	} else if !strings.Contains(r.Stderr, "Error:") {
		faults = append(faults, "no line says what is wrong")
	}
	if c.Sure && !strings.Contains(printed, c.Where) {
		faults = append(faults, "it does not say where: "+c.Where)
	}
	if !advice.MatchString(printed) {
		faults = append(faults, "it does not say what to try")
	}
	return faults
}
