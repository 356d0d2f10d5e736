package page_test

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stranglerfig/migrator/dual"
	"github.com/stranglerfig/migrator/dual/pgfleet"
	"github.com/stranglerfig/migrator/internal/control"
	"github.com/stranglerfig/migrator/internal/openstore"
	"github.com/stranglerfig/migrator/internal/page"
	"github.com/stranglerfig/migrator/internal/state"
	"github.com/stranglerfig/migrator/internal/test/testenv"
	"github.com/stranglerfig/migrator/migration"
	"github.com/stranglerfig/migrator/phases"
	"github.com/stranglerfig/migrator/record"
)

// served is a page over a state database of the test's own, and a migration on it.
type served struct {
	t     *testing.T
	state *state.Store
	page  *page.Page
	http  *httptest.Server
}

const file = `
name: items
legacy: {store: postgres, url: "postgres://127.0.0.1/legacy", table: items}
target: {store: redis, url: "redis://127.0.0.1/0", key: "item:{id}"}
phases:
  shadow_write: {for: 0s}
  dual_read: {steps: [100], over: 0s}
  approval: {for: [], role: ""}
`

func parsed(t testing.TB, name string, approval ...string) *migration.Config {
	t.Helper()
	text := strings.Replace(file, "name: items", "name: "+name, 1)
	if len(approval) > 0 {
		text = strings.Replace(text, `{for: [], role: ""}`, approval[0], 1)
	}
	m, err := openstore.Parse("migration.yaml", []byte(text), func(string) (string, bool) { return "", false })
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// apply stores a migration as apply does, as far as the state knows of it.
func apply(t testing.TB, s *state.Store, name string, approval ...string) {
	t.Helper()
	m := parsed(t, name, approval...)
	public, err := m.Public()
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err = s.Apply(t.Context(), state.Applied{
		Migration: name, Environment: "test", Config: public, ConfigHash: m.Hash(), Schema: []byte(`{"fields":[],"key":[]}`), Reversible: true,
	}); err != nil {
		t.Fatal(err)
	}
}

func serve(t *testing.T, url string) *served {
	t.Helper()
	store, err := state.Open(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	apply(t, store, "items")
	return serveOnly(t, url)
}

// serveOnly serves what is applied.
func serveOnly(t *testing.T, url string) *served {
	t.Helper()
	store, err := state.Open(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(store.Close)
	s := run(t, store)
	for status := 0; status != http.StatusOK; { // until the state was read; the test's own limit ends it
		status, _, _ = s.get("/page")
	}
	return s
}

// run serves a page.
func run(t *testing.T, store *state.Store) *served {
	t.Helper()
	s := &served{t: t, state: store, page: &page.Page{State: store}}
	mux := http.NewServeMux()
	s.page.Register(mux)
	s.http = httptest.NewServer(mux)
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { defer close(ended); _ = s.page.Run(ctx) }()
	t.Cleanup(func() { stop(); <-ended; s.http.Close() })
	return s
}

func (s *served) get(path string) (status int, header http.Header, body string) {
	s.t.Helper()
	r, err := http.Get(s.http.URL + path)
	if err != nil {
		s.t.Fatal(err)
	}
	defer func() { _ = r.Body.Close() }()
	text, err := io.ReadAll(r.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	return r.StatusCode, r.Header, string(text)
}

// advance takes the next step, gates aside.
func (s *served) advance() phases.Route {
	s.t.Helper()
	e, err := s.state.Snapshot(s.t.Context(), "items")
	if err != nil {
		s.t.Fatal(err)
	}
	m := parsed(s.t, "items")
	c := &control.Controller{State: s.state, Migration: "items", Settings: m.Settings()}
	step, err := c.Advance(s.t.Context(), control.Advance{Reason: "for <b>a test</b>", Read: &e})
	if err != nil {
		s.t.Fatal(err)
	}
	return step.To
}

// TestThePageShowsWhatTheStateHas: each part of it, with what comes from outside escaped.
func TestThePageShowsWhatTheStateHas(t *testing.T) {
	t.Parallel()
	s := serve(t, stateURL(t))
	fleet := pgfleet.New(s.state.Pool(), "items", pgfleet.Options{})
	grant, err := fleet.Join(t.Context(), dual.Identity{Instance: "shop-1"})
	if err != nil {
		t.Fatal(err)
	}
	route := s.advance()
	if _, err := fleet.Renew(t.Context(), grant.Lease, route.Epoch); err != nil {
		t.Fatal(err)
	}
	if _, err := fleet.Journal(t.Context(), []dual.JournalEntry{{Key: record.MakeKey("secret-key"), Reason: "the target refused"}}); err != nil {
		t.Fatal(err)
	}
	if err := s.state.Pause(t.Context(), "items", "waiting for <script>"); err != nil {
		t.Fatal(err)
	}
	trigger, err := s.state.Record(t.Context(), "items", []phases.Evaluation{{Kind: phases.TriggerKind, Name: phases.TriggerErrors, Epoch: route.Epoch, ConfigHash: "x", Verdict: phases.Quiet}})
	if err != nil {
		t.Fatal(err)
	}
	_, _, body := s.get("/page/m/items")
	for _, want := range []string{
		`data-label="verdict since"><time datetime="` + trigger[0].At.UTC().Format("2006-01-02T15:04:05"),
		`id="phase">shadow-write`, "lossless now", "writes do not stop", "dual-read 100 %", "backfill-done", "no backfill has begun", "not-paused", "blocked since",
		"waiting for &lt;script&gt;", "for &lt;b&gt;a test&lt;/b&gt;", "shop-1", "1 key behind in the target", "the target refused", "advance", "No drill was made", "fleet-settled",
		`<progress`,
	} {
		if want != `<progress` && !strings.Contains(body, want) {
			t.Errorf("the page lacks %q", want)
		}
	}
	if strings.Contains(body, "secret-key") {
		t.Error("the page shows a key without a token")
	}
	if _, _, list := s.get("/page"); !strings.Contains(list, `<a href="/page/m/items">items</a>`) {
		t.Errorf("the list: %s", list)
	}
	if status, _, body := s.get("/page/m/others"); status != http.StatusNotFound || !strings.Contains(body, "no such migration") {
		t.Errorf("another migration: %d %s", status, body)
	}
}

// TestThePageLoadsNothingFromElsewhere: by its headers and by what is in it.
func TestThePageLoadsNothingFromElsewhere(t *testing.T) {
	t.Parallel()
	s := serve(t, stateURL(t))
	for _, path := range []string{"/page", "/page/m/items", "/page/m/others", "/page/m/items/explain/gate/consistency"} {
		_, header, body := s.get(path)
		if got := header.Get("Content-Security-Policy"); got != "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; form-action 'self'; frame-ancestors 'none'; base-uri 'none'" {
			t.Errorf("%s: policy %q", path, got)
		}
		for name, want := range map[string]string{"X-Content-Type-Options": "nosniff", "Cache-Control": "no-store", "Referrer-Policy": "no-referrer"} {
			if header.Get(name) != want {
				t.Errorf("%s: %s is %q", path, name, header.Get(name))
			}
		}
		for _, bad := range []string{"http://", "https://", "<style", " style=", "onclick", "<script>"} {
			if strings.Contains(body, bad) {
				t.Errorf("%s has %s", path, bad)
			}
		}
	}
	for _, name := range []string{"page.js", "page.css", "uPlot.iife.min.js", "uPlot.min.css"} {
		_, _, body := s.get("/page")
		at := strings.Index(body, name)
		from := strings.LastIndex(body[:max(at, 0)], `"`)
		if at < 0 || from < 0 {
			t.Errorf("the page does not load %s", name)
			continue
		}
		if status, header, _ := s.get(body[from+1 : at+len(name)]); status != http.StatusOK || !strings.Contains(header.Get("Cache-Control"), "immutable") {
			t.Errorf("%s: %d %v", name, status, header)
		}
	}
	if status, _, _ := s.get("/page/static/x/nothing.js"); status != http.StatusNotFound {
		t.Errorf("a file that there is not: %d", status)
	}
}

// TestFilesOfOthersAreAsTheyWere published.
func TestFilesOfOthersAreAsTheyWere(t *testing.T) {
	t.Parallel()
	sums, err := os.ReadFile("third_party/uPlot/SHA256SUMS")
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for line := range strings.Lines(string(sums)) {
		want, name, _ := strings.Cut(strings.TrimSpace(line), "  ")
		text, err := os.ReadFile(filepath.Join("static", filepath.Base(name)))
		if err != nil {
			t.Fatal(err)
		}
		if got := fmt.Sprintf("%x", sha256.Sum256(text)); got != want {
			t.Errorf("%s has the hash %s, want %s", name, got, want)
		}
		n++
	}
	if n != 2 {
		t.Errorf("%d files: want 2", n)
	}
}

// stream reads the fragments of an event stream.
type stream struct {
	t     *testing.T
	lines *bufio.Scanner
	parts map[string]string
	news  []string // the fragments that came, in order
}

func (s *served) stream(path string) *stream {
	s.t.Helper()
	r, err := http.NewRequestWithContext(s.t.Context(), http.MethodGet, s.http.URL+path, nil)
	if err != nil {
		s.t.Fatal(err)
	}
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { _ = answer.Body.Close() })
	lines := bufio.NewScanner(answer.Body)
	lines.Buffer(nil, 4<<20)
	return &stream{t: s.t, lines: lines, parts: map[string]string{}}
}

// until reads events until the condition holds; the test's own limit ends it.
func (e *stream) until(holds func() bool) {
	e.t.Helper()
	for !holds() {
		if !e.lines.Scan() {
			e.t.Fatalf("the stream has ended: %v", e.lines.Err())
		}
		var part struct{ ID, HTML string }
		if data, ok := strings.CutPrefix(e.lines.Text(), "data: "); ok && json.Unmarshal([]byte(data), &part) == nil {
			e.parts[part.ID] = part.HTML
			e.news = append(e.news, part.ID)
		}
	}
}

// TestAStreamHasWhatHasChanged: a step, and not what it left as it was.
func TestAStreamHasWhatHasChanged(t *testing.T) {
	t.Parallel()
	s := serve(t, stateURL(t))
	e := s.stream("/page/events?migration=items")
	e.until(func() bool { return e.parts["history"] != "" })
	if !strings.Contains(e.parts["head"], `id="phase">legacy`) {
		t.Errorf("before: %s", e.parts["head"])
	}
	e.news = nil
	s.advance()
	e.until(func() bool { return strings.Contains(e.parts["head"], `id="phase">shadow-write`) })
	e.until(func() bool { return strings.Contains(e.parts["history"], "legacy → shadow-write") })
	for _, id := range e.news {
		if id == "drills" || id == "runbooks" || id == "findings" {
			t.Errorf("%s was sent, and has not changed", id)
		}
	}
	list := s.stream("/page/events")
	list.until(func() bool { return strings.Contains(list.parts["list"], "shadow-write") })
}

// TestThePageStaysWithoutTheState: it shows what was read last, of when that is, and is whole when the state is back.
func TestThePageStaysWithoutTheState(t *testing.T) {
	t.Parallel()
	server := testenv.Postgres(t)
	if _, _, err := state.Migrate(t.Context(), server.URL()); err != nil {
		t.Fatal(err)
	}
	s := serve(t, server.URL())
	e := s.stream("/page/events?migration=items")
	e.until(func() bool { return e.parts["history"] != "" })
	if err := server.Kill(); err != nil {
		t.Fatal(err)
	}
	e.until(func() bool { return strings.Contains(e.parts["asof"], "UTC, the state database does not answer") })
	status, _, body := s.get("/page/m/items")
	if status != http.StatusOK || !strings.Contains(body, "does not answer") || !strings.Contains(body, `id="phase">legacy`) {
		t.Errorf("without the state: %d %s", status, body)
	}
	if err := server.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	e.until(func() bool { return e.parts["asof"] == "" })
	s.advance()
	e.until(func() bool { return strings.Contains(e.parts["head"], `id="phase">shadow-write`) })
}

// TestThePageClaimsNothingBeforeItHasRead: while the state has never answered, no migration is not what it says; once the
// state answers, it is read without a page that asks.
func TestThePageClaimsNothingBeforeItHasRead(t *testing.T) {
	t.Parallel()
	server := testenv.Postgres(t)
	if _, _, err := state.Migrate(t.Context(), server.URL()); err != nil {
		t.Fatal(err)
	}
	store, err := state.Open(t.Context(), server.URL())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(store.Close)
	apply(t, store, "items")
	if err := server.Kill(); err != nil {
		t.Fatal(err)
	}
	s := run(t, store)
	for body := ""; !strings.Contains(body, "nothing was read yet: the state database does not answer"); { // the test's own limit ends it
		_, _, body = s.get("/page")
		if strings.Contains(body, "No migration has been applied") || strings.Contains(body, "as of") {
			t.Fatalf("it says of a state that was never read: %s", body)
		}
	}
	if err := server.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	for body := ""; !strings.Contains(body, `href="/page/m/items"`); {
		_, _, body = s.get("/page")
	}
}
