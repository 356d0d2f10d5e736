package app

import (
	"context"
	"time"

	"github.com/robfig/cron/v3"

	"github.com/stranglerfig/migrator/internal/schedule"
	"github.com/stranglerfig/migrator/internal/state"
	"github.com/stranglerfig/migrator/internal/state/reconciles"
	"github.com/stranglerfig/migrator/migration"
	"github.com/stranglerfig/migrator/reconcile"
)

// ScheduledTimes has the times at which reconcile runs are due, and the results of past times.
type ScheduledTimes struct {
	Migration string       `json:"migration"`
	Schedules []DueTimes   `json:"schedules"`
	Times     []PassedTime `json:"times"` // newest first
}

// DueTimes is the schedule of one kind of run.
type DueTimes struct {
	Kind    reconcile.Kind       `json:"kind"`
	Expr    string               `json:"schedule"`
	Next    time.Time            `json:"next"`
	Overdue int                  `json:"overdue"` // MaxTimes: or more
	Known   bool                 `json:"known"`   // a daemon has read the schedule: times count from then
	Last    *reconcile.Scheduled `json:"last,omitempty"`
}

// PassedTime is a time that was due, and its result.
type PassedTime struct {
	reconcile.Scheduled
	Skipped int `json:"skipped"` // earlier times of this schedule that its run also makes up for
}

// MaxTimes bounds the count of missed times.
const MaxTimes = 10_000

// timesBetween counts times later than after and not later than until, up to MaxTimes.
func timesBetween(times cron.Schedule, after, until time.Time) (n int) {
	for at := times.Next(after); !at.IsZero() && !at.After(until) && n < MaxTimes; at = times.Next(at) {
		n++
	}
	return n
}

// ReadSchedule reads the schedules of m, and the newest past times.
func ReadSchedule(ctx context.Context, store *state.Store, m *migration.Config, limit int) (ScheduledTimes, error) {
	kept := reconciles.New(store.Pool(), m.Name)
	found := ScheduledTimes{Migration: m.Name, Schedules: []DueTimes{}, Times: []PassedTime{}}
	for _, s := range []DueTimes{
		{Kind: reconcile.SampledKind, Expr: m.Reconcile.Schedule},
		{Kind: reconcile.FullKind, Expr: m.Reconcile.FullSchedule},
	} {
		if s.Expr == "" {
			continue
		}
		times, err := schedule.Parse(s.Expr)
		if err != nil {
			return found, err
		}
		last, now, err := kept.LastScheduled(ctx, s.Kind, s.Expr)
		if err != nil {
			return found, err
		}
		if s.Known = !last.Due.IsZero(); s.Known {
			s.Overdue = timesBetween(times, last.Due, now)
		}
		if s.Known && last.Outcome != reconcile.ScheduleSet {
			s.Last = &last
		}
		s.Next = times.Next(now).UTC()
		found.Schedules = append(found.Schedules, s)
	}
	past, err := kept.ListScheduled(ctx, limit)
	if err != nil {
		return found, err
	}
	for _, s := range past {
		t := PassedTime{Scheduled: s.Scheduled}
		if times, err := schedule.Parse(s.Expr); err == nil { // otherwise another release wrote it
			t.Skipped = timesBetween(times, s.Before, s.Due.Add(-time.Nanosecond))
		}
		found.Times = append(found.Times, t)
	}
	return found, nil
}
