//go:build unix

package torture

import (
	"bufio"
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"
)

// event is one line of the event log, beside the clients' operations.
type event struct {
	at   time.Duration // since the run began
	who  string
	text string
}

// eventLog collects events; safe for concurrent use.
type eventLog struct {
	began  time.Time
	mu     sync.Mutex
	events []event
}

func (s *eventLog) now() time.Duration { return time.Since(s.began) }

func (s *eventLog) add(who, format string, args ...any) {
	s.addAt(s.now(), who, format, args...)
}

func (s *eventLog) addAt(at time.Duration, who, format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.events = append(s.events, event{at, who, fmt.Sprintf(format, args...)})
}

func (s *eventLog) all() []event {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.events)
}

// addLog adds an instance's log.
func (s *eventLog) addLog(who string, log io.Reader) {
	lines := bufio.NewScanner(log)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var entry map[string]any
		if json.Unmarshal(lines.Bytes(), &entry) != nil {
			s.add(who, "%s", lines.Text())
			continue
		}
		at, err := time.Parse(time.RFC3339Nano, fmt.Sprint(entry["time"]))
		if err != nil {
			continue
		}
		text := fmt.Sprint(entry["level"], " ", entry["msg"])
		delete(entry, "time")
		delete(entry, "level")
		delete(entry, "msg")
		if len(entry) > 0 {
			more, _ := json.Marshal(entry)
			text += " " + string(more)
		}
		s.addAt(at.Sub(s.began), who, "%s", text)
	}
}

// timeline writes the events of one key: its operations among everything else, between from
// and to (0: the end).
func timeline(w io.Writer, events []event, ops []*operation, from, to time.Duration) {
	type line struct {
		at   time.Duration
		text string
	}
	var lines []line
	add := func(at time.Duration, mark, who, text string) {
		if at >= from && (to == 0 || at <= to) {
			lines = append(lines, line{at, fmt.Sprintf("%s %10.4fs  %-12s %s", mark, at.Seconds(), who, text)})
		}
	}
	for _, e := range events {
		add(e.at, "   ", e.who, e.text)
	}
	for _, o := range ops {
		who := fmt.Sprintf("client %d", o.Client)
		mark, text := "   ", fmt.Sprintf("  %s  by %s", o, o.Instance)
		if o.Outcome != done || o.Kind != get {
			add(o.Call, "   ", who, text+"  begins")
		}
		text += "  " + string(o.Outcome)
		if o.Route != "" {
			text += "  on " + o.Route
		}
		text += fmt.Sprintf("  (%.1f ms, from %.4fs)", float64(o.Return-o.Call)/float64(time.Millisecond), o.Call.Seconds())
		if o.Err != "" {
			text += "  " + o.Err
		}
		if o.violation != "" {
			mark, text = ">>>", text+"\n      "+strings.Repeat(" ", 24)+"^ "+o.violation
		}
		add(o.Return, mark, who, text)
	}
	slices.SortStableFunc(lines, func(a, b line) int { return cmp.Compare(a.at, b.at) })
	for _, l := range lines {
		fmt.Fprintln(w, l.text)
	}
}

// publish writes a violated key's timeline and picture into dir. It returns the text to print:
// their paths, and the moments before the first wrong read.
func publish(dir string, events []event, v *verdict) (string, error) {
	var text bytes.Buffer
	fmt.Fprintf(&text, "key %d: %d operations; >>> marks a read that breaks a promise\n\n", v.key, len(v.ops))
	timeline(&text, events, v.ops, 0, 0)
	story := filepath.Join(dir, fmt.Sprintf("key-%d.txt", v.key))
	if err := os.WriteFile(story, text.Bytes(), 0o600); err != nil {
		return "", err
	}
	picture := filepath.Join(dir, fmt.Sprintf("key-%d.html", v.key))
	v.annotate(events)
	if err := v.draw(picture); err != nil {
		return "", err
	}
	var out bytes.Buffer
	fmt.Fprintf(&out, "key %d breaks the promises: the model's result is %s, %d reads are wrong by themselves\n  timeline: %s\n  picture:  %s\n", v.key, v.result, len(v.stale), story, picture)
	if len(v.stale) > 0 {
		at := v.stale[0].Return
		fmt.Fprintf(&out, "  the last second before the first of them:\n")
		timeline(&out, events, v.ops, at-time.Second, at)
	}
	return out.String(), nil
}
