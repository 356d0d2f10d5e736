package server_test

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stranglerfig/migrator/dual"
	"github.com/stranglerfig/migrator/internal/server"
	"github.com/stranglerfig/migrator/phases"
	"github.com/stranglerfig/migrator/record"
)

// state is what flags are read from.
type source struct {
	mu     sync.Mutex
	what   server.Published
	err    error
	notify func()
}

func hashed(token string) [sha256.Size]byte {
	given := sha256.Sum256([]byte(token))
	return sha256.Sum256(given[:])
}

func newSource(routes ...server.PublishedRoute) *source {
	s := &source{what: server.Published{Routes: routes, Bearers: map[[sha256.Size]byte]server.Bearer{}}}
	s.allow("mgt_one", 1, "products", "orders")
	s.allow("mgt_other", 2, "orders")
	return s
}

func (s *source) allow(token string, id int64, migrations ...string) {
	b := server.Bearer{ID: id, Until: time.Now().Add(time.Hour), Migrations: map[string]bool{}}
	for _, m := range migrations {
		b.Migrations[m] = true
	}
	s.what.Bearers[hashed(token)] = b
}

func (s *source) read(context.Context) (server.Published, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.what, s.err
}

// set changes what there is, and notifies.
func (s *source) set(change func()) {
	s.mu.Lock()
	bearers := map[[sha256.Size]byte]server.Bearer{}
	for hash, b := range s.what.Bearers {
		bearers[hash] = b
	}
	s.what = server.Published{Routes: slices.Clone(s.what.Routes), Bearers: bearers}
	change()
	notify := s.notify
	s.mu.Unlock()
	if notify != nil {
		notify()
	}
}

func (s *source) notified(ctx context.Context, changed func()) error {
	s.mu.Lock()
	s.notify = changed
	s.mu.Unlock()
	changed()
	<-ctx.Done()
	return ctx.Err()
}

func published(migration string, phase phases.Phase, percent phases.Percent, epoch int64) server.PublishedRoute {
	return server.PublishedRoute{Migration: migration, Route: phases.Route{Phase: phase, Percent: percent, Epoch: epoch}, Lease: 15 * time.Second}
}

// flagging serves flags of a state on loopback, and returns the base URL once they were read.
func flagging(t *testing.T, s *source, f *server.Flags) string {
	t.Helper()
	f.Directory = &server.Directory{Read: s.read, Notified: s.notified}
	mux := http.NewServeMux()
	f.Register(mux)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	var all sync.WaitGroup
	all.Go(func() { _ = f.Run(ctx) })
	all.Go(func() { _ = server.Serve(ctx, listener, mux, server.Options{}) })
	t.Cleanup(func() { stop(); all.Wait() })
	base := "http://" + listener.Addr().String()
	for {
		if r := ask(t, base, "mgt_one", "", `{"context":{"targetingKey":"1"}}`); r.status != http.StatusInternalServerError {
			return base
		}
	}
}

type reply struct {
	status int
	header http.Header
	body   string
	doc    map[string]any
}

// ask evaluates one flag, or all for "".
func ask(t *testing.T, base, token, key, body string, headers ...string) reply {
	t.Helper()
	url := base + "/ofrep/v1/evaluate/flags"
	if key != "" {
		url += "/" + key
	}
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	return do(t, r)
}

func do(t *testing.T, r *http.Request) reply {
	t.Helper()
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = answer.Body.Close() }()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	got := reply{status: answer.StatusCode, header: answer.Header, body: string(text)}
	_ = json.Unmarshal(text, &got.doc)
	return got
}

func (r reply) field(path ...string) any {
	var v any = r.doc
	for _, p := range path {
		m, _ := v.(map[string]any)
		v = m[p]
	}
	return v
}

func keyed(key string) string { return fmt.Sprintf(`{"context":{"targetingKey":%q}}`, key) }

// TestOFREPSingleEvaluation: the schema evaluationSuccess, for each flag in each phase.
func TestOFREPSingleEvaluation(t *testing.T) {
	t.Parallel()
	s := newSource(published("products", phases.Legacy, 0, 7))
	base := flagging(t, s, &server.Flags{})
	for _, c := range []struct {
		phase                phases.Phase
		percent              phases.Percent
		shadow               phases.Shadow
		read, writes, ack    string
		routed               string
		sampled              any
		readReason, sampledR string
	}{
		{phases.Legacy, 0, 0, "legacy", "legacy", "legacy", "legacy", false, "STATIC", "STATIC"},
		{phases.ShadowWrite, 0, 0, "legacy", "background", "legacy", "legacy", false, "STATIC", "STATIC"},
		{phases.DualRead, phases.All, 0, "legacy", "both", "both", "legacy", true, "STATIC", "STATIC"},
		{phases.Cutover, phases.All, phases.SetShadow(0), "target", "both", "both", "split", false, "SPLIT", "STATIC"},
		{phases.Grace, 0, 0, "target", "both", "both", "target", nil, "STATIC", "UNKNOWN"},
		{phases.Grace, 0, phases.SetShadow(phases.All), "target", "both", "both", "target", true, "STATIC", "STATIC"},
		{phases.Fenced, 0, 0, "target", "wait", "none", "target", false, "STATIC", "STATIC"},
		{phases.Retain, 0, 0, "target", "target", "target", "target", false, "STATIC", "STATIC"},
		{phases.Complete, 0, 0, "target", "target", "target", "target", false, "STATIC", "STATIC"},
	} {
		s.set(func() {
			s.what.Routes = []server.PublishedRoute{published("products", c.phase, c.percent, s.what.Routes[0].Route.Epoch+1)}
			s.what.Routes[0].Route.Shadow = c.shadow
		})
		epoch := float64(s.what.Routes[0].Route.Epoch)
		var r reply
		for r = ask(t, base, "mgt_one", "migrator.products.phase", keyed("42")); r.field("metadata", "epoch") != epoch; {
			r = ask(t, base, "mgt_one", "migrator.products.phase", keyed("42"))
		}
		if r.status != http.StatusOK || r.field("key") != "migrator.products.phase" || r.field("value") != string(c.phase) || r.field("variant") != string(c.phase) || r.field("reason") != "STATIC" {
			t.Errorf("%s: %s", c.phase, r.body)
		}
		if r.header.Get("Content-Type") != "application/json" || r.header.Get("Cache-Control") != "no-store" {
			t.Errorf("headers: %v", r.header)
		}
		if r := ask(t, base, "mgt_one", "migrator.products.read", keyed("42")); r.field("value") != c.read || r.field("reason") != c.readReason || r.field("metadata", "epoch") != epoch {
			t.Errorf("%s: %s", c.phase, r.body)
		}
		if r := ask(t, base, "mgt_one", "migrator.products.sampled", keyed("42")); r.field("value") != c.sampled || r.field("reason") != c.sampledR {
			t.Errorf("%s: %s", c.phase, r.body)
		}
		r = ask(t, base, "mgt_one", "migrator.products.routing", keyed("42"))
		if r.field("value", "read") != c.routed || r.field("value", "writes") != c.writes || r.field("value", "acknowledgement") != c.ack ||
			r.field("value", "epoch") != epoch || r.field("value", "leaseSeconds") != 15.0 {
			t.Errorf("%s: %s", c.phase, r.body)
		}
	}
}

// TestOFREPErrorCodes: each error code with its status, in the schemas evaluationFailure, flagNotFound and bulkEvaluationFailure.
func TestOFREPErrorCodes(t *testing.T) {
	t.Parallel()
	base := flagging(t, newSource(published("products", phases.Cutover, 500, 7), published("orders", phases.Legacy, 0, 1)), &server.Flags{})
	for _, c := range []struct {
		token, key, body string
		status           int
		code             string
	}{
		{"mgt_one", "migrator.products.read", `{`, 400, "PARSE_ERROR"},
		{"mgt_one", "migrator.products.read", ``, 400, "PARSE_ERROR"},
		{"mgt_one", "migrator.products.read", `[]`, 400, "INVALID_CONTEXT"},
		{"mgt_one", "migrator.products.read", `{}`, 400, "INVALID_CONTEXT"},
		{"mgt_one", "migrator.products.read", `{"context":null}`, 400, "INVALID_CONTEXT"},
		{"mgt_one", "migrator.products.read", `{"context":[1]}`, 400, "INVALID_CONTEXT"},
		{"mgt_one", "migrator.products.read", `{"context":{"targetingKey":7}}`, 400, "INVALID_CONTEXT"},
		{"mgt_one", "migrator.products.read", `{"context":{"targetingKey":null}}`, 400, "INVALID_CONTEXT"},
		{"mgt_one", "migrator.products.read", `{"context":{}}`, 400, "TARGETING_KEY_MISSING"},
		{"mgt_one", "migrator.products.sampled", `{"context":{"x":{"y":[1]}}}`, 400, "TARGETING_KEY_MISSING"},
		{"mgt_one", "migrator.products.phase", `{"context":{}}`, 200, ""},
		{"mgt_one", "migrator.products.read", keyed(strings.Repeat("x", 70_000)), 413, "INVALID_CONTEXT"},
		{"mgt_one", "migrator.products.nothing", keyed("1"), 404, "FLAG_NOT_FOUND"},
		{"mgt_one", "nothing", keyed("1"), 404, "FLAG_NOT_FOUND"},
		{"mgt_other", "migrator.products.phase", keyed("1"), 404, "FLAG_NOT_FOUND"}, // of a migration that it may not see
		{"mgt_other", "migrator.orders.phase", keyed("1"), 200, ""},
		{"", "migrator.products.phase", keyed("1"), 401, "GENERAL"},
		{"mgt_unknown", "migrator.products.phase", keyed("1"), 401, "GENERAL"},
	} {
		r := ask(t, base, c.token, c.key, c.body)
		code, _ := r.field("errorCode").(string)
		if r.status != c.status || code != c.code {
			t.Errorf("%s %.60s: %d %s", c.key, c.body, r.status, r.body)
		}
		if c.status == 404 && r.field("key") != c.key || c.status >= 400 && r.field("errorDetails") == "" {
			t.Errorf("%s: %s", c.key, r.body)
		}
		if c.status != 404 && c.status != 200 && c.status != 401 { // the same of all flags
			if bulk := ask(t, base, c.token, "", c.body); c.code != "TARGETING_KEY_MISSING" && (bulk.status != c.status || bulk.field("errorCode") != c.code) {
				t.Errorf("bulk %.60s: %d %s", c.body, bulk.status, bulk.body)
			}
		}
	}
	// In a bulk answer, what needs the key fails by itself.
	bulk := ask(t, base, "mgt_one", "", `{"context":{}}`)
	if bulk.status != 200 || strings.Count(bulk.body, "TARGETING_KEY_MISSING") != 4 || !strings.Contains(bulk.body, `"value":"cutover"`) {
		t.Errorf("bulk without a key: %d %s", bulk.status, bulk.body)
	}
	for _, method := range []string{http.MethodGet, http.MethodPut, http.MethodDelete} {
		r, _ := http.NewRequestWithContext(t.Context(), method, base+"/ofrep/v1/evaluate/flags", nil)
		if got := do(t, r); got.status != http.StatusMethodNotAllowed {
			t.Errorf("%s: %d", method, got.status)
		}
	}
}

// TestOFREPCredentials: a bearer token or an API key, checked before the page, the rate and the body.
func TestOFREPCredentials(t *testing.T) {
	t.Parallel()
	s := newSource(published("products", phases.Legacy, 0, 7))
	base := flagging(t, s, &server.Flags{Origins: []string{"https://shop.example"}})
	if r := ask(t, base, "", "migrator.products.phase", keyed("1"), "X-API-Key", "mgt_one"); r.status != http.StatusOK {
		t.Errorf("an API key: %d %s", r.status, r.body)
	}
	r := ask(t, base, "", "", "{")
	if r.status != http.StatusUnauthorized || r.header.Get("WWW-Authenticate") != "Bearer" {
		t.Errorf("the body was read before the token: %d %v", r.status, r.header)
	}
	if r := ask(t, base, "mgt_one", "", keyed("1"), "Origin", "https://evil.example"); r.status != http.StatusForbidden || r.header.Get("Access-Control-Allow-Origin") != "" {
		t.Errorf("another page: %d %v", r.status, r.header)
	}
	if r := ask(t, base, "mgt_one", "", keyed("1"), "Origin", "https://shop.example"); r.status != http.StatusOK || r.header.Get("Access-Control-Allow-Origin") != "https://shop.example" ||
		!strings.Contains(r.header.Get("Access-Control-Expose-Headers"), "ETag") {
		t.Errorf("a page that may: %d %v", r.status, r.header)
	}
	for origin, want := range map[string]int{"https://shop.example": http.StatusNoContent, "https://evil.example": http.StatusForbidden, "null": http.StatusForbidden} {
		r, _ := http.NewRequestWithContext(t.Context(), http.MethodOptions, base+"/ofrep/v1/evaluate/flags", nil)
		r.Header.Set("Origin", origin)
		r.Header.Set("Access-Control-Request-Method", "POST")
		if got := do(t, r); got.status != want {
			t.Errorf("preflight of %s: %d", origin, got.status)
		}
	}
	s.set(func() { delete(s.what.Bearers, hashed("mgt_one")) })
	for ask(t, base, "mgt_one", "", keyed("1")).status != http.StatusUnauthorized { // revoked
	}
	s.set(func() {
		s.what.Bearers[hashed("mgt_two")] = server.Bearer{ID: 3, Until: time.Now().Add(-time.Millisecond), Migrations: map[string]bool{"products": true}}
	})
	if r := ask(t, base, "mgt_two", "", keyed("1")); r.status != http.StatusUnauthorized {
		t.Errorf("an expired token: %d", r.status)
	}
}

// TestOFREPEntityTags: they cover the configuration and the context; a 304 has no body.
func TestOFREPEntityTags(t *testing.T) {
	t.Parallel()
	s := newSource(published("products", phases.Cutover, 5000, 7))
	base := flagging(t, s, &server.Flags{})
	first := ask(t, base, "mgt_one", "", keyed("1"))
	tag := first.header.Get("ETag")
	if first.status != http.StatusOK || len(tag) < 4 || tag[0] != '"' {
		t.Fatalf("%d %v %s", first.status, first.header, first.body)
	}
	for _, given := range []string{tag, "W/" + tag, `"x", ` + tag, "*"} {
		if r := ask(t, base, "mgt_one", "", keyed("1"), "If-None-Match", given); r.status != http.StatusNotModified || r.body != "" || r.header.Get("ETag") != tag {
			t.Errorf("If-None-Match %s: %d %q", given, r.status, r.body)
		}
	}
	// Another context, another caller, another configuration: another answer.
	for what, r := range map[string]reply{
		"another key":    ask(t, base, "mgt_one", "", keyed("2"), "If-None-Match", tag),
		"no key":         ask(t, base, "mgt_one", "", `{"context":{}}`, "If-None-Match", tag),
		"an empty key":   ask(t, base, "mgt_one", "", keyed(""), "If-None-Match", tag),
		"another caller": ask(t, base, "mgt_other", "", keyed("1"), "If-None-Match", tag),
	} {
		if r.status != http.StatusOK || r.header.Get("ETag") == tag {
			t.Errorf("%s: %d %s", what, r.status, r.body)
		}
	}
	s.set(func() { s.what.Routes[0].Route.Epoch = 8 })
	for ask(t, base, "mgt_one", "", keyed("1"), "If-None-Match", tag).status != http.StatusOK {
	}
	// An event that names a configuration which this process has not read yet makes it read.
	s.mu.Lock()
	s.what.Routes = []server.PublishedRoute{published("products", phases.Grace, 0, 9)}
	s.mu.Unlock()
	r, _ := http.NewRequestWithContext(t.Context(), http.MethodPost, base+`/ofrep/v1/evaluate/flags?flagConfigEtag=%22new%22&flagConfigLastModified=1771622898`, strings.NewReader(keyed("1")))
	r.Header.Set("Authorization", "Bearer mgt_one")
	if got := do(t, r); !strings.Contains(got.body, `"epoch":9`) {
		t.Errorf("after an event: %s", got.body)
	}
}

// TestOFREPTooManyRequests: 429 with Retry-After, for each token by itself.
func TestOFREPTooManyRequests(t *testing.T) {
	t.Parallel()
	base := flagging(t, newSource(published("orders", phases.Legacy, 0, 1)), &server.Flags{Rate: 1})
	var r reply
	refused := 0
	for tries := 0; refused < 8 && tries < 1000; tries++ {
		if r = ask(t, base, "mgt_one", "", keyed("1")); r.status != http.StatusTooManyRequests {
			continue
		}
		refused++
		// A second's rate has room within that, however often the caller was refused.
		if seconds, err := strconv.Atoi(r.header.Get("Retry-After")); err != nil || seconds < 1 || seconds > 2 {
			t.Fatalf("refusal %d: Retry-After %q", refused, r.header.Get("Retry-After"))
		}
	}
	if refused < 8 {
		t.Errorf("%d are refused", refused)
	}
	if r := ask(t, base, "mgt_other", "", keyed("1")); r.status != http.StatusOK {
		t.Errorf("another token: %d", r.status)
	}
	for range 200 {
		if r = ask(t, base, "mgt_guess", "", keyed("1")); r.status == http.StatusTooManyRequests {
			return
		}
	}
	t.Error("guesses are not limited")
}

// stream is an open event stream.
type stream struct {
	t     *testing.T
	close func()
	lines *bufio.Reader
	resp  *http.Response
}

func (r reply) streamURL(t *testing.T, base string) string {
	t.Helper()
	list, _ := r.doc["eventStreams"].([]any)
	if len(list) != 1 {
		t.Fatalf("no eventStreams: %s", r.body)
	}
	one, _ := list[0].(map[string]any)
	endpoint, _ := one["endpoint"].(map[string]any)
	uri, _ := endpoint["requestUri"].(string)
	if one["type"] != "sse" || !strings.HasPrefix(uri, "/") || one["url"] != nil {
		t.Fatalf("event stream: %v", one)
	}
	if delay, _ := one["inactivityDelaySec"].(float64); delay < 1 || delay != server.Inactivity.Seconds() {
		t.Errorf("inactivityDelaySec %v", delay)
	}
	return base + uri
}

func opened(t *testing.T, url, last string) *stream {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	if last != "" {
		r.Header.Set("Last-Event-ID", last)
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	s := &stream{t, func() { _ = resp.Body.Close() }, bufio.NewReader(resp.Body), resp}
	t.Cleanup(s.close)
	return s
}

// event reads one event: its id and data. A comment is an event without either.
func (s *stream) event() (id string, data map[string]any, err error) {
	for {
		line, err := s.lines.ReadString('\n')
		if err != nil {
			return "", nil, err
		}
		line = strings.TrimSuffix(line, "\n")
		switch {
		case strings.HasPrefix(line, "id: "):
			id = line[4:]
		case strings.HasPrefix(line, "event: ") && line != "event: message":
			s.t.Errorf("the envelope's event is always message: %s", line)
		case strings.HasPrefix(line, "data: "):
			if err := json.Unmarshal([]byte(line[6:]), &data); err != nil {
				s.t.Errorf("%s: %v", line, err)
			}
		case line == ":":
			return "", nil, nil
		case line == "" && data != nil:
			return id, data, nil
		}
	}
}

// TestOFREPEventStreams: a change reaches the stream, a new stream names the present configuration, a reconnection that knows
// it hears nothing, and heartbeats come more often than the advertised inactivity.
func TestOFREPEventStreams(t *testing.T) {
	t.Parallel()
	s := newSource(published("products", phases.Cutover, 500, 7), published("orders", phases.Legacy, 0, 1))
	base := flagging(t, s, &server.Flags{Heartbeat: 20 * time.Millisecond})
	bulk := ask(t, base, "mgt_one", "", keyed("1"))
	url := bulk.streamURL(t, base)
	first := opened(t, url, "")
	if first.resp.Header.Get("Content-Type") != "text/event-stream" {
		t.Errorf("%v", first.resp.Header)
	}
	change := func(s *stream) (string, map[string]any) {
		t.Helper()
		for {
			id, data, err := s.event()
			if err != nil {
				t.Fatal(err)
			}
			if data != nil {
				return id, data
			}
		}
	}
	id, data := change(first)
	if data["type"] != "refetchEvaluation" || data["etag"] != bulk.field("metadata", "flagConfigEtag") || id == "" {
		t.Errorf("the first event: %s %v, after %s", id, data, bulk.body)
	}
	again := opened(t, url, id)
	if _, data, err := again.event(); data != nil || err != nil {
		t.Errorf("a reconnection that has missed nothing got %v, %v", data, err)
	}
	s.set(func() { s.what.Routes[0].Route.Percent, s.what.Routes[0].Route.Epoch = 1000, 8 })
	for _, open := range []*stream{first, again} {
		if next, data := change(open); next == id || data["etag"] == bulk.field("metadata", "flagConfigEtag") {
			t.Errorf("after a ramp step: %s %v", next, data)
		}
	}
	if r := ask(t, base, "mgt_one", "", keyed("1")); !strings.Contains(r.body, `"epoch":8`) {
		t.Errorf("the answer is older than its event: %s", r.body)
	}
	// A change that this caller may not see is none.
	other := opened(t, ask(t, base, "mgt_other", "", keyed("1")).streamURL(t, base), "")
	change(other)
	s.set(func() { s.what.Routes[0].Route.Epoch = 9 })
	change(first)
	for range 3 {
		if _, data, err := other.event(); data != nil || err != nil {
			t.Errorf("another caller's change: %v %v", data, err)
		}
	}
	// The token's end is the stream's.
	s.set(func() { delete(s.what.Bearers, hashed("mgt_one")) })
	for {
		if _, _, err := first.event(); err != nil {
			break
		}
	}
	s.set(func() {
		b := s.what.Bearers[hashed("mgt_other")]
		b.Until = time.Now()
		s.what.Bearers[hashed("mgt_other")] = b
	})
	ended := false
	for beats := 0; !ended && beats < 500; beats++ {
		_, _, err := other.event()
		ended = err != nil
	}
	if !ended {
		t.Error("the stream goes on after its token has expired")
	}
	for _, bad := range []string{url, base + "/ofrep/v1/events", base + "/ofrep/v1/events?ticket=1.x", strings.Replace(url, "ticket=1", "ticket=2", 1)} {
		if closed := opened(t, bad, ""); closed.resp.StatusCode != http.StatusUnauthorized {
			t.Errorf("%s: %d", bad, closed.resp.StatusCode)
		}
	}
}

// TestAnswersThatCanNotBeFreshSaySoThenFail, and clients with a stream hear of either.
func TestAnswersThatCanNotBeFreshSaySoThenFail(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newSource(published("products", phases.Cutover, 500, 7))
		for hash, b := range s.what.Bearers {
			b.Until = time.Now().Add(time.Hour)
			s.what.Bearers[hash] = b
		}
		f := &server.Flags{Directory: &server.Directory{Read: s.read}}
		mux := http.NewServeMux()
		f.Register(mux)
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- f.Run(ctx) }()
		evaluate := func() reply {
			w := httptest.NewRecorder()
			r := httptest.NewRequest(http.MethodPost, "/ofrep/v1/evaluate/flags", strings.NewReader(keyed("1")))
			r.Header.Set("Authorization", "Bearer mgt_one")
			mux.ServeHTTP(w, r)
			got := reply{status: w.Code, header: w.Header(), body: w.Body.String()}
			_ = json.Unmarshal(w.Body.Bytes(), &got.doc)
			return got
		}
		synctest.Wait()
		fresh := evaluate()
		if fresh.status != http.StatusOK || fresh.field("metadata", "stale") != nil {
			t.Errorf("fresh: %s", fresh.body)
		}
		s.mu.Lock()
		s.err = errors.New("the state is down")
		s.mu.Unlock()
		time.Sleep(server.FreshFor + 2*time.Second)
		synctest.Wait()
		stale := evaluate()
		if stale.status != http.StatusOK || stale.field("metadata", "stale") != true || stale.header.Get("ETag") == fresh.header.Get("ETag") || !strings.Contains(stale.body, `"ageSeconds"`) {
			t.Errorf("stale: %d %s", stale.status, stale.body)
		}
		time.Sleep(server.ServedFor)
		synctest.Wait()
		if over := evaluate(); over.status != http.StatusInternalServerError || over.field("errorCode") != "GENERAL" {
			t.Errorf("too old: %d %s", over.status, over.body)
		}
		s.mu.Lock()
		s.err = nil
		s.mu.Unlock()
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if back := evaluate(); back.status != http.StatusOK || back.header.Get("ETag") != fresh.header.Get("ETag") {
			t.Errorf("back: %d %s", back.status, back.body)
		}
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// TestTheShareIsDualsOwn: key by key, the flag read names the store that an instance reads.
func TestTheShareIsDualsOwn(t *testing.T) {
	t.Parallel()
	s := newSource(published("products", phases.Cutover, 3700, 1))
	base := flagging(t, s, &server.Flags{Rate: 10_000})
	fleet := dual.NewMemoryFleet(phases.Route{Phase: phases.Cutover, Percent: 3700})
	i, err := dual.Join(t.Context(), dual.Config{Fleet: fleet})
	if err != nil {
		t.Fatal(err)
	}
	reader, err := dual.NewReader(dual.ReaderConfig[string, string]{
		Instance: i, NoShadow: true, Equal: func(a, b string) bool { return a == b },
		Key:    func(k string) record.Key { return record.Key(k) },
		Legacy: func(context.Context, string) (string, bool, error) { return "legacy", true, nil },
		Target: answers{},
	})
	if err != nil {
		t.Fatal(err)
	}
	both := map[string]int{}
	for n := range 300 {
		key := "product:" + strconv.Itoa(n)
		want, _, err := reader.Get(t.Context(), key)
		if err != nil {
			t.Fatal(err)
		}
		both[want]++
		if r := ask(t, base, "mgt_one", "migrator.products.read", keyed(key)); r.field("value") != want {
			t.Errorf("%s: %s, an instance reads %s", key, r.body, want)
		}
	}
	if len(both) != 2 {
		t.Errorf("%v", both)
	}
}

// answers is a target that has every record.
type answers struct{ dual.Target[string, string] }

func (answers) Get(context.Context, string) (dual.Versioned[string], error) {
	return dual.Versioned[string]{Value: "target", Found: true, Version: record.MakeVersion(1, 0, 1)}, nil
}
