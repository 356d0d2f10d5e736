package server_test

import (
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"testing"

	"github.com/stranglerfig/migrator/internal/server"
	"github.com/stranglerfig/migrator/internal/test/testenv"
)

// TestCertificatesAreReadAgain: a handshake sees the files as they are; files that can't be used leave the former ones; and
// with an authority for clients, one without its certificate gets no answer.
func TestCertificatesAreReadAgain(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	ours, clients := testenv.NewAuthority(t), testenv.NewAuthority(t)
	write := func(name string, text []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	cert, key := ours.Sign("first")
	c := &server.Certificates{Cert: write("tls.crt", cert), Key: write("tls.key", key), ClientCA: write("clients.crt", clients.PEM)}
	if _, err := (&server.Certificates{Cert: c.Cert, Key: c.ClientCA}).Config(); err == nil {
		t.Error("a key that is none was taken")
	}
	if _, err := (&server.Certificates{Cert: c.Cert, Key: c.Key, ClientCA: c.Key}).Config(); err == nil {
		t.Error("an authority that is none was taken")
	}
	config, err := c.Config()
	if err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() {
		done <- server.Serve(ctx, listener, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "ok") }), server.Options{TLS: config})
	}()
	t.Cleanup(func() { stop(); <-done })

	get := func(with *testenv.Authority) (server string, err error) {
		conf := &tls.Config{RootCAs: ours.Pool(), MinVersion: tls.VersionTLS12}
		if with != nil {
			cert, key := with.Sign("client")
			pair, err := tls.X509KeyPair(cert, key)
			if err != nil {
				t.Fatal(err)
			}
			conf.Certificates = []tls.Certificate{pair}
		}
		client := &http.Client{Transport: &http.Transport{TLSClientConfig: conf, ForceAttemptHTTP2: true}}
		defer client.CloseIdleConnections()
		r, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://"+listener.Addr().String()+"/", nil)
		answer, err := client.Do(r)
		if err != nil {
			return "", err
		}
		defer func() { _ = answer.Body.Close() }()
		return answer.TLS.PeerCertificates[0].Subject.CommonName, nil
	}
	want := func(name string) {
		t.Helper()
		if got, err := get(clients); err != nil || got != name {
			t.Errorf("%q, %v, want %q", got, err, name)
		}
	}
	want("first")
	for what, with := range map[string]*testenv.Authority{"no certificate": nil, "another authority's": ours} {
		if _, err := get(with); err == nil {
			t.Errorf("%s: answered", what)
		}
	}
	cert, key = ours.Sign("second one") // of another length
	write("tls.crt", cert)
	want("first") // the key does not fit yet
	write("tls.key", key)
	want("second one")
	_ = os.Remove(c.Cert)
	want("second one")
	other := testenv.NewAuthority(t)
	write("tls.crt", cert)
	want("second one")
	// The authority's file alone has changed.
	if err := os.WriteFile(c.ClientCA, append(other.PEM, '\n'), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := get(clients); err == nil {
		t.Error("clients of the former authority are answered")
	}
	if got, err := get(other); err != nil || got != "second one" {
		t.Errorf("clients of the new authority: %q, %v", got, err)
	}
	client := &http.Client{}
	defer client.CloseIdleConnections()
	r, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+listener.Addr().String()+"/", nil)
	if answer, err := client.Do(r); err == nil {
		if answer.StatusCode < 400 {
			t.Error("plain HTTP was answered")
		}
		_ = answer.Body.Close()
	}
}

// TestHostsOfTheSettings: with names, requests for others are refused.
func TestHostsOfTheSettings(t *testing.T) {
	t.Parallel()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() {
		done <- server.Serve(ctx, listener, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "ok") }), server.Options{Hosts: []string{"migrator.example"}})
	}()
	t.Cleanup(func() { stop(); <-done })
	for host, want := range map[string]int{"migrator.example": 200, "MIGRATOR.example:7070": 200, "localhost": 200, "evil.example": http.StatusMisdirectedRequest} {
		if code, _ := speak(t, listener.Addr().String(), "GET / HTTP/1.1\r\nHost: "+host+"\r\n\r\n"); code != want {
			t.Errorf("%s: %d", host, code)
		}
	}
}
