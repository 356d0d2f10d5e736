package daemon

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/stranglerfig/migrator/internal/control"
	"github.com/stranglerfig/migrator/internal/hint"
	"github.com/stranglerfig/migrator/internal/judge"
	"github.com/stranglerfig/migrator/phases"
)

// Defaults of an Engine.
const (
	engineInterval = 10 * time.Second       // longest time between two ticks
	engineSoon     = 250 * time.Millisecond // between two ticks until a rollback settles
	engineBudget   = 15 * time.Second       // of one tick
	rollbackRetry  = time.Minute            // how long a failed rollback is retried
)

// Engine evaluates one migration's gates and triggers in every phase, paused or not, and
// acts on them: it rolls back when a trigger fires, and advances a ramp while its gates are
// open. Only the leader runs it. Should two run, each of their moves is a compare-and-set,
// and the second rollback for one firing finds nothing to roll back.
//
// Missing information never rolls back: a state that does not answer, a migration file that
// can't be read, a source without an answer. Package judge makes one exception: a trigger
// with on_blind: rollback.
type Engine struct {
	Migration string
	State     control.State
	Alerts    Alerts // evaluations of Alertmanager's alerts
	// Rules returns those of the applied migration file. It is called when anything of the file
	// that is stored has changed.
	Rules func(ctx context.Context) (*Rules, error)
	// Announce sends an event that has no entry in the history, once for each topic.
	// nil: none is sent.
	Announce func(ctx context.Context, event Event, topic string, detail any) error
	// Interval is the longest time between two ticks; 0: 10 s. It is shorter where a gate
	// or a trigger has a shorter interval.
	Interval time.Duration
	Log      *slog.Logger // nil: discarded
}

// Rules are those of an applied migration file.
type Rules struct {
	Settings phases.Settings
	Judge    *judge.Judge
}

// Event is a kind of announcement.
type Event string

// Events.
const (
	StepDue Event = "held"  // the next step is due, and is blocked by a gate or waits for an operator
	Fired   Event = "fired" // a trigger fires where no rollback is possible
)

// engineRun is a running Engine.
type engineRun struct {
	*Engine
	log             *slog.Logger
	stored          string // Status.StoredHash that rules belong to
	rules           *Rules
	stop            context.CancelFunc // of the rules' sources
	sources         sync.WaitGroup
	failures        map[string]string // failures that have been logged, by job
	pendingRollback *phases.Evaluation
	retryUntil      time.Time
	logged          map[string]bool // in this epoch
	epoch           int64
	settling        bool
	firing          map[string]bool // triggers that fired when last evaluated in this epoch
}

// Run evaluates and acts until ctx ends, and then returns nil. It retries every failure.
func (e *Engine) Run(ctx context.Context) error {
	w := &engineRun{Engine: e, log: e.logger(), stop: func() {}, failures: map[string]string{}}
	defer w.sources.Wait()
	defer func() { w.stop() }()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-timer.C:
		}
		w.tick(ctx)
		timer.Reset(w.pause())
	}
}

func (e *Engine) logger() *slog.Logger {
	if e.Log == nil {
		return slog.New(slog.DiscardHandler)
	}
	return e.Log.With("migration", e.Migration)
}

// pause returns how long to wait for the next tick.
func (w *engineRun) pause() time.Duration {
	wait := cmp.Or(w.Interval, engineInterval)
	if w.settling || w.pendingRollback != nil {
		return min(wait, engineSoon)
	}
	if w.rules == nil {
		return min(wait, time.Second) // the state is unreachable, or nothing is applied yet
	}
	s := w.rules.Settings
	for _, t := range s.Triggers.All() {
		if t.Off == "" {
			wait = min(wait, time.Duration(t.Interval))
		}
	}
	for _, p := range phases.Order {
		for _, g := range s.Gates.Ahead(p) {
			if g.Off == "" {
				wait = min(wait, time.Duration(g.Interval))
			}
		}
	}
	return wait
}

// tick does all work that is due, the most urgent first. A failed step does not stop the
// next one.
func (w *engineRun) tick(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, engineBudget)
	defer cancel()
	e, ok := w.snapshot(ctx)
	if !ok {
		return
	}
	if e.Status.StoredHash != w.stored || w.rules == nil {
		ok := w.try("read the applied migration file", func() error { return w.reload(ctx, e.Status.StoredHash) })
		if !ok {
			return
		}
	}
	if e.Status.Route.Epoch != w.epoch {
		w.epoch, w.logged, w.firing = e.Status.Route.Epoch, map[string]bool{}, map[string]bool{}
	}
	w.triggers(ctx, e)
	w.reportSettled(ctx, e)
	w.try("evaluate the gates", func() error {
		_, err := w.rules.Judge.Gates(ctx, e)
		return err
	})
	if len(w.firing) == 0 {
		w.advanceRamp(ctx, e)
	}
}

func (w *engineRun) snapshot(ctx context.Context) (e phases.Snapshot, ok bool) {
	ok = w.try("read the state", func() (err error) {
		e, err = w.State.Snapshot(ctx, w.Migration)
		return err
	})
	return e, ok
}

// reload replaces the rules after another migration file was applied. Its sources are
// queried concurrently with ticks, so that no tick waits for a source.
func (w *engineRun) reload(ctx context.Context, stored string) error {
	rules, err := w.Rules(ctx)
	if err != nil {
		return err
	}
	w.stop()
	w.sources.Wait()
	watch, stop := context.WithCancel(context.WithoutCancel(ctx))
	w.stored, w.rules, w.stop = stored, rules, stop
	rules.Judge.Watched = true
	w.sources.Go(func() { _ = rules.Judge.Watch(watch) })
	return nil
}

// try logs a failure when it begins, when it changes, and when it ends.
func (w *engineRun) try(what string, do func() error) bool {
	err := do()
	switch was := w.failures[what]; {
	case err != nil && was != err.Error():
		w.failures[what] = err.Error()
		w.log.Warn("failed", "job", what, "error", err, hint.Attr(err))
	case err == nil && was != "":
		delete(w.failures, what)
		w.log.Info("recovered", "job", what)
	}
	return err == nil
}

// logOncePerEpoch reports whether what has not been logged in this epoch, and marks it.
func (w *engineRun) logOncePerEpoch(what string) bool {
	if w.logged[what] {
		return false
	}
	w.logged[what] = true
	return true
}

func (w *engineRun) announce(ctx context.Context, event Event, topic string, detail any) {
	if w.Announce == nil {
		return
	}
	w.try("announce", func() error { return w.Announce(ctx, event, topic, detail) })
}

// announcement is the detail of an event that has no entry in the history.
type announcement struct {
	Route      phases.Route    `json:"route"`
	To         *phases.Route   `json:"to,omitempty"`
	WaitsFor   []string        `json:"waits_for,omitempty"`
	Trigger    string          `json:"trigger,omitempty"`
	Evaluation int64           `json:"evaluation,omitempty"`
	Why        string          `json:"why,omitempty"`
	Alert      json.RawMessage `json:"alert,omitempty"`
}

func topic(kind string, epoch int64, of string) string {
	return fmt.Sprintf("%s, epoch %d: %s", kind, epoch, of)
}
