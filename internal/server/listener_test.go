package server_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stranglerfig/migrator/internal/server"
)

// listening serves the endpoints as the daemon does, on a free port of loopback.
func listening(t *testing.T, alerts *server.Alerts) (address string) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	a := &server.API{
		Ping: func(context.Context) error { return nil }, Role: func() string { return "leader" },
		Status:  func(context.Context) (any, error) { return []string{"m"}, nil },
		Metrics: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "metrics") }),
		Alerts:  alerts,
	}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- server.Serve(ctx, listener, a.Handler(), server.Options{}) }()
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return listener.Addr().String()
}

// speak sends the bytes of a request, and returns the answer's code, and its body.
func speak(t *testing.T, address, request string) (int, string) {
	t.Helper()
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	go func() { _, _ = io.WriteString(conn, request) }() // the server may answer before it has read all
	answer, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = answer.Body.Close() }()
	body, _ := io.ReadAll(answer.Body)
	return answer.StatusCode, string(body)
}

// TestHostIsThisMachine: a page in a browser of this machine must not read the endpoints by a name
// that resolves to loopback.
func TestHostIsThisMachine(t *testing.T) {
	t.Parallel()
	address := listening(t, &server.Alerts{Token: secret})
	_, port, _ := net.SplitHostPort(address)
	for host, good := range map[string]bool{
		"127.0.0.1:" + port: true, "localhost": true, "LOCALHOST:" + port: true, "[::1]:" + port: true, "127.1.2.3": true, "[::ffff:127.0.0.1]": true,
		"evil.example": false, "evil.example:" + port: false, "localhost.evil.example": false, "127.0.0.1.nip.io": false,
		"192.0.2.1": false, "0.0.0.0": false, "[::]": false, "": false, "localhost.": false, "127.1": false, "2130706433": false,
	} {
		for _, line := range []string{"GET /healthz", "GET /status", "GET /metrics", "POST /alerts/m", "GET /", "OPTIONS /status"} {
			code, body := speak(t, address, line+" HTTP/1.1\r\nHost: "+host+"\r\nContent-Length: 0\r\n\r\n")
			if (code != http.StatusMisdirectedRequest) != good || !good && !json.Valid([]byte(body)) {
				t.Errorf("%s, Host %q: %d %s", line, host, code, body)
			}
		}
	}
	if code, _ := speak(t, address, "GET /healthz HTTP/1.0\r\n\r\n"); code != http.StatusOK { // a probe by a script
		t.Errorf("HTTP/1.0 without a Host: %d", code)
	}
	if code, _ := speak(t, address, "GET http://evil.example/status HTTP/1.1\r\nHost: localhost\r\n\r\n"); code != http.StatusMisdirectedRequest {
		t.Errorf("another host in the request line: %d", code)
	}
}

// TestRequestsAreBounded: headers, bodies, and the number of connections.
func TestRequestsAreBounded(t *testing.T) {
	t.Parallel()
	address := listening(t, &server.Alerts{Token: secret})
	head := "POST /alerts/m HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer " + secret + "\r\n"
	if code, _ := speak(t, address, head+"X-Long: "+strings.Repeat("x", 64<<10)+"\r\n\r\n"); code != http.StatusRequestHeaderFieldsTooLarge {
		t.Errorf("a header of 64 KiB: %d", code)
	}
	if code, _ := speak(t, address, head+"Content-Length: 2000000\r\n\r\n"+strings.Repeat("x", 2_000_000)); code != http.StatusRequestEntityTooLarge {
		t.Errorf("a body of 2 MB: %d", code)
	}
	if code, _ := speak(t, address, head+"Transfer-Encoding: chunked\r\n\r\n"+strings.Repeat("10000\r\n"+strings.Repeat("x", 0x10000)+"\r\n", 20)+"0\r\n\r\n"); code != http.StatusRequestEntityTooLarge {
		t.Errorf("a chunked body of 1.3 MB: %d", code)
	}
	// Connections that send nothing: the next ones wait for their time limits.
	for range 300 {
		conn, err := net.Dial("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close() })
	}
	if code, _ := speak(t, address, "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"); code != http.StatusOK {
		t.Errorf("beside silent clients: %d", code)
	}
}

// TestTheTokenComesFirst: a client without the token is refused while its body is still on its way,
// and while an alert is acted on; the state is not read for it.
func TestTheTokenComesFirst(t *testing.T) {
	t.Parallel()
	acting, release := make(chan struct{}), make(chan struct{})
	alerts := &server.Alerts{
		Token: secret,
		Matchers: func(_ context.Context, name string) ([]server.Matcher, bool, error) {
			if name != "m" {
				t.Errorf("the state was read for %s", name)
			}
			return []server.Matcher{{Trigger: "x", Labels: map[string]string{"a": "b"}}}, true, nil
		},
		Fire: func(context.Context, string, server.Received) (server.Fired, error) {
			close(acting)
			<-release
			return server.Fired{}, nil
		},
	}
	address := listening(t, alerts)
	body := `{"version":"4","alerts":[{"status":"firing","startsAt":"2026-03-01T10:00:00Z","labels":{"a":"b"}}]}`
	answered := make(chan int)
	go func() {
		code, _ := speak(t, address, fmt.Sprintf("POST /alerts/m HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer %s\r\nContent-Length: %d\r\n\r\n%s", secret, len(body), body))
		answered <- code
	}()
	<-acting
	for _, token := range []string{"", "Authorization: Bearer wrong\r\n", "Authorization: Basic " + secret + "\r\n"} {
		for _, name := range []string{"m", "other", "%00", strings.Repeat("x", 4000)} {
			if code, _ := speak(t, address, "POST /alerts/"+name+" HTTP/1.1\r\nHost: localhost\r\n"+token+"Content-Length: 1000\r\n\r\n"); name != "m" && name != "other" {
				if code != http.StatusUnauthorized && code != http.StatusBadRequest {
					t.Errorf("%.10s: %d", name, code)
				}
			} else if code != http.StatusUnauthorized {
				t.Errorf("%q, %s: %d", token, name, code)
			}
		}
	}
	close(release)
	if code := <-answered; code != http.StatusOK {
		t.Errorf("the alert: %d", code)
	}
}

// TestABusyMigrationDelaysNoOther, and an alert that waits too long for its turn is sent again.
func TestABusyMigrationDelaysNoOther(t *testing.T) {
	t.Parallel()
	acting, release := make(chan struct{}, 1), make(chan struct{})
	alerts := &server.Alerts{
		Token: secret, Timeout: time.Minute,
		Matchers: func(context.Context, string) ([]server.Matcher, bool, error) {
			return []server.Matcher{{Trigger: "x", Labels: map[string]string{"a": "b"}}}, true, nil
		},
		Fire: func(_ context.Context, name string, _ server.Received) (server.Fired, error) {
			if name == "busy" {
				acting <- struct{}{}
				<-release
			}
			return server.Fired{}, nil
		},
	}
	h := route(alerts)
	body := `{"version":"4","alerts":[{"status":"firing","startsAt":"2026-03-01T10:00:00Z","labels":{"a":"b"}}]}`
	done := make(chan int)
	go func() { code, _ := postTo(h, "busy", secret, body); done <- code }()
	<-acting
	alerts.Timeout = time.Millisecond // of the one that waits alone: the others must have time to come to Fire
	if code, _ := postTo(h, "busy", secret, body); code != http.StatusServiceUnavailable {
		t.Errorf("a second webhook: %d", code)
	}
	alerts.Timeout = time.Minute
	if code, _ := postTo(h, "other", secret, body); code != http.StatusOK {
		t.Errorf("another migration's: %d", code)
	}
	close(release)
	<-done
}

// TestOddWordsOfAlerts: what PostgreSQL can't hold is replaced; a fingerprint that no Alertmanager
// sends is not used.
func TestOddWordsOfAlerts(t *testing.T) {
	t.Parallel()
	for name, text := range map[string]string{
		"U+0000":           `{"labels":{"migration":"products","team":"shop","a\u0000":"x\u0000y"},"annotations":{"summary":"\u0000"},"fingerprint":"a\u0000"}`,
		"a lone surrogate": `{"labels":{"migration":"products","team":"shop","x":"\ud800"},"fingerprint":"\udfff"}`,
		"no UTF-8":         "{\"labels\":{\"migration\":\"products\",\"team\":\"shop\",\"x\":\"\xff\xfe\"},\"fingerprint\":\"\xff\"}",
		"large":            `{"labels":{"migration":"products","team":"shop","x":"` + strings.Repeat("x", 90_000) + `"},"fingerprint":"f"}`,
		"a long one":       `{"labels":{"migration":"products","team":"shop"},"fingerprint":"` + strings.Repeat("f", 50_000) + `"}`,
	} {
		var got []server.Alert
		h := handler(func(a server.Alert) error { got = append(got, a); return nil })
		body := webhook(strings.Replace(text, "{", `{"status":"firing","startsAt":"2026-03-01T10:00:00Z",`, 1))
		if code, answer := post(h, secret, body); code != 200 || len(got) != 1 {
			t.Errorf("%s: %d %s", name, code, answer)
			continue
		}
		kept, err := json.Marshal(got[0])
		if err != nil || strings.Contains(string(kept), `\u0000`) || len(kept) > 60_000 || len(got[0].Key()) > 200 || strings.Contains(got[0].Key(), "\x00") {
			t.Errorf("%s: %s %v", name, kept, err)
		}
	}
}
