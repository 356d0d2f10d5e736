package sources_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stranglerfig/migrator/internal/hint"
	"github.com/stranglerfig/migrator/internal/sources"
	"github.com/stranglerfig/migrator/phases"
)

// certificate makes a certificate for 127.0.0.1 and returns its file and its key's.
func certificate(t *testing.T, dir string) (cert, key string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	about := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
	}
	public, err := x509.CreateCertificate(rand.Reader, about, about, &private.PublicKey, private)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalECPrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	cert, key = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	write(t, cert, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: public})))
	write(t, key, string(pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: secret})))
	return cert, key
}

func serve(t *testing.T, f http.HandlerFunc) string {
	t.Helper()
	s := httptest.NewServer(f)
	t.Cleanup(s.Close)
	return s.URL
}

// answer is Prometheus's response to the request: the value, or the sample's time.
func answer(r *http.Request, at time.Time, value string) string {
	if strings.HasPrefix(r.FormValue("query"), "timestamp(") {
		value = fmt.Sprint(at.Unix())
	}
	return fmt.Sprintf(`{"status":"success","data":{"resultType":"vector","result":[{"metric":{},"value":[%d,%q]}]}}`, at.Unix(), value)
}

// What a proxy, a cache or another server at that address may answer.
func TestPrometheusUnexpectedResponses(t *testing.T) {
	t.Parallel()
	text := func(s string) func(*http.Request) string { return func(*http.Request) string { return s } }
	gives := func(ago time.Duration, value string) func(*http.Request) string {
		return func(r *http.Request) string { return answer(r, time.Now().Add(-ago), value) }
	}
	for name, c := range map[string]struct {
		code    int
		body    func(r *http.Request) string
		verdict phases.Verdict
		value   float64
		detail  string
	}{
		"a login page":    {200, text("<html>please log in</html>"), phases.Error, 0, "a login page"},
		"a proxy's error": {502, text("upstream is down"), phases.Error, 0, "502: upstream is down"},
		"too many":        {429, text("slow down"), phases.Error, 0, "429"},
		"refused":         {422, text(`{"status":"error","errorType":"execution","error":"query processing would load too many samples"}`), phases.Error, 0, "too many samples"},
		"an old answer":   {200, gives(5*time.Minute, "1"), phases.NoData, 0, " old, and 1m0s is the limit"},
		"a warned answer": {200, func(r *http.Request) string {
			return strings.Replace(answer(r, time.Now(), "1"), `"data"`, `"warnings":["a store\nis down"],"data"`, 1)
		}, "", 1, "Prometheus warns: a store\\nis down"},
		"an endless one":   {200, text(strings.Repeat("[", 2<<20)), phases.Error, 0, "longer than"},
		"nothing":          {200, text(""), phases.Error, 0, "answers with nothing: HTTP 200"},
		"no data":          {200, text(`{"status":"success","data":null}`), phases.Error, 0, ""},
		"a result of text": {200, gives(0, "many"), phases.Error, 0, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url := serve(t, func(w http.ResponseWriter, r *http.Request) {
				w.WriteHeader(c.code)
				fmt.Fprint(w, c.body(r))
			})
			check(t, (&sources.Prometheus{URL: url, Query: "up"}).Read(t.Context()), c.verdict, c.value, c.detail)
		})
	}
}

func TestPrometheusTokens(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "token")
	elsewhere := make(chan string, 8)
	other := serve(t, func(w http.ResponseWriter, r *http.Request) {
		elsewhere <- r.Header.Get("Authorization")
		fmt.Fprint(w, answer(r, time.Now(), "2"))
	})
	url := serve(t, func(w http.ResponseWriter, r *http.Request) {
		got := r.Header.Get("Authorization")
		switch {
		case strings.HasPrefix(r.URL.Path, "/moved"):
			http.Redirect(w, r, other+"/api/v1/query", http.StatusTemporaryRedirect)
		case got != "Bearer one" && got != "Bearer two":
			http.Error(w, "you sent "+got, http.StatusForbidden)
		default:
			fmt.Fprint(w, answer(r, time.Now(), "1"))
		}
	})
	source := &sources.Prometheus{URL: url, Query: "up", TokenFile: file}
	check(t, source.Read(t.Context()), phases.Error, 0, "no such file")
	for _, token := range []string{"one", "two\n"} { // replaced while the daemon runs
		write(t, file, token)
		check(t, source.Read(t.Context()), "", 1, "up is 1")
	}
	write(t, file, "geheim")
	check(t, source.Read(t.Context()), phases.Error, 0, "403: you sent Bearer ***")
	for text, want := range map[string]string{"": "is empty", "geheim\nX-Other: 1": "one word"} {
		write(t, file, text)
		got := source.Read(t.Context())
		check(t, got, phases.Error, 0, want)
		if strings.Contains(got.Detail, "geheim") {
			t.Errorf("the token is shown: %s", got.Detail)
		}
	}
	write(t, file, "one")
	moved := &sources.Prometheus{URL: url + "/moved", Query: "up", TokenFile: file}
	check(t, moved.Read(t.Context()), "", 2, "up is 2")
	if got := <-elsewhere; got != "" {
		t.Errorf("another host was sent %q", got)
	}
	for url, want := range map[string]string{
		"http://user:geheim@host": "has a user in it", "host:9090": "is not http", "ftp://host": "is not http", "http://[": "is not http",
	} {
		got := (&sources.Prometheus{URL: url, Query: "up"}).Read(t.Context())
		check(t, got, phases.Error, 0, want)
		if strings.Contains(got.Detail, "geheim") {
			t.Errorf("the password is shown: %s", got.Detail)
		}
	}
}

func TestPrometheusTokenFromEnvironment(t *testing.T) {
	t.Setenv("SOURCES_TEST_TOKEN", "three")
	url := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") == "Bearer three" {
			fmt.Fprint(w, answer(r, time.Now(), "3"))
		}
	})
	source := &sources.Prometheus{URL: url, Query: "up", TokenEnv: "SOURCES_TEST_TOKEN"}
	check(t, source.Read(t.Context()), "", 3, "up is 3")
	source.TokenFile = "too"
	check(t, source.Read(t.Context()), phases.Error, 0, "want one of them")
}

// TestForeignFailuresOfPrometheus: each row of the table is what a real HTTP server in that state gives.
// The reading names it, and what to set.
func TestForeignFailuresOfPrometheus(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	says := func(source *sources.Prometheus, code string, words ...string) {
		t.Helper()
		seen[code] = true
		f, ok := hint.Row(hint.Prometheus, code)
		if !ok {
			t.Fatalf("there is no row %s", code)
		}
		got := source.Read(t.Context())
		check(t, got, phases.Error, 0, f.What)
		for _, word := range append(words, f.Remedy("prometheus.url").Text) {
			if !strings.Contains(got.Detail, word) {
				t.Errorf("%s: %s: lacks %q", code, got.Detail, word)
			}
		}
	}
	at := func(url string) *sources.Prometheus { return &sources.Prometheus{URL: url, Query: "up"} }
	page := func(code int, kind, body string) *sources.Prometheus {
		return at(serve(t, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", kind)
			w.WriteHeader(code)
			fmt.Fprint(w, body)
		}))
	}
	login := serve(t, func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "<!DOCTYPE html><title>Sign in</title>") })
	says(at(serve(t, func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, login+"/login", http.StatusFound) })), "login", strings.TrimPrefix(login, "http://"))
	says(page(200, "text/html", "<html>"), "login", "HTTP 200")
	says(page(200, "application/json", ""), "empty")
	says(page(200, "text/plain", "ok"), "not-json")
	says(page(401, "text/plain", "Unauthorized"), "401")
	says(page(403, "text/html", "<h1>Forbidden</h1>"), "403")
	says(page(404, "text/plain", "404 page not found"), "404")
	says(page(429, "text/plain", "slow down"), "429")
	says(page(503, "text/html", "<h1>Service Unavailable</h1>"), "503")
	says(at("http://no-such-host.invalid:9090"), "no-host")
	says(at("http://127.0.0.1:1"), "refused", "connection refused")
	release := make(chan struct{})
	slow := at(serve(t, func(_ http.ResponseWriter, r *http.Request) {
		select {
		case <-release:
		case <-r.Context().Done():
		}
	}))
	slow.Timeout = 50 * time.Millisecond
	seen["timeout"] = true
	check(t, slow.Read(t.Context()), phases.Error, 0, "did not answer within 50ms; make the query cheaper")
	close(release)
	says(at(strings.Replace(login, "http://", "https://", 1)), "tls-not-spoken")
	secure := httptest.NewUnstartedServer(http.NotFoundHandler())
	secure.Config.ErrorLog = log.New(io.Discard, "", 0)
	secure.StartTLS()
	defer secure.Close()
	says(at(strings.Replace(secure.URL, "https://", "http://", 1)), "tls-demanded")
	says(at(secure.URL), "tls-untrusted", "unknown authority")
	for code, c := range map[string]*x509.Certificate{
		"tls-name":    {DNSNames: []string{"prometheus.internal"}, NotAfter: time.Now().Add(time.Hour)},
		"tls-expired": {IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, NotBefore: time.Now().Add(-48 * time.Hour), NotAfter: time.Now().Add(-time.Hour)},
	} {
		c.SerialNumber = big.NewInt(1)
		private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		der, err := x509.CreateCertificate(rand.Reader, c, c, &private.PublicKey, private)
		if err != nil {
			t.Fatal(err)
		}
		server := httptest.NewUnstartedServer(http.NotFoundHandler())
		server.TLS = &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: private}}, MinVersion: tls.VersionTLS12}
		server.Config.ErrorLog = log.New(io.Discard, "", 0)
		server.StartTLS()
		defer server.Close()
		says(at(server.URL), code)
	}
	for _, f := range hint.Failures() {
		if f.System == hint.Prometheus && !seen[f.Code] {
			t.Errorf("no server here was brought to %s", f.Code)
		}
	}
}
