package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/stranglerfig/migrator/dual"
	"github.com/stranglerfig/migrator/dual/pgfleet"
	"github.com/stranglerfig/migrator/internal/drill"
	"github.com/stranglerfig/migrator/internal/hint"
	"github.com/stranglerfig/migrator/internal/logs"
	"github.com/stranglerfig/migrator/internal/state"
	"github.com/stranglerfig/migrator/internal/state/drills"
	"github.com/stranglerfig/migrator/phases"
	"github.com/stranglerfig/migrator/reconcile"
	"github.com/stranglerfig/migrator/record"
	"github.com/stranglerfig/migrator/store"
)

// plantedRecords is how many records a drill removes from the target.
const plantedRecords = 5

// maxEvaluations bounds the evaluations that one part of a drill reads.
const maxEvaluations = 50_000

// Drill is one rehearsal of a migration.
type Drill struct {
	Fault                  dual.Fault
	Healthy, Within, After time.Duration // see drill.Drill: Baseline, Within and After
	Daemons                drill.Daemons // nil: no daemon is started or killed
	Load                   DrillLoad
	Program                string           // its version
	Progress               func(drill.Step) // each step as it begins (Took 0) and as it ends
	Log                    *slog.Logger     // nil: discarded
}

// DrillLoad is the load during a drill.
type DrillLoad struct {
	Source string  // "built-in", "none", or the ledger of the operator's own load: a file or http://...
	Keys   int     // records that the built-in load reads and writes
	Rate   float64 // its operations per second
	Column string  // the text column that it writes; "": its writes change nothing
}

// Drill makes a drill and records its result. If recording fails after the drill has begun,
// it returns the report with the error.
func (j *Job) Drill(ctx context.Context, d Drill) (*drill.Report, error) {
	load, keys, closeLoad, err := j.drillLoad(ctx, d)
	if err != nil {
		return nil, err
	}
	defer closeLoad()
	m := j.Config
	rehearsal := &drill.Drill{
		Report:   drill.Report{Migration: m.Name, Environment: m.Environment, Rehearsal: m.DrillHash(), Program: d.Program},
		Triggers: m.Triggers, State: drillState{j.State}, Switch: j.State, Load: load,
		Fault: d.Fault, Baseline: d.Healthy, Within: d.Within, After: d.After,
		Plant:     &drill.Planted{Store: j.Target, Keys: keys, Most: plantedRecords},
		Reconcile: j.drillReconcile(d.Log), Daemons: d.Daemons, Progress: d.Progress,
	}
	runs := drills.New(j.State.Pool(), m.Name)
	begun, release, err := runs.Begin(ctx, m.DrillHash())
	if errors.Is(err, drills.ErrDrilling) {
		return nil, &NotYetError{err}
	}
	if err != nil {
		return nil, err
	}
	defer release()
	rehearsal.Report.Drill, rehearsal.Report.ConfigHash = begun.ID, begun.ConfigHash
	report := rehearsal.Run(ctx)
	if err := runs.Finish(context.WithoutCancel(ctx), report); err != nil {
		return &report, fmt.Errorf("record the result: %w", err)
	}
	return &report, nil
}

// drillState implements drill.State.
type drillState struct{ *state.Store }

func (s drillState) Observations(ctx context.Context, migration string, since time.Time) ([]phases.Evaluation, error) {
	evaluations, err := s.Evaluations(ctx, migration, state.EvaluationFilter{Kind: phases.TriggerKind, Since: since, Limit: maxEvaluations})
	slices.Reverse(evaluations)
	return evaluations, err
}

func (s drillState) SettledAt(ctx context.Context, migration string, epoch int64) (time.Time, error) {
	epochs, err := s.Epochs(ctx, migration, 10)
	for _, e := range epochs {
		if e.Route.Epoch == epoch {
			return e.Settled, err
		}
	}
	return time.Time{}, err
}

// drillReconcile makes full reconcile runs.
func (j *Job) drillReconcile(log *slog.Logger) func(context.Context, bool) (drill.Reconciled, []record.Key, error) {
	return func(ctx context.Context, repair bool) (found drill.Reconciled, keys []record.Key, err error) {
		r, runs, err := j.Reconciler(ctx)
		if err != nil {
			return found, nil, err
		}
		runs.Log = logs.OrDiscard(log)
		o := reconcile.RunOptions{Full: true, TwoWay: true, Repair: repair}
		if repair { // the differences were planted
			o.Force = "a drill has corrupted the target"
		}
		run, findings, err := r.Run(ctx, o)
		found = drill.Reconciled{Run: run.ID, Checked: run.Checked, Differences: run.Differences, Repaired: run.Repaired, Unsettled: run.Unsettled}
		for _, f := range findings {
			keys = append(keys, f.Key)
		}
		return found, keys, err
	}
}

// drillLoad returns a nil load for source "none". The keys are those of records of the migration.
func (j *Job) drillLoad(ctx context.Context, d Drill) (load drill.Load, keys []record.Key, end func(), err error) {
	if keys, err = j.sampleKeys(ctx, d.Load.Keys); err != nil {
		return nil, nil, nil, err
	}
	compare, err := record.NewComparer(j.Schema, j.Config.Compare)
	if err != nil {
		return nil, nil, nil, err
	}
	switch source := d.Load.Source; source {
	case "none":
		return nil, keys, func() {}, nil
	case "built-in":
		return j.builtInLoad(ctx, d, keys, compare)
	default:
		if d.Load.Column != "" {
			return nil, nil, nil, refuse("a column is only for the built-in load")
		}
		if _, err := os.Stat(source); err != nil && !strings.Contains(source, "://") {
			return nil, nil, nil, refuseHint(hint.Hint{Text: "built-in, none, or the ledger that your own load writes: a file or http://..."}, "the load's ledger: %w", err)
		}
		return &drill.ExternalLoad{Source: source, Legacy: j.Legacy, Schema: j.Schema, Compare: compare}, keys, func() {}, nil
	}
}

func (j *Job) builtInLoad(ctx context.Context, d Drill, keys []record.Key, compare *record.Comparer) (drill.Load, []record.Key, func(), error) {
	legacy, ok := j.Legacy.(drill.Legacy)
	if !ok {
		return nil, nil, nil, refuseHint(hint.Hint{Text: "run a load of your own, and name the ledger that it writes"}, "the built-in load does not write to the legacy store %s", j.Config.Legacy.Store)
	}
	column := d.Load.Column
	if at := j.Schema.Index(column); column != "" && (at < 0 || j.Schema.Fields[at].Kind != record.Text || slices.Contains(j.Schema.Key, at)) {
		return nil, nil, nil, refuse("the load's column %s: want a migrated column of kind text that is not in the key", column)
	}
	w, log := j.Config.Writing, logs.OrDiscard(d.Log)
	load := &drill.BuiltInLoad{
		Fleet: pgfleet.New(j.State.Pool(), j.Config.Name, pgfleet.Options{}), Legacy: legacy, Target: j.Target,
		Schema: j.Schema, Moves: j.Config.Moves(), Compare: compare, Keys: keys, Column: column, Rate: d.Load.Rate, Log: log,
		Writing: dual.Writing{
			OnTargetFailure: dual.Policy(w.OnTargetFailure), Deadline: time.Duration(w.Deadline), NotAfter: time.Duration(w.NotAfter),
			RollbackBudget: time.Duration(w.RollbackBudget), FenceBudget: time.Duration(w.FenceBudget), Queue: w.Queue,
		},
	}
	return load, keys, func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 30*time.Second)
		defer cancel()
		if err := load.Close(ctx); err != nil {
			log.Warn("closing the load failed", "error", err)
		}
	}, nil
}

// errScanDone ends a scan.
var errScanDone = errors.New("enough records")

// sampleKeys returns up to n keys of legacy, from chunks in random order.
func (j *Job) sampleKeys(ctx context.Context, n int) (keys []record.Key, err error) {
	chunks, err := j.Legacy.Chunks(ctx, max(1000, n))
	if err != nil {
		return nil, err
	}
	rand.Shuffle(len(chunks), func(a, b int) { chunks[a], chunks[b] = chunks[b], chunks[a] })
	for _, chunk := range chunks {
		err := j.Legacy.Scan(ctx, chunk, func(row store.Row) error {
			if len(keys) == n {
				return errScanDone
			}
			keys = append(keys, record.Key(string([]byte(row.Key)))) // the store reuses the row's memory
			return nil
		})
		if errors.Is(err, errScanDone) {
			break
		}
		if err != nil {
			return nil, err
		}
	}
	if len(keys) == 0 {
		return nil, refuse("legacy is empty: a drill needs records")
	}
	return keys, nil
}
