package daemontest

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/cespare/xxhash/v2"

	"github.com/stranglerfig/migrator/internal/state"
	"github.com/stranglerfig/migrator/phases"
)

const rampedInThree = `
phases:
  shadow_write: {for: 0s}
  dual_read: {steps: [100], over: 0s}
  cutover: {steps: [10, 50, 100], over: 0s, auto: false}
  grace: {for: 0s}
  retain: {for: 0s}
  approval: {for: []}
gates: {off: a test without traffic}
`

// TestOfficialClients: programs that have OpenFeature's SDKs and OFREP providers, and nothing of ours, follow a migration
// from legacy to retain and back: in Node.js and in Go, key by key as an instance reads, and a page in Chromium, which
// hears of each step by the daemon's events and asks at no other time.
func TestOfficialClients(t *testing.T) {
	t.Parallel()
	b := newBrowser(t)
	packages := os.Getenv("MIGRATOR_OFREP")
	if packages == "" {
		t.Skip("for make ofrep: it needs OpenFeature's packages")
	}
	o := newOperator(t, "items", "  table: items\n", "  key: item:{id}\n", rampedInThree)
	o.SQL(o.Legacy, `CREATE TABLE items (id bigint PRIMARY KEY, name text); INSERT INTO items SELECT i, 'item ' || i FROM generate_series(1, 20) i`)
	o.Does("init", "apply")
	token, _ := o.token("official_clients", "viewer")
	page := httptest.NewServer(http.FileServer(http.Dir(packages)))
	defer page.Close()
	o.Write("settings.yaml", "file: "+o.Path("migration.yaml")+"\nstate_url: "+o.State+"\nflags: true\nflags_rate: 10000\nflags_origins: "+page.URL+"\n")
	d := o.serve(t)
	d.awaits("the token", func() bool { code, _, _ := evaluate(t, d.url, token, "1"); return code == http.StatusOK })
	store, err := state.Open(t.Context(), o.State)
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()

	const watched = "42"
	programs := map[string]*browser{"Node.js": drives(t, "node", filepath.Join(packages, "node.mjs"), d.url, token)}
	if client := filepath.Join(packages, "ofrepclient"); isThere(client) {
		programs["Go"] = drives(t, client, d.url, token)
	} else {
		t.Log("without the client in Go: scripts/ofrep.sh could not download its provider")
	}
	b.do("goto", values{"url": page.URL + "/page.html?" + url.Values{"daemon": {d.url}, "token": {token}, "key": {watched}}.Encode()})
	var keys []string
	for n := range 300 {
		keys = append(keys, fmt.Sprint(n))
	}
	epoch, asked := int64(0), 0.0
	follows := func(phase phases.Phase, percent phases.Percent) {
		t.Helper()
		epochs, err := store.Epochs(t.Context(), "items", 1)
		if err != nil {
			t.Fatal(err)
		}
		live, began := epochs[0].Route, epochs[0].Began
		if live.Phase != phase || phase == phases.Cutover && live.Percent != percent {
			t.Fatalf("the migration is at %s, want %s", live, phases.Route{Phase: phase, Percent: percent})
		}
		reads := func(key string) string {
			r := live.Behaviour().Reads
			if r == phases.ReadsTarget || r == phases.ReadsSplit && live.Percent.Takes(xxhash.Sum64String(key)) {
				return "target"
			}
			return "legacy"
		}
		// The page: by an event, within a second of the step where the machine has time for it.
		b.wait("#phase", fmt.Sprintf("%s %s in epoch %d", live.Phase, percentOf(live), live.Epoch))
		heard, _ := b.do("value", values{"text": fmt.Sprintf("window.heard[%d]", live.Epoch)}).(float64)
		if epoch > 0 {
			t.Logf("%s: the page heard of it %d ms after it was committed", live, time.UnixMilli(int64(heard)).Sub(began).Milliseconds())
		}
		if got, _ := b.do("text", values{"selector": "#read"}).(string); got != reads(watched) {
			t.Errorf("%s: the page reads %s from %s, want %s", live, watched, got, reads(watched))
		}
		for _, key := range []string{"1", "7", watched} {
			if got := b.do("value", values{"text": "readOf('" + key + "')"}); got != reads(key) {
				t.Errorf("%s: the page reads %s from %v, want %s", live, key, got, reads(key))
			}
		}
		// Once for each step and each of the contexts, and once for what was there as the stream began.
		now, _ := b.do("value", values{"text": "asked()"}).(float64)
		if most := float64(live.Epoch-epoch) + 3 + 2; now-asked > most {
			t.Errorf("%s: the page has asked %v times, want %v at most", live, now-asked, most)
		}
		epoch, asked = live.Epoch, now
		// The programs: key by key.
		for name, program := range programs {
			all, _ := program.do("texts", values{"flag": "migrator.items.read", "keys": keys}).([]any)
			if len(all) != len(keys) {
				t.Fatalf("%s: %d answers of %d", name, len(all), len(keys))
			}
			for i, got := range all {
				if got != reads(keys[i]) {
					t.Errorf("%s: %s reads %s from %v, want %s", live, name, keys[i], got, reads(keys[i]))
				}
			}
			details, _ := program.do("text", values{"flag": "migrator.items.phase", "key": watched}).(map[string]any)
			if metadata, _ := details["flagMetadata"].(map[string]any); details["value"] != string(live.Phase) || metadata["epoch"] != float64(live.Epoch) {
				t.Errorf("%s: %s has the phase %+v", live, name, details)
			}
		}
	}
	follows(phases.Legacy, 0)
	o.Does("phase advance", "backfill run")
	follows(phases.ShadowWrite, 0)
	o.Does("phase advance")
	follows(phases.DualRead, 0)
	o.Does("reconcile run --full")
	for _, percent := range []phases.Percent{phases.All / 10, phases.All / 2, phases.All} {
		o.Does("phase advance")
		follows(phases.Cutover, percent)
	}
	o.Does("reconcile run --full", "phase advance")
	follows(phases.Grace, 0)
	o.Does("reconcile run --full", "phase advance")
	follows(phases.Retain, 0)
	o.Does("phase rollback --to grace --yes --reason test", "phase rollback --to legacy --yes --reason test")
	follows(phases.Legacy, 0)
	b.clean()
}

// percentOf is a route's share as its flag has it; "": it has none.
func percentOf(r phases.Route) string {
	if share, ok := r.Routing(time.Second)["percent"]; ok {
		return fmt.Sprint(share)
	}
	return ""
}

func isThere(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}
