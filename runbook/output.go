package runbook

import (
	"bytes"
	"fmt"
	"strings"
	"sync"
	"unicode"
)

// What is kept of a step's output: its beginning and its end.
const (
	keptHead = 8 << 10
	keptTail = 24 << 10
	longest  = 16 << 10 // of a line; a longer one is cut into several
)

// output takes what a program writes, line by line, without secrets: a secret that
// ran over the border of what is kept would show in part.
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
			// Cut at a blank, so that no word, and no secret, is cut in two.
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

// text is what is kept.
func (o *output) text() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.partial) > 0 {
		o.take(o.partial)
		o.partial = nil
	}
	tail := strings.ToValidUTF8(string(o.tail), "")
	if o.cut > 0 {
		return o.head.String() + fmt.Sprintf("... %d bytes are left out ...\n", o.cut) + tail
	}
	return o.head.String() + tail
}

// printable leaves out what a terminal would obey.
func printable(s string) string {
	s = strings.ToValidUTF8(s, "\uFFFD")
	return strings.Map(func(r rune) rune {
		if r == '\t' || unicode.IsPrint(r) {
			return r
		}
		return -1
	}, s)
}
