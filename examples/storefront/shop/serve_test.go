package shop

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/stranglerfig/migrator/dual"
	"github.com/stranglerfig/migrator/dual/kit"
	"github.com/stranglerfig/migrator/dual/pgfleet"
	"github.com/stranglerfig/migrator/internal/backfill"
	"github.com/stranglerfig/migrator/internal/control"
	"github.com/stranglerfig/migrator/internal/openstore"
	"github.com/stranglerfig/migrator/internal/state"
	"github.com/stranglerfig/migrator/internal/state/backfills"
	"github.com/stranglerfig/migrator/internal/test/statetest"
	"github.com/stranglerfig/migrator/internal/test/testenv"
	"github.com/stranglerfig/migrator/migration"
	"github.com/stranglerfig/migrator/phases"
	"github.com/stranglerfig/migrator/store"
)

const seeded = 200

// fixture is a shop with its stores and its migration.
type fixture struct {
	t         *testing.T
	migration *migration.Config
	stateURL  string
	store     *state.Store
	legacy    store.Legacy
	target    store.Target
	shops     []string // URLs
}

// newFixture applies the example's migration file, without its waits and approvals.
func newFixture(t *testing.T) *fixture {
	t.Helper()
	ctx := t.Context()
	urls := map[string]string{"STOREFRONT_DATABASE_URL": testenv.PostgresURL(t), "STOREFRONT_CACHE_URL": testenv.RedisURL(t)}
	text, err := os.ReadFile("../products.yaml")
	if err != nil {
		t.Fatal(err)
	}
	m, err := openstore.Parse("products.yaml", text, func(name string) (string, bool) { v, ok := urls[name]; return v, ok })
	if err != nil {
		t.Fatal(err)
	}
	m.Phases.ShadowWrite.For, m.Phases.Grace.For, m.Phases.Retain.For = 0, 0, 0
	m.Phases.DualRead = phases.Ramp{Steps: []phases.Percent{phases.All}}
	m.Phases.Cutover.Ramp = phases.Ramp{Steps: []phases.Percent{5000, phases.All}}
	m.Phases.Approval.For = nil
	m.Gates.Off = "a test without traffic"
	m.Writing.NotAfter = phases.Duration(2 * time.Second)
	m.Fleet.Lease, m.Fleet.Renew = phases.Duration(3*time.Second), phases.Duration(time.Second)

	w := &fixture{t: t, migration: m, stateURL: statetest.URL(t)}
	pool, err := pgxpool.New(ctx, m.Legacy.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer pool.Close()
	if err := Seed(ctx, pool, seeded); err != nil {
		t.Fatal(err)
	}
	if w.store, err = state.Open(ctx, w.stateURL); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.store.Close)
	if w.legacy, err = m.OpenLegacy(ctx); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.legacy.Close() })
	if err := w.legacy.Install(ctx); err != nil {
		t.Fatal(err)
	}
	if w.target, err = m.OpenTarget(ctx, w.legacy.Schema()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = w.target.Close() })
	config, err := m.Public()
	if err != nil {
		t.Fatal(err)
	}
	schema, err := json.Marshal(w.legacy.Schema())
	if err != nil {
		t.Fatal(err)
	}
	_, _, err = w.store.Apply(ctx, state.Applied{Migration: m.Name, Config: config, ConfigHash: m.Hash(), Schema: schema, Reversible: true})
	if err != nil {
		t.Fatal(err)
	}
	return w
}

// open starts an instance. stop ends it and returns Serve's error.
func (w *fixture) open(name string) (url string, stop func() error) {
	w.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ready, ended := make(chan string, 1), make(chan error, 1)
	go func() {
		ended <- Serve(ctx, Config{
			Listen: "127.0.0.1:0", Migration: w.migration, StateURL: w.stateURL, Instance: name,
			Ready: func(url string) { ready <- url },
		})
	}()
	w.t.Cleanup(cancel)
	select {
	case url = <-ready:
	case err := <-ended:
		w.t.Fatalf("the instance %s did not start: %v", name, err)
	}
	return url, func() error {
		cancel()
		return <-ended
	}
}

func (w *fixture) controller() *control.Controller {
	return &control.Controller{State: w.store, Migration: w.migration.Name, Settings: w.migration.Settings(), Legacy: w.legacy, Target: w.target}
}

// advance takes the next step and overrides the gate reconcile-clean.
func (w *fixture) advance() phases.Route {
	w.t.Helper()
	// A dry run lists the gates, whether they are open or not.
	step, _ := w.controller().Advance(w.t.Context(), control.Advance{DryRun: true})
	overrides := map[string]string{}
	for _, g := range step.Gates {
		if g.Gate == "reconcile-clean" {
			overrides[g.Gate] = "the test reads everything itself"
		}
	}
	step, err := w.controller().Advance(w.t.Context(), control.Advance{Overrides: overrides})
	if err != nil {
		w.t.Fatal(err)
	}
	if err := w.controller().AwaitSettled(w.t.Context(), time.Minute); err != nil {
		w.t.Fatal(err)
	}
	return step.To
}

func (w *fixture) fill() {
	w.t.Helper()
	b := backfill.Backfill{
		Legacy: w.legacy, Barrier: w.legacy, Locker: w.legacy, Target: w.target, Ledger: backfills.New(w.store.Pool(), w.migration.Name),
		NotAfter: time.Duration(w.migration.Writing.NotAfter),
	}
	if _, err := b.Run(w.t.Context()); err != nil {
		w.t.Fatal(err)
	}
}

// ask makes a request to the n-th instance, and decodes the answer.
func (w *fixture) ask(n int, method, path string, body, into any) int {
	w.t.Helper()
	raw, isText := body.(string)
	in := io.Reader(strings.NewReader(raw))
	if !isText && body != nil {
		data, err := json.Marshal(body)
		if err != nil {
			w.t.Fatal(err)
		}
		in = bytes.NewReader(data)
	}
	r, err := http.NewRequestWithContext(w.t.Context(), method, w.shops[n%len(w.shops)]+path, in)
	if err != nil {
		w.t.Fatal(err)
	}
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		w.t.Fatal(err)
	}
	defer func() { _ = answer.Body.Close() }()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		w.t.Fatal(err)
	}
	if into != nil && answer.StatusCode < 300 {
		if err := json.Unmarshal(text, into); err != nil {
			w.t.Fatalf("%s %s: %v in %q", method, path, err, text)
		}
	}
	if answer.StatusCode >= 500 {
		w.t.Errorf("%s %s: %d %s", method, path, answer.StatusCode, text)
	}
	return answer.StatusCode
}

// exerciseWrites makes every kind of write, and reads each on the other instance.
func (w *fixture) exerciseWrites(round int) {
	w.t.Helper()
	random := rand.New(rand.NewPCG(uint64(round), 9))
	id := int64(1 + round)
	path := fmt.Sprintf("/products/%d", id)
	sees := func(want Product) {
		w.t.Helper()
		var got Product
		if code := w.ask(1, "GET", path, nil, &got); code != 200 || asJSON(w.t, got) != asJSON(w.t, want) {
			w.t.Errorf("reads %d %s, want %s", code, asJSON(w.t, got), asJSON(w.t, want))
		}
	}
	var before, after Product
	w.ask(0, "GET", path, nil, &before)
	name, price := "Ω "+fmt.Sprint(round), "12.5"
	if code := w.ask(0, "PATCH", path, Patch{Name: &name, Price: &price}, &after); code != 200 {
		w.t.Fatalf("patch: %d", code)
	}
	if after.Revision != before.Revision+1 || after.Name != name || after.Price != "12.5000" || after.SKU != before.SKU {
		w.t.Errorf("patched %s to %s", asJSON(w.t, before), asJSON(w.t, after))
	}
	sees(after)

	var priced Products
	prices := Prices{[]Reprice{{id, "1"}, {id + 100, "2"}}}
	if code := w.ask(1, "POST", "/prices", prices, &priced); code != 200 || len(priced.Products) != 2 {
		w.t.Fatalf("prices: %d %+v", code, priced)
	}
	if p := priced.Products; p[0].Price != "1.0000" || p[1].Price != "2.0000" || p[1].ID != id+100 || p[0].Revision != after.Revision+1 {
		w.t.Errorf("prices: %s", asJSON(w.t, p))
	}
	sees(priced.Products[0])

	whole := Random(random, id)
	w.ask(0, "PUT", path, whole, &after)
	if after.Revision != priced.Products[0].Revision+1 || after.SKU != whole.SKU {
		w.t.Errorf("put %s", asJSON(w.t, after))
	}
	sees(after)

	var gone, made Product
	if code := w.ask(1, "DELETE", path, nil, &gone); code != 200 || gone.Revision != after.Revision {
		w.t.Errorf("delete: %d %s", code, asJSON(w.t, gone))
	}
	for method, body := range map[string]any{"GET": nil, "DELETE": nil, "PATCH": Patch{}} {
		if code := w.ask(0, method, path, body, nil); code != 404 {
			w.t.Errorf("%s of a deleted product: %d", method, code)
		}
	}
	if code := w.ask(0, "PUT", path, whole, &made); code != 201 || made.Revision <= gone.Revision {
		w.t.Errorf("created again: %d, revision %d after %d", code, made.Revision, gone.Revision)
	}
	sees(made)
}

func TestShopServesInEveryPhase(t *testing.T) {
	t.Parallel()
	w := newFixture(t)
	var stops []func() error
	for _, name := range []string{"a", "b"} {
		url, stop := w.open(name)
		w.shops, stops = append(w.shops, url), append(stops, stop)
	}
	w.exerciseWrites(0)
	round := 1
	for at := (phases.Route{Phase: phases.Legacy}); at.Phase != phases.Retain; round++ {
		at = w.advance()
		w.exerciseWrites(round)
		if at.Phase == phases.ShadowWrite {
			w.fill()
		}
	}
	if _, err := w.controller().Rollback(t.Context(), control.Rollback{To: phases.Grace}); err != nil {
		t.Fatal(err)
	}
	w.exerciseWrites(round)
	if at := w.advance(); at.Phase != phases.Retain {
		t.Fatal(at)
	}
	if at := w.advance(); at.Phase != phases.Complete {
		t.Fatal(at)
	}
	w.exerciseWrites(round + 1)

	var stats dual.Stats
	w.ask(0, "GET", "/stats", nil, &stats)
	if stats.Fallbacks > 0 || stats.Mismatches > 0 || stats.Failed > 0 || stats.TargetReads == 0 || stats.ShadowsFailed > 0 {
		t.Errorf("%+v", stats)
	}
	for _, stop := range stops {
		if err := stop(); err != nil {
			t.Error(err)
		}
	}
	leases, err := w.store.Leases(t.Context(), w.migration.Name)
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range leases {
		t.Errorf("%s has not left: %+v", l.Instance, l)
	}
}

func TestBadRequestsWriteNothing(t *testing.T) {
	t.Parallel()
	w := newFixture(t)
	url, _ := w.open("a")
	w.shops = []string{url}
	var before, after Product
	w.ask(0, "GET", "/products/1", nil, &before)
	good := Random(rand.New(rand.NewPCG(1, 2)), 1)
	bad := func(f func(*Product)) Product { p := good; f(&p); return p }
	for name, c := range map[string]struct {
		method, path string
		body         any
		want         int
	}{
		"no number":       {"GET", "/products/one", nil, 400},
		"too big":         {"GET", "/products/9223372036854775808", nil, 400},
		"not there":       {"GET", "/products/99999", nil, 404},
		"no JSON":         {"PUT", "/products/1", "{", 400},
		"unknown field":   {"PUT", "/products/1", `{"colour":"red"}`, 400},
		"no price":        {"PUT", "/products/1", bad(func(p *Product) { p.Price = "" }), 400},
		"no currency":     {"PUT", "/products/1", bad(func(p *Product) { p.Currency = "€" }), 400},
		"NUL":             {"PUT", "/products/1", bad(func(p *Product) { p.Name = "a\x00b" }), 400},
		"NUL inside":      {"PUT", "/products/1", bad(func(p *Product) { p.Attributes = []byte(`{"a":"\u0000"}`) }), 400},
		"bad patch":       {"PATCH", "/products/1", `{"price":"1e3"}`, 400},
		"one is missing":  {"POST", "/prices", Prices{[]Reprice{{1, "77"}, {99999, "77"}}}, 404},
		"too much":        {"PUT", "/products/1", `{"name":"` + strings.Repeat("x", maxBody) + `"}`, 400},
		"no such place":   {"GET", "/orders/1", nil, 404},
		"no such method":  {"POST", "/products/1", nil, 405},
		"second is wrong": {"POST", "/prices", Prices{[]Reprice{{1, "77"}, {2, "x"}}}, 400},
	} {
		if code := w.ask(0, c.method, c.path, c.body, nil); code != c.want {
			t.Errorf("%s: %d, want %d", name, code, c.want)
		}
	}
	w.ask(0, "GET", "/products/1", nil, &after)
	if asJSON(t, before) != asJSON(t, after) {
		t.Errorf("product 1 was %s and is %s", asJSON(t, before), asJSON(t, after))
	}
	var health Health
	if code := w.ask(0, "GET", "/healthz", nil, &health); code != 200 || health.Route != "legacy" || health.Instance != "a" || health.Lapsed {
		t.Errorf("%d %+v", code, health)
	}
	scrape, err := http.Get(w.shops[0] + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = scrape.Body.Close() }()
	text, err := io.ReadAll(scrape.Body)
	if want := `migrator_compare_total{migration="products",result="lost"} 0`; err != nil || !strings.Contains(string(text), want) {
		t.Errorf("no %s in %s (%v)", want, text, err)
	}
}

// An instance must be able to start when legacy is switched off permanently.
func TestInstanceStartsWithoutLegacy(t *testing.T) {
	t.Parallel()
	w := newFixture(t)
	fleet, err := pgfleet.Open(t.Context(), w.stateURL, w.migration.Name, pgfleet.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer fleet.Close()
	m := *w.migration
	m.Legacy.URL = "postgres://shop@127.0.0.1:1/nowhere?connect_timeout=1"
	described, err := kit.Described(t.Context(), &m, fleet)
	if err != nil || asJSON(t, described.Schema) != asJSON(t, w.legacy.Schema()) {
		t.Errorf("%v %v", described, err)
	}
	unknown, err := pgfleet.Open(t.Context(), w.stateURL, "unheard-of", pgfleet.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer unknown.Close()
	if _, err := kit.Described(t.Context(), &m, unknown); err == nil {
		t.Error("a migration that is not applied has columns")
	}
}
