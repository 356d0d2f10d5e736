package app

import (
	"context"
	"time"

	"github.com/stranglerfig/migrator/internal/capture"
	"github.com/stranglerfig/migrator/internal/hint"
	"github.com/stranglerfig/migrator/internal/state"
	"github.com/stranglerfig/migrator/migration"
	"github.com/stranglerfig/migrator/phases"
	"github.com/stranglerfig/migrator/store"
)

// CheckServers makes those of plan's checks whose results change while a migration runs. It writes no record. What
// can't be looked at is a check that is refused.
func (j *Job) CheckServers(ctx context.Context) []store.Check {
	var all []store.Check
	add := func(side string, checks []store.Check, err error) {
		if err != nil {
			checks = append(checks, refusedCheck(side+"-connection", err))
		}
		all = append(all, store.OfSide(side, checks)...)
	}
	checks, err := j.State.CheckServer(ctx)
	add("state", checks, err)
	for _, side := range []struct {
		name  string
		store any
	}{{"legacy", j.Legacy}, {"target", j.Target}} {
		if c, ok := side.store.(store.ServerChecker); ok {
			checks, err := c.CheckServer(ctx)
			add(side.name, checks, err)
		}
	}
	if st, err := j.State.Status(ctx, j.Config.Name); err == nil && st.Route.Phase != phases.Complete {
		add("legacy", capture.Check(ctx, j.Legacy, j.Config.Capture.Mode), nil)
	}
	add("prometheus", CheckPrometheus(ctx, j.Config), nil)
	return store.ByName(all)
}

// NoteChecks notes what a look has found, and returns the checks that were otherwise before; at the first look,
// those that are not ok.
func NoteChecks(ctx context.Context, st *state.Store, name string, checks []store.Check) (changed []store.Check, err error) {
	before, err := st.NoteChecks(ctx, name, checks)
	if err != nil {
		return nil, err
	}
	for _, c := range checks {
		was, known := before[c.Name]
		news := c.Result != was && (known || c.Result != store.Good)
		if news && (was != store.Unchecked || c.Result == store.Refused) { // after an outage most is as before
			changed = append(changed, c)
		}
	}
	return changed, nil
}

// NotOpened is the check of stores that could not be opened.
func NotOpened(err error) []store.Check {
	return store.OfSide("stores", []store.Check{refusedCheck("connection", err)})
}

func refusedCheck(name string, err error) store.Check {
	h, _ := hint.Of(err)
	return store.Check{Name: name, Result: store.Refused, Detail: err.Error(), Hint: h}
}

const prometheusWithin = 5 * time.Second

// CheckPrometheus asks the Prometheus of the migration file, if it has one, for a number that each knows.
func CheckPrometheus(ctx context.Context, m *migration.Config) []store.Check {
	if m.Prometheus.URL == "" {
		return nil
	}
	s := prometheus(m.Prometheus, "vector(1)")
	s.Timeout = prometheusWithin
	ctx, cancel := context.WithTimeout(ctx, prometheusWithin)
	defer cancel()
	c := store.Check{Name: "query", Result: store.Good, Detail: "it answers queries"}
	if r := s.Read(ctx); r.Verdict != "" {
		c.Result, c.Detail = store.Warned, r.Detail
		c.Hint = hint.Hint{Text: "until it answers, gates and triggers with promql know nothing: check prometheus.url, and that it runs"}
	}
	return []store.Check{c}
}
