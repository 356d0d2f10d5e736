package cases

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/stranglerfig/migrator/internal/app"
	"github.com/stranglerfig/migrator/internal/state"
	"github.com/stranglerfig/migrator/internal/test/testenv"
	"github.com/stranglerfig/migrator/migration"
	"github.com/stranglerfig/migrator/phases"
)

// What is applied acts on a backfill that runs: other limits, and another rate.
func TestAThrottleThatIsAppliedActsOnARunningBackfill(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{rows: 2000, notAfter: time.Second})
	w.walk(phases.ShadowWrite)
	apply := func(change func(*migration.Config)) {
		t.Helper()
		m := *w.m
		change(&m)
		config, err := m.Public()
		w.check(err)
		schema, err := json.Marshal(m.Schema)
		w.check(err)
		_, _, err = w.state.Apply(w.ctx, state.Applied{
			Migration: "items", Environment: "test", Config: config, ConfigHash: m.Hash(), Moves: m.Moves(), Schema: schema, Reversible: true,
		})
		w.check(err)
	}
	for range 2 {
		go func() { _, _ = w.db.Exec(t.Context(), "SELECT pg_sleep(3600)") }()
	}
	testenv.Await(w.t, "two active sessions", func() bool {
		var n int
		w.check(w.db.QueryRow(w.ctx, "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND query = 'SELECT pg_sleep(3600)'").Scan(&n))
		return n == 2
	})
	apply(func(m *migration.Config) { m.Throttle.Sessions = 1 })
	j, err := app.OpenJob(w.ctx, w.state, w.m)
	w.check(err)
	defer j.CloseStores()
	type result struct {
		app.Backfilled
		err error
	}
	done, held := make(chan result, 1), make(chan string, 10)
	go func() {
		r, err := j.Backfill(w.ctx, app.Backfill{Throttled: func(why string) { held <- why }})
		done <- result{r, err}
	}()
	job := func(state, why string) func() bool {
		return func() bool {
			select {
			case r := <-done:
				t.Fatalf("the backfill is done: %+v", r)
			default:
			}
			e, err := w.state.Snapshot(w.ctx, "items")
			w.check(err)
			jobs, err := app.LongJobs(w.ctx, w.state, e)
			w.check(err)
			return len(jobs) == 1 && jobs[0].State == state && strings.HasPrefix(jobs[0].Why, why)
		}
	}
	testenv.Await(w.t, "a backfill that is held", job("throttled", "active sessions of legacy "))
	if why := <-held; !strings.HasSuffix(why, " > 1") {
		t.Errorf("held by %q", why)
	}
	apply(func(m *migration.Config) { m.Backfill.Rate = 1 })
	testenv.Await(w.t, "a backfill that runs", job("running", ""))
	apply(func(*migration.Config) {})
	select {
	case r := <-done:
		if r.err != nil || r.Rows != 2000 || r.Holds == 0 || r.Throttled != "" {
			t.Errorf("%+v", r)
		}
	case <-time.After(5 * time.Minute): // at one row a second it would take half an hour
		t.Fatal("the backfill keeps to the rate of before")
	}
}
