package runbook

import (
	"bytes"
	"fmt"
	"strings"
	"sync"
	"unicode"
)

// Of a step's output its beginning and its end are recorded.
const (
	keptHead = 8 << 10
	keptTail = 24 << 10
	longest  = 16 << 10 // of a line in bytes; a longer one is split
)

// output collects what a program writes, line by line and without secrets. Redaction works on
// whole lines: a secret across the edge of the recorded part would be visible in part.
type output struct {
	redact *Redactor
	line   func(string)

	mu      sync.Mutex
	partial []byte
	head    strings.Builder
	tail    []byte
	cut     int
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.partial = append(o.partial, p...)
	for {
		at := bytes.IndexByte(o.partial, '\n')
		switch {
		case at >= 0:
			o.take(o.partial[:at])
			o.partial = o.partial[at+1:]
		case len(o.partial) > longest:
			// Split at a blank, so that no secret is cut in two.
			end := bytes.LastIndexAny(o.partial[:longest], " \t")
			if end <= 0 {
				end = longest
			}
			o.take(o.partial[:end])
			o.partial = o.partial[end:]
		default:
			return len(p), nil
		}
	}
}

func (o *output) take(raw []byte) {
	text := o.redact.Text(printable(string(raw)))
	if o.line != nil {
		o.line(text)
	}
	text += "\n"
	if o.tail == nil && o.head.Len()+len(text) <= keptHead {
		o.head.WriteString(text)
		return
	}
	o.tail = append(o.tail, text...)
	if over := len(o.tail) - keptTail; over > 0 {
		o.cut += over
		o.tail = append([]byte{}, o.tail[over:]...)
	}
}

// text returns the recorded output.
func (o *output) text() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.partial) > 0 {
		o.take(o.partial)
		o.partial = nil
	}
	tail := strings.ToValidUTF8(string(o.tail), "")
	if o.cut > 0 {
		return o.head.String() + fmt.Sprintf("... %d bytes omitted ...\n", o.cut) + tail
	}
	return o.head.String() + tail
}

// printable removes control characters that a terminal would interpret.
func printable(s string) string {
	s = strings.ToValidUTF8(s, "\uFFFD")
	return strings.Map(func(r rune) rune {
		if r == '\t' || unicode.IsPrint(r) {
			return r
		}
		return -1
	}, s)
}
