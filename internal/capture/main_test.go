package capture_test

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pglogrepl"

	"github.com/stranglerfig/migrator/internal/capture"
	"github.com/stranglerfig/migrator/internal/test/pairtest"
	"github.com/stranglerfig/migrator/internal/test/testenv"
	"github.com/stranglerfig/migrator/record"
	"github.com/stranglerfig/migrator/store"
)

// ledger keeps the progress in a file, so that it survives its process.
type ledger struct {
	path string

	mu      sync.Mutex
	running bool
	refused []capture.Refused
	unclean []string
	saved   func(capture.Progress) error
}

func newLedger(t testing.TB) *ledger {
	return &ledger{path: filepath.Join(t.TempDir(), "progress")}
}

func (l *ledger) load() (p capture.Progress, err error) {
	text, err := os.ReadFile(l.path)
	if os.IsNotExist(err) {
		return p, nil
	}
	if err == nil {
		err = json.Unmarshal(text, &p)
	}
	return p, err
}

func (l *ledger) Begin(context.Context) (capture.Progress, func(), error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.running {
		return capture.Progress{}, nil, capture.ErrRunning
	}
	p, err := l.load()
	if err != nil {
		return p, nil, err
	}
	l.running = true
	return p, func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.running = false
	}, nil
}

func (l *ledger) Held(context.Context) error { return nil }

func (l *ledger) Save(_ context.Context, p capture.Progress) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.saved != nil {
		if err := l.saved(p); err != nil {
			return err
		}
	}
	text, err := json.Marshal(p)
	if err != nil {
		return err
	}
	next := l.path + ".next"
	if err := os.WriteFile(next, text, 0o600); err != nil {
		return err
	}
	return os.Rename(next, l.path)
}

func (l *ledger) Journal(_ context.Context, keys []capture.Refused) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.refused = append(l.refused, keys...)
	return nil
}

func (l *ledger) Unclean(_ context.Context, why string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.unclean = append(l.unclean, why)
	return nil
}

// running is a capture under test.
type running struct {
	*pairtest.Pair
	t      *testing.T
	c      *capture.Capture
	ledger *ledger

	mu     sync.Mutex
	status capture.Status
	stop   context.CancelFunc
	done   chan error
}

// begin starts the capture, and returns once it is behind the first barrier.
func begin(t *testing.T, p *pairtest.Pair, change func(*capture.Capture)) *running {
	t.Helper()
	r := prepare(t, p, change)
	r.start()
	r.barrier()
	return r
}

func prepare(t *testing.T, p *pairtest.Pair, change func(*capture.Capture)) *running {
	t.Helper()
	r := &running{Pair: p, t: t, ledger: newLedger(t)}
	r.c = &capture.Capture{Legacy: p.Legacy, Target: p.Target, Ledger: r.ledger, Beat: 200 * time.Millisecond, NotAfter: 2 * time.Second, Report: func(s capture.Status) {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.status = s
	}}
	if change != nil {
		change(r.c)
	}
	t.Cleanup(func() {
		if r.stop != nil {
			r.end()
		}
	})
	return r
}

func (r *running) start() {
	ctx, cancel := context.WithCancel(r.t.Context())
	r.stop, r.done = cancel, make(chan error, 1)
	go func() { r.done <- r.c.Run(ctx) }()
}

// end stops the capture and returns its error; nil if it was only stopped.
func (r *running) end() error {
	r.stop()
	err := <-r.done
	r.stop = nil
	if errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}

// fails waits until the capture ends by itself.
func (r *running) fails() error {
	r.t.Helper()
	select {
	case err := <-r.done:
		r.stop()
		r.stop = nil
		return err
	case <-time.After(5 * time.Minute):
		r.t.Fatal("capture goes on")
		return nil
	}
}

// until waits for a saved progress.
func (r *running) until(what string, reached func(capture.Progress) bool) (p capture.Progress) {
	r.t.Helper()
	if !testenv.Reached(r.t.Context(), func() bool {
		var err error
		if p, err = r.ledger.load(); err != nil {
			r.t.Fatal(err)
		}
		if reached(p) {
			return true
		}
		select {
		case err := <-r.done:
			r.stop = nil
			r.t.Fatalf("%s: capture has ended: %v", what, err)
		default:
		}
		return false
	}) {
		r.t.Fatalf("in vain for %s: %+v", what, p)
	}
	return p
}

// barrier takes one, and waits until capture is behind it.
func (r *running) barrier() record.Version {
	r.t.Helper()
	r.until("a slot", func(p capture.Progress) bool { return p.Slot != "" })
	v, err := r.Legacy.Barrier(r.t.Context(), 10*time.Second)
	if err != nil {
		r.t.Fatal(err)
	}
	r.until("a barrier", func(p capture.Progress) bool { return !v.NewerThan(p.Barrier) })
	return v
}

// position is behind all that is committed now.
func (r *running) position() pglogrepl.LSN {
	r.t.Helper()
	var text string
	if err := r.SQL.QueryRow(r.t.Context(), "SELECT pg_current_wal_insert_lsn()::text").Scan(&text); err != nil {
		r.t.Fatal(err)
	}
	at, err := pglogrepl.ParseLSN(text)
	if err != nil {
		r.t.Fatal(err)
	}
	return at
}

// caughtUp waits until the target has all that is committed now.
func (r *running) caughtUp() capture.Progress {
	r.t.Helper()
	at := r.position()
	if err := r.Legacy.Beat(r.t.Context()); err != nil {
		r.t.Fatal(err)
	}
	return r.until("the end of the log", func(p capture.Progress) bool { return p.Resume >= at && r.seen().Progress.Resume >= at })
}

// same waits until capture has caught up, and compares the stores.
func (r *running) same() {
	r.t.Helper()
	r.caughtUp()
	r.WantSame(r.t)
}

func (r *running) get(key record.Key) store.Entry {
	r.t.Helper()
	entries, err := r.Target.Get(r.t.Context(), []record.Key{key})
	if err != nil {
		r.t.Fatal(err)
	}
	return entries[0]
}
