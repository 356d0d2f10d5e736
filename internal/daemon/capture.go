package daemon

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/cenkalti/backoff/v5"
	"github.com/jackc/pglogrepl"

	"github.com/stranglerfig/migrator/internal/app"
	"github.com/stranglerfig/migrator/internal/capture"
	"github.com/stranglerfig/migrator/internal/hint"
	"github.com/stranglerfig/migrator/internal/logs"
	"github.com/stranglerfig/migrator/internal/sleep"
	"github.com/stranglerfig/migrator/internal/state/captures"
	"github.com/stranglerfig/migrator/phases"
)

// Capturer runs one migration's change capture: in the phases that have one, by the applied migration file. Only the
// leader runs it; should two run, one has the ledger's lock.
type Capturer struct {
	Migration string
	State     State
	// Mode reads the applied migration file's capture.mode. It is called when anything of the file that is stored
	// has changed.
	Mode func(ctx context.Context) (phases.CaptureMode, error)
	// Open opens the job of the applied migration file. It is called when capture begins, and again after a
	// failure and when anything of the file that is stored has changed.
	Open      func(ctx context.Context) (*app.Job, error)
	Poll      time.Duration // how often the state is read; 0: 1 s
	RetryMost time.Duration // longest pause after a failure; 0: 10 s
	Log       *slog.Logger  // nil: discarded

	log     *slog.Logger
	job     *app.Job // nil: not open
	mode    phases.CaptureMode
	stored  string // Status.StoredHash that mode and job are of
	failure struct {
		text  string
		since time.Time
	}
	guarded time.Time
	last    phases.Capture // that was reported
}

// What a Capturer is to do.
type captureTask int

const (
	captureIdle    captureTask = iota
	captureRun                 // bring changes
	captureStand               // it can't run: look after the slot alone
	captureForget              // remove slot, publication and progress
	captureRestart             // changes are missing: begin again with another slot
)

// Run works until ctx ends, and then returns nil. It retries every failure; where changes are missing for
// good it begins again with another slot.
func (c *Capturer) Run(ctx context.Context) error {
	c.log = logs.OrDiscard(c.Log).With("migration", c.Migration)
	defer c.close()
	growing := &backoff.ExponentialBackOff{
		InitialInterval: cmp.Or(c.Poll, maintenancePoll), RandomizationFactor: 0.3, Multiplier: 2, MaxInterval: cmp.Or(c.RetryMost, retryMost),
	}
	growing.Reset()
	for ctx.Err() == nil {
		pause := cmp.Or(c.Poll, maintenancePoll)
		began := time.Now()
		if err := c.once(ctx); err != nil && ctx.Err() == nil {
			pause = growing.NextBackOff()
			c.failed(ctx, err, pause)
		} else if err == nil || time.Since(began) > retryMost {
			growing.Reset()
		}
		if sleep.For(ctx, pause) != nil {
			break
		}
	}
	return nil
}

// task is what the state asks for. why is for a person, where capture stands.
func (c *Capturer) task(e phases.Snapshot) (do captureTask, why string) {
	st := e.Status
	switch {
	case st.StateLoss != nil: // [loss-hands-off]
		return captureStand, "the state database has lost transactions"
	case !c.mode.On() || !st.Route.Phase.Captured():
		if e.Capture != nil && (e.Capture.Slot != "" || e.Capture.Lost != "") {
			return captureForget, ""
		}
		return captureIdle, ""
	case e.Capture != nil && e.Capture.Lost != "":
		return captureRestart, e.Capture.Lost
	case st.TargetLost != "": // [mark-checked]: before anything is written to the target
		return captureStand, "the target has lost its mark"
	}
	return captureRun, ""
}

// once reads the state, and does what it asks for: capture until that changes.
func (c *Capturer) once(ctx context.Context) error {
	e, err := c.State.Snapshot(ctx, c.Migration)
	if err != nil {
		return fmt.Errorf("read the state: %w", err)
	}
	if c.stored != e.Status.StoredHash {
		c.close()
		if c.mode, err = c.Mode(ctx); err != nil {
			return err
		}
		c.stored = e.Status.StoredHash
	}
	do, why := c.task(e)
	if do == captureIdle {
		c.close()
		return nil
	}
	if c.job == nil {
		limited, cancel := context.WithTimeout(ctx, openWithin)
		defer cancel()
		if c.job, err = c.Open(limited); err != nil {
			c.job = nil
			return err
		}
	}
	engine, ledger, err := c.job.Capture()
	if err != nil {
		return err
	}
	switch do {
	case captureForget:
		if err := engine.Forget(ctx); err != nil {
			return err
		}
		c.log.Info("the replication slot and the publication of change capture were removed", "phase", string(e.Status.Route.Phase))
		return ledger.Report(ctx, phases.Capture{})
	case captureRestart:
		if err := c.job.RestartCapture(ctx, why); err != nil {
			return err
		}
		c.log.Warn("change capture begins again with another replication slot", "lost", why)
		return nil
	case captureStand:
		return c.stand(ctx, engine, ledger, why)
	}
	return c.capture(ctx, e, engine, ledger)
}

// capture runs until the state asks for something else.
func (c *Capturer) capture(ctx context.Context, e phases.Snapshot, engine *capture.Capture, ledger *captures.Ledger) error {
	running, stop := context.WithCancel(ctx)
	defer stop()
	reporter := &captureReporter{ledger: ledger, end: engine.End, log: c.log, maxHeld: engine.MaxHeld, last: c.last}
	engine.Report = func(s capture.Status) { reporter.report(running, s) }
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		defer stop()
		for sleep.For(running, cmp.Or(c.Poll, maintenancePoll)) == nil {
			now, err := c.State.Snapshot(running, c.Migration)
			if err != nil { // a state that does not answer asks for nothing else
				continue
			}
			if do, _ := c.task(now); now.Status.StoredHash != c.stored || do != captureRun {
				return
			}
		}
	}()
	c.log.Info("capturing changes", "route", e.Status.Route.String())
	err := engine.Run(running)
	stop()
	<-watched
	c.last = reporter.last
	c.last.Running = false
	switch {
	case ctx.Err() != nil:
		return nil
	case errors.Is(err, context.Canceled): // the state asks for something else
		c.log.Info("no longer capturing changes")
		c.failure.text = ""
		return nil
	case errors.Is(err, capture.ErrRunning): // a former leader that ends
		return err
	}
	if lost, failed := c.job.LoseCapture(ctx, err); lost {
		c.log.Error("changes of legacy are lost to capture, which begins again", "error", err, "recorded", failed == nil, hint.Attr(err))
		failed = errors.Join(failed, ledger.Report(ctx, c.last))
		c.close() // legacy's table may be another one now
		return failed
	}
	return err
}

// stand looks after the slot of a capture that can't run, each beat.
func (c *Capturer) stand(ctx context.Context, engine *capture.Capture, ledger *captures.Ledger, why string) error {
	if time.Since(c.guarded) < engine.Beat {
		return nil
	}
	c.guarded = time.Now()
	c.last.Running, c.last.Error = false, why
	return c.guard(ctx, engine, ledger)
}

// guard gives the slot up before it fills the disk.
func (c *Capturer) guard(ctx context.Context, engine *capture.Capture, ledger *captures.Ledger) error {
	held, limit, err := engine.Guard(ctx)
	if lost, failed := c.job.LoseCapture(ctx, err); lost {
		c.log.Error("changes of legacy are lost to capture, which begins again", "error", err, "recorded", failed == nil, hint.Attr(err))
		return failed
	}
	if err != nil {
		return err
	}
	c.last.HeldBytes, c.last.LimitBytes = held, limit
	return ledger.Report(ctx, c.last)
}

// failed logs a failure when it begins and when it changes, reports it, and looks after the slot: while capture fails
// the log grows.
func (c *Capturer) failed(ctx context.Context, err error, pause time.Duration) {
	level := slog.LevelWarn
	if c.failure.text == err.Error() || errors.Is(err, capture.ErrRunning) {
		level = slog.LevelDebug
	} else {
		c.failure.text, c.failure.since = err.Error(), time.Now()
	}
	c.log.Log(ctx, level, "change capture failed", "error", err, "again_in", pause.Round(time.Millisecond), hint.Attr(err))
	if c.job == nil || errors.Is(err, capture.ErrRunning) {
		return
	}
	engine, ledger, failed := c.job.Capture()
	if failed != nil {
		return
	}
	c.last.Running, c.last.Error, c.last.ErrorSince = false, err.Error(), c.failure.since
	if failed := c.guard(ctx, engine, ledger); failed != nil {
		_ = ledger.Report(ctx, c.last)
	}
	c.close()
}

func (c *Capturer) close() {
	if c.job != nil {
		c.job.CloseStores()
	}
	c.job = nil
}

// captureReporter turns what capture reports into what the state has of it.
type captureReporter struct {
	ledger *captures.Ledger
	end    func(context.Context) (pglogrepl.LSN, error) // of legacy's log
	log    *slog.Logger

	// A moment of the state's clock, and where legacy's log ended after it; zero: none is awaited.
	awaited struct {
		at  time.Time
		end pglogrepl.LSN
	}
	maxHeld int64 // of the file
	last    phases.Capture
	at      time.Time // of last
	applied int64     // then, since the process began
	held    struct {
		bytes int64
		at    time.Time
		rate  float64 // bytes per second
	}
	fails logs.Failures
}

// Settings that limit what a slot holds.
const (
	limitFile   = "capture.max_held"
	limitServer = "capture.max_share of max_slot_wal_keep_size"
)

// rateOver is how long a rate remembers.
const rateOver = 10 * time.Second

func (r *captureReporter) report(ctx context.Context, s capture.Status) {
	now := time.Now()
	if !r.at.IsZero() && now.Sub(r.at) < 900*time.Millisecond {
		return
	}
	next := phases.Capture{
		Running: true, Position: s.Progress.Resume.String(), Committed: s.Progress.Commit, Fence: s.Progress.Fence, Era: s.Progress.Era,
		LagBytes: s.LagBytes, Lag: phases.Duration(s.Lag), Waiting: s.Waiting, Applied: s.Progress.Changes, HeldBytes: s.HeldBytes, LimitBytes: s.MaxBytes,
		Locked: s.Locked, Refused: s.Refused, Skipped: s.Skipped, Foreign: s.Foreign, Error: s.LastError, ErrorKey: s.ErrorKey, Rate: r.last.Rate, Throttled: s.Throttle.Why,
	}
	if next.LimitBy = limitServer; s.MaxBytes == r.maxHeld {
		next.LimitBy = limitFile
	}
	if !s.Progress.Barrier.IsZero() {
		next.Barrier = s.Progress.Barrier.String()
	}
	if next.Error != "" {
		if next.ErrorSince = r.last.ErrorSince; r.last.Error == "" {
			next.ErrorSince = now
		}
	}
	if !r.at.IsZero() {
		passed := now.Sub(r.at).Seconds()
		weight := min(1, passed/rateOver.Seconds())
		next.Rate = (1-weight)*r.last.Rate + weight*float64(s.Applied-r.applied)/passed
	}
	if r.held.at.IsZero() {
		r.held.bytes, r.held.at = s.HeldBytes, now
	} else if s.HeldBytes != r.held.bytes {
		r.held.rate = float64(s.HeldBytes-r.held.bytes) / now.Sub(r.held.at).Seconds()
		r.held.bytes, r.held.at = s.HeldBytes, now
	}
	if room := s.MaxBytes - s.HeldBytes; s.MaxBytes > 0 && r.held.rate > 0 && room > 0 {
		next.Full = phases.Duration(time.Duration(min(float64(room)/r.held.rate, longestAhead.Seconds()*365) * float64(time.Second)).Round(time.Second))
	}
	limited, cancel := context.WithTimeout(ctx, stateWithin)
	defer cancel()
	next.CaughtUp = r.caughtUp(limited, s)
	r.last, r.at, r.applied = next, now, s.Applied
	if err := r.ledger.Report(limited, next); r.fails.Note("report", err) == logs.Failed && ctx.Err() == nil {
		r.log.Warn("reporting change capture failed", "error", err, hint.Attr(err))
	}
}

// caughtUp is the last moment of which the target has all that legacy had committed.
func (r *captureReporter) caughtUp(ctx context.Context, s capture.Status) time.Time {
	at := r.last.CaughtUp
	if !r.awaited.at.IsZero() && s.Has(r.awaited.end) {
		at, r.awaited.at = r.awaited.at, time.Time{}
	}
	if r.awaited.at.IsZero() {
		// [capture-shadowed]: first the clock, then the log: what was committed before the moment is in it. A store that
		// does not answer leaves the last moment as it is.
		now, err := r.ledger.Now(ctx)
		if err != nil {
			return at
		}
		if end, err := r.end(ctx); err == nil {
			r.awaited.at, r.awaited.end = now, end
		}
	}
	return at
}

// stateWithin is how long a report may take: what captures goes on meanwhile.
const stateWithin = 5 * time.Second
