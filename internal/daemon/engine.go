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
	engineInterval = 10 * time.Second       // longest time between two looks
	engineSoon     = 250 * time.Millisecond // between two, while a rollback is under way
	engineBudget   = 15 * time.Second       // of one look
	rollbackRetry  = time.Minute            // how long a firing trigger that could not be acted on is tried again
)

// Engine looks at one migration's evidence in every phase, paused or not, and acts on
// it: a firing trigger takes reads back to legacy, and a ramp climbs while its gates
// are open. Only the leader runs it; should two run, each of their moves is a
// compare-and-set, and a trigger that has been acted on finds nothing to take back.
//
// What it can't find out never rolls back: a state that does not answer, a description
// that can't be read, a source that says nothing. There is one exception, which judge
// makes: a trigger with on_blind: rollback.
type Engine struct {
	Migration string
	State     control.State
	Alerts    Alerts // what came in by Alertmanager
	// Rules returns what is applied, whose hash is given. It is called when that changes.
	Rules func(ctx context.Context, configHash string) (*Rules, error)
	// Announce tells what no entry of the history does, once for each topic. nil: nobody.
	Announce func(ctx context.Context, event Event, topic string, detail any) error
	// Interval is the longest time between two looks (10 s). It is shorter where a gate
	// or a trigger is to be looked at more often.
	Interval time.Duration
	Log      *slog.Logger // nil: discarded
}

// Rules are what an applied description says.
type Rules struct {
	Settings phases.Settings
	Judge    *judge.Judge
}

// Event is what an engine announces.
type Event string

// Events.
const (
	StepDue Event = "held"  // the next step is due, and waits for a gate or a person
	Fired   Event = "fired" // a trigger fires where it takes nothing back
)

// engineRun is an engine at work.
type engineRun struct {
	*Engine
	log             *slog.Logger
	config          string // that rules are of
	rules           *Rules
	stop            context.CancelFunc // of the rules' sources
	sources         sync.WaitGroup
	failures        map[string]string // failures that have been told, by what failed
	pendingRollback *phases.Evaluation
	retryUntil      time.Time
	logged          map[string]bool // what has been logged in this epoch
	epoch           int64
	settling        bool
	firing          map[string]bool // triggers, as they were last looked at in this epoch
}

// Run looks until ctx ends, and returns nil then. It gives up on nothing.
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

// pause is how long to wait for the next look.
func (w *engineRun) pause() time.Duration {
	wait := cmp.Or(w.Interval, engineInterval)
	if w.settling || w.pendingRollback != nil {
		return min(wait, engineSoon)
	}
	if w.rules == nil {
		return min(wait, time.Second) // of a state that is away, or where nothing is applied yet
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

// tick does all that there is to do now, the most urgent first. No step waits for
// another to succeed.
func (w *engineRun) tick(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, engineBudget)
	defer cancel()
	e, ok := w.snapshot(ctx)
	if !ok {
		return
	}
	if e.Status.ConfigHash != w.config || w.rules == nil {
		ok := w.try("read what is applied", func() error { return w.reload(ctx, e.Status.ConfigHash) })
		if !ok {
			return
		}
	}
	if e.Status.Route.Epoch != w.epoch {
		w.epoch, w.logged, w.firing = e.Status.Route.Epoch, map[string]bool{}, map[string]bool{}
	}
	w.triggers(ctx, e)
	w.reportSettled(e)
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

// reload takes over another applied description. Its sources are asked beside the
// looks, so that none of them waits for one.
func (w *engineRun) reload(ctx context.Context, hash string) error {
	rules, err := w.Rules(ctx, hash)
	if err != nil {
		return err
	}
	w.stop()
	w.sources.Wait()
	watch, stop := context.WithCancel(context.WithoutCancel(ctx))
	w.config, w.rules, w.stop = hash, rules, stop
	rules.Judge.Watched = true
	w.sources.Go(func() { _ = rules.Judge.Watch(watch) })
	return nil
}

// try tells a failure when it begins, when it becomes another one, and when it ends.
func (w *engineRun) try(what string, do func() error) bool {
	err := do()
	switch was := w.failures[what]; {
	case err != nil && was != err.Error():
		w.failures[what] = err.Error()
		w.log.Warn("failed", "job", what, "error", err, hint.Attr(err))
	case err == nil && was != "":
		delete(w.failures, what)
		w.log.Info("works again", "job", what)
	}
	return err == nil
}

// logOncePerEpoch tells something one time in an epoch.
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

// announcement is the detail of a message that no entry of the history tells of.
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
