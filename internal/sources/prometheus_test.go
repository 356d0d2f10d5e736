package sources_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stranglerfig/migrator/internal/judge"
	"github.com/stranglerfig/migrator/internal/sources"
	"github.com/stranglerfig/migrator/internal/test/testenv"
	"github.com/stranglerfig/migrator/phases"
)

// Each answer that a real Prometheus can give has its verdict.
func TestPrometheusVerdicts(t *testing.T) {
	t.Parallel()
	ago := func(d time.Duration) float64 { return float64(time.Now().Add(-d).UnixMilli()) / 1000 }
	server := testenv.Prometheus(t, testenv.PrometheusOptions{OpenMetrics: fmt.Sprintf(`# TYPE errors gauge
errors{pod="a"} 2 %[1]f
errors{pod="b"} 3 %[1]f
# TYPE requests gauge
requests 1000 %[1]f
# TYPE idle gauge
idle 0 %[1]f
# TYPE old gauge
old 7 %[2]f
# EOF
`, ago(2*time.Second), ago(4*time.Minute))})

	for name, c := range map[string]struct {
		query   string
		maxAge  time.Duration
		verdict phases.Verdict
		value   float64
		detail  string // a part of it
	}{
		"one series":               {query: `requests`, value: 1000, detail: "requests is 1000"},
		"an aggregate":             {query: `sum(errors) / sum(requests)`, value: 0.005},
		"a comment after it":       {query: "requests # of all", value: 1000},
		"a scalar":                 {query: `scalar(requests) + 1`, value: 1001},
		"a number":                 {query: `0.25`, value: 0.25},
		"nothing":                  {query: `no_such_series`, verdict: phases.NoData, detail: "no series matches"},
		"NaN":                      {query: `sum(idle) / sum(idle)`, verdict: phases.NoData, detail: "no traffic"},
		"a scalar of nothing":      {query: `scalar(no_such_series)`, verdict: phases.NoData, detail: "NaN"},
		"infinity":                 {query: `sum(errors) / sum(idle)`, verdict: phases.Error, detail: "divided by zero"},
		"less than nothing":        {query: `-sum(errors) / sum(idle)`, verdict: phases.Error, detail: "-Inf"},
		"stale":                    {query: `old`, verdict: phases.NoData, detail: "1m0s"},
		"old, but not too old":     {query: `old`, maxAge: 10 * time.Minute, value: 7},
		"old, in a range":          {query: `max_over_time(old[10m])`, value: 7},
		"several series":           {query: `errors`, verdict: phases.Error, detail: "2 series, not one; aggregate them: sum(errors)"},
		"a range":                  {query: `errors[5m]`, verdict: phases.Error, detail: "matrix"},
		"a text":                   {query: `"up"`, verdict: phases.Error, detail: "string"},
		"an expression that isn't": {query: `sum(`, verdict: phases.Error, detail: "bad_data"},
		"no expression":            {query: ` `, verdict: phases.Error, detail: "no expression"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := (&sources.Prometheus{URL: server.URL(), Query: c.query, MaxAge: c.maxAge}).Read(t.Context())
			check(t, got, c.verdict, c.value, c.detail)
			var kept struct{ Query, Answer string }
			if err := json.Unmarshal(got.Inputs, &kept); err != nil || kept.Query != c.query || c.verdict == "" && kept.Answer == "" {
				t.Errorf("recorded %s: %v", got.Inputs, err)
			}
		})
	}
}

func check(t *testing.T, got judge.Reading, verdict phases.Verdict, value float64, detail string) {
	t.Helper()
	if got.Verdict != verdict || got.Value != value || !strings.Contains(got.Detail, detail) || got.Detail == "" {
		t.Errorf("got %q, %v: %s; want %q, %v: %s", got.Verdict, got.Value, got.Detail, verdict, value, detail)
	}
}

func TestPrometheusUnreachable(t *testing.T) {
	t.Parallel()
	server := testenv.Prometheus(t)
	source := &sources.Prometheus{URL: server.URL(), Query: "1", Timeout: time.Minute}
	check(t, source.Read(t.Context()), "", 1, "1 is 1")
	if err := server.Pause(); err != nil {
		t.Fatal(err)
	}
	hurried := *source
	hurried.Timeout = 300 * time.Millisecond
	check(t, hurried.Read(t.Context()), phases.Error, 0, "did not answer within 300ms")
	if err := server.Kill(); err != nil {
		t.Fatal(err)
	}
	check(t, source.Read(t.Context()), phases.Error, 0, "connection refused")
}

// A Prometheus behind its own basic authentication and TLS: a certificate is trusted only if
// it is configured, and the error about a wrong token has the status but not the token.
func TestPrometheusBehindTLS(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	cert, key := certificate(t, dir)
	web := filepath.Join(dir, "web.yml")
	write(t, web, fmt.Sprintf("tls_server_config: {cert_file: %s, key_file: %s}\nbasic_auth_users: {alice: $2b$12$hNf2lSsxfm0.i4a.1kVpSOVyBCfIB51VRjgBUyv6kdnyTlgWj81Ay}\n", cert, key))
	server := testenv.Prometheus(t, testenv.PrometheusOptions{WebConfig: web})
	token := filepath.Join(dir, "token")
	write(t, token, "s3cret-token\n")
	url := "https://" + server.Addr()

	check(t, (&sources.Prometheus{URL: url, Query: "1"}).Read(t.Context()), phases.Error, 0, "certificate")
	got := (&sources.Prometheus{URL: url, Query: "1", CAFile: cert, TokenFile: token}).Read(t.Context())
	check(t, got, phases.Error, 0, "401")
	if strings.Contains(got.Detail+string(got.Inputs), "s3cret") {
		t.Errorf("the token is shown: %s", got.Detail)
	}
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}
