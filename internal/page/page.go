// Package page serves what migrator knows as a page for browsers: every migration, why its next step waits, and the
// buttons that move it. The page is in the program; it loads nothing from elsewhere.
//
// One process reads the state for all open pages. What it has read it renders once, and sends each page the fragments
// that have changed.
package page

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"

	"github.com/stranglerfig/migrator/internal/hint"
	"github.com/stranglerfig/migrator/internal/logs"
	"github.com/stranglerfig/migrator/internal/state"
	"github.com/stranglerfig/migrator/internal/statedb"
	"github.com/stranglerfig/migrator/migration"
	"github.com/stranglerfig/migrator/phases"
)

const (
	refreshEvery = time.Second
	askedEvery   = 100 * time.Millisecond // if a route changes, or a page is opened
	// idleEvery is how often the state is read while no page is open: a page that is opened, or the last one when
	// the state is lost, is at most as old.
	idleEvery = 15 * time.Second
	// restEvery is how often a migration is read whose own page is not open.
	restEvery     = 5 * time.Second
	refreshWithin = 3 * time.Second
	mostStreams   = 512
	heartbeat     = 15 * time.Second
)

// Page serves the page below /page. It keeps one board for all who look.
type Page struct {
	State *state.Store
	// Remedy is the text of a hint about a migration, as the commands print it. nil: the hint itself.
	Remedy func(migration string, h hint.Hint) string
	Log    *slog.Logger // nil: discarded
	// File is the migration's file and its path, for steps that touch the stores; nil: this process has none.
	File func(migration string) (*migration.Config, string)

	sessions sessions
	acts     acts

	once     sync.Once
	present  atomic.Pointer[Board]
	ask      chan struct{} // a refresh is due
	asked    atomic.Bool
	over     chan struct{} // closed when Run ends
	isOver   sync.Once
	behind   bool // the last refresh failed; of Run alone
	wakening sync.Mutex
	changed  chan struct{} // closed, and replaced, with each board

	looking sync.Mutex
	streams int
	watched map[string]int // open streams by migration
}

// Board is all that was read, as of one moment.
type Board struct {
	At       time.Time // when the reading that it is from began, by this process's clock; zero: none has succeeded
	Down     string    // why the state can't be read since; "": it can
	Since    time.Time // since when
	Pictures []*Picture
	list     rendering
	asOf     rendering
}

// Named returns a migration's picture; nil: there is none.
func (b *Board) Named(name string) *Picture {
	at := slices.IndexFunc(b.Pictures, func(p *Picture) bool { return p.Status.Status.Migration == name })
	if at < 0 {
		return nil
	}
	return b.Pictures[at]
}

func (p *Page) prepare() {
	p.once.Do(func() {
		p.ask, p.over, p.changed = make(chan struct{}, 1), make(chan struct{}), make(chan struct{})
		p.watched = map[string]int{}
		p.sessions.tries = rate.NewLimiter(0.5, 10)
		p.Log = logs.OrDiscard(p.Log)
		if p.Remedy == nil {
			p.Remedy = func(_ string, h hint.Hint) string { return h.String() }
		}
	})
}

// Run keeps the board fresh until ctx ends, and then ends the streams.
func (p *Page) Run(ctx context.Context) error {
	p.prepare()
	defer p.isOver.Do(func() { close(p.over) })
	p.acts.begin(ctx)
	defer p.acts.end()
	hearing, stop := context.WithCancel(ctx)
	heard := make(chan struct{})
	go func() {
		defer close(heard)
		_ = p.State.Notified(hearing, p.refreshSoon)
	}()
	defer func() { stop(); <-heard }()
	var read time.Time
	for {
		began := time.Now()
		if p.asked.Swap(false) || p.inUse() || p.behind || began.Sub(read) >= idleEvery || p.present.Load() == nil {
			read = began
			p.refresh(ctx)
			p.review(ctx)
		}
		// Many migrations, or a slow state: half of the time is left to others.
		took := time.Since(began)
		if !wait(ctx, max(askedEvery-took, took), nil) {
			return nil
		}
		if !wait(ctx, refreshEvery-time.Since(began), p.ask) {
			return nil
		}
	}
}

// wait returns after the time, or when it is asked to; false: ctx has ended.
func wait(ctx context.Context, d time.Duration, asked <-chan struct{}) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
	case <-asked:
	}
	return true
}

// refreshSoon asks for a refresh ahead of time.
func (p *Page) refreshSoon() {
	p.asked.Store(true)
	select {
	case p.ask <- struct{}{}:
	default:
	}
}

func (p *Page) inUse() bool {
	p.looking.Lock()
	defer p.looking.Unlock()
	return p.streams > 0
}

// look counts a stream of a migration, "" for the list; false: there are too many.
func (p *Page) look(name string) bool {
	p.looking.Lock()
	defer p.looking.Unlock()
	if p.streams >= mostStreams {
		return false
	}
	p.streams++
	p.watched[name]++
	if p.watched[name] == 1 {
		p.refreshSoon()
	}
	return true
}

func (p *Page) leave(name string) {
	p.looking.Lock()
	defer p.looking.Unlock()
	p.streams--
	if p.watched[name]--; p.watched[name] == 0 {
		delete(p.watched, name)
	}
}

func (p *Page) isWatched(name string) bool {
	p.looking.Lock()
	defer p.looking.Unlock()
	return p.watched[name] > 0
}

// refresh reads the state once. If that fails the last board stays, and says so.
func (p *Page) refresh(ctx context.Context) {
	began := time.Now()
	pictures, err := p.read(ctx)
	if ctx.Err() != nil {
		return
	}
	before := p.present.Load()
	next := &Board{At: began, Pictures: pictures}
	if err != nil {
		next = &Board{Down: "the state database does not answer", Since: began}
		if before != nil {
			next.At, next.Pictures = before.At, before.Pictures
			if before.Down != "" {
				next.Since = before.Since
			}
		}
		if !state.Away(err) && !errors.Is(err, context.DeadlineExceeded) {
			next.Down = "the state database can't be read"
		}
		if !p.behind {
			p.Log.Warn("the page can't be read from the state; it shows what was read last, and says so", "error", err, hint.Attr(err))
		}
	}
	p.behind = err != nil
	p.present.Store(next)
	p.wakening.Lock()
	defer p.wakening.Unlock()
	close(p.changed)
	p.changed = make(chan struct{})
}

// read reads what is shown now: those migrations in full that a page shows, and of the others those that have changed
// or were not read for a while.
func (p *Page) read(ctx context.Context) ([]*Picture, error) {
	listing, cancel := context.WithTimeout(ctx, refreshWithin)
	defer cancel()
	all, err := p.State.List(listing)
	if err != nil {
		return nil, err
	}
	board := p.present.Load()
	var pictures []*Picture
	for _, st := range all {
		var before *Picture
		if board != nil {
			before = board.Named(st.Migration)
		}
		watched := p.isWatched(st.Migration)
		if before != nil && !watched && sameStatus(before.Status.Status, st) && time.Since(before.read) < restEvery {
			pictures = append(pictures, before)
			continue
		}
		// Each has its time: of many migrations, all together may take longer than a state that answers takes for one.
		one, cancel := context.WithTimeout(ctx, refreshWithin)
		picture, err := readPicture(one, p.State, st.Migration, before, watched)
		cancel()
		if errors.Is(err, statedb.ErrUnknownMigration) {
			continue // it was forgotten since
		}
		if err != nil {
			return nil, err
		}
		pictures = append(pictures, picture)
	}
	return pictures, nil
}

func sameStatus(a, b phases.Status) bool {
	return a.Route == b.Route && a.LastCause == b.LastCause && a.LastReason == b.LastReason && a.Paused == b.Paused && a.Attempt == b.Attempt
}

// next is closed with the next board.
func (p *Page) next() <-chan struct{} {
	p.wakening.Lock()
	defer p.wakening.Unlock()
	return p.changed
}

// full returns the board with a migration's picture read in full, reading it now if no page shows it.
func (p *Page) full(ctx context.Context, name string) (*Board, *Picture, error) {
	b := p.present.Load()
	if b == nil {
		return nil, nil, errNotRead
	}
	picture := b.Named(name)
	if picture == nil || picture.watched && time.Since(picture.read) < restEvery || b.Down != "" && picture.watched {
		return b, picture, nil
	}
	if b.Down != "" { // it was never read in full
		return b, nil, errNotRead
	}
	ctx, cancel := context.WithTimeout(ctx, refreshWithin)
	defer cancel()
	read, err := readPicture(ctx, p.State, name, picture, true)
	if err != nil {
		return b, nil, err
	}
	return b, read, nil
}

var errNotRead = errors.New("this process could not read the migration from the state database yet; its log may have the error")
