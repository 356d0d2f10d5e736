// Package load puts a storefront under load and keeps a ledger of what it was
// promised: every acknowledged write, against which every read is checked.
package load

import (
	"fmt"
	"io"
	"sync"
	"time"
)

// position orders the states of one product: twice its revision, and one more for
// its deletion at that revision.
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

// straggle is how long a request that the client has given up may still go on in
// a server.
const lateWindow = 15 * time.Second

// Ledger knows of each product the latest state that was acknowledged, and which
// deletions may or may not have happened. It is safe for concurrent use.
type Ledger struct {
	mu      sync.Mutex
	entries map[int64]*entry
	acked   int64
	unknown int64
	out     io.Writer // nil: nobody reads it
}

type entry struct {
	floor     position // the latest state that was acknowledged
	deleted   position // the latest deletion that was
	hashes    [8]state // of the latest acknowledged ones
	next      int
	deletions map[*Write]time.Time // under way, or of unknown outcome since
}

type state struct {
	at   position
	hash uint64
}

// NewLedger returns an empty one: of products that are not in it anything goes.
func NewLedger() *Ledger { return &Ledger{entries: map[int64]*entry{}} }

// Expect says that a product is there, with this revision or a later one.
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

// Write is one write under way. Exactly one of its three ends must be called.
type Write struct {
	ledger *Ledger
	ids    []int64
	delete bool
	began  time.Time
}

// Begin notes a write before it is sent.
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

// Outcome is what the server said that a write made of one product.
type Outcome struct {
	ID       int64
	Revision int64
	Deleted  bool
	Hash     uint64 // of the content; 0: not known
}

// Acknowledged ends a write that the server has confirmed.
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
		if at > e.floor { // else a later write was told before
			l.write(line{Key: o.ID, Deleted: o.Deleted, Fields: revisionOf(o)})
		}
		e.floor = max(e.floor, at)
		if o.Hash != 0 {
			e.hashes[e.next%len(e.hashes)] = state{at, o.Hash}
			e.next++
		}
		// A deletion whose outcome nobody knows came before this write, if it was
		// over when this one began: it can't undo it any more.
		for d, since := range e.deletions {
			if !since.IsZero() && !since.After(w.began) {
				delete(e.deletions, d)
			}
		}
	}
	w.removeDeletion()
}

// Rejected ends a write that the server is known not to have made.
func (w *Write) Rejected() {
	w.ledger.mu.Lock()
	defer w.ledger.mu.Unlock()
	w.removeDeletion()
}

// Unknown ends a write that may have happened, may not, or may still happen:
// either is allowed from now on. answered: the server has said so itself, so that
// it is not at work on it any more.
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

// Read is one read under way.
type Read struct {
	ledger    *Ledger
	id        int64
	floor     position
	mayBeGone bool
}

// BeginRead notes what the read must see at least, before it is sent.
func (l *Ledger) BeginRead(id int64) Read {
	l.mu.Lock()
	defer l.mu.Unlock()
	r := Read{ledger: l, id: id}
	if e := l.entries[id]; e != nil {
		r.floor, r.mayBeGone = e.floor, len(e.deletions) > 0
	}
	return r
}

// Verdict is what a read proves.
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
		// The last: deleted while we read, and perhaps made anew since.
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
