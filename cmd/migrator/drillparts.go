package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/stranglerfig/migrator/dual"
	"github.com/stranglerfig/migrator/dual/pgfleet"
	"github.com/stranglerfig/migrator/internal/drill"
	"github.com/stranglerfig/migrator/internal/state"
	"github.com/stranglerfig/migrator/phases"
	"github.com/stranglerfig/migrator/reconcile"
	"github.com/stranglerfig/migrator/record"
	"github.com/stranglerfig/migrator/store"
)

// planted is how many records a drill takes out of the target.
const planted = 5

// maxLooks bounds the evaluations that one part of a drill is judged by.
const maxLooks = 50_000

// drillState is the state as a drill reads it.
type drillState struct{ *state.Store }

func (s drillState) Looks(ctx context.Context, migration string, since time.Time) ([]phases.Evaluation, error) {
	looks, err := s.Evaluations(ctx, migration, state.EvaluationFilter{Kind: phases.TriggerKind, Since: since, Limit: maxLooks})
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
func (c *cli) drillReconcile(j *job) func(context.Context, bool) (drill.Reconciled, []record.Key, error) {
	return func(ctx context.Context, repair bool) (found drill.Reconciled, keys []record.Key, err error) {
		r, kept, err := j.reconciler(ctx)
		if err != nil {
			return found, nil, err
		}
		kept.Log = c.log
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

// drillLoad is nil for --load none. The keys are records of the migration.
func (c *cli) drillLoad(ctx context.Context, j *job, d *drilling) (drill.Load, []record.Key, func(), error) {
	nothing := func() {}
	keys, err := someKeys(ctx, j, d.keys)
	if err != nil {
		return nil, nil, nothing, err
	}
	compare, err := record.NewComparer(j.schema, j.m.Compare)
	if err != nil {
		return nil, nil, nothing, err
	}
	switch d.load {
	case "none":
		return nil, keys, nothing, nil
	case "built-in":
	default:
		if d.column != "" {
			return nil, nil, nothing, usagef("--load-column is for the built-in load")
		}
		if _, err := os.Stat(d.load); err != nil && !strings.Contains(d.load, "://") {
			return nil, nil, nothing, usagef("--load: %w; want built-in, none, or the ledger that your own load is keeping: a file or http://...", err)
		}
		return &drill.Acknowledged{Source: d.load, Legacy: j.legacy, Schema: j.schema, Compare: compare}, keys, nothing, nil
	}
	legacy, ok := j.legacy.(drill.Legacy)
	if !ok {
		return nil, nil, nothing, usagef("the built-in load does not write to the legacy store %s; try: --load FILE, with a load of your own", j.m.Legacy.Store)
	}
	if at := j.schema.Index(d.column); d.column != "" && (at < 0 || j.schema.Fields[at].Kind != record.Text || slices.Contains(j.schema.Key, at)) {
		return nil, nil, nothing, usagef("--load-column %s: want a column of text that is moved and not of the key", d.column)
	}
	w := j.m.Writing
	load := &drill.BuiltIn{
		Fleet: pgfleet.New(j.state.Pool(), j.m.Name, pgfleet.Options{}), Legacy: legacy, Target: j.target,
		Schema: j.schema, Compare: compare, Keys: keys, Column: d.column, Rate: d.rate, Log: c.log,
		Writing: dual.Writing{
			OnTargetFailure: dual.Policy(w.OnTargetFailure), Deadline: time.Duration(w.Deadline), NotAfter: time.Duration(w.NotAfter),
			RollbackBudget: time.Duration(w.RollbackBudget), FenceBudget: time.Duration(w.FenceBudget), Queue: w.Queue,
		},
	}
	return load, keys, func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 30*time.Second)
		defer cancel()
		if err := load.Close(ctx); err != nil {
			c.note("the load did not end cleanly: %v", err)
		}
	}, nil
}

// errEnough ends a scan.
var errEnough = errors.New("enough records")

// someKeys are up to n records of legacy, from chunks that are chosen at random.
func someKeys(ctx context.Context, j *job, n int) (keys []record.Key, err error) {
	chunks, err := j.legacy.Chunks(ctx, max(1000, n))
	if err != nil {
		return nil, err
	}
	rand.Shuffle(len(chunks), func(a, b int) { chunks[a], chunks[b] = chunks[b], chunks[a] })
	for _, chunk := range chunks {
		err := j.legacy.Scan(ctx, chunk, func(row store.Row) error {
			if len(keys) == n {
				return errEnough
			}
			keys = append(keys, record.Key(string([]byte(row.Key)))) // the row's is the store's
			return nil
		})
		if errors.Is(err, errEnough) {
			break
		}
		if err != nil {
			return nil, err
		}
	}
	if len(keys) == 0 {
		return nil, usagef("legacy is empty: there is nothing to rehearse with")
	}
	return keys, nil
}

// writable tells early that the report could not be written.
func writable(dir string) error {
	if info, err := os.Stat(dir); err != nil || !info.IsDir() {
		return usagef("--reports %s: there is no such directory; try: mkdir -p %s", dir, dir)
	}
	probe, err := os.CreateTemp(dir, ".drill-")
	if err != nil {
		return usagef("--reports %s: nothing can be written there: %v", dir, err)
	}
	_ = probe.Close()
	return os.Remove(probe.Name())
}

// writeReports writes the three files, and names them.
func writeReports(dir string, r drill.Report) ([]string, error) {
	page, err := r.Page()
	if err != nil {
		return nil, err
	}
	text, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return nil, err
	}
	var files []string
	for _, f := range []struct {
		kind string
		text []byte
	}{{"json", append(text, '\n')}, {"md", []byte(r.Markdown())}, {"html", page}} {
		name := reportFile(dir, r, f.kind)
		if err := os.WriteFile(name, f.text, 0o644); err != nil { //nolint:gosec // it holds no secret
			return files, fmt.Errorf("write the report: %w", err)
		}
		files = append(files, name)
	}
	return files, nil
}
