package app

import (
	"context"
	"time"

	"github.com/stranglerfig/migrator/internal/judge"
	"github.com/stranglerfig/migrator/internal/sources"
	"github.com/stranglerfig/migrator/internal/state"
	"github.com/stranglerfig/migrator/migration"
	"github.com/stranglerfig/migrator/phases"
)

// NewJudge evaluates by the applied settings. They do not include how Prometheus is reached:
// reach reads that from the migration file on this machine, for each query.
func NewJudge(store *state.Store, name string, applied phases.Settings, reach func() migration.Prometheus) *judge.Judge {
	j := &judge.Judge{
		State: store, Migration: name, Settings: applied,
		GateSources: map[string]judge.Source{}, TriggerSources: map[string]judge.Source{},
	}
	status := func(ctx context.Context) (phases.Status, error) { return store.Status(ctx, name) }
	for _, g := range applied.Gates.Custom {
		if s := newSource(g.Question, reach, status); s != nil {
			j.GateSources[g.Name] = s
		}
	}
	for _, t := range applied.Triggers.Custom {
		if s := newSource(t.Question, reach, status); s != nil {
			j.TriggerSources[t.Name] = s
		}
		if len(t.Alertmanager.Labels) > 0 {
			j.TriggerSources[t.Name] = receivedAlerts{store, name, t.Name}
		}
	}
	return j
}

// newSource returns nil if there is nothing to query: without a migration file the address of Prometheus is
// not known.
func newSource(q phases.Question, reach func() migration.Prometheus, status func(context.Context) (phases.Status, error)) judge.Source {
	switch {
	case q.PromQL != "" && reach().URL != "":
		return query{reach, q}
	case len(q.Command) > 0:
		return &sources.Command{Args: q.Command, Timeout: time.Duration(q.Timeout), Status: status}
	}
	return nil
}

// query is a judge.Source.
type query struct {
	reach func() migration.Prometheus
	of    phases.Question
}

func (q query) Read(ctx context.Context) judge.Reading {
	s := prometheus(q.reach(), q.of.PromQL)
	s.Timeout = time.Duration(q.of.Timeout)
	return s.Read(ctx)
}

// prometheus returns a source for one query.
func prometheus(reach migration.Prometheus, query string) *sources.Prometheus {
	return &sources.Prometheus{
		URL: reach.URL, Query: query, TokenFile: reach.TokenFile, CAFile: reach.CAFile,
		Username: reach.Username, PasswordFile: reach.PasswordFile,
	}
}
