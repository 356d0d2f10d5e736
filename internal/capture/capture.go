package capture

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/jackc/pglogrepl"
	"github.com/jackc/pgx/v5/pgconn"
	"golang.org/x/sync/errgroup"

	"github.com/stranglerfig/migrator/internal/repair"
	"github.com/stranglerfig/migrator/internal/sleep"
	"github.com/stranglerfig/migrator/internal/throttle"
	"github.com/stranglerfig/migrator/record"
	"github.com/stranglerfig/migrator/store"
	"github.com/stranglerfig/migrator/store/postgres"
)

// Capture brings the changes of one migration's table. The zero value of a number is its default.
type Capture struct {
	Legacy  *postgres.Legacy
	Target  store.TargetRecords
	Ledger  Ledger
	OnAhead func(ctx context.Context, seen record.Version) error // see repair.Repairer

	NotAfter time.Duration // how long a write may be under way; default 10 s
	Workers  int           // calls of the target at a time; default 4
	Batch    int           // keys of one call; default 500
	Memory   int           // bytes of one transaction, and of one flush, before it is spilled or applied; default 6 MiB
	Dir      string        // of temporary files; default os.TempDir
	Beat     time.Duration // how often a marker lets the slot advance while nothing is captured; default 10 s
	MaxHeld  int64         // bytes of log that legacy may keep for the slot before it is given up; 0: no limit but the server's own
	MaxShare float64       // the same as a share of the server's own limit, beyond which it would invalidate the slot; default 0.8

	// Throttle makes changes wait, but while the server holds much log for the slot. nil: never.
	Throttle *throttle.Throttle

	// Report, if set, is called about once a second, and when a flush was saved, by one goroutine at a time.
	Report func(Status)
}

// urgentShare is the share of the log that the slot may hold from which on nothing is throttled: a slot that is
// given up costs legacy more than a fast capture.
const urgentShare = 0.5

const (
	savePause    = 100 * time.Millisecond // between two saves: each is a commit of the state
	flushPeriod  = 10 * time.Millisecond  // between the beginnings of two flushes, of which the first had less than
	flushKeys    = 500                    // so many keys
	sweepPeriod  = 200 * time.Millisecond // how often it is looked whether a sweep is due
	reportPeriod = time.Second
)

func (c *Capture) defaults() *Capture {
	d := *c
	for _, n := range []struct {
		value    *int
		standard int
	}{{&d.Workers, 4}, {&d.Batch, 500}, {&d.Memory, 6 << 20}} {
		if *n.value <= 0 {
			*n.value = n.standard
		}
	}
	for _, n := range []struct{ value, standard *time.Duration }{{&d.NotAfter, ptr(10 * time.Second)}, {&d.Beat, ptr(10 * time.Second)}} {
		if *n.value <= 0 {
			*n.value = *n.standard
		}
	}
	if d.MaxShare <= 0 {
		d.MaxShare = 0.8
	}
	if d.Report == nil {
		d.Report = func(Status) {}
	}
	return &d
}

func ptr(d time.Duration) *time.Duration { return &d }

// Run captures until ctx ends, or an error that another Run may not meet. It returns a LostError where changes
// are missing for good, ErrRunning, an error that wraps ErrColumns, or ctx's.
func (c *Capture) Run(ctx context.Context) error {
	p, release, err := c.Ledger.Begin(ctx)
	if err != nil {
		return err
	}
	defer release()
	if p.Lost != "" {
		return lost(p.Lost)
	}
	r := &run{Capture: c.defaults()}
	if err := r.connect(ctx); err != nil {
		return err
	}
	defer r.close(ctx)
	if p.Slot == "" {
		if p, err = r.create(ctx); err != nil {
			return err
		}
		if err := r.Ledger.Save(ctx, p); err != nil {
			return err
		}
	} else if err := check(ctx, r.Legacy, p, r.system); err != nil {
		return err
	}
	err = r.from(ctx, p)
	var given *givenUp
	if errors.As(err, &given) {
		r.close(ctx) // a slot that is read can't be removed
		if err := drop(ctx, r.Legacy); err != nil {
			return err
		}
		return given.error
	}
	return err
}

// Guard looks after the slot once, while Run can't, and gives it up as Run does. It returns the bytes of log that
// the server holds for the slot, and the limit.
func (c *Capture) Guard(ctx context.Context) (held, limit int64, err error) {
	p, release, err := c.Ledger.Begin(ctx)
	if err != nil {
		return 0, 0, err
	}
	defer release()
	if p.Slot == "" {
		return 0, 0, nil
	}
	c = c.defaults()
	s, err := intact(ctx, c.Legacy, p)
	if err != nil {
		return 0, 0, err
	}
	limit = c.limit(s)
	if limit <= 0 || s.held <= limit {
		return s.held, limit, nil
	}
	given := c.giveUp(ctx, p, s, limit)
	if _, ok := errors.AsType[*givenUp](given); !ok {
		return s.held, limit, given
	}
	if err := drop(ctx, c.Legacy); err != nil {
		return s.held, limit, err
	}
	return s.held, limit, given
}

// Forget removes the slot and the publication, and the progress. The next Run makes new ones, and captures
// from the next barrier on.
func (c *Capture) Forget(ctx context.Context) error {
	_, release, err := c.Ledger.Begin(ctx)
	if err != nil {
		return err
	}
	defer release()
	if err := drop(ctx, c.Legacy); err != nil {
		return err
	}
	return c.Ledger.Save(ctx, Progress{})
}

// run is one call of Run.
type run struct {
	*Capture
	conn   *pgconn.PgConn
	system pglogrepl.IdentifySystemResult
	every  time.Duration // of answers to the server
	meter  meter

	reporting sync.Mutex
}

func (r *run) connect(ctx context.Context) (err error) {
	if r.conn, err = pgconn.ConnectConfig(ctx, r.Legacy.ReplicationConfig()); err != nil {
		return fmt.Errorf("connect to legacy's server for its log: %w", err)
	}
	if r.system, err = pglogrepl.IdentifySystem(ctx, r.conn); err == nil {
		var timeout []*pgconn.Result
		if timeout, err = r.conn.Exec(ctx, "SELECT setting FROM pg_settings WHERE name = 'wal_sender_timeout'").ReadAll(); err == nil {
			r.every = 10 * time.Second
			if len(timeout) == 1 && len(timeout[0].Rows) == 1 {
				if ms, err := strconv.Atoi(string(timeout[0].Rows[0][0])); err == nil && ms > 0 {
					r.every = min(r.every, time.Duration(ms)*time.Millisecond/3)
				}
			}
		}
	}
	if err != nil {
		err = fmt.Errorf("ask legacy's server about itself: %w", err)
	} else {
		err = r.Legacy.SettleReplication(ctx, r.conn)
	}
	if err != nil {
		r.close(ctx)
	}
	return err
}

func (r *run) close(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	_ = r.conn.Close(ctx)
}

// create makes publication and slot. A slot waits for every transaction that is open, whatever its table or database
// is: for as long as that takes, it is reported which.
func (r *run) create(ctx context.Context) (Progress, error) {
	var last error
	watching, stop := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for sleep.For(watching, reportPeriod) == nil {
			what, end, err := r.Legacy.SlotWaitsFor(watching)
			if err != nil || what == "" {
				continue
			}
			last = fmt.Errorf("the replication slot is made once every transaction has ended that was open; it waits for %s; let it end, or %s", what, end)
			r.meter.failed(last)
			r.report()
		}
	}()
	p, err := create(ctx, r.Legacy, r.conn, r.system)
	stop()
	<-done
	r.meter.failed(nil)
	if err != nil && last != nil && ctx.Err() == nil {
		err = fmt.Errorf("%w (%w)", err, last)
	}
	return p, err
}

func (r *run) from(ctx context.Context, p Progress) error {
	if err := unread(ctx, r.Legacy); err != nil {
		return err
	}
	secret, err := r.Legacy.MarkerSecret(ctx)
	if err != nil {
		return err
	}
	if secret == "" {
		return lost("legacy's database no longer notes that changes are captured: markers are missing")
	}
	err = pglogrepl.StartReplication(ctx, r.conn, p.Slot, p.Resume, pglogrepl.StartReplicationOptions{
		Mode: pglogrepl.LogicalReplication, PluginArgs: []string{"proto_version '1'", "publication_names '" + p.Slot + "'", "messages 'true'"},
	})
	if err != nil {
		return lostBy(ctx, fmt.Errorf("read the replication slot %s: %w", p.Slot, err), r.Legacy, p, r.system)
	}
	r.meter.p, r.meter.secret = p, secret
	stop, err := r.Throttle.Start(ctx)
	if err != nil {
		return err
	}
	defer stop()
	out, beat := newQueue(r.Memory), make(chan struct{}, 1)
	reader := &stream{legacy: r.Legacy, conn: r.conn, out: out, beat: beat, meter: &r.meter, limit: r.Memory, dir: r.Dir, secret: secret, p: p, decode: decoder{legacy: r.Legacy}}
	g, gctx := errgroup.WithContext(ctx)
	g.Go(func() error { return reader.run(gctx) })
	g.Go(func() error { return answer(gctx, r.conn, r.every, beat, r.meter.saved) })
	done := newLatest()
	g.Go(func() error { return r.apply(gctx, p, out, done) })
	g.Go(func() error { return r.save(gctx, done, beat) })
	g.Go(func() error { return r.watch(gctx, p) })
	g.Go(func() error { return r.reports(gctx) })
	err = g.Wait()
	out.close()
	var gone *LostError
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.As(err, &gone):
		return err
	}
	r.meter.set(func() { p = r.meter.p })
	return lostBy(ctx, err, r.Legacy, p, r.system)
}

// apply brings batches to the target.
func (r *run) apply(ctx context.Context, p Progress, in *queue, done *latest) error {
	a := &applier{
		Capture: r.Capture, meter: &r.meter, sweeps: p.Sweeps,
		repairer: repair.Repairer{Locker: r.Legacy, Target: r.Target, NotAfter: r.NotAfter, OnAhead: r.OnAhead},
	}
	var began time.Time
	last := 0
	for {
		// The first change after a rest is brought at once. Those that follow closely share a flush, which costs as much
		// for one key as for many.
		if last < flushKeys {
			if err := sleep.For(ctx, time.Until(began.Add(flushPeriod))); err != nil {
				return err
			}
		}
		b, err := r.next(ctx, in, len(a.sweeps) > 0)
		if err != nil {
			return err
		}
		began, last = time.Now(), len(b.states)
		if !b.empty() {
			err := a.batch(ctx, &b)
			if b.alone != nil {
				b.alone.close()
			}
			if err != nil {
				return err
			}
			p = b.after
			r.meter.waiting.Add(-b.rows)
			r.meter.applied.Add(b.rows)
			if p.Fence != "" {
				a.memory.forget()
			}
		}
		swept, err := a.due(ctx)
		if err != nil {
			return err
		}
		if !b.empty() || swept {
			p.Sweeps = slices.Clone(a.sweeps)
			done.put(p)
		}
	}
}

// save saves how far apply came, beside the next batch: the target's work does not wait for the state's commit.
func (r *run) save(ctx context.Context, done *latest, beat chan struct{}) error {
	for {
		p, err := done.take(ctx)
		if err != nil {
			return err
		}
		// [capture-progress]: only after the target has it.
		if err := r.Ledger.Save(ctx, p); err != nil {
			return fmt.Errorf("save how far capture came: %w", err)
		}
		r.meter.set(func() { r.meter.p = p })
		signal(beat)
		r.report()
		if err := sleep.For(ctx, savePause); err != nil {
			return err
		}
	}
}

// latest has the newest progress of those that are not saved yet.
type latest struct {
	mu    sync.Mutex
	p     Progress
	there chan struct{}
}

func newLatest() *latest { return &latest{there: make(chan struct{}, 1)} }

func (l *latest) put(p Progress) {
	l.mu.Lock()
	l.p = p
	l.mu.Unlock()
	signal(l.there)
}

func (l *latest) take(ctx context.Context) (Progress, error) {
	select {
	case <-ctx.Done():
		return Progress{}, ctx.Err()
	case <-l.there:
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.p, nil
}

// next waits for a batch; for a short time if there is other work.
func (r *run) next(ctx context.Context, in *queue, briefly bool) (batch, error) {
	if !briefly {
		return in.take(ctx)
	}
	wait, cancel := context.WithTimeout(ctx, sweepPeriod)
	defer cancel()
	b, err := in.take(wait)
	if err != nil && ctx.Err() == nil {
		err = nil
	}
	return b, err
}

// reports calls Report each second, also while nothing advances.
func (r *run) reports(ctx context.Context) error {
	tick := time.NewTicker(reportPeriod)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
			r.report()
		}
	}
}

func (r *run) report() {
	r.reporting.Lock()
	defer r.reporting.Unlock()
	s := r.meter.status(time.Now())
	s.Throttle = r.Throttle.Status()
	r.Report(s)
}

// watch looks after the slot.
func (r *run) watch(ctx context.Context, p Progress) error {
	tick := time.NewTicker(r.Beat)
	defer tick.Stop()
	at := r.meter.saved()
	for {
		s, err := intact(ctx, r.Legacy, p)
		if err != nil {
			return err
		}
		limit := r.limit(s)
		r.meter.set(func() { r.meter.slot, r.meter.limit = s, limit })
		if limit > 0 && s.held > limit {
			return r.giveUp(ctx, p, s, limit)
		}
		r.Throttle.Urgent(limit > 0 && float64(s.held) > urgentShare*float64(limit))
		// On a quiet table of a busy server nothing else would let the slot advance.
		if now := r.meter.saved(); now == at && r.meter.waiting.Load() == 0 {
			if err := r.Legacy.Beat(ctx); err != nil {
				return err
			}
		}
		at = r.meter.saved()
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
}

// limit is how much log the slot may hold; 0: any.
func (c *Capture) limit(s slot) int64 {
	limit := c.MaxHeld
	if s.safe >= 0 {
		own := int64(c.MaxShare * float64(s.held+s.safe))
		if limit == 0 || own < limit {
			limit = own
		}
	}
	return limit
}

// giveUp removes the slot before it fills the disk, or is invalidated: the log belongs to legacy's owner.
//
// [capture-bounded]: the migration is unclean first.
func (c *Capture) giveUp(ctx context.Context, p Progress, s slot, limit int64) error {
	why := fmt.Sprintf("legacy's server held %d MiB of log for the slot %s, where %d MiB are the limit: it was given up", s.held>>20, p.Slot, limit>>20)
	if s.behind < s.held/2 { // capture keeps up: the log is decoded again from where an open transaction began
		if what, err := c.Legacy.OldestTransaction(ctx); err == nil && what != "" {
			why += "; capture was " + strconv.FormatInt(s.behind>>20, 10) + " MiB behind, and the log was held for an open transaction: " + what
		}
	}
	if err := c.Ledger.Unclean(ctx, why); err != nil {
		return fmt.Errorf("mark the migration unclean: %w", err)
	}
	return &givenUp{lost(why)}
}

// givenUp is a LostError whose slot is still to be removed.
type givenUp struct{ error }

func (g *givenUp) Unwrap() error { return g.error }
