package server

import (
	"context"
	"crypto/sha256"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/stranglerfig/migrator/internal/hint"
	"github.com/stranglerfig/migrator/internal/logs"
	"github.com/stranglerfig/migrator/phases"
)

// Published is what callers are answered from, as of one moment.
type Published struct {
	Routes  []PublishedRoute
	Bearers map[[sha256.Size]byte]Bearer // by the hash of a hash of the token
}

// PublishedRoute is the route of a migration.
type PublishedRoute struct {
	Migration string
	Route     phases.Route
	Lease     time.Duration
}

// Bearer is a caller whose token is valid.
type Bearer struct {
	ID         int64
	Until      time.Time // by this process's monotonic clock
	Migrations map[string]bool
}

const (
	refreshEvery  = time.Second
	refreshWithin = 3 * time.Second
	// FreshFor is how old an answer may be before it says so.
	FreshFor = 5 * time.Second
	// ServedFor is how old an answer may be at all: an instance that has lost its lease reads legacy from here on.
	ServedFor = phases.LeaseTTL
)

// Directory knows the callers of a process's HTTP endpoints, by their tokens, and the routes of the migrations: a copy
// that Run keeps fresh, so that a caller without a valid token costs two hashes and no query.
type Directory struct {
	Read func(ctx context.Context) (Published, error)
	// Notified calls changed when what Read returns may have changed, until its context ends; nil: Read is called each second.
	Notified func(ctx context.Context, changed func()) error
	Log      *slog.Logger // nil: discarded

	present  atomic.Pointer[publication]
	once     sync.Once
	ask      chan struct{} // a refresh is due
	refresh  sync.Mutex
	streams  atomic.Int64
	over     chan struct{} // closed when Run ends
	isOver   sync.Once
	behind   atomic.Bool // the last refresh failed
	wakening sync.Mutex
	changed  chan struct{} // closed, and replaced, with each new publication
}

// publication is what was read, and when the reading began.
type publication struct {
	Published

	at time.Time
}

func (p *publication) age() time.Duration { return time.Since(p.at) }

// staleness is part of what a client has to hear of: fresh answers, those that say that they are old, and none.
func (p *publication) staleness() string {
	switch age := p.age(); {
	case age <= FreshFor:
		return "fresh"
	case age <= ServedFor:
		return "stale"
	}
	return "over"
}

// route is that of a migration, if the publication has it.
func (p *publication) route(migration string) (PublishedRoute, bool) {
	for _, r := range p.Routes {
		if r.Migration == migration {
			return r, true
		}
	}
	return PublishedRoute{}, false
}

func (d *Directory) prepare() {
	d.once.Do(func() {
		d.ask, d.over, d.changed = make(chan struct{}, 1), make(chan struct{}), make(chan struct{})
		d.Log = logs.OrDiscard(d.Log)
	})
}

// Run keeps the copy fresh until ctx ends, and then ends the streams.
func (d *Directory) Run(ctx context.Context) error {
	d.prepare()
	defer d.isOver.Do(func() { close(d.over) })
	if d.Notified != nil {
		hearing, stop := context.WithCancel(ctx)
		heard := make(chan struct{})
		go func() {
			defer close(heard)
			_ = d.Notified(hearing, func() {
				select {
				case d.ask <- struct{}{}:
				default:
				}
			})
		}()
		defer func() { stop(); <-heard }()
	}
	tick := time.NewTicker(refreshEvery)
	defer tick.Stop()
	for {
		d.reload(ctx, time.Now())
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		case <-d.ask:
		}
	}
}

// reload reads what is published, unless that was done since. It wakes the streams in any case: an
// answer that is getting old is news too.
func (d *Directory) reload(ctx context.Context, since time.Time) {
	d.refresh.Lock()
	defer d.refresh.Unlock()
	if p := d.present.Load(); p != nil && p.at.After(since) {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, refreshWithin)
	defer cancel()
	at := time.Now() // before the request: the state's moment is later
	read, err := d.Read(ctx)
	switch {
	case err == nil:
		d.behind.Store(false)
		d.present.Store(&publication{read, at})
	case ctx.Err() == nil || errors.Is(ctx.Err(), context.DeadlineExceeded):
		if !d.behind.Swap(true) {
			d.Log.Warn("routes and tokens can't be read from the state; answers say so, then fail", "error", err, hint.Attr(err))
		}
	}
	d.wakening.Lock()
	defer d.wakening.Unlock()
	close(d.changed)
	d.changed = make(chan struct{})
}

func (d *Directory) next() <-chan struct{} {
	d.wakening.Lock()
	defer d.wakening.Unlock()
	return d.changed
}

// Streams is how many event streams are open.
func (d *Directory) Streams() int { return int(d.streams.Load()) }

// openStream takes a place among the event streams of the process; false: there is none.
func (d *Directory) openStream() (closed func(), ok bool) {
	if d.streams.Add(1) > mostStreams {
		d.streams.Add(-1)
		return nil, false
	}
	return func() { d.streams.Add(-1) }, true
}
