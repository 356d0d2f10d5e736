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
	"github.com/stranglerfig/migrator/internal/logs"
	"github.com/stranglerfig/migrator/internal/state"
	"github.com/stranglerfig/migrator/internal/state/drills"
	"github.com/stranglerfig/migrator/phases"
	"github.com/stranglerfig/migrator/reconcile"
	"github.com/stranglerfig/migrator/record"
	"github.com/stranglerfig/migrator/store"
)

// planted is how many records a drill takes out of the target.
const plantedRecords = 5

// mostEvaluations bounds the evaluations that one part of a drill is judged by.
const maxEvaluations = 50_000

// Drill is one rehearsal of a migration.
type Drill struct {
	Fault                  dual.Fault
	Healthy, Within, After time.Duration // see drill.Drill: Calm, Within and After
	Daemons                drill.Daemons // nil: the daemons that run are left alone
	Load                   DrillLoad
	Program                string           // its version
	Tell                   func(drill.Step) // each step as it begins (Took 0) and as it ends
	Log                    *slog.Logger     // nil: discarded
}

// DrillLoad is what customers do during a drill.
type DrillLoad struct {
	Source string  // "built-in", "none", or the ledger of the operator's own load: a file or http://...
	Keys   int     // records that the built-in load reads and writes
	Rate   float64 // its operations per second
	Column string  // the text column that it writes; "": its writes change nothing
}

// Drill makes a rehearsal and records its result. A report is returned with an error
// too, if the drill has begun: then the result could not be recorded.
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
		Reconcile: j.drillReconcile(d.Log), Daemons: d.Daemons, Progress: d.Tell,
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
		return &report, fmt.Errorf("the result could not be kept: %w", err)
	}
	return &report, nil
}

// drillState is the state as a drill reads it.
type drillState struct{ *state.Store }

func (s drillState) Observations(ctx context.Context, migration string, since time.Time) ([]phases.Evaluation, error) {
	looks, err := s.Evaluations(ctx, migration, state.EvaluationFilter{Kind: phases.TriggerKind, Since: since, Limit: maxEvaluations})
	slices.Reverse(looks)
	return looks, err
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

// drillReconcile makes full reconciles, each as a run of its own.
func (j *Job) drillReconcile(log *slog.Logger) func(context.Context, bool) (drill.Reconciled, []record.Key, error) {
	return func(ctx context.Context, repair bool) (found drill.Reconciled, keys []record.Key, err error) {
		r, runs, err := j.Reconciler(ctx)
		if err != nil {
			return found, nil, err
		}
		runs.Log = logs.OrDiscard(log)
		o := reconcile.RunOptions{Full: true, TwoWay: true, Repair: repair}
		if repair { // what differs was made to differ
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

// drillLoad is nil without a load. The keys are records of the migration.
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
			return nil, nil, nil, refuse("--load-column is for the built-in load")
		}
		if _, err := os.Stat(source); err != nil && !strings.Contains(source, "://") {
			return nil, nil, nil, refuse("--load: %w; want built-in, none, or the ledger that your own load is keeping: a file or http://...", err)
		}
		return &drill.ExternalLoad{Source: source, Legacy: j.Legacy, Schema: j.Schema, Compare: compare}, keys, func() {}, nil
	}
}

func (j *Job) builtInLoad(ctx context.Context, d Drill, keys []record.Key, compare *record.Comparer) (drill.Load, []record.Key, func(), error) {
	legacy, ok := j.Legacy.(drill.Legacy)
	if !ok {
		return nil, nil, nil, refuse("the built-in load does not write to the legacy store %s; try: --load FILE, with a load of your own", j.Config.Legacy.Store)
	}
	column := d.Load.Column
	if at := j.Schema.Index(column); column != "" && (at < 0 || j.Schema.Fields[at].Kind != record.Text || slices.Contains(j.Schema.Key, at)) {
		return nil, nil, nil, refuse("--load-column %s: want a column of text that is moved and not of the key", column)
	}
	w, log := j.Config.Writing, logs.OrDiscard(d.Log)
	load := &drill.BuiltInLoad{
		Fleet: pgfleet.New(j.State.Pool(), j.Config.Name, pgfleet.Options{}), Legacy: legacy, Target: j.Target,
		Schema: j.Schema, Compare: compare, Keys: keys, Column: column, Rate: d.Load.Rate, Log: log,
		Writing: dual.Writing{
			OnTargetFailure: dual.Policy(w.OnTargetFailure), Deadline: time.Duration(w.Deadline), NotAfter: time.Duration(w.NotAfter),
			RollbackBudget: time.Duration(w.RollbackBudget), FenceBudget: time.Duration(w.FenceBudget), Queue: w.Queue,
		},
	}
	return load, keys, func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 30*time.Second)
		defer cancel()
		if err := load.Close(ctx); err != nil {
			log.Warn("the load did not end cleanly", "error", err)
		}
	}, nil
}

// errEnough ends a scan.
var errScanDone = errors.New("enough records")

// someKeys are up to n records of legacy, from chunks that are chosen at random.
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
			keys = append(keys, record.Key(string([]byte(row.Key)))) // the row's is the store's
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
		return nil, refuse("legacy is empty: there is nothing to rehearse with")
	}
	return keys, nil
}
