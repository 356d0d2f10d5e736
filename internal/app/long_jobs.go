package app

import (
	"context"
	"fmt"
	"time"

	"github.com/stranglerfig/migrator/internal/humanize"
	"github.com/stranglerfig/migrator/internal/state"
	"github.com/stranglerfig/migrator/internal/state/backfills"
	"github.com/stranglerfig/migrator/internal/state/reconciles"
	"github.com/stranglerfig/migrator/phases"
	"github.com/stranglerfig/migrator/reconcile"
)

// LongJob is a job that has begun and is not done.
type LongJob struct {
	Job   string    `json:"job"`           // backfill, reconcile, repair (of a reconcile run) or return (of keys to legacy)
	State string    `json:"state"`         // running, throttled, paused or interrupted
	Why   string    `json:"why,omitempty"` // it is throttled
	Share float64   `json:"share"`         // of its work that is done, from 0 to 1; an estimate
	Began time.Time `json:"began,omitzero"`
	Due   time.Time `json:"due,omitzero"` // when it will be done at its average speed; zero: not known
}

// States of a long job.
const (
	jobRunning     = "running"
	jobThrottled   = "throttled"
	jobPaused      = "paused"
	jobInterrupted = "interrupted"
)

// Text describes the job for a person.
func (j LongJob) Text(now time.Time) string {
	state := j.State
	if j.Why != "" {
		state += " by " + j.Why
	}
	text := fmt.Sprintf("%s, about %.0f %% done", state, 100*j.Share)
	if !j.Due.IsZero() {
		text += ", done in about " + humanize.Span(j.Due.Sub(now))
	}
	return text
}

// longJob estimates when a job is done from what it has done since it began.
func longJob(job, how string, done, total int64, began, now time.Time) LongJob {
	j := LongJob{Job: job, State: how, Began: began}
	if total > 0 {
		j.Share = min(float64(done)/float64(total), 1)
	}
	if how == jobRunning && j.Share > 0 && !began.IsZero() {
		spent := now.Sub(began)
		j.Due = now.Add(time.Duration(float64(spent) * (1 - j.Share) / j.Share))
	}
	return j
}

// LongJobs returns the migration's jobs that are not done.
func LongJobs(ctx context.Context, st *state.Store, e phases.Snapshot) (jobs []LongJob, err error) {
	name, now := e.Status.Migration, e.Now
	p, running, err := backfills.New(st.Pool(), name).Unfinished(ctx, e.Status.FilledFrom())
	if err != nil {
		return nil, err
	}
	if p != nil {
		j := longJob("backfill", stateOf(running), int64(p.Done), int64(len(p.Chunks)), p.Began, now)
		if running && p.Throttled != "" {
			j.State, j.Why, j.Due = jobThrottled, p.Throttled, time.Time{}
		}
		jobs = append(jobs, j)
	}
	run, coordinated, err := unfinishedRun(ctx, st, name)
	if err != nil {
		return nil, err
	}
	if run != nil {
		how := stateOf(coordinated)
		if run.Status == reconcile.Paused {
			how = jobPaused
		}
		done, total := run.Progress()
		word := "reconcile"
		if run.Repair && run.Repaired > 0 {
			word = "repair"
		}
		jobs = append(jobs, longJob(word, how, done, total, run.Began, now))
	}
	if s := e.Status; s.Route.Phase == phases.Returning && s.ReturnKeys > 0 {
		j := longJob("return", jobRunning, s.ReturnKeys-s.ReturnRest, s.ReturnKeys, time.Time{}, now)
		j.Began, j.Due = s.RouteSince, now.Add(phases.ExpectedStop(s))
		jobs = append(jobs, j)
	}
	return jobs, nil
}

func stateOf(running bool) string {
	if running {
		return jobRunning
	}
	return jobInterrupted
}

func unfinishedRun(ctx context.Context, st *state.Store, name string) (*reconcile.Run, bool, error) {
	kept := reconciles.New(st.Pool(), name)
	newest, err := kept.Latest(ctx)
	if err != nil || newest == nil || newest.Status == reconcile.Done || newest.Status == reconcile.Cancelled {
		return nil, false, err
	}
	run, coordinated, err := kept.Unfinished(ctx, newest.ID)
	if err != nil {
		return nil, false, nil //nolint:nilerr // it has ended since
	}
	return &run, coordinated, nil
}
