// Package load puts a storefront under load and keeps a ledger of every acknowledged write,
// against which it checks every read.
package load

import (
	"fmt"
	"io"
	"sync"
	"time"
)

// position orders the states of one product: twice its revision, plus one for its deletion at
// that revision.
type position int64

func live(revision int64) position    { return position(2 * revision) }
func deleted(revision int64) position { return position(2*revision + 1) }
func (p position) isDeletion() bool   { return p%2 == 1 }

func (p position) String() string {
	switch {
	case p == 0:
		return "nothing known"
	case p.isDeletion():
		return fmt.Sprintf("deleted at revision %d", int64(p/2))
	default:
		return fmt.Sprintf("revision %d", int64(p/2))
	}
}

// lateWindow is how long a server may still process a request that the client has given up.
const lateWindow = 15 * time.Second

// Ledger has the latest acknowledged state of each product, and the deletions of unknown
// outcome. It is safe for concurrent use.
type Ledger struct {
	mu      sync.Mutex
	entries map[int64]*entry
	acked   int64
	unknown int64
	out     io.Writer // nil: not written
}

type entry struct {
	floor     position // the latest acknowledged state
	deleted   position // the latest acknowledged deletion
	hashes    [8]state // of the latest acknowledged ones
	next      int
	deletions map[*Write]time.Time // in flight (zero), or of unknown outcome since
}

type state struct {
	at   position
	hash uint64
}

// NewLedger returns an empty ledger: any read of a product without an entry is right.
func NewLedger() *Ledger { return &Ledger{entries: map[int64]*entry{}} }

// Expect records that a product exists, with this revision or a later one.
func (l *Ledger) Expect(id, revision int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	e := l.entry(id)
	e.floor = max(e.floor, live(revision))
}

func (l *Ledger) entry(id int64) *entry {
	e := l.entries[id]
	if e == nil {
		e = &entry{deletions: map[*Write]time.Time{}}
		l.entries[id] = e
	}
	return e
}

// Write is one write in flight. Exactly one of its three ends must be called.
type Write struct {
	ledger *Ledger
	ids    []int64
	delete bool
	began  time.Time
}

// Begin records a write before it is sent.
func (l *Ledger) Begin(deletes bool, ids ...int64) *Write {
	w := &Write{ledger: l, ids: ids, delete: deletes, began: time.Now()}
	l.mu.Lock()
	defer l.mu.Unlock()
	if deletes {
		for _, id := range ids {
			l.entry(id).deletions[w] = time.Time{}
		}
	}
	return w
}

// Outcome is the result of a write for one product, as the server reported it.
type Outcome struct {
	ID       int64
	Revision int64
	Deleted  bool
	Hash     uint64 // of the content; 0: not known
}

// Acknowledged ends a write that the server has acknowledged.
func (w *Write) Acknowledged(outcomes ...Outcome) {
	l := w.ledger
	l.mu.Lock()
	defer l.mu.Unlock()
	l.acked++
	for _, o := range outcomes {
		e := l.entry(o.ID)
		at := live(o.Revision)
		if o.Deleted {
			at = deleted(o.Revision)
			e.deleted = max(e.deleted, at)
		}
		if at > e.floor { // otherwise a later write was recorded before
			l.write(line{Key: o.ID, Deleted: o.Deleted, Fields: revisionOf(o)})
		}
		e.floor = max(e.floor, at)
		if o.Hash != 0 {
			e.hashes[e.next%len(e.hashes)] = state{at, o.Hash}
			e.next++
		}
		// A deletion of unknown outcome that was over when this write began came before it,
		// and can't undo it any more.
		for d, since := range e.deletions {
			if !since.IsZero() && !since.After(w.began) {
				delete(e.deletions, d)
			}
		}
	}
	w.removeDeletion()
}

// Rejected ends a write that the server has certainly not made.
func (w *Write) Rejected() {
	w.ledger.mu.Lock()
	defer w.ledger.mu.Unlock()
	w.removeDeletion()
}

// Unknown ends a write that may have happened, or may still happen: later reads may see either
// state. answered: the server itself reported the unknown outcome, so it does not process the
// write any more.
func (w *Write) Unknown(answered bool) {
	l := w.ledger
	l.mu.Lock()
	defer l.mu.Unlock()
	l.unknown++
	over := time.Now()
	if !answered {
		over = over.Add(lateWindow)
	}
	for _, id := range w.ids {
		l.write(line{Key: id, Unknown: true})
		if e := l.entry(id); w.delete {
			e.deletions[w] = over
		}
	}
}

func (w *Write) removeDeletion() {
	for _, id := range w.ids {
		delete(w.ledger.entry(id).deletions, w)
	}
}

// Read is one read in flight.
type Read struct {
	ledger    *Ledger
	id        int64
	floor     position
	mayBeGone bool
}

// BeginRead records what the read must at least see, before it is sent.
func (l *Ledger) BeginRead(id int64) Read {
	l.mu.Lock()
	defer l.mu.Unlock()
	r := Read{ledger: l, id: id}
	if e := l.entries[id]; e != nil {
		r.floor, r.mayBeGone = e.floor, len(e.deletions) > 0
	}
	return r
}

// Verdict is the result of checking a read.
type Verdict string

// Verdicts.
const (
	Right Verdict = "right"
	Stale Verdict = "stale" // older than a write that was acknowledged before the read began
	Wrong Verdict = "wrong" // an acknowledged revision with another content
)

// Saw checks an answer: a live product, or none (found false).
func (r Read) Saw(found bool, revision int64, hash uint64) (Verdict, string) {
	l := r.ledger
	l.mu.Lock()
	defer l.mu.Unlock()
	e := l.entries[r.id]
	if e == nil {
		return Right, ""
	}
	if !found {
		// The last case: deleted during the read, and perhaps created again since.
		gone := r.mayBeGone || len(e.deletions) > 0 || r.floor == 0 || e.deleted >= r.floor
		if !gone {
			return Stale, fmt.Sprintf("product %d is not there, but %s was acknowledged before", r.id, r.floor)
		}
		return Right, ""
	}
	at := live(revision)
	if at < r.floor {
		return Stale, fmt.Sprintf("product %d shows %s, but %s was acknowledged before", r.id, at, r.floor)
	}
	for _, s := range e.hashes {
		if s.at == at && s.hash != hash {
			return Wrong, fmt.Sprintf("product %d shows %s with another content than was acknowledged", r.id, at)
		}
	}
	return Right, ""
}

// IDs lists the products that the ledger knows.
func (l *Ledger) IDs() []int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	ids := make([]int64, 0, len(l.entries))
	for id, e := range l.entries {
		if e.floor > 0 {
			ids = append(ids, id)
		}
	}
	return ids
}

// Counts returns how many writes were acknowledged, and how many have an unknown outcome.
func (l *Ledger) Counts() (acknowledged, unknown int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.acked, l.unknown
}
