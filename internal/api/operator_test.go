package api_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/stranglerfig/migrator/internal/app"
	"github.com/stranglerfig/migrator/internal/openstore"
	"github.com/stranglerfig/migrator/internal/server"
	"github.com/stranglerfig/migrator/internal/state"
	"github.com/stranglerfig/migrator/internal/test/apitest"
	"github.com/stranglerfig/migrator/internal/test/statetest"
)

const file = `
name: products
legacy: {store: postgres, url: "postgres://127.0.0.1/legacy", table: products}
target: {store: redis, url: "redis://127.0.0.1/0", key: "product:{id}"}
phases:
  shadow_write: {for: 0s}
  dual_read: {steps: [100], over: 0s}
  approval: {for: [dual-read], role: ""}
`

// openApplied serves the state of a migration that was applied with a whole file.
func openApplied(t *testing.T) *apitest.Server {
	t.Helper()
	url := statetest.URL(t)
	owner, err := state.Open(t.Context(), url)
	must(t, err)
	t.Cleanup(owner.Close)
	m, err := openstore.Parse("migration.yaml", []byte(file), func(string) (string, bool) { return "", false })
	must(t, err)
	public, err := m.Public()
	must(t, err)
	for _, name := range []string{products, "orders"} {
		m.Name = name
		_, _, err = owner.Apply(t.Context(), state.Applied{
			Migration: name, Environment: "test", Config: public, ConfigHash: m.Hash(), Schema: []byte(`{"fields":[],"key":[]}`), Reversible: true,
		})
		must(t, err)
	}
	return apitest.New(t, owner, url)
}

// at is the epoch of the migration's route.
func (c *client) at(migration, route string) int64 {
	c.t.Helper()
	got := c.ask(http.MethodGet, "/migrations/"+migration, "")
	var s app.Status
	if err := json.Unmarshal([]byte(got.body), &s); err != nil || got.status != http.StatusOK || s.Status.Route.String() != route {
		c.t.Fatalf("status: %d %v %s, want %s", got.status, err, got.body, route)
	}
	return s.Status.Route.Epoch
}

// TestAnOperatorOverHTTP: the verbs of migrator phase, each delivered twice, by the rights of the token's role.
func TestAnOperatorOverHTTP(t *testing.T) {
	t.Parallel()
	s := openApplied(t)
	role, token := s.Granted(state.Operator, products)
	c := &client{t, s.URL, token}
	_, token = s.Granted(state.Decider, products)
	decider := &client{t, s.URL, token}
	_, token = s.Granted(state.Viewer)
	viewer := &client{t, s.URL, token}
	const phase = "/migrations/products/phase/"
	post := func(c *client, path, body string, args ...any) reply {
		t.Helper()
		got := c.ask(http.MethodPost, path, fmt.Sprintf(body, args...))
		if got.status != http.StatusOK {
			t.Fatalf("%s: %d %s", path, got.status, got.body)
		}
		return got
	}
	history := func() (causes string) {
		t.Helper()
		got := c.ask(http.MethodGet, "/migrations/products/history?limit=100", "")
		var h struct{ Entries []state.Entry }
		must(t, json.Unmarshal([]byte(got.body), &h))
		for _, e := range h.Entries[1:] { // the first is apply
			if server, id := e.Via(); server == "" || id == 0 {
				t.Errorf("entry %d by %s has no token", e.Seq, e.Actor)
			}
			causes += string(e.Cause) + " "
		}
		if last := h.Entries[len(h.Entries)-1]; last.Actor != role && last.Cause != "approve" {
			t.Errorf("the newest entry is by %s", last.Actor)
		}
		return causes
	}

	// A step is taken once, whatever is repeated; a dry run takes none.
	epoch := c.at(products, "legacy")
	if got := post(c, phase+"advance", `{"epoch":%d,"dry_run":true}`, epoch); got.doc["done"] != false || c.at(products, "legacy") != epoch {
		t.Errorf("a dry run: %s", got.body)
	}
	if got := post(c, phase+"advance", `{"epoch":%d,"reason":"by hand"}`, epoch); got.doc["done"] != true || got.doc["settled"] != true {
		t.Errorf("advance: %s", got.body)
	}
	c.refused(server.NotYet, http.StatusConflict, http.MethodPost, phase+"advance", fmt.Sprintf(`{"epoch":%d}`, epoch))
	epoch = c.at(products, "shadow-write")
	c.refused(server.BadRequest, http.StatusBadRequest, http.MethodPost, phase+"advance", `{}`)
	c.refused(server.BadRequest, http.StatusBadRequest, http.MethodPost, phase+"advance", fmt.Sprintf(`{"epoch":%d,"to":"retain"}`, epoch))

	// Closed gates come with the refusal.
	closed := c.refused(server.GatesClosed, http.StatusConflict, http.MethodPost, phase+"advance", fmt.Sprintf(`{"epoch":%d}`, epoch))
	var problem server.Problem
	if err := json.Unmarshal([]byte(closed.body), &problem); err != nil || len(problem.Gates) < 5 || problem.Try == "" || !strings.Contains(problem.Detail, "approved") {
		t.Errorf("closed: %v %s", err, closed.body)
	}
	if got := decider.ask(http.MethodPost, phase+"approve", `{"reason":"looked at"}`); got.status != http.StatusOK || got.doc["to"] != "dual-read" {
		t.Errorf("approve: %s", got.body)
	}
	for _, refusal := range []struct {
		by   *client
		verb string
	}{{viewer, "advance"}, {viewer, "pause"}, {viewer, "rollback"}, {viewer, "approve"}, {decider, "advance"}} {
		refusal.by.refused(server.NoGrant, http.StatusForbidden, http.MethodPost, phase+refusal.verb, map[bool]string{true: fmt.Sprintf(`{"epoch":%d,"reason":"r"}`, epoch), false: `{"reason":"r"}`}[refusal.verb == "advance" || refusal.verb == "rollback"])
	}

	// Pause and resume can be repeated, also by who decides.
	post(decider, phase+"pause", `{"reason":"wait"}`)
	c.refused(server.BadRequest, http.StatusBadRequest, http.MethodPost, phase+"pause", `{}`)
	for range 2 {
		if got := post(c, phase+"pause", `{"reason":"lunch"}`); got.doc["result"] != "paused" {
			t.Errorf("pause: %s", got.body)
		}
	}
	c.refused(server.GatesClosed, http.StatusConflict, http.MethodPost, phase+"advance", fmt.Sprintf(`{"epoch":%d}`, epoch))
	for range 2 {
		post(c, phase+"resume", `{}`)
	}
	// So can a rollback.
	if got := post(c, phase+"rollback", `{"epoch":%d,"to":"legacy","dry_run":true}`, epoch); len(got.doc["moves"].([]any)) != 1 || c.at(products, "shadow-write") != epoch {
		t.Errorf("a dry run: %s", got.body)
	}
	if got := post(c, phase+"rollback", `{"epoch":%d,"to":"legacy","reason":"enough"}`, epoch); len(got.doc["moves"].([]any)) != 1 || got.doc["settled"] != true {
		t.Errorf("rollback: %s", got.body)
	}
	epoch = c.at(products, "legacy")
	if got := post(c, phase+"rollback", `{"epoch":%d,"to":"legacy"}`, epoch); len(got.doc["moves"].([]any)) != 0 {
		t.Errorf("rolled back twice: %s", got.body)
	}
	if causes := history(); causes != "advance approve pause pause resume rollback " {
		t.Errorf("the history has %s", causes)
	}
}

// TestReadsOverHTTP: what the commands print, of the migrations that the token may see.
func TestReadsOverHTTP(t *testing.T) {
	t.Parallel()
	s := openApplied(t)
	_, token := s.Granted(state.Viewer, products)
	c := &client{t, s.URL, token}
	if got := c.ask(http.MethodGet, "/migrations", ""); got.status != http.StatusOK || strings.Contains(got.body, "orders") || !strings.Contains(got.body, `"name":"products"`) {
		t.Errorf("migrations: %d %s", got.status, got.body)
	}
	for path, want := range map[string]string{
		"":                    `"rollback":`,
		"/gates":              `"gates":[{`,
		"/triggers":           `"triggers":[`,
		"/leases":             `"instances":[]`,
		"/history":            `"entries":[{`,
		"/history?limit=1":    `"entries":[{`,
		"/reconciles":         `"runs":[]`,
		"/reconciles?limit=5": `"runs":[]`,
	} {
		if got := c.ask(http.MethodGet, "/migrations/products"+path, ""); got.status != http.StatusOK || !strings.Contains(got.body, want) {
			t.Errorf("%s: %d %s, want %s", path, got.status, got.body, want)
		}
		path, _, _ := strings.Cut(path, "?")
		c.refused(server.UnknownMigration, http.StatusNotFound, http.MethodGet, "/migrations/orders"+path, "")
	}
	c.refused(server.BadRequest, http.StatusBadRequest, http.MethodGet, "/migrations/products/history?limit=0", "")
	c.refused(server.BadRequest, http.StatusBadRequest, http.MethodGet, "/migrations/products/history?limit=1e3", "")
	c.refused(server.BadRequest, http.StatusBadRequest, http.MethodGet, "/migrations/products/reconciles/x", "")
	c.refused(server.UnknownRun, http.StatusNotFound, http.MethodGet, "/migrations/products/reconciles/7", "")
}

// TestAStepThatNeedsTheStoresNamesTheDaemon: what a daemon lacks is no fault of who asks.
func TestAStepThatNeedsTheStoresNamesTheDaemon(t *testing.T) {
	t.Parallel()
	s := openApplied(t)
	_, token := s.Granted(state.Operator, products)
	c := &client{t, s.URL, token}
	_, err := s.Owner.Pool().Exec(t.Context(), `ALTER TABLE migrator.migrations DISABLE TRIGGER USER; UPDATE migrator.migrations SET phase = 'grace'`)
	must(t, err)
	got := c.refused(server.NotYet, http.StatusConflict, http.MethodPost, "/migrations/products/phase/advance", fmt.Sprintf(`{"epoch":%d}`, c.at(products, "grace")))
	if !strings.Contains(got.body, "does not serve the migration's file") || strings.Contains(got.body, "--file") {
		t.Errorf("refused with %s", got.body)
	}
}
