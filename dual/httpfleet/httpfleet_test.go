package httpfleet_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	neturl "net/url"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stranglerfig/migrator/dual"
	"github.com/stranglerfig/migrator/dual/httpfleet"
	"github.com/stranglerfig/migrator/internal/state"
	"github.com/stranglerfig/migrator/internal/test/apitest"
	"github.com/stranglerfig/migrator/internal/test/statetest"
	"github.com/stranglerfig/migrator/internal/test/testenv"
	"github.com/stranglerfig/migrator/phases"
	"github.com/stranglerfig/migrator/record"
)

func TestMain(m *testing.M) { testenv.Main(m) }

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func open(t *testing.T) (owner *state.Store, url string) {
	t.Helper()
	url = statetest.URL(t)
	owner, err := state.Open(t.Context(), url)
	must(t, err)
	t.Cleanup(owner.Close)
	_, _, err = owner.Apply(t.Context(), state.Applied{
		Migration: "products", Environment: "test", Config: []byte(`{"name":"products"}`), ConfigHash: "h1", Schema: []byte(`{"fields":[],"key":[]}`), Reversible: true,
	})
	must(t, err)
	return owner, url
}

func fleet(t *testing.T, o httpfleet.Options) *httpfleet.Fleet {
	t.Helper()
	f, err := httpfleet.New("products", o)
	must(t, err)
	t.Cleanup(f.Close)
	return f
}

func TestOptionsThatCanNotBe(t *testing.T) {
	t.Parallel()
	const at = "https://migrator.example"
	for want, o := range map[string]httpfleet.Options{
		"URLs is empty":          {Token: "t"},
		"URLs[0] can't be used":  {URLs: []string{"migrator.example:7070"}, Token: "t"},
		"URLs[1] can't be used":  {URLs: []string{at, "https://user:secret@migrator.example"}, Token: "t"},
		"http:// off loopback":   {URLs: []string{"http://migrator.example"}, Token: "t"},
		"one of Options.Token":   {URLs: []string{at}},
		"Token and Options":      {URLs: []string{at}, Token: "t", TokenFile: "f"},
		"CAFile: no does not":    {URLs: []string{at}, Token: "t", CAFile: "no"},
		"no certificate in PEM":  {URLs: []string{at}, Token: "t", CAFile: "doc.go"},
		"want one":               {URLs: []string{at}, Token: "t", CAFile: "doc.go", TLS: &tls.Config{RootCAs: x509.NewCertPool()}},
		"has its own trust":      {URLs: []string{at}, Token: "t", CAFile: "doc.go", Client: http.DefaultClient},
		"the option Lease is 6m": {URLs: []string{at}, Token: "t", Lease: 6 * time.Minute},
	} {
		_, err := httpfleet.New("products", o)
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "secret") {
			t.Errorf("%+v: %v, want %q", o, err, want)
		}
	}
	if _, err := httpfleet.New("products", httpfleet.Options{URLs: []string{"http://migrator.example"}, Token: "t", PlainHTTP: true}); err != nil {
		t.Error(err)
	}
}

// TestALeaseOutlivesItsDaemon: it lives in the state database, and any daemon serves it, also when the first one has
// vanished with its machine: then no answer comes, and none that it is gone.
func TestALeaseOutlivesItsDaemon(t *testing.T) {
	t.Parallel()
	owner, url := open(t)
	first, second := apitest.New(t, owner, url), apitest.New(t, owner, url)
	_, token := first.Application("products")
	second.Await(token)
	gone, err := net.Listen("tcp", "127.0.0.1:0") // accepts, by the kernel, and answers nothing
	must(t, err)
	defer func() { _ = gone.Close() }()
	f := fleet(t, httpfleet.Options{URLs: []string{first.URL, "http://" + gone.Addr().String(), second.URL}, Token: token, Lease: 5 * time.Minute})
	g, err := f.Join(t.Context(), dual.Identity{Instance: "a"})
	must(t, err)
	epochs := make(chan int64, 100)
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- f.Notifications(ctx, func(e int64) { epochs <- e }) }()
	<-epochs
	first.Stop()
	within, cancel := context.WithTimeout(t.Context(), 9*time.Second) // a third of it for each address
	defer cancel()
	if g, err = f.Renew(within, g.Lease, g.Route.Epoch); err != nil {
		t.Fatalf("renewed at no other daemon: %v", err)
	}
	_, err = owner.Transition(t.Context(), "products", func(e phases.Snapshot) (phases.Move, error) {
		return phases.Move{From: e.Status.Route, To: phases.Route{Phase: phases.ShadowWrite}, Cause: phases.CauseAdvance}, nil
	})
	must(t, err)
	if g, err = f.Renew(t.Context(), g.Lease, 2); err != nil || g.Route.Epoch != 2 { // at the one that answered last
		t.Errorf("%+v, %v", g, err)
	}
	must(t, f.Leave(t.Context(), g.Lease))
	stop()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("notifications ended with %v", err)
	}
}

// TestEventsMoveToAnotherDaemon, which notifies of what was missed.
func TestEventsMoveToAnotherDaemon(t *testing.T) {
	t.Parallel()
	owner, url := open(t)
	first, second := apitest.New(t, owner, url), apitest.New(t, owner, url)
	_, token := first.Application("products")
	second.Await(token)
	f := fleet(t, httpfleet.Options{URLs: []string{first.URL, second.URL}, Token: token})
	epochs := make(chan int64, 100)
	go func() { _ = f.Notifications(t.Context(), func(e int64) { epochs <- e }) }()
	if e := <-epochs; e != 1 {
		t.Errorf("epoch %d", e)
	}
	first.Stop()
	_, err := owner.Transition(t.Context(), "products", func(e phases.Snapshot) (phases.Move, error) {
		return phases.Move{From: e.Status.Route, To: phases.Route{Phase: phases.ShadowWrite}, Cause: phases.CauseAdvance}, nil
	})
	must(t, err)
	for e := range epochs {
		if e == 2 {
			break
		}
	}
}

// TestAnOlderDaemonSaysNothingOfCapture: it has no such endpoint, and a comparison is then of the target as it is. Any
// other failure is one.
func TestAnOlderDaemonSaysNothingOfCapture(t *testing.T) {
	t.Parallel()
	owner, url := open(t)
	daemon := apitest.New(t, owner, url)
	_, token := daemon.Application("products")
	to, err := neturl.Parse(daemon.URL)
	must(t, err)
	older := httptest.NewServer(&httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
		r.SetURL(to)
		if before, ok := strings.CutSuffix(r.Out.URL.Path, "/captured"); ok {
			r.Out.URL.Path = before + "/not-yet"
		}
	}})
	defer older.Close()
	f := fleet(t, httpfleet.Options{URLs: []string{older.URL}, Token: token})
	if c, err := f.Captured(t.Context()); err != nil || c != (dual.Captured{}) {
		t.Errorf("an older daemon: %+v, %v", c, err)
	}
	if _, err := f.HasJournaled(t.Context(), record.MakeKey("1")); err != nil {
		t.Errorf("what it has: %v", err)
	}
	older.Close()
	if c, err := f.Captured(t.Context()); err == nil {
		t.Errorf("no daemon: %+v", c)
	}
}

// TestATokenIsReplacedWhileTheApplicationRuns, and a revoked one is refused.
func TestATokenIsReplacedWhileTheApplicationRuns(t *testing.T) {
	t.Parallel()
	owner, url := open(t)
	s := apitest.New(t, owner, url)
	role, old := s.Application("products")
	path := filepath.Join(t.TempDir(), "token")
	f := fleet(t, httpfleet.Options{URLs: []string{s.URL}, TokenFile: path})
	if _, err := f.TargetRead(t.Context()); err == nil || !strings.Contains(err.Error(), "the token's file") {
		t.Errorf("without the file: %v", err)
	}
	must(t, os.WriteFile(path, []byte(old+"\n"), 0o600))
	if _, err := f.TargetRead(t.Context()); err != nil {
		t.Fatal(err)
	}
	next := s.Token(role)
	tokens, err := owner.Tokens(t.Context())
	must(t, err)
	_, err = owner.RevokeToken(t.Context(), tokens[0].ID)
	must(t, err)
	var refused *httpfleet.Error
	if _, err := f.TargetRead(t.Context()); !errors.As(err, &refused) || refused.Code != "bad-token" || refused.Status != http.StatusUnauthorized {
		t.Errorf("a revoked token: %v", err)
	}
	must(t, os.WriteFile(path, []byte(next+"\n\n"), 0o600)) // of another length: a file's time may be too coarse
	if _, err := f.TargetRead(t.Context()); err != nil {
		t.Errorf("after it was replaced: %v", err)
	}
	must(t, os.Remove(path))
	if _, err := f.TargetRead(t.Context()); err != nil {
		t.Errorf("while the file is being replaced: %v", err)
	}
}

// TestADuplicateDeliveryTakesOneLease: an answer is lost after the daemon has acted, at each request once.
func TestADuplicateDeliveryTakesOneLease(t *testing.T) {
	t.Parallel()
	owner, url := open(t)
	s := apitest.New(t, owner, url)
	_, token := s.Application("products")
	var n atomic.Int64
	lossy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		again := n.Add(1)%2 == 0
		out := r.Clone(r.Context())
		out.RequestURI, out.URL.Scheme, out.URL.Host = "", "http", strings.TrimPrefix(s.URL, "http://")
		answer, err := http.DefaultTransport.RoundTrip(out)
		if err != nil || !again { // done, and the client does not hear of it
			panic(http.ErrAbortHandler)
		}
		defer func() { _ = answer.Body.Close() }()
		w.WriteHeader(answer.StatusCode)
		_, _ = io.Copy(w, answer.Body)
	}))
	defer lossy.Close()
	f := fleet(t, httpfleet.Options{URLs: []string{lossy.URL, lossy.URL}, Token: token})
	g, err := f.Join(t.Context(), dual.Identity{Instance: "a"})
	must(t, err)
	g, err = f.Renew(t.Context(), g.Lease, g.Route.Epoch)
	must(t, err)
	_, err = f.Journal(t.Context(), []dual.JournalEntry{{Key: "", Version: record.MakeVersion(1, 0, 5)}, {Key: "\xff"}})
	must(t, err)
	for _, key := range []record.Key{"", "\xff"} {
		if has, err := f.HasJournaled(t.Context(), key); err != nil || !has {
			t.Errorf("the key %q: %v, %v", key, has, err)
		}
	}
	if has, err := f.HasJournaled(t.Context(), "="); err != nil || has {
		t.Errorf("the key =: %v, %v", has, err)
	}
	must(t, f.Leave(t.Context(), g.Lease))
	leases, err := owner.Leases(t.Context(), "products")
	must(t, err)
	if st, err := owner.Status(t.Context(), "products"); err != nil || !st.Dirty.IsZero() || st.JournalKeys != 2 || len(leases) != 0 {
		t.Errorf("%d leases, %+v, %v", len(leases), st, err)
	}
}
