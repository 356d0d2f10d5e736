package main

import (
	"context"
	"strconv"
	"time"

	"github.com/robfig/cron/v3"
	"github.com/spf13/cobra"

	"github.com/stranglerfig/migrator/internal/state"
	"github.com/stranglerfig/migrator/internal/state/reconciles"
	"github.com/stranglerfig/migrator/migration"
	"github.com/stranglerfig/migrator/reconcile"
)

func newReconcileSchedule(c *cli) *cobra.Command {
	var limit int
	cmd := &cobra.Command{
		Use:   "schedule [MIGRATION]",
		Short: "Show when runs are due, and what became of past times",
		Long: `Shows for reconcile.schedule and full_schedule, as the description at hand has them
or else the one that is applied, the next time and the last one that something became
of; and the newest times of all. Overdue are times that have passed since: the leading
daemon makes one run for them, however many they are.`,
		Args: maybeName,
		RunE: c.withState(func(ctx context.Context, store *state.Store, name string) error {
			if err := aboveZero(limit); err != nil {
				return err
			}
			m, err := c.scheduling(ctx, store, name)
			if err != nil {
				return err
			}
			found, err := scheduleOf(ctx, reconciles.New(store.Pool(), name), m, limit)
			if err != nil {
				return err
			}
			return c.show(found, func() { c.showSchedule(found) })
		}),
	}
	cmd.Flags().IntVarP(&limit, "limit", "n", 10, "newest times to show")
	return cmd
}

// scheduling is the description whose times are looked at: they may be changed
// without being applied.
func (c *cli) scheduling(ctx context.Context, store *state.Store, name string) (*migration.Config, error) {
	if c.settings.descriptionFile() != "" {
		if m, err := c.load(); err != nil || m.Name == name {
			return m, err
		}
	}
	return appliedSettings(ctx, store, name)
}

// scheduledTimes is what the -o json contract of reconcile schedule holds.
type scheduledTimes struct {
	Migration string        `json:"migration"`
	Schedules []dueTimes    `json:"schedules"`
	Times     []settledTime `json:"times"` // newest first
}

// dueTimes are those of one kind of run.
type dueTimes struct {
	Kind    reconcile.Kind       `json:"kind"`
	Expr    string               `json:"schedule"`
	Next    time.Time            `json:"next"`
	Overdue int                  `json:"overdue"`
	Known   bool                 `json:"known"` // a daemon has seen the schedule: times count from then
	Last    *reconcile.Scheduled `json:"last,omitempty"`
}

type settledTime struct {
	reconcile.Scheduled
	Skipped int `json:"skipped"` // times before it, of this schedule, that its run makes up for too
}

// timesMost bounds what is counted of times that nobody was there for.
const timesMost = 10_000

// timesBetween counts times after one and not after another, timesMost of them at most.
func timesBetween(times cron.Schedule, after, until time.Time) (n int) {
	for at := times.Next(after); !at.IsZero() && !at.After(until) && n < timesMost; at = times.Next(at) {
		n++
	}
	return n
}

func scheduleOf(ctx context.Context, kept *reconciles.Runs, m *migration.Config, limit int) (scheduledTimes, error) {
	found := scheduledTimes{Migration: m.Name, Schedules: []dueTimes{}, Times: []settledTime{}}
	for _, s := range []dueTimes{
		{Kind: reconcile.SampledKind, Expr: m.Reconcile.Schedule},
		{Kind: reconcile.FullKind, Expr: m.Reconcile.FullSchedule},
	} {
		if s.Expr == "" {
			continue
		}
		times, err := migration.ParseSchedule(s.Expr)
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
		t := settledTime{Scheduled: s.Scheduled}
		if times, err := migration.ParseSchedule(s.Expr); err == nil { // else it was written by another version
			t.Skipped = timesBetween(times, s.Before, s.Due.Add(-time.Nanosecond))
		}
		found.Times = append(found.Times, t)
	}
	return found, nil
}

func (c *cli) showSchedule(found scheduledTimes) {
	if len(found.Schedules) == 0 {
		c.printf("No runs are due: the description of %s sets neither reconcile.schedule nor reconcile.full_schedule.\n", found.Migration)
	} else {
		rows := [][]string{{"KIND", "SCHEDULE", "NEXT (UTC)", "LAST", "OUTCOME", "RUN", "OVERDUE"}}
		for _, s := range found.Schedules {
			last, outcome, run := "never", "-", "-"
			switch {
			case s.Last != nil:
				last, outcome, run = s.Last.Due.UTC().Format(time.DateTime), string(s.Last.Outcome), numberOrDash(s.Last.Run)
			case !s.Known:
				outcome = "no daemon knows it yet"
			}
			rows = append(rows, []string{string(s.Kind), s.Expr, s.Next.Format(time.DateTime), last, outcome, run, timesPassed(s.Overdue)})
		}
		c.table(rows)
	}
	if len(found.Times) == 0 {
		return
	}
	rows := [][]string{{"DUE (UTC)", "KIND", "OUTCOME", "RUN", "SKIPPED", "DETAIL"}}
	for _, s := range found.Times {
		rows = append(rows, []string{s.Due.UTC().Format(time.DateTime), string(s.Kind), string(s.Outcome), numberOrDash(s.Run), timesPassed(s.Skipped), s.Detail})
	}
	c.printf("\n")
	c.table(rows)
}

func numberOrDash(n int64) string {
	if n == 0 {
		return "-"
	}
	return strconv.FormatInt(n, 10)
}

func timesPassed(n int) string {
	if n == timesMost {
		return count(n) + " or more"
	}
	return count(n)
}
