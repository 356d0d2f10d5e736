package api_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/stranglerfig/migrator/internal/server"
	"github.com/stranglerfig/migrator/internal/state"
	"github.com/stranglerfig/migrator/internal/test/apitest"
	"github.com/stranglerfig/migrator/internal/test/statetest"
	"github.com/stranglerfig/migrator/internal/test/testenv"
)

func TestMain(m *testing.M) { testenv.Main(m) }

const products = "products"

// client is a caller with a token.
type client struct {
	t          testing.TB
	url, token string
}

// reply is an answer.
type reply struct {
	status int
	header http.Header
	body   string
	doc    map[string]any
}

func (c *client) ask(method, path, body string, headers ...string) reply {
	c.t.Helper()
	r, err := http.NewRequestWithContext(c.t.Context(), method, c.url+server.Base+path, strings.NewReader(body))
	must(c.t, err)
	if c.token != "" {
		r.Header.Set("Authorization", "Bearer "+c.token)
	}
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	answer, err := http.DefaultClient.Do(r)
	must(c.t, err)
	defer func() { _ = answer.Body.Close() }()
	text, err := io.ReadAll(answer.Body)
	must(c.t, err)
	got := reply{status: answer.StatusCode, header: answer.Header, body: string(text)}
	if len(text) > 0 {
		if err := json.NewDecoder(bytes.NewReader(text)).Decode(&got.doc); err != nil && answer.StatusCode != http.StatusNotModified {
			c.t.Errorf("%s %s: %q is not JSON", method, path, text)
		}
	}
	return got
}

// refused checks that a request is answered by a problem.
func (c *client) refused(code server.Code, status int, method, path, body string, headers ...string) reply {
	c.t.Helper()
	got := c.ask(method, path, body, headers...)
	if got.status != status || got.doc["code"] != string(code) || got.header.Get("Content-Type") != "application/problem+json" {
		c.t.Errorf("%s %s %.80s: %d %.300s, want %d %s", method, path, body, got.status, got.body, status, code)
	}
	return got
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func open(t testing.TB) (*apitest.Server, *client) {
	t.Helper()
	url := statetest.URL(t)
	owner, err := state.Open(t.Context(), url)
	must(t, err)
	t.Cleanup(owner.Close)
	_, _, err = owner.Apply(t.Context(), state.Applied{
		Migration: products, Environment: "test", Config: []byte(`{"name":"products"}`), ConfigHash: "h1", Schema: []byte(`{"fields":[],"key":[]}`), Reversible: true,
	})
	must(t, err)
	s := apitest.New(t, owner, url)
	_, token := s.Application(products)
	return s, &client{t, s.URL, token}
}

const lease = "lease-of-the-test-0001" // any ID of the right form

const window = `{"windows":[{"incarnation":"i","instance":"a","sequence":1,"epoch":1,"config_hash":"h1","length_ms":1000,"age_ms":0,
		"counts":[{"operation":"read","store":"target","role":"serving","outcome":"ok","n":3,"latency":[{"bucket":5,"n":1},{"bucket":1111,"n":2}]}]}]}`

func joining(lease string) string {
	return fmt.Sprintf(`{"lease":%q,"instance":"a","about":"test"}`, lease)
}

// TestALeaseOverHTTP is its life, each request delivered twice.
func TestALeaseOverHTTP(t *testing.T) {
	t.Parallel()
	s, c := open(t)
	const leases = "/migrations/products/leases"
	for range 2 {
		got := c.ask(http.MethodPost, leases, joining(lease))
		if got.status != http.StatusOK || got.doc["lease"] != lease || got.doc["lease_ms"] != 15000.0 || got.doc["renew_ms"] != 5000.0 {
			t.Fatalf("join: %d %s", got.status, got.body)
		}
	}
	if st, err := s.Owner.Status(t.Context(), products); err != nil || !st.Dirty.IsZero() {
		t.Errorf("a join that came twice left a mark: %+v, %v", st, err)
	}
	for range 2 {
		if got := c.ask(http.MethodPost, leases+"/"+lease+"/renew", `{"acknowledged":1}`); got.status != http.StatusOK {
			t.Fatalf("renew: %d %s", got.status, got.body)
		}
	}
	for range 2 {
		if got := c.ask(http.MethodPost, leases+"/"+lease+"/windows", window); got.status != http.StatusNoContent {
			t.Fatalf("windows: %d %s", got.status, got.body)
		}
	}
	for range 2 {
		if got := c.ask(http.MethodPost, "/migrations/products/journal", `{"entries":[{"key":"_w","version":"`+strings.Repeat("0", 31)+`1","reason":"down"}]}`); got.status != http.StatusOK || got.doc["fenced"] != false {
			t.Fatalf("journal: %d %s", got.status, got.body)
		}
	}
	if got := c.ask(http.MethodGet, "/migrations/products/journal/_w", ""); got.doc["journaled"] != true {
		t.Errorf("journaled: %d %s", got.status, got.body)
	}
	if got := c.ask(http.MethodGet, "/migrations/products/routes", ""); got.status != http.StatusOK || got.doc["target_read"] != false {
		t.Errorf("routes: %d %s", got.status, got.body)
	}
	if got := c.ask(http.MethodGet, "/migrations/products/applied", ""); got.status != http.StatusOK || fmt.Sprint(got.doc["file"]) != "map[name:products]" {
		t.Errorf("applied: %d %s", got.status, got.body)
	}
	if got := c.ask(http.MethodPost, "/migrations/products/rollback", `{"epoch":1,"reason":"r"}`); got.status != http.StatusNoContent {
		t.Errorf("rollback: %d %s", got.status, got.body)
	}
	if got := c.ask(http.MethodPost, leases+"/"+lease+"/fault", `{}`); got.status != http.StatusOK {
		t.Errorf("fault: %d %s", got.status, got.body)
	}
	for range 2 {
		if got := c.ask(http.MethodDelete, leases+"/"+lease, ""); got.status != http.StatusNoContent {
			t.Fatalf("leave: %d %s", got.status, got.body)
		}
	}
	c.refused(server.LeaseLost, http.StatusConflict, http.MethodPost, leases+"/"+lease+"/renew", `{"acknowledged":1}`)
	c.refused(server.LeaseLost, http.StatusConflict, http.MethodPost, leases, joining(lease))
	if got := c.ask(http.MethodPost, "/migrations/products/state-loss", `{"instance":"a","route":{"phase":"shadow-write","percent":0,"epoch":9}}`); got.status != http.StatusNoContent {
		t.Errorf("state loss: %d %s", got.status, got.body)
	}
	if st, err := s.Owner.Status(t.Context(), products); err != nil || st.StateLoss == nil || st.StateLoss.Instance != "a" {
		t.Errorf("the loss is not recorded: %+v, %v", st, err)
	}
}

// TestWhatTheAPIRefuses, each with a stable code.
func TestWhatTheAPIRefuses(t *testing.T) {
	t.Parallel()
	s, c := open(t)
	const leases = "/migrations/products/leases"
	_, viewers := s.Granted(state.Viewer)
	for _, token := range []string{"", "mgt_x", "mgt_" + strings.Repeat("x", 5000)} {
		other := &client{t, s.URL, token}
		got := other.refused(server.BadToken, http.StatusUnauthorized, http.MethodPost, leases, "{")
		if got.header.Get("WWW-Authenticate") != "Bearer" {
			t.Errorf("401 without WWW-Authenticate: %v", got.header)
		}
	}
	none := &client{t, s.URL, ""}
	none.refused(server.BadToken, http.StatusUnauthorized, http.MethodPost, leases, joining(lease), "Cookie", "token="+c.token)
	none.refused(server.BadToken, http.StatusUnauthorized, http.MethodPost, leases, joining(lease), "X-API-Key", c.token)
	seeing := &client{t, s.URL, viewers}
	got := seeing.refused(server.NoGrant, http.StatusForbidden, http.MethodPost, leases, joining(lease))
	if !strings.Contains(fmt.Sprint(got.doc["try"]), "init --grant-application") {
		t.Errorf("no remedy: %s", got.body)
	}
	c.refused(server.NoGrant, http.StatusForbidden, http.MethodPost, "/migrations/orders/leases", joining(lease))
	c.refused(server.BadOrigin, http.StatusForbidden, http.MethodPost, leases, joining(lease), "Origin", "http://127.0.0.1")
	c.refused(server.NoSuchEndpoint, http.StatusNotFound, http.MethodGet, "/nothing", "")
	if got := c.refused(server.BadMethod, http.StatusMethodNotAllowed, http.MethodPut, leases, ""); got.header.Get("Allow") != "GET, POST" {
		t.Errorf("Allow: %v", got.header)
	}
	c.refused(server.BadMediaType, http.StatusUnsupportedMediaType, http.MethodPost, leases, joining(lease), "Content-Type", "text/plain")
	for body, want := range map[string]string{
		"":                                "is empty",
		"{":                               "at byte",
		"[]":                              "does not fit",
		joining(lease) + "{}":             "goes on",
		`{"lease":"x","lease":"y"}`:       "twice, at /lease",
		`{"lease":"x","Instance":"y"}`:    "unknown member at /Instance",
		`{"lease":7}`:                     "does not fit, at /lease",
		`{"lease":"x","lease_ms":"15 s"}`: "does not fit, at /lease_ms",
	} {
		got := c.refused(server.BadJSON, http.StatusBadRequest, http.MethodPost, leases, body)
		if !strings.Contains(got.body, want) {
			t.Errorf("%s: %s, want %q", body, got.body, want)
		}
	}
	c.refused(server.BodyTooLarge, http.StatusRequestEntityTooLarge, http.MethodPost, leases, `{"lease":"`+strings.Repeat("x", 65<<10)+`"}`)
	for _, body := range []string{joining("short"), `{"lease":"` + lease + `","instance":""}`, `{"lease":"` + lease + `","instance":"a","lease_ms":-1}`} {
		c.refused(server.BadRequest, http.StatusBadRequest, http.MethodPost, leases, body)
	}
	c.refused(server.BadJSON, http.StatusBadRequest, http.MethodPost, "/migrations/products/journal", `{"entries":[{"key":"_w==","version":"`+strings.Repeat("0", 32)+`"}]}`)
	c.refused(server.BadJSON, http.StatusBadRequest, http.MethodPost, "/migrations/products/journal", `{"entries":[{"key":"_w","version":"1"}]}`)
	c.refused(server.BadRequest, http.StatusBadRequest, http.MethodGet, "/migrations/products/journal/a=", "")
	c.refused(server.RouteMoved, http.StatusConflict, http.MethodPost, "/migrations/products/return", `{"epoch":1,"keys":["_w"]}`)
	c.refused(server.LeaseLost, http.StatusConflict, http.MethodPost, leases+"/no-lease/windows", window)
	everyone, everyones := s.Application("*")
	all := &client{t, s.URL, everyones}
	c.refused(server.NoGrant, http.StatusForbidden, http.MethodGet, "/migrations/nothing/routes", "")
	if got := all.refused(server.UnknownMigration, http.StatusNotFound, http.MethodGet, "/migrations/nothing/routes", ""); !strings.Contains(got.body, "products") {
		t.Errorf("of %s: %s", everyone, got.body)
	}
	all.refused(server.UnknownMigration, http.StatusNotFound, http.MethodGet, "/migrations/nothing/events", "")
	all.refused(server.UnknownMigration, http.StatusNotFound, http.MethodPost, "/migrations/nothing/state-loss", `{"instance":"a","route":{"phase":"shadow-write","percent":0,"epoch":9}}`)
	// Another role's lease is not to be had, and its ID not to be taken.
	if got := c.ask(http.MethodPost, leases, joining(lease)); got.status != http.StatusOK {
		t.Fatal(got.body)
	}
	all.refused(server.LeaseLost, http.StatusConflict, http.MethodPost, leases, joining(lease))
	c.refused(server.LeaseTaken, http.StatusConflict, http.MethodPost, leases, strings.Replace(joining(lease), `"a"`, `"b"`, 1))
	if doc := c.ask(http.MethodGet, "/openapi.json", ""); doc.status != http.StatusOK || doc.doc["openapi"] != "3.1.0" {
		t.Errorf("document: %d", doc.status)
	}
}
