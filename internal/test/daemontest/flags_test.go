package daemontest

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
)

// evaluation is a bulk answer of OFREP.
type evaluation struct {
	Flags []struct {
		Key   string `json:"key"`
		Value any    `json:"value"`
	} `json:"flags"`
	EventStreams []struct {
		Endpoint struct {
			RequestURI string `json:"requestUri"`
		} `json:"endpoint"`
	} `json:"eventStreams"`
}

// evaluate asks a daemon for all flags, as a client in any language does.
func evaluate(t *testing.T, url, token, key string) (status int, all evaluation, values map[string]any) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url+"/ofrep/v1/evaluate/flags", strings.NewReader(fmt.Sprintf(`{"context":{"targetingKey":%q}}`, key)))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+token)
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = answer.Body.Close() }()
	body, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	_ = json.Unmarshal(body, &all)
	values = map[string]any{}
	for _, f := range all.Flags {
		values[f.Key] = f.Value
	}
	return answer.StatusCode, all, values
}

// TestFlagsFollowAPhase: a caller with the token of a viewer sees each step through the daemon's event stream, and none once
// the token is revoked. The server's own role is a server and an operator.
func TestFlagsFollowAPhase(t *testing.T) {
	t.Parallel()
	o, _ := served(t)
	token, id := o.token("flags_viewer", "viewer")
	settings := "file: " + o.Path("migration.yaml") + "\nstate_url: " + o.State + "\nflags: true\n"
	o.Write("settings.yaml", settings)
	d := o.serve(t)
	for status := 0; status != http.StatusOK; { // until the routes were read; the test's own limit ends it
		status, _, _ = evaluate(t, d.url, token, "1")
	}
	if status, _, _ := evaluate(t, d.url, "mgt_guess", "1"); status != http.StatusUnauthorized {
		t.Errorf("a guess: %d", status)
	}
	_, all, values := evaluate(t, d.url, token, "1")
	if values["migrator.items.phase"] != "legacy" || values["migrator.items.read"] != "legacy" || values["migrator.items.sampled"] != false || len(all.EventStreams) != 1 {
		t.Errorf("%+v", values)
	}
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, d.url+all.EventStreams[0].Endpoint.RequestURI, nil)
	if err != nil {
		t.Fatal(err)
	}
	stream, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = stream.Body.Close() }()
	lines := bufio.NewScanner(stream.Body)
	event := func() bool {
		for lines.Scan() {
			if strings.HasPrefix(lines.Text(), "data: ") {
				return true
			}
		}
		return false
	}
	if !event() {
		t.Fatal("the stream has no first event")
	}
	o.Does("phase advance")
	if !event() {
		t.Fatal("the step is no event")
	}
	if _, _, values := evaluate(t, d.url, token, "1"); values["migrator.items.phase"] != "shadow-write" {
		t.Errorf("after the event: %+v", values)
	}
	o.Does(fmt.Sprintf("token revoke %d", id))
	for lines.Scan() { // it ends
	}
	if status, _, _ := evaluate(t, d.url, token, "1"); status != http.StatusUnauthorized {
		t.Errorf("a revoked token: %d", status)
	}
	for setting, want := range map[string]string{
		"flags_origins: shop.example":         "without a path",
		"flags_rate: 0":                       "from 1 to",
		"flags: maybe":                        "true or false",
		"tls_key_file: key.pem":               "belong together",
		"hosts: https://shop.example":         "without ports",
		"listen_anywhere: true":               "need TLS",
		"tls_cert_file: no\ntls_key_file: no": "certificates",
	} {
		text := settings
		if strings.HasPrefix(setting, "flags: ") {
			text = strings.Replace(settings, "flags: true\n", "", 1)
		}
		o.Write("settings.yaml", text+setting+"\n")
		if code, _, stderr := o.Try("serve", "--listen", "127.0.0.1:0"); code != 2 || !strings.Contains(stderr, want) {
			t.Errorf("%s: %d %s", setting, code, stderr)
		}
	}
}
