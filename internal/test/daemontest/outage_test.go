package daemontest

import (
	"testing"
	"time"

	"github.com/stranglerfig/migrator/internal/app"
	"github.com/stranglerfig/migrator/internal/test/testenv"
	"github.com/stranglerfig/migrator/phases"
)

// TestOutageOfAnotherStoreFiresNothing: only the target's own failure rolls back. Legacy, or the state
// database for longer than a lease, does not answer while the application reads and writes; the
// trigger is evaluated on what came in before, during and after. The outages of a daemon and of
// Prometheus are in TestNoTriggerFiresWithoutAFault, that of the target in TestFaultRollsBack.
func TestOutageOfAnotherStoreFiresNothing(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		of   func(w *watched, url string)
		lost time.Duration
	}{
		"legacy": {func(w *watched, url string) {
			w.Legacy = url
			w.Write("legacy.url", url)
		}, 3 * time.Second},
		"the state database": {func(w *watched, url string) {
			w.State = url
			w.Write("settings.yaml", "file: "+w.Path("migration.yaml")+"\nstate_url: "+url+"\n")
		}, 5 * time.Second}, // the lease is 3 s
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := testenv.Postgres(t)
			url, drop, err := server.CreateDatabase(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(drop)
			w := newWatchedOn(t, watchedRest+only(phases.TriggerErrors), 0, func(w *watched) { c.of(w, url) })
			d := w.serve(t)
			w.evaluated(d, phases.TriggerErrors)
			before := w.app.reads.Load()
			if err := server.Pause(); err != nil {
				t.Fatal(err)
			}
			timer := time.NewTimer(c.lost)
			defer timer.Stop()
			<-timer.C
			if err := server.Resume(); err != nil {
				t.Fatal(err)
			}
			from := time.Now()
			var l app.Triggers
			d.awaits("evaluations after the outage", func() bool {
				l = w.list()
				for _, v := range l.Triggers {
					if v.Trigger == phases.TriggerErrors { // telemetry of the outage comes in within two reports of its end
						return v.Evaluation != nil && v.Evaluation.At.After(from.Add(3*time.Second))
					}
				}
				return false
			})
			s := d.status()
			if l.Rollback != nil || l.Latch != nil || s.Status.Route.Phase != phases.Cutover || s.Status.Unclean != "" {
				t.Errorf("it is on %s (%s), rolled back: %+v, unclean: %q", s.Status.Route, s.Status.LastReason, l.Rollback, s.Status.Unclean)
			}
			for _, v := range l.Triggers {
				if v.Evaluation != nil && v.Evaluation.Verdict == phases.Firing {
					t.Errorf("%s fires: %s", v.Trigger, v.Evaluation.Detail)
				}
			}
			d.awaits("reads after the outage", func() bool { return w.app.reads.Load() > before+100 })
			if fired := w.rehearsed(); len(fired) > 0 {
				t.Errorf("replayed, the same telemetry fires %v", fired)
			}
		})
	}
}
