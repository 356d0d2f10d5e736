package daemontest

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/stranglerfig/migrator/internal/test/testenv"
	"github.com/stranglerfig/migrator/metrics"
	"github.com/stranglerfig/migrator/phases"
)

// evening reports whether make evening runs.
func evening() bool { return os.Getenv("MIGRATOR_EVENING") != "" }

// eveningRest is a migration in mid-cutover, as production has it: default triggers, one on a query, one on alerts.
const eveningRest = `
phases:
  shadow_write: {for: 0s}
  dual_read: {steps: [100], over: 0s}
  cutover: {steps: [50, 100], over: 0s, auto: false}
  grace: {for: 0s}
  approval: {for: []}
gates: {off: an evening}
triggers:
  custom:
    - {name: burning, promql: max(shop_burns), above: 100}
    - {name: eviction, dry_run: true, promql: 'max(migrator_check_worse{migration="items", check="target: redis-eviction"})', above: 0.5}
    - {name: paged, alertmanager: {labels: {rollback: items}}}
prometheus: {url: "http://127.0.0.1:1"}
webhooks: [{url: "http://127.0.0.1:2", secret_file: secret, events: [advance, trigger, failure]}]
`

// shopRules are those of the application, beside migrator's.
const shopRules = `
groups:
  - name: shop
    rules:
      - {alert: CheckoutBurns, expr: 'max(shop_burns) > 0', labels: {severity: page, rollback: items}, annotations: {summary: the checkout burns}}
`

// night is a migration under a light load that a real Prometheus and a real Alertmanager watch, both with the files of
// configs/prometheus in which only addresses and names differ.
type night struct {
	*watched
	d          *daemonProcess
	prometheus *testenv.PrometheusServer
	burns      atomic.Int64
	refuses    atomic.Bool // the receiver of migrator's own webhooks
	began      time.Time

	mu    sync.Mutex
	heard map[string]map[string]bool // by receiver, the alerts that were sent as firing
}

func newNight(t *testing.T, place func(*watched)) *night {
	t.Helper()
	n := &night{heard: map[string]map[string]bool{}}
	n.watched = newWatchedOn(t, eveningRest, 0, func(w *watched) {
		w.Write("secret", "a secret of some length\n")
		place(w)
	})
	const token = "a token of some length"
	n.Write("token", token)
	n.Write("settings.yaml", "file: "+n.Path("migration.yaml")+"\nstate_url: "+n.State+"\nalerts_token_file: "+n.Path("token")+"\n")
	receiver := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if n.refuses.Load() {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	}))
	t.Cleanup(receiver.Close)
	registry := prometheus.NewRegistry()
	registry.MustRegister(metrics.NewInstance(n.app.instance, "items"),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "shop_burns"}, func() float64 { return float64(n.burns.Load()) }))
	shop := httptest.NewServer(promhttp.HandlerFor(registry, promhttp.HandlerOpts{}))
	t.Cleanup(shop.Close)
	people := httptest.NewServer(http.HandlerFunc(n.listen))
	t.Cleanup(people.Close)

	n.edit("http://127.0.0.1:2", receiver.URL)
	n.d = n.serve(t)
	config := n.config("alertmanager.yml", "http://127.0.0.1:7070/alerts/products", n.d.url+"/alerts/items", `rollback="products"`, `rollback="items"`,
		"credentials_file: alerts.token", "credentials_file: "+n.Path("token"))
	for _, name := range []string{"page", "warn", "outside"} {
		before, after, ok := strings.Cut(config, "  - name: "+name+" ")
		if !ok {
			t.Fatalf("alertmanager.yml has no receiver %s", name)
		}
		_, after, _ = strings.Cut(after, "\n")
		config = before + "  - name: " + name + "\n    webhook_configs: [{url: " + people.URL + "/" + name + "}]\n" + after
	}
	alertmanager := testenv.Alertmanager(t, testenv.AlertmanagerOptions{Config: config})
	rules, err := filepath.Abs(configs)
	if err != nil {
		t.Fatal(err)
	}
	n.Write("shop.rules.yml", shopRules)
	n.prometheus = testenv.Prometheus(t, testenv.PrometheusOptions{Config: n.config("prometheus.yml",
		"- recording.rules.yml", "- "+rules+"/recording.rules.yml", "- alerts.rules.yml", "- "+rules+"/alerts.rules.yml\n  - "+n.Path("shop.rules.yml"),
		"127.0.0.1:7070", strings.TrimPrefix(n.d.url, "http://"), "127.0.0.1:8080", strings.TrimPrefix(shop.URL, "http://"), "127.0.0.1:9093", alertmanager.Addr())})
	n.edit("http://127.0.0.1:1", n.prometheus.URL())
	n.trigger("paged", phases.Quiet, "Watchdog was received")
	n.trigger("burning", phases.Quiet, "")
	n.trigger("eviction", phases.Quiet, "")
	n.fires("Watchdog")
	n.began = time.Now()
	return n
}

const configs = "../../../configs/prometheus"

// config is a file of configs/prometheus with replacements, each of which it must have.
func (n *night) config(name string, pairs ...string) string {
	n.t.Helper()
	text, err := os.ReadFile(filepath.Join(configs, name))
	if err != nil {
		n.t.Fatal(err)
	}
	for i := 0; i < len(pairs); i += 2 {
		if !strings.Contains(string(text), pairs[i]) {
			n.t.Fatalf("%s has no %s", name, pairs[i])
		}
	}
	return strings.NewReplacer(pairs...).Replace(string(text))
}

func (n *night) edit(old, new string) {
	n.Write("migration.yaml", strings.Replace(n.read(n.t, "migration.yaml"), old, new, 1))
}

// listen is the people's side of Alertmanager.
func (n *night) listen(_ http.ResponseWriter, r *http.Request) {
	var message struct {
		Alerts []struct {
			Status string
			Labels map[string]string
		}
	}
	_ = json.NewDecoder(r.Body).Decode(&message)
	n.mu.Lock()
	defer n.mu.Unlock()
	to := strings.TrimPrefix(r.URL.Path, "/")
	if n.heard[to] == nil {
		n.heard[to] = map[string]bool{}
	}
	for _, a := range message.Alerts {
		if a.Status == "firing" {
			n.heard[to][a.Labels["alertname"]] = true
		}
	}
}

// ask returns the alert names that a query returns.
func (n *night) ask(query string) (names []string, err error) {
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 10 * time.Second}
	r, err := client.Get(n.prometheus.URL() + "/api/v1/query?query=" + url.QueryEscape(query))
	if err != nil {
		return nil, err
	}
	defer func() { _ = r.Body.Close() }()
	var answer struct {
		Data struct {
			Result []struct{ Metric map[string]string }
		}
	}
	text, err := io.ReadAll(r.Body)
	if err == nil {
		err = json.Unmarshal(text, &answer)
	}
	for _, one := range answer.Data.Result {
		names = append(names, one.Metric["alertname"])
	}
	slices.Sort(names)
	return slices.Compact(names), err
}

const (
	firing = `ALERTS{alertstate="firing"}`
	fired  = `max_over_time(ALERTS{alertstate="firing"}[1h])`
)

// awaitFor waits for at most a quarter of an hour.
func (n *night) awaitFor(what string, holds func() bool) {
	n.t.Helper()
	end := time.Now().Add(15 * time.Minute)
	for !holds() {
		if time.Now().After(end) {
			all, err := n.ask(fired)
			n.t.Fatalf("in vain for %s; fired have %v (%v)\n%s", what, all, err, n.d.logText())
		}
		time.Sleep(time.Second)
	}
	n.t.Logf("%s: %s", time.Now().Format(time.TimeOnly), what)
}

// fires waits until all these alerts have fired, and people have heard of them: Alertmanager says nothing of an alert
// that is resolved while it still waits for others of its group.
func (n *night) fires(names ...string) {
	n.t.Helper()
	n.awaitFor("firing "+strings.Join(names, ", "), func() bool {
		all, err := n.ask(fired)
		return err == nil && !slices.ContainsFunc(names, func(name string) bool { return !slices.Contains(all, name) })
	})
	n.awaitFor("people to hear of "+strings.Join(names, ", "), func() bool {
		n.mu.Lock()
		defer n.mu.Unlock()
		return !slices.ContainsFunc(names, func(a string) bool { return !n.heard["page"][a] && !n.heard["warn"][a] && !n.heard["outside"][a] })
	})
}

// rests waits until an alert no longer fires.
func (n *night) rests(name string) {
	n.t.Helper()
	n.awaitFor(name+" no longer firing", func() bool {
		all, err := n.ask(firing)
		return err == nil && len(all) > 0 && !slices.Contains(all, name)
	})
}

func (n *night) trigger(name string, want phases.Verdict, says string) {
	n.t.Helper()
	n.awaitFor(fmt.Sprintf("the trigger %s: %s", name, want), func() bool {
		for _, v := range n.list().Triggers {
			if v.Trigger == name && v.Evaluation != nil && v.Evaluation.Verdict == want && strings.Contains(v.Evaluation.Detail, says) {
				return true
			}
		}
		return false
	})
}

// longestFor is the longest time that an alert waits before it fires, and some evaluations.
const longestFor = 10*time.Minute + 45*time.Second

// ends requires that these alerts have fired and no others, though each had the time to, that people have heard of them,
// and the phase.
func (n *night) ends(phase phases.Phase, names ...string) {
	n.t.Helper()
	n.awaitFor("the time in which others would fire", func() bool { return time.Since(n.began) > longestFor })
	want := append([]string{"Watchdog"}, names...)
	slices.Sort(want)
	all, err := n.ask(fired)
	if err != nil || !slices.Equal(all, want) {
		n.t.Errorf("fired have %v (%v), want %v\n%s", all, err, want, n.d.logText())
	}
	if s := n.d.status(); s.Status.Route.Phase != phase {
		n.t.Errorf("it is on %s (%s), want %s", s.Status.Route, s.Status.LastReason, phase)
	}
}

func (n *night) must(err error) {
	n.t.Helper()
	if err != nil {
		n.t.Fatal(err)
	}
}

// placed is a server of its own for a store.
func placed(t *testing.T, of func(w *watched, url string)) (*testenv.PostgresServer, func(*watched)) {
	server := testenv.Postgres(t)
	raw, drop, err := server.CreateDatabase(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(drop)
	return server, func(w *watched) { of(w, raw) }
}

func nowhere(*watched) {}

// TestEvening: one outage after another, each beside the others on servers of its own, for as long as its alerts take.
// Each alert that should fires and no other, and nothing rolls back but what should.
func TestEvening(t *testing.T) {
	if !evening() {
		t.Skip("make evening runs it")
	}
	for name, outage := range map[string]func(t *testing.T){
		"the target": func(t *testing.T) {
			n := newNight(t, nowhere)
			n.must(n.redis.Kill())
			n.fires("AutoRolledBack", "CheckRefused", "JournalGrowing")
			n.ends(phases.DualRead, "AutoRolledBack", "CheckRefused", "JournalGrowing")
		},
		"legacy": func(t *testing.T) {
			server, place := placed(t, ofLegacy)
			n := newNight(t, place)
			n.must(server.Pause())
			n.fires("CheckRefused")
			n.must(server.Resume())
			n.rests("CheckRefused")
			n.ends(phases.Cutover, "CheckRefused")
		},
		"the state database": func(t *testing.T) {
			server, place := placed(t, ofState)
			n := newNight(t, place)
			n.must(server.Pause())
			n.fires("StateUnreadable")
			n.must(server.Resume())
			n.rests("StateUnreadable")
			n.trigger("errors", phases.Quiet, "")
			n.ends(phases.Cutover, "StateUnreadable")
		},
		"Prometheus": func(t *testing.T) {
			n := newNight(t, nowhere)
			n.must(n.prometheus.Pause())
			n.trigger("burning", phases.Error, "")
			n.trigger("paged", phases.NoData, "last received")
			_, stdout, _ := n.Try("doctor")
			if !strings.Contains(stdout, "warning  prometheus: query: ") {
				t.Errorf("doctor: %s", stdout)
			}
			n.must(n.prometheus.Resume())
			n.trigger("burning", phases.Quiet, "")
			n.trigger("paged", phases.Quiet, "")
			n.ends(phases.Cutover)
		},
		"the receiver of webhooks": func(t *testing.T) {
			n := newNight(t, nowhere)
			n.refuses.Store(true)
			n.Does("phase advance") // to the cutover's next percentage
			n.fires("WebhooksWait")
			n.ends(phases.Cutover, "WebhooksWait")
		},
		"settings, and the application": func(t *testing.T) {
			n := newNight(t, nowhere)
			n.watched.Redis("CONFIG", "SET", "maxmemory", "1gb", "maxmemory-policy", "allkeys-lru")
			n.fires("CheckRefused")
			n.trigger("eviction", phases.Firing, "")
			if s := n.d.status(); s.Status.Route.Phase != phases.Cutover {
				t.Errorf("a check rolled back: it is on %s", s.Status.Route)
			}
			n.watched.Redis("CONFIG", "SET", "maxmemory-policy", "noeviction")
			n.burns.Store(1) // what the trigger on the query takes for good
			n.fires("CheckoutBurns", "AutoRolledBack")
			n.trigger("paged", phases.Firing, "the checkout burns")
			n.burns.Store(0)
			n.trigger("paged", phases.Quiet, "Watchdog")
			n.ends(phases.DualRead, "CheckRefused", "CheckoutBurns", "AutoRolledBack")
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			outage(t)
		})
	}
}
