package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/stranglerfig/migrator/internal/hint"
	"github.com/stranglerfig/migrator/internal/humanize"
	"github.com/stranglerfig/migrator/internal/logs"
	"github.com/stranglerfig/migrator/internal/state"
	"github.com/stranglerfig/migrator/internal/state/backfills"
	"github.com/stranglerfig/migrator/internal/state/reconciles"
	"github.com/stranglerfig/migrator/migration"
	"github.com/stranglerfig/migrator/phases"
	"github.com/stranglerfig/migrator/reconcile"
	"github.com/stranglerfig/migrator/record"
)

// Reconcile are the options of one run, and its callbacks.
type Reconcile struct {
	reconcile.RunOptions
	OnPause  func(run int64, why string) // why is "" when the run resumes
	Progress func(run reconcile.Run)     // nil: none
	Journal  func(cleared, of int64)     // progress of the journal's repair; nil: none
	Log      *slog.Logger                // nil: discarded
}

// Reconciled is a run with its findings.
type Reconciled struct {
	reconcile.Run
	Claim    string              `json:"claim"`
	Findings []reconcile.Finding `json:"findings"`
	Plan     []reconcile.Planned `json:"plan,omitempty"`     // of --repair=plan
	Coverage *reconcile.Coverage `json:"coverage,omitempty"` // of a done run: at its end
	// CountsFrom is the moment after which a full run must begin to count for cutover, where this one began
	// before: writes of an instance that ended uncleanly may land until then.
	CountsFrom time.Time `json:"counts_from,omitzero"`
}

// CountsFrom is Reconciled's, of a run that is done.
func CountsFrom(run reconcile.Run, st phases.Status) time.Time {
	if !run.Full || st.Dirty.IsZero() || run.Began.After(st.Dirty) {
		return time.Time{}
	}
	return st.Dirty
}

// Reconcile makes a run, or resumes one. It is paused while a condition of the migration
// file's stop_on holds.
func (j *Job) Reconcile(ctx context.Context, o Reconcile) (reconcile.Run, []reconcile.Finding, error) {
	r, runs, err := j.Reconciler(ctx)
	if err != nil {
		return reconcile.Run{}, nil, err
	}
	if _, _, err := j.SeeColumns(ctx); err != nil {
		return reconcile.Run{}, nil, err
	}
	o.Log = logs.OrDiscard(o.Log)
	runs.Log, runs.OnPause, r.Report, r.OnJournal = o.Log, o.OnPause, o.Progress, o.Journal
	return runThrottled(ctx, j, r, runs, o)
}

// CheckReconcile refuses a run in a phase in which the stores need not agree.
func (j *Job) CheckReconcile(ctx context.Context, repair bool) (phases.Phase, error) {
	status, err := j.State.Status(ctx, j.Config.Name)
	if err != nil {
		return "", err
	}
	switch at := status.Route.Phase; {
	case at == phases.Complete:
		return at, refuse("%s is complete: legacy no longer receives writes, and the target can't be compared with it", j.Config.Name)
	case at == phases.Legacy && repair:
		return at, refuseHint(hint.Hint{Do: hint.Advance}, "%s is on legacy: writes don't reach the target, and repaired keys would be behind again", j.Config.Name)
	default:
		return at, nil
	}
}

// Reconciler compares the job's stores by its migration file. The second result records its
// runs.
func (j *Job) Reconciler(ctx context.Context) (*reconcile.Reconciler, *reconciles.Runs, error) {
	compare, err := record.NewComparer(j.Schema, j.Config.Compare)
	if err != nil {
		return nil, nil, err
	}
	runs := reconciles.New(j.State.Pool(), j.Config.Name)
	r := &reconcile.Reconciler{
		Legacy: j.Legacy, Locker: j.Legacy, Target: j.Target, Ledger: runs, Jobs: runs, Compare: compare,
		OnAhead: j.markAhead, SameTarget: j.CheckTarget, Bypass: j.diagnoseBypass, Options: reconcileOptions(j.Config),
	}
	if j.Config.Capture.Mode.On() {
		r.CaughtUp = j.captureCaughtUp
	}
	backfill, err := backfills.New(j.State.Pool(), j.Config.Name).Latest(ctx)
	if err != nil {
		return nil, nil, err
	}
	if backfill != nil && !backfill.Finished.IsZero() {
		r.Barrier = backfill.Barrier
	}
	return r, runs, nil
}

// markAhead records, before legacy's era is raised, that legacy has lost transactions.
func (j *Job) markAhead(ctx context.Context, _ record.Version) error {
	return j.State.MarkUnclean(ctx, j.Config.Name, "legacy has lost transactions: the target has versions that legacy has never given")
}

func reconcileOptions(m *migration.Config) reconcile.Options {
	s := m.Reconcile
	maxRepairs := s.MaxRepairs
	if maxRepairs == 0 {
		maxRepairs = -1 // none; an option's zero is its default
	}
	return reconcile.Options{
		ChunkRows: s.ChunkRows, Workers: s.Workers, Rate: s.Rate, Findings: s.Findings,
		MaxRepairs: maxRepairs, RepairRate: s.RepairRate, MaxDifference: s.MaxDifference,
		Recent: reconcile.Recent{Column: s.Recent.Column, Within: time.Duration(s.Recent.Within), Sample: s.Recent.Sample},
		Pause:  time.Duration(s.Pause), Rereads: s.Rereads, Lease: time.Duration(s.Lease),
		NotAfter: time.Duration(m.Writing.NotAfter), Expires: m.ExpiryColumn(),
	}
}

// RepairJournal repairs the journaled keys, and returns how many it cleared.
func (j *Job) RepairJournal(ctx context.Context) (int64, error) {
	r := reconcile.Reconciler{
		Legacy: j.Legacy, Locker: j.Legacy, Target: j.Target, Ledger: reconciles.New(j.State.Pool(), j.Config.Name),
		OnAhead: j.markAhead, SameTarget: j.CheckTarget,
		Options: reconcile.Options{NotAfter: time.Duration(j.Config.Writing.NotAfter), Expires: j.Config.ExpiryColumn()},
	}
	return r.RepairJournal(ctx)
}

// Explain compares one key on both sides now. It changes nothing.
func (j *Job) Explain(ctx context.Context, key record.Key) (*reconcile.Explanation, error) {
	if _, err := j.Schema.CheckKey(key); err != nil {
		return nil, &InputError{err}
	}
	r, runs, err := j.Reconciler(ctx)
	if err != nil {
		return nil, err
	}
	return r.Explain(ctx, key, runs, j.Config.Compare)
}

// resumeWithin is how old a run may be that is resumed automatically: the results of its
// first jobs are as old.
const resumeWithin = 24 * time.Hour

// Interrupted returns the newest run, if it is of the kind and its process is dead; or, with
// stopped, if a signal ended it. 0: there is none.
func (j *Job) Interrupted(ctx context.Context, o reconcile.RunOptions, stopped bool) (int64, error) {
	run, coordinated, err := reconciles.New(j.State.Pool(), j.Config.Name).Unfinished(ctx, 0)
	if errors.Is(err, reconciles.ErrNoRun) {
		return 0, nil
	}
	if err != nil || coordinated || run.Status != reconcile.Running && (!stopped || run.Status != reconcile.Stopped) {
		return 0, err
	}
	status, err := j.State.Status(ctx, j.Config.Name)
	if err != nil || run.Epoch != status.Route.Epoch || run.ConfigHash != status.ConfigHash ||
		run.Full != o.Full || run.TwoWay != o.TwoWay || run.Repair != o.Repair || time.Since(run.Began) > resumeWithin {
		return 0, err
	}
	return run.ID, nil
}

// Coverage returns what the runs until now have covered.
func Coverage(ctx context.Context, store *state.Store, m *migration.Config) (reconcile.Coverage, error) {
	return reconciles.New(store.Pool(), m.Name).CoverageNow(ctx, window(m))
}

// CoverageOf returns the coverage at the end of a run; nil for a run that was not completed.
func CoverageOf(ctx context.Context, store *state.Store, name string, run reconcile.Run) (*reconcile.Coverage, error) {
	if run.Status != reconcile.Done {
		return nil, nil
	}
	m, err := Applied(ctx, store, name)
	if err != nil {
		return nil, err
	}
	c, err := reconciles.New(store.Pool(), name).Coverage(ctx, run, window(m))
	return &c, err
}

// window returns how far back runs count. A migration file that an older migrator applied
// does not have it.
func window(m *migration.Config) time.Duration {
	if m.Reconcile.Window > 0 {
		return time.Duration(m.Reconcile.Window)
	}
	return 30 * 24 * time.Hour
}

// RunSummary describes a run in one line.
func RunSummary(name string, run reconcile.Run) string {
	kind := "full"
	if !run.Full {
		kind = fmt.Sprintf("slice %d of %d", run.Slice+1, run.Slices)
	}
	return fmt.Sprintf("reconcile %s: run %d, %s, %s: %s checked, %s different, %s repaired, in %s",
		name, run.ID, kind, run.Status, humanize.Count(run.Checked), humanize.Count(run.Differences), humanize.Count(run.Repaired),
		humanize.Span(run.Finished.Sub(run.Began).Round(time.Millisecond)))
}

// ListedRun is a run of a list.
type ListedRun struct {
	reconcile.Run
	Coverage *reconcile.Coverage `json:"coverage,omitempty"` // of a done run: at its end
}

// ListRuns returns the newest runs, the newest first.
func ListRuns(ctx context.Context, store *state.Store, name string, limit int) ([]ListedRun, error) {
	runs, err := reconciles.New(store.Pool(), name).List(ctx, limit)
	if err != nil {
		return nil, err
	}
	listed := make([]ListedRun, len(runs))
	for i, r := range runs {
		listed[i].Run = r
		if listed[i].Coverage, err = CoverageOf(ctx, store, name, r); err != nil {
			return nil, err
		}
	}
	return listed, nil
}

// ReadRun returns one run with its findings, up to limit.
func ReadRun(ctx context.Context, store *state.Store, name string, id int64, limit int) (Reconciled, error) {
	runs := reconciles.New(store.Pool(), name)
	run, err := runs.Run(ctx, id)
	if err != nil {
		return Reconciled{}, err
	}
	findings, err := runs.Findings(ctx, id, limit)
	if err != nil {
		return Reconciled{}, err
	}
	r := Reconciled{Run: run, Claim: reconcile.Claim(run), Findings: append([]reconcile.Finding{}, findings...)}
	r.Coverage, err = CoverageOf(ctx, store, name, run)
	return r, err
}
