package daemontest

import (
	"context"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/Shopify/toxiproxy/v2"
	"github.com/rs/zerolog"

	"github.com/stranglerfig/migrator/internal/app"
	"github.com/stranglerfig/migrator/internal/test/testenv"
	"github.com/stranglerfig/migrator/phases"
)

// ofLegacy and ofState choose the store that does not answer.
func ofLegacy(w *watched, url string) {
	w.Legacy = url
	w.Write("legacy.url", url)
}

func ofState(w *watched, url string) {
	w.State = url
	w.Write("settings.yaml", "file: "+w.Path("migration.yaml")+"\nstate_url: "+url+"\n")
}

// outages are how long a store does not answer: legacy for longer than not_after, the state database
// for longer than a lease.
var outages = map[string]struct {
	of   func(w *watched, url string)
	lost time.Duration
}{
	"legacy":             {ofLegacy, 3 * time.Second},
	"the state database": {ofState, 5 * time.Second},
}

// TestOutageOfAnotherStoreFiresNothing: only the target's own failure rolls back. Legacy, or the state
// database, does not answer while the application reads and writes; the trigger is evaluated on what
// came in before, during and after. The outages of a daemon and of Prometheus are in
// TestNoTriggerFiresWithoutAFault, that of the target in TestFaultRollsBack.
func TestOutageOfAnotherStoreFiresNothing(t *testing.T) {
	t.Parallel()
	for name, o := range outages {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := testenv.Postgres(t)
			firesNothing(t, server, o.lost, o.of, server.Pause, server.Resume)
		})
	}
}

// TestTortureOutageOfTheNetworkFiresNothing is the same where the network to a store loses every packet.
func TestTortureOutageOfTheNetworkFiresNothing(t *testing.T) {
	t.Parallel()
	onlyLong(t)
	for name, o := range outages {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var proxy *toxiproxy.Proxy
			firesNothing(t, testenv.Postgres(t), o.lost, func(w *watched, raw string) {
				u, err := url.Parse(raw)
				if err != nil {
					t.Fatal(err)
				}
				proxy = toxiproxy.NewProxy(toxiproxy.NewServer(toxiproxy.NewMetricsContainer(nil), zerolog.Nop()), name, "127.0.0.1:0", u.Host)
				if err := proxy.Start(); err != nil {
					t.Fatal(err)
				}
				t.Cleanup(proxy.Stop)
				u.Host = proxy.Listen
				o.of(w, u.String())
			}, func() error {
				for _, stream := range []string{"upstream", "downstream"} {
					toxic := `{"name": "` + stream + `", "type": "timeout", "stream": "` + stream + `", "attributes": {"timeout": 0}}`
					if _, err := proxy.Toxics.AddToxicJson(strings.NewReader(toxic)); err != nil {
						return err
					}
				}
				return nil
			}, func() error {
				proxy.Toxics.ResetToxics(context.Background())
				return nil
			})
		})
	}
}

// firesNothing begins an outage of a server, ends it, and requires that reads stay with the target.
func firesNothing(t *testing.T, server *testenv.PostgresServer, lost time.Duration, place func(w *watched, url string), begin, end func() error) {
	t.Helper()
	url, drop, err := server.CreateDatabase(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(drop)
	w := newWatchedOn(t, watchedRest+only(phases.TriggerErrors), 0, func(w *watched) { place(w, url) })
	d := w.serve(t)
	w.evaluated(d, phases.TriggerErrors)
	before := w.app.reads.Load()
	if err := begin(); err != nil {
		t.Fatal(err)
	}
	timer := time.NewTimer(lost)
	defer timer.Stop()
	<-timer.C
	if err := end(); err != nil {
		t.Fatal(err)
	}
	from := time.Now()
	var l app.Triggers
	d.awaits("an evaluation after the outage", func() bool {
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
}
