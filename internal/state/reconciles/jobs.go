package reconciles

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"

	"github.com/stranglerfig/migrator/internal/hint"
	"github.com/stranglerfig/migrator/internal/statedb"
	"github.com/stranglerfig/migrator/reconcile"
	"github.com/stranglerfig/migrator/record"
	"github.com/stranglerfig/migrator/store"
)

var _ reconcile.Jobs = (*Runs)(nil)

// Enqueue implements reconcile.Jobs. The first process that works on the run puts the jobs into the
// queue, as it does with those whose wake-up was lost.
func (r *Runs) Enqueue(ctx context.Context, run int64, terms reconcile.Terms, jobs []reconcile.Job) error {
	about, err := json.Marshal(terms)
	if err != nil {
		return err
	}
	return r.lock.Persist(ctx, func() {}, func(tx pgx.Tx) error {
		b := &pgx.Batch{}
		b.Queue(`DELETE FROM migrator.reconcile_jobs WHERE run = $1`, run)
		b.Queue(`UPDATE migrator.reconcile_runs SET terms = $3::jsonb WHERE id = $2 AND migration = $1`, r.migration, run, string(about))
		if err := tx.SendBatch(ctx, b).Close(); err != nil {
			return err
		}
		numbers, chunks := make([]int, len(jobs)), make([]string, len(jobs))
		for i, job := range jobs {
			doc, err := json.Marshal(job.Chunks)
			if err != nil {
				return err
			}
			numbers[i], chunks[i] = job.Number, string(doc)
		}
		// Not COPY, which row-level security refuses.
		_, err = tx.Exec(ctx, `INSERT INTO migrator.reconcile_jobs (run, number, chunks)
			SELECT $1, j.number, j.chunks::jsonb FROM unnest($2::integer[], $3::text[]) AS j (number, chunks)`, run, numbers, chunks)
		return err
	})
}

// Resumed implements reconcile.Jobs.
func (r *Runs) Resumed(ctx context.Context, run int64) (was reconcile.Resumed, err error) {
	err = statedb.Persist(ctx, func() error { was, err = r.resumed(ctx, run); return err })
	return was, err
}

func (r *Runs) resumed(ctx context.Context, run int64) (was reconcile.Resumed, err error) {
	var terms string
	err = r.pool.QueryRow(ctx, `SELECT r.terms::text, count(j.number), count(*) FILTER (WHERE j.state = 'done'),
			coalesce(sum(j.checked) FILTER (WHERE j.settled), 0)::bigint, coalesce(sum(j.suspected) FILTER (WHERE j.settled), 0)
		FROM migrator.reconcile_runs r LEFT JOIN migrator.reconcile_jobs j ON j.run = r.id
		WHERE r.migration = $1 AND r.id = $2 GROUP BY r.id`, r.migration, run).
		Scan(&terms, &was.Jobs, &was.Finished, &was.Checked, &was.Suspects)
	if err == nil {
		err = json.Unmarshal([]byte(terms), &was.Terms)
	}
	if err != nil || was.Jobs == 0 {
		return was, statedb.Explain(err)
	}
	was.Findings, err = r.Findings(ctx, run, keptFindings)
	return was, err
}

// keptFindings is more than a migration file may ask to store.
const keptFindings = 10_000_000

// jobsPoll is how often a coordinator reads which jobs other processes have done.
const jobsPoll = 250 * time.Millisecond

// Work implements reconcile.Jobs.
func (r *Runs) Work(ctx context.Context, run int64, workers int,
	compare func(context.Context, reconcile.Job) (*reconcile.Tally, error), done func(reconcile.Job, *reconcile.Tally) error,
) error {
	var left map[int]bool
	var counted []int32
	var config string
	err := statedb.Persist(ctx, func() (err error) {
		left, counted, config, err = r.unfinishedJobs(ctx, run)
		return statedb.Explain(err)
	})
	if err != nil || len(left) == 0 {
		return err
	}
	group, ctx := errgroup.WithContext(ctx)
	working, enough := context.WithCancel(ctx)
	type result struct {
		job   reconcile.Job
		tally *reconcile.Tally
	}
	results := make(chan result)
	c := &workerPool{
		r: r, name: processName(), config: config,
		compare: func(ctx context.Context, _ int64, _ reconcile.Terms, j reconcile.Job) (*reconcile.Tally, error) {
			return compare(ctx, j)
		},
		finished: func(ctx context.Context, of int64, j reconcile.Job, t *reconcile.Tally) {
			if of != run {
				return
			}
			select {
			case results <- result{j, t}:
			case <-ctx.Done():
			}
		},
		fatal: make(chan error, 1),
	}
	group.Go(func() error {
		defer enough()
		tick := time.NewTicker(jobsPoll)
		defer tick.Stop()
		count := func(j reconcile.Job, t *reconcile.Tally) error {
			// A job that was requeued may be reported twice: it counts once.
			if !left[j.Number] {
				return nil // already counted
			}
			delete(left, j.Number)
			counted = append(counted, int32(j.Number))
			return done(j, t)
		}
		for len(left) > 0 {
			select {
			case <-ctx.Done():
				return ctx.Err()
			case err := <-c.fatal:
				return err
			case one := <-results:
				if err := count(one.job, one.tally); err != nil {
					return err
				}
				continue
			case <-tick.C:
			}
			if _, err := r.WaitWhilePaused(ctx, run); err != nil {
				return err
			}
			var others []finishedJob
			err := statedb.Persist(ctx, func() (err error) {
				others, err = r.finished(ctx, run, counted, c.name)
				return err
			})
			if err != nil {
				return err
			}
			for _, one := range others {
				if err := count(one.job, one.tally); err != nil {
					return err
				}
			}
			if err := r.clearNames(ctx, run, counted, len(others)); err != nil {
				return err
			}
		}
		return nil
	})
	group.Go(func() error { return c.serve(working, workers) })
	return group.Wait()
}

// unfinishedJobs returns the run's jobs that are not counted yet.
func (r *Runs) unfinishedJobs(ctx context.Context, run int64) (left map[int]bool, settled []int32, config string, err error) {
	rows, err := r.pool.Query(ctx, `SELECT j.number, j.settled, r.config_hash FROM migrator.reconcile_jobs j
		JOIN migrator.reconcile_runs r ON r.id = j.run WHERE r.migration = $1 AND r.id = $2`, r.migration, run)
	if err != nil {
		return nil, nil, "", err
	}
	left = map[int]bool{}
	var number int32
	var over bool
	_, err = pgx.ForEachRow(rows, []any{&number, &over, &config}, func() error {
		if over {
			settled = append(settled, number)
		} else {
			left[int(number)] = true
		}
		return nil
	})
	return left, settled, config, err
}

type finishedJob struct {
	job   reconcile.Job
	tally *reconcile.Tally
}

// finished returns the jobs done by other workers than mine that are not counted yet. A
// job that failed after all retries is an error.
func (r *Runs) finished(ctx context.Context, run int64, counted []int32, mine string) ([]finishedJob, error) {
	rows, err := r.pool.Query(ctx, `SELECT number, state, error, moved, worker, checked, suspects, ahead, names FROM migrator.reconcile_jobs
		WHERE run = $1 AND (state = 'done' AND worker <> $3 OR state = 'failed') AND number <> ALL (coalesce($2::integer[], '{}')) LIMIT 100`, run, counted, mine)
	if err != nil {
		return nil, statedb.Explain(err)
	}
	var found []finishedJob
	for rows.Next() {
		var state, why, worker string
		var moved bool
		var suspects, ahead [][]byte
		var names []byte
		one := finishedJob{tally: &reconcile.Tally{}}
		if err := rows.Scan(&one.job.Number, &state, &why, &moved, &worker, &one.tally.Checked, &suspects, &ahead, &names); err != nil {
			rows.Close()
			return nil, err
		}
		switch {
		case moved:
			err = store.ErrMoved
		case state == "failed":
			err = hint.Errorf(hint.Hint{Do: hint.ReconcileResume}, "job %d failed after all retries, last at %s: %s", one.job.Number, worker, why)
		}
		if err != nil {
			rows.Close()
			return nil, err
		}
		one.tally.Suspects, one.tally.Ahead = keys(suspects), keys(ahead)
		for ; len(names) >= 8; names = names[8:] {
			one.tally.Names = append(one.tally.Names, binary.LittleEndian.Uint64(names))
		}
		found = append(found, one)
	}
	return found, statedb.Explain(rows.Err())
}

// clearNames deletes the names of the last n jobs counted: they are added up already.
func (r *Runs) clearNames(ctx context.Context, run int64, counted []int32, n int) error {
	if n == 0 {
		return nil
	}
	return statedb.Persist(ctx, func() error {
		_, err := r.pool.Exec(ctx, `UPDATE migrator.reconcile_jobs SET names = NULL WHERE run = $1 AND number = ANY ($2) AND names IS NOT NULL`,
			run, counted[max(0, len(counted)-n):])
		return statedb.Explain(err)
	})
}

func keys(raw [][]byte) []record.Key {
	list := make([]record.Key, len(raw))
	for i, k := range raw {
		list[i] = record.Key(k)
	}
	return list
}

func rawKeys(list []record.Key) [][]byte {
	raw := make([][]byte, len(list))
	for i, k := range list {
		raw[i] = []byte(k)
	}
	return raw
}

// Serve executes jobs of all runs of the migration, workers at a time, until ctx ends; it
// then returns unfinished jobs to the queue. config is the config hash of the migration
// file that it compares by: it takes no job of a run with another hash.
func (r *Runs) Serve(ctx context.Context, workers int, config string,
	compare func(ctx context.Context, run int64, terms reconcile.Terms, j reconcile.Job) (*reconcile.Tally, error),
	finished func(run int64, j reconcile.Job, t *reconcile.Tally),
) error {
	c := &workerPool{
		r: r, name: processName(), config: config, compare: compare, keepNames: true,
		finished: func(_ context.Context, run int64, j reconcile.Job, t *reconcile.Tally) { finished(run, j, t) },
	}
	err := c.serve(ctx, workers)
	if ctx.Err() != nil && errors.Is(err, ctx.Err()) {
		return nil
	}
	return err
}
