package daemon

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/cenkalti/backoff/v5"

	"github.com/stranglerfig/migrator/internal/app"
	"github.com/stranglerfig/migrator/internal/failpoint"
	"github.com/stranglerfig/migrator/internal/hint"
	"github.com/stranglerfig/migrator/phases"
	"github.com/stranglerfig/migrator/store"
)

// Defaults of a Maintainer.
const (
	maintenancePoll    = time.Second
	maintenanceMargin  = phases.MaintenanceMargin
	settleWithin       = phases.Settle
	purgeEvery         = time.Hour
	maintainStateEvery = 10 * time.Second
	retryMost          = 10 * time.Second
	repairTimeout      = 30 * time.Second // of one repair: other work waits for it no longer
)

// State is what a Maintainer reads; state.Store is the one in PostgreSQL.
type State interface {
	Status(ctx context.Context, migration string) (phases.Status, error)
	Snapshot(ctx context.Context, migration string) (phases.Snapshot, error)
}

// StateLossReporter is a State that records a route which the database has lost.
type StateLossReporter interface {
	ReportStateLoss(ctx context.Context, migration, instance string, held phases.Route) error
}

// Stores are a migration's open stores, as a Maintainer uses them.
type Stores interface {
	// RepairJournal repairs journaled keys until none is left, and returns how many it
	// cleared.
	RepairJournal(ctx context.Context) (int64, error)
	// Resume completes or undoes a move that a command left between two phases.
	Resume(ctx context.Context) error
	// RestoreFence raises the fence again where legacy has lost it, or a part of it, and returns
	// what was missing; "": nothing.
	RestoreFence(ctx context.Context) (gaps string, err error)
	// WatchTarget looks at the target's marks, and makes a beat. It returns an error that wraps
	// store.ErrMarkLost while the target lacks them: it is recorded then, and reads are rolled back.
	WatchTarget(ctx context.Context) error
	// WatchLegacy looks whether legacy may have lost transactions, and returns how; "": it has not.
	// If it has, that is recorded, and reads are rolled back.
	WatchLegacy(ctx context.Context) (lost string, err error)
	// WatchParts looks for parts of legacy's table that have come or gone, notes them, and returns
	// the changes since the last look and whether records are lost by them.
	WatchParts(ctx context.Context) (changes string, lost bool, err error)
	// WatchBypass compares what legacy has counted with what instances have reported, and returns
	// what no instance has, if this look has found any; "": it has not.
	WatchBypass(ctx context.Context) (found string, err error)
	// WatchColumns compares the stores' columns with those that are applied, notes how they differ, and
	// returns what has changed since the last look and whether the migration is unclean by that.
	WatchColumns(ctx context.Context) (news []string, unclean bool, err error)
	// CheckServers makes the checks of what changes on the servers of both stores and of the state while a
	// migration runs.
	CheckServers(ctx context.Context) []store.Check
	// Purge removes tombstones that are no longer needed. A target whose tombstones
	// expire by themselves returns errors.ErrUnsupported.
	Purge(ctx context.Context) (int64, error)
	Close()
}

// Maintainer maintains one migration between an operator's commands: it repairs journaled
// keys, completes what an interrupted command began, and purges. It takes no decision that
// belongs to an operator or a gate. Only the leader runs it; should two run, their steps
// exclude each other by compare-and-set.
type Maintainer struct {
	Migration string
	State     State
	// Open opens the stores of the applied migration file. It is called when there is work, and
	// again after a failure and when anything of the file that is stored has changed.
	Open func(ctx context.Context) (Stores, error)
	// NoteChecks notes what CheckServers found, and returns what has changed. nil: the checks are not repeated.
	NoteChecks func(ctx context.Context, checks []store.Check) (changed []store.Check, err error)
	// MaintainState maintains the state's own tables, every ten seconds. nil: nothing.
	MaintainState func(ctx context.Context) error
	// Budget is how long a command may leave a move of authority without progress: the
	// fence's budget plus the table lock's timeout. The Maintainer waits Margin longer.
	Budget func(ctx context.Context) (time.Duration, error)

	Margin     time.Duration // 0: 5 s
	Settle     time.Duration // how long a rollback may wait for the fleet in addition; 0: 30 s
	Poll       time.Duration // how often the state is read; 0: 1 s
	PurgeEvery time.Duration // 0: 1 h
	RetryMost  time.Duration // longest pause after a failure; 0: 10 s
	Log        *slog.Logger  // nil: discarded
}

// maintenance is a running Maintainer.
type maintenance struct {
	*Maintainer
	log           *slog.Logger
	stores        Stores
	stored        string // Status.StoredHash that stores were opened for
	openErr       error  // of the last attempt; nil: it succeeded
	openFailed    time.Time
	move          authorityMove
	jobs          map[string]*job
	next          time.Time    // of the next purge
	latest        phases.Route // newest that was read
	reportedLoss  int64        // the epoch whose loss was logged
	maintained    time.Time
	watched       time.Time // the fence
	legacyWatched time.Time
	checked       time.Time
	targetLost    bool // when it last answered
}

const watchTargetJob = "watch the target"

// legacyWatch is how often legacy's server is looked at.
const legacyWatch = 2 * time.Second

// fenceWatch is how often legacy's table is looked at: its parts, and in retain the fence.
const fenceWatch = 5 * time.Second

// job is one kind of work, with its backoff after failures.
type job struct {
	wait        backoff.ExponentialBackOff
	after       time.Time // the next attempt is not before
	lastFailure string    // so that the same failure is logged once
}

// Run maintains the migration until ctx ends, and then returns nil. It retries every
// failure, and logs it when it begins and when it ends.
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

// tick does all work that is due.
func (w *maintenance) tick(ctx context.Context) {
	var st phases.Status
	ok := w.try(ctx, "read the state", func() (err error) {
		st, err = w.State.Status(ctx, w.Migration)
		return err
	})
	if !ok {
		return
	}
	// [loss-hands-off]: checked before the stores are touched.
	if w.reportStateLoss(ctx, st) {
		return
	}
	if w.stores != nil && w.stored != st.StoredHash {
		w.closeStores()
	}
	w.maintainState(ctx)
	if betweenStores(st) {
		w.resumeInterrupted(ctx)
		return // meanwhile the journal is closed and legacy is fenced
	}
	w.move = authorityMove{}
	w.checkServers(ctx, st)
	w.watchTable(ctx, st)
	// [mark-checked]: before anything is written to the target.
	if !w.watchTarget(ctx, st) {
		return
	}
	w.watchLegacy(ctx, st)
	// [repair-era]: once the target has authority, a repair must not read from legacy.
	if st.JournalKeys > 0 && st.Route.Behaviour().Writes != phases.WritesTarget {
		w.repair(ctx, st)
	}
	w.purge(ctx, st)
}

// openWithin is how long opening the stores may take.
const openWithin = 10 * time.Second

// checkEvery is how often the checks of the servers are repeated, and checkWithin how long they may take: the beat
// of the target waits for them.
const (
	checkEvery  = time.Minute
	checkWithin = 10 * time.Second
)

// checkServers repeats the checks of plan whose results change while a migration runs.
func (w *maintenance) checkServers(ctx context.Context, st phases.Status) {
	if w.NoteChecks == nil || st.Route.Phase == phases.Complete || time.Since(w.checked) < checkEvery {
		return
	}
	w.checked = time.Now()
	w.try(ctx, "repeat the checks", func() error {
		stores, err := w.open(ctx, st.StoredHash)
		var checks []store.Check
		if err != nil {
			checks = app.NotOpened(err)
		} else {
			limited, cancel := context.WithTimeout(ctx, checkWithin)
			defer cancel()
			checks = stores.CheckServers(limited)
		}
		if ctx.Err() != nil {
			return ctx.Err() // what is cut off has seen nothing
		}
		changed, err := w.NoteChecks(ctx, checks)
		for _, c := range changed {
			level := slog.LevelWarn
			if c.Result == store.Good {
				level = slog.LevelInfo
			}
			args := []any{"check", c.Name, "result", string(c.Result), "detail", c.Detail}
			if !c.Hint.IsZero() {
				args = append(args, "hint", c.Hint)
			}
			w.log.Log(ctx, level, "result of a repeated check", args...)
		}
		return err
	})
}

// watchTarget makes a beat each second. It reports whether the target has the migration's marks, or
// can't be asked: then what needs it fails by itself.
func (w *maintenance) watchTarget(ctx context.Context, st phases.Status) bool {
	var lost error
	ok := w.try(ctx, watchTargetJob, func() error {
		stores, err := w.open(ctx, st.StoredHash)
		if err != nil {
			return err
		}
		limited, cancel := context.WithTimeout(ctx, targetTimeout)
		defer cancel()
		if err = stores.WatchTarget(limited); errors.Is(err, store.ErrMarkLost) {
			lost = err
		}
		return err
	})
	w.targetLost = lost != nil || w.targetLost && !ok
	return !w.targetLost
}

// watchLegacy looks whether legacy may have lost transactions.
func (w *maintenance) watchLegacy(ctx context.Context, st phases.Status) {
	if time.Since(w.legacyWatched) < legacyWatch {
		return
	}
	w.legacyWatched = time.Now()
	w.try(ctx, "watch legacy", func() error {
		stores, err := w.open(ctx, st.StoredHash)
		if err != nil {
			return err
		}
		limited, cancel := context.WithTimeout(ctx, targetTimeout)
		defer cancel()
		lost, err := stores.WatchLegacy(limited)
		if lost != "" {
			w.log.Error(lost, "route", st.Route.String(), "recorded", err == nil)
		}
		return err
	})
}

// watchTable looks at legacy's table. It does not need the target.
func (w *maintenance) watchTable(ctx context.Context, st phases.Status) {
	if st.Route.Phase == phases.Complete || time.Since(w.watched) < fenceWatch {
		return
	}
	w.watched = time.Now()
	if st.Route.Phase == phases.Retain {
		w.watchFence(ctx, st)
	}
	w.watchColumns(ctx, st)
	w.try(ctx, "watch the table's parts", func() error {
		stores, err := w.open(ctx, st.StoredHash)
		if err != nil {
			return err
		}
		limited, cancel := context.WithTimeout(ctx, targetTimeout)
		defer cancel()
		changes, lost, err := stores.WatchParts(limited)
		switch {
		case lost:
			w.log.Error("records have gone or come with parts of legacy's table: the migration is unclean", "changes", changes)
		case changes != "":
			w.log.Warn("the parts of legacy's table have changed", "changes", changes)
		}
		return err
	})
	w.watchBypass(ctx, st)
}

// watchBypass looks for writes of legacy that no instance reported.
func (w *maintenance) watchBypass(ctx context.Context, st phases.Status) {
	if !st.Route.Phase.Compared() {
		return
	}
	w.try(ctx, "compare legacy's counters", func() error {
		stores, err := w.open(ctx, st.ConfigHash)
		if err != nil {
			return err
		}
		limited, cancel := context.WithTimeout(ctx, targetTimeout)
		defer cancel()
		found, err := stores.WatchBypass(limited)
		if found != "" {
			w.log.Error("programs write legacy's table past the application", "changes", found, "hint", phases.BypassHint())
		}
		return err
	})
}

// watchColumns looks whether the tables still have the columns that are moved.
func (w *maintenance) watchColumns(ctx context.Context, st phases.Status) {
	w.try(ctx, "watch the columns", func() error {
		stores, err := w.open(ctx, st.ConfigHash)
		if err != nil {
			return err
		}
		limited, cancel := context.WithTimeout(ctx, targetTimeout)
		defer cancel()
		news, unclean, err := stores.WatchColumns(limited)
		for _, text := range news {
			level := slog.LevelWarn
			if unclean {
				level = slog.LevelError
			}
			w.log.Log(ctx, level, text, "unclean", unclean)
		}
		return err
	})
}

// watchFence looks whether legacy still refuses writes, and makes it so. [fence-watched]: a
// failover, a copy or DDL may have left legacy without the fence, or with a part of it.
func (w *maintenance) watchFence(ctx context.Context, st phases.Status) {
	w.try(ctx, "watch the fence", func() error {
		stores, err := w.open(ctx, st.StoredHash)
		if err != nil {
			return err
		}
		gaps, err := stores.RestoreFence(ctx)
		if gaps != "" {
			w.log.Error("legacy's fence was not whole: legacy may have taken writes that the target lacks", "gaps", gaps, "raised_again", err == nil)
		}
		return err
	})
}

// reportStateLoss reports whether the state database has lost transactions, and logs it
// once. Such a state must not be acted upon: a fence that it shows as interrupted may have
// completed, and the target may have writes that legacy lacks.
func (w *maintenance) reportStateLoss(ctx context.Context, st phases.Status) bool {
	if st.StateLoss == nil && st.Route.Epoch < w.latest.Epoch {
		st.StateLoss = &phases.StateLoss{Instance: maintainerName, Route: w.latest}
		if reporter, ok := w.State.(StateLossReporter); ok {
			w.try(ctx, "record the state loss", func() error {
				// [loss-held]: this daemon may be the only process that knows the route.
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
	w.try(ctx, "maintain the state", func() error { return w.MaintainState(ctx) })
}

// resumeInterrupted completes or undoes a move of authority whose command must have died.
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
	var budget time.Duration
	if !w.try(ctx, "read the applied migration file", func() (err error) {
		budget, err = w.Budget(ctx)
		return err
	}) {
		return
	}
	// A live command must not be undone: resuming waits for its whole budget, plus a margin.
	if !w.move.overdue(e, budget+cmp.Or(w.Margin, maintenanceMargin), cmp.Or(w.Settle, settleWithin)) {
		return
	}
	w.try(ctx, "resume", func() error {
		stores, err := w.open(ctx, e.Status.StoredHash)
		if err != nil {
			return err
		}
		at := e.Status.Route
		w.log.Warn("resuming an interrupted move of authority",
			"route", at.String(), "epoch", at.Epoch, "since", w.move.since)
		failpoint.Here("server.keeper.overdue")
		// Safe beside a command that continues now: each step is a compare-and-set ([one-decides]).
		if err := stores.Resume(ctx); err != nil {
			return err
		}
		st, err := w.State.Status(ctx, w.Migration)
		if err == nil {
			w.log.Info("resumed the interrupted move", "route", st.Route.String(), "epoch", st.Route.Epoch)
		}
		return err
	})
}

func (w *maintenance) repair(ctx context.Context, st phases.Status) {
	w.try(ctx, "repair the journal", func() error {
		stores, err := w.open(ctx, st.StoredHash)
		if err != nil {
			return err
		}
		limited, cancel := context.WithTimeout(ctx, repairTimeout)
		defer cancel()
		n, err := stores.RepairJournal(limited)
		if n > 0 {
			w.log.Info("repaired journaled keys", "keys", n)
			if limited.Err() != nil {
				return nil // the next tick continues
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
		stores, err := w.open(ctx, st.StoredHash)
		if err != nil {
			return err
		}
		n, err := stores.Purge(ctx)
		if n > 0 {
			w.log.Info("purged tombstones from the target", "keys", n)
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

// try does one job, unless its backoff after a failure has not passed. After a failure the
// stores are closed, and opened again by the next job that needs them.
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
			w.log.Info("recovered", "job", name)
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
	if name == watchTargetJob {
		pause = min(pause, cmp.Or(w.Poll, maintenancePoll)) // a target that comes back may be another one
	}
	j.lastFailure, j.after = err.Error(), time.Now().Add(pause)
	w.log.Log(ctx, level, "failed", "job", name, "error", err, "again_in", pause.Round(time.Millisecond), hint.Attr(err))
	if name != watchTargetJob { // its pools connect again by themselves, and it looks each second
		w.closeStores()
	}
	return false
}

func (w *maintenance) open(ctx context.Context, stored string) (Stores, error) {
	if w.stores != nil {
		return w.stores, nil
	}
	// A server that hangs is waited for once, and not by each job in turn: meanwhile none is done.
	if w.openErr != nil && w.stored == stored && time.Since(w.openFailed) < cmp.Or(w.Poll, maintenancePoll) {
		return nil, w.openErr
	}
	limited, cancel := context.WithTimeout(ctx, openWithin)
	defer cancel()
	stores, err := w.Open(limited)
	w.stored, w.openErr, w.openFailed = stored, err, time.Now()
	if err != nil {
		return nil, err
	}
	w.stores = stores
	return stores, nil
}

func (w *maintenance) closeStores() {
	if w.stores != nil {
		w.stores.Close()
	}
	w.stores = nil
}
