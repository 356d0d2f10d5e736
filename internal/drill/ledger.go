package drill

import (
	"fmt"
	"strconv"
	"strings"
	"sync"

	"github.com/stranglerfig/migrator/record"
)

// maxViolations bounds the violations that a report has.
const maxViolations = 20

// ledger has the last acknowledged write of each record. Writes of one record must not be
// concurrent.
type ledger struct {
	column int    // of the records, that has the token of a write; -1: none
	prefix string // of tokens

	mu      sync.Mutex
	entries map[record.Key]*entry
	checked Checked
	// Records whose state was compared, those of them that are stale, and reads that were.
	compared, stale, staleReads int64
}

type entry struct {
	sent    int64          // number of the last write that began
	floor   int64          // number of the last acknowledged write; 0: none
	version record.Version // of the last acknowledged write
}

func newLedger(column int, id string) *ledger {
	return &ledger{column: column, prefix: "drill " + id + " ", entries: map[record.Key]*entry{}, checked: Checked{Violations: []string{}}}
}

// begin numbers a write.
func (l *ledger) begin(key record.Key) (number int64, token record.Value) {
	l.mu.Lock()
	defer l.mu.Unlock()
	e := l.entries[key]
	if e == nil {
		e = &entry{}
		l.entries[key] = e
	}
	e.sent++
	return e.sent, record.TextValue(l.prefix + strconv.FormatInt(e.sent, 10))
}

func (l *ledger) acknowledged(key record.Key, number int64, version record.Version) {
	l.mu.Lock()
	defer l.mu.Unlock()
	e := l.entries[key]
	e.floor, e.version = max(e.floor, number), e.version.Max(version)
}

// floor returns the oldest write that a read which begins now may return.
func (l *ledger) floor(key record.Key) entry {
	l.mu.Lock()
	defer l.mu.Unlock()
	if e := l.entries[key]; e != nil {
		return *e
	}
	return entry{}
}

func (l *ledger) keys() (keys []record.Key) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for k, e := range l.entries {
		if e.floor > 0 {
			keys = append(keys, k)
		}
	}
	return keys
}

// readResult is how an answer compares with the ledger.
type readResult uint8

const (
	right     readResult = iota
	unwatched            // nothing distinguishes this answer from an older one
	lost
	stale
	overwritten
)

// verify compares an answer with the writes that were acknowledged before it was requested.
func (l *ledger) verify(key record.Key, floor entry, found bool, v value) (readResult, string) {
	switch {
	case floor.floor == 0:
		return unwatched, ""
	case !found:
		return lost, fmt.Sprintf("%q is not there, but write %d of it was acknowledged", string(key), floor.floor)
	case !v.version.IsZero() && floor.version.NewerThan(v.version):
		return stale, fmt.Sprintf("%q is of version %s, but %s was acknowledged", string(key), v.version, floor.version)
	case l.column < 0 && v.version.IsZero():
		return unwatched, ""
	case l.column < 0:
		return right, ""
	}
	number, ours := strings.CutPrefix(v.record[l.column].Text, l.prefix)
	seen, err := strconv.ParseInt(number, 10, 64)
	switch {
	case !ours || err != nil:
		return overwritten, ""
	case seen < floor.floor:
		return stale, fmt.Sprintf("%q shows write %d, but write %d was acknowledged", string(key), seen, floor.floor)
	}
	return right, ""
}

// increment counts one check in a field of the ledger, with its violation if text is not empty.
func (l *ledger) increment(count *int64, text string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	*count++
	if text != "" && len(l.checked.Violations) < maxViolations {
		l.checked.Violations = append(l.checked.Violations, text)
	}
}

func (l *ledger) result() Checked {
	l.mu.Lock()
	defer l.mu.Unlock()
	c := l.checked
	if l.compared > 0 {
		stale := l.stale
		c.Stale = &stale
	}
	if c.Watched > 0 {
		staleReads := l.staleReads
		c.StaleReads = &staleReads
	}
	c.Violations = append([]string{}, c.Violations...)
	return c
}
