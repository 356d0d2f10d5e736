package daemon

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/cenkalti/backoff/v5"

	"github.com/stranglerfig/migrator/internal/failpoint"
	"github.com/stranglerfig/migrator/internal/hint"
	"github.com/stranglerfig/migrator/phases"
)

// Defaults of a Keeper.
const (
	maintenancePoll    = time.Second
	maintenanceMargin  = phases.MaintenanceMargin
	settleWithin       = phases.Settle
	purgeEvery         = time.Hour
	maintainStateEvery = 10 * time.Second
	retryMost          = 10 * time.Second
	repairTimeout      = 30 * time.Second // of one repair, so that nothing else waits for it for good
)

// State is what a keeper looks at; state.Store is the one in PostgreSQL.
type State interface {
	Status(ctx context.Context, migration string) (phases.Status, error)
	Snapshot(ctx context.Context, migration string) (phases.Snapshot, error)
}

// StateLossReporter is a State that remembers a route which the database has forgotten.
type StateLossReporter interface {
	ReportStateLoss(ctx context.Context, migration, instance string, held phases.Route) error
}

// Stores are a migration's stores, open, as what a keeper does with them.
type Stores interface {
	// RepairJournal repairs keys whose target copy is behind until none is left, and
	// returns how many it cleared.
	RepairJournal(ctx context.Context) (int64, error)
	// Resume finishes or undoes what a command left between two phases.
	Resume(ctx context.Context) error
	// Purge removes tombstones that nothing needs any more. A target that lets them
	// expire by itself returns errors.ErrUnsupported.
	Purge(ctx context.Context) (int64, error)
	Close()
}

// Maintainer keeps one migration well between an operator's commands. It takes no
// decision that is a person's or a gate's: it repairs what is known to be behind,
// and ends what a dead command began. Only the leader runs it; should two run, their
// steps exclude each other by compare-and-set.
type Maintainer struct {
	Migration string
	State     State
	// Open opens the stores of the applied description, whose hash is given. It is
	// called when there is something to do, and again after a failure.
	Open func(ctx context.Context, configHash string) (Stores, error)
	// MaintainState does what the state's own tables need, every ten seconds. nil: nothing.
	MaintainState func(ctx context.Context) error
	// Budget is how long a command may leave a move of authority without a sign of
	// life: what the fence's budget and the table lock's timeout sum up to. The keeper
	// waits Margin longer.
	Budget time.Duration

	Margin     time.Duration // 0: 5 s
	Settle     time.Duration // how long a rollback may wait for the fleet besides; 0: 30 s
	Poll       time.Duration // how often the state is looked at; 0: 1 s
	PurgeEvery time.Duration // 0: 1 h
	RetryMost  time.Duration // longest pause after a failure; 0: 10 s
	Log        *slog.Logger  // nil: discarded
}

// maintenance is a keeper at work.
type maintenance struct {
	*Maintainer
	log          *slog.Logger
	stores       Stores
	config       string // that tools are opened for
	move         authorityMove
	jobs         map[string]*job
	next         time.Time    // of the next purge
	latest       phases.Route // that was seen
	reportedLoss int64        // the epoch whose loss was told
	maintained   time.Time
}

// job is one kind of work, with its pauses after failures.
type job struct {
	wait        backoff.ExponentialBackOff
	after       time.Time // not to be tried again before
	lastFailure string    // the last failure, so that it is told once
}

// Run keeps the migration until ctx ends, and returns nil then. It gives up on
// nothing: failures are logged when they begin and when they end.
func (m *Maintainer) Run(ctx context.Context) error {
	log := m.Log
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	w := &maintenance{Maintainer: m, log: log.With("migration", m.Migration), jobs: map[string]*job{}}
	defer w.closeStores()
	tick := time.NewTicker(cmp.Or(m.Poll, maintenancePoll))
	defer tick.Stop()
	for {
		w.tick(ctx)
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// tick does all that there is to do now.
func (w *maintenance) tick(ctx context.Context) {
	var st phases.Status
	ok := w.try(ctx, "read the state", func() (err error) {
		st, err = w.State.Status(ctx, w.Migration)
		return err
	})
	if !ok {
		return
	}
	// [loss-hands-off]: before anything else is done with the stores.
	if w.reportStateLoss(ctx, st) {
		return
	}
	if w.stores != nil && w.config != st.ConfigHash {
		w.closeStores()
	}
	w.maintainState(ctx)
	if betweenStores(st) {
		w.resumeInterrupted(ctx)
		return // the journal is closed meanwhile, and legacy fenced
	}
	w.move = authorityMove{}
	// [repair-era]: once the target has authority, legacy is no source for a repair.
	if st.JournalKeys > 0 && st.Route.Behaviour().Writes != phases.WritesTarget {
		w.repair(ctx, st)
	}
	w.purge(ctx, st)
}

// reportStateLoss tells that the state database has lost transactions. What it says then
// must not be acted upon: a fence that it takes for interrupted may have been
// passed, and the target have writes that legacy lacks.
func (w *maintenance) reportStateLoss(ctx context.Context, st phases.Status) bool {
	if st.StateLoss == nil && st.Route.Epoch < w.latest.Epoch {
		st.StateLoss = &phases.StateLoss{Instance: maintainerName, Route: w.latest}
		if reporter, ok := w.State.(StateLossReporter); ok {
			w.try(ctx, "remember what the state has lost", func() error {
				// [loss-held]: the daemon may be the only process that remembers the route.
				return reporter.ReportStateLoss(ctx, w.Migration, maintainerName, w.latest)
			})
		}
	}
	if st.StateLoss == nil {
		w.latest, w.reportedLoss = st.Route, 0
		return false
	}
	if w.reportedLoss != st.StateLoss.Route.Epoch {
		w.reportedLoss = st.StateLoss.Route.Epoch
		w.log.Error(st.StateLoss.Describe(st.Route), "hint", phases.StateLossHint())
	}
	return true
}

const maintainerName = "migrator serve"

func (w *maintenance) maintainState(ctx context.Context) {
	if w.MaintainState == nil || time.Since(w.maintained) < maintainStateEvery {
		return
	}
	w.maintained = time.Now()
	w.try(ctx, "tend the state", func() error { return w.MaintainState(ctx) })
}

// endPassing ends what a command that must have died left between the stores.
func (w *maintenance) resumeInterrupted(ctx context.Context) {
	var e phases.Snapshot
	ok := w.try(ctx, "read the state", func() (err error) {
		e, err = w.State.Snapshot(ctx, w.Migration)
		return err
	})
	if !ok || !betweenStores(e.Status) {
		return
	}
	w.move = w.move.observe(e)
	// A command that is alive must not be undone: it is left alone for as long as it may take, plus
	// a margin.
	if !w.move.overdue(e, w.Budget+cmp.Or(w.Margin, maintenanceMargin), cmp.Or(w.Settle, settleWithin)) {
		return
	}
	w.try(ctx, "resume", func() error {
		stores, err := w.open(ctx, e.Status.ConfigHash)
		if err != nil {
			return err
		}
		at := e.Status.Route
		w.log.Warn("a command was interrupted while authority moved; ending it",
			"route", at.String(), "epoch", at.Epoch, "since", w.move.since)
		failpoint.Here("server.keeper.overdue")
		// Safe beside a command that wakes now: each step is a compare-and-set ([one-decides]).
		if err := stores.Resume(ctx); err != nil {
			return err
		}
		st, err := w.State.Status(ctx, w.Migration)
		if err == nil {
			w.log.Info("ended", "route", st.Route.String(), "epoch", st.Route.Epoch)
		}
		return err
	})
}

func (w *maintenance) repair(ctx context.Context, st phases.Status) {
	w.try(ctx, "repair the journal", func() error {
		stores, err := w.open(ctx, st.ConfigHash)
		if err != nil {
			return err
		}
		limited, cancel := context.WithTimeout(ctx, repairTimeout)
		defer cancel()
		n, err := stores.RepairJournal(limited)
		if n > 0 {
			w.log.Info("repaired journalled keys in the target", "keys", n)
			if limited.Err() != nil {
				return nil // it goes on at the next look
			}
		}
		return err
	})
}

func (w *maintenance) purge(ctx context.Context, st phases.Status) {
	if time.Now().Before(w.next) {
		return
	}
	w.try(ctx, "purge", func() error {
		stores, err := w.open(ctx, st.ConfigHash)
		if err != nil {
			return err
		}
		n, err := stores.Purge(ctx)
		if n > 0 {
			w.log.Info("removed old tombstones from the target", "keys", n)
		}
		if errors.Is(err, errors.ErrUnsupported) {
			err = nil
		}
		if err == nil {
			w.next = time.Now().Add(cmp.Or(w.PurgeEvery, purgeEvery))
		}
		return err
	})
}

// try does one job, unless it failed a moment ago. After a failure the stores are opened anew.
func (w *maintenance) try(ctx context.Context, name string, do func() error) bool {
	j := w.jobs[name]
	if j == nil {
		j = &job{wait: backoff.ExponentialBackOff{
			InitialInterval: cmp.Or(w.Poll, maintenancePoll), RandomizationFactor: 0.3, Multiplier: 2,
			MaxInterval: cmp.Or(w.RetryMost, retryMost),
		}}
		j.wait.Reset()
		w.jobs[name] = j
	}
	if ctx.Err() != nil || time.Now().Before(j.after) {
		return false
	}
	err := do()
	switch {
	case err == nil:
		if j.lastFailure != "" {
			w.log.Info("works again", "job", name)
		}
		j.lastFailure, j.after = "", time.Time{}
		j.wait.Reset()
		return true
	case ctx.Err() != nil:
		return false
	}
	level := slog.LevelWarn
	if j.lastFailure == err.Error() {
		level = slog.LevelDebug
	}
	pause := j.wait.NextBackOff()
	j.lastFailure, j.after = err.Error(), time.Now().Add(pause)
	w.log.Log(ctx, level, "failed", "job", name, "error", err, "again_in", pause.Round(time.Millisecond), hint.Attr(err))
	w.closeStores()
	return false
}

func (w *maintenance) open(ctx context.Context, config string) (Stores, error) {
	if w.stores != nil {
		return w.stores, nil
	}
	stores, err := w.Open(ctx, config)
	if err != nil {
		return nil, err
	}
	w.stores, w.config = stores, config
	return stores, nil
}

func (w *maintenance) closeStores() {
	if w.stores != nil {
		w.stores.Close()
	}
	w.stores = nil
}
