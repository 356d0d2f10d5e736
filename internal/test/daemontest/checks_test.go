package daemontest

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/stranglerfig/migrator/internal/test/clitest"
	"github.com/stranglerfig/migrator/internal/test/testenv"
)

// TestTheDaemonRepeatsTheChecks: what changes on the servers while a migration runs is in the metrics and in doctor,
// with how it was when the migration file was applied. Doctor names what it could not look at.
func TestTheDaemonRepeatsTheChecks(t *testing.T) {
	t.Parallel()
	o := newOperator(t, "items", "  table: items\n", "  key: item:{id}\n", clitest.Served+`
prometheus: {url: "http://127.0.0.1:1"}
webhooks: [{url: "http://127.0.0.1:1", secret_file: secret, events: [advance]}]
`)
	o.Write("secret", "s3cret\n")
	target := testenv.Redis(t, testenv.RedisOptions{AppendOnly: true})
	o.Target = target.URL()
	o.Write("target.url", o.Target)
	o.SQL(o.Legacy, `CREATE TABLE items (id bigint PRIMARY KEY, name text)`)
	o.Does("init", "apply", "phase advance")
	doctor := func(wants ...string) {
		t.Helper()
		_, stdout, stderr := o.Try("doctor")
		for _, want := range wants {
			absent := strings.HasPrefix(want, "!")
			if strings.Contains(stdout, strings.TrimPrefix(want, "!")) == absent {
				t.Errorf("doctor: %s:\n%s%s", want, stdout, stderr)
			}
		}
	}
	doctor("warning  webhooks: secret: webhooks[0].secret_file has a secret of fewer than 16 bytes", "warning  prometheus: query: ", "warning  target: redis-persistence: append-only file, appendfsync",
		"warning  items: daemon: no daemon leads", "unknown  items: daemon-checks: no daemon has looked at the servers yet", "1 unknown: not everything was looked at", "!no symptom")
	d := o.serve(t)
	series := func(want string) {
		t.Helper()
		d.awaits(want, func() bool { _, body := d.get("/metrics"); return strings.Contains(body, want) })
	}
	series(`migrator_check{check="target: redis-eviction",migration="items",result="ok"} 1`)
	series(`migrator_check_worse{check="target: redis-persistence",migration="items"} 0`) // a warning, and accepted
	series(`migrator_check{check="prometheus: query",migration="items",result="warning"} 1`)
	series(`migrator_led{migration="items"} 1`)
	d.end(syscall.SIGTERM)
	o.Redis("CONFIG", "SET", "maxmemory", "1gb", "maxmemory-policy", "allkeys-lru")
	o.Redis("ACL", "SETUSER", "default", "-hset")
	o.SQL(o.State, `UPDATE migrator.outbox SET at = at - interval '20 minutes' WHERE migration = 'items'`)
	d = o.serve(t)
	for check, result := range map[string]string{"target: redis-eviction": "refused", "target: redis-privileges": "refused", "target: redis-persistence": "warning"} {
		series(fmt.Sprintf(`migrator_check{check=%q,migration="items",result=%q} 1`, check, result))
		series(fmt.Sprintf(`migrator_check_worse{check=%q,migration="items"} %d`, check, map[string]int{"refused": 1}[result]))
	}
	if _, body := d.get("/metrics"); !strings.Contains(body, `migrator_webhook_messages_waiting{migration="items"} `) || strings.Contains(body, `migrator_webhook_messages_waiting{migration="items"} 0`) ||
		!strings.Contains(body, `migrator_webhook_oldest_timestamp_seconds{migration="items"}`) {
		t.Errorf("no message waits: %s", body)
	}
	if !strings.Contains(d.logText(), `"check":"target: redis-eviction"`) {
		t.Errorf("the change is not in the log: %s", d.logText())
	}
	doctor("refused  items: daemon saw target: redis-eviction: maxmemory-policy is allkeys-lru", "it was ok when the migration file was applied", "items: daemon saw target: redis-privileges",
		"ACL SETUSER default", "items: webhooks: ", ", the oldest for 2", "ok       items: daemon-checks: ", "!no daemon leads", "!daemon saw target: redis-persistence", "!not everything was looked at")
	_, scrape := d.get("/metrics")
	if found := alertsOf(t, scrape); !slices.Equal(found, []string{"CheckRefused", "Watchdog", "WebhooksWait"}) {
		t.Errorf("what this daemon says makes alerts of %v", found)
	}
	if err := target.Kill(); err != nil {
		t.Fatal(err)
	}
	doctor("refused  target: redis-connection", "state: disk: the server could write 4 MB")
	o.Write("migration.yaml", strings.Replace(o.read(t, "migration.yaml"), "table: items", "table: absent", 1))
	doctor("unknown  target: unseen: it was not looked at, since legacy can't be opened")
}

// alertsOf returns the alerts of configs/prometheus whose expressions hold where a daemon has said the same for a
// quarter of an hour, as a Prometheus evaluates them.
func alertsOf(t *testing.T, scrape string) (names []string) {
	t.Helper()
	text, err := os.ReadFile(configs + "/alerts.rules.yml")
	if err != nil {
		t.Fatal(err)
	}
	var doc struct {
		Groups []struct {
			Rules []struct{ Alert, Expr string }
		}
	}
	if err := yaml.Unmarshal(text, &doc); err != nil {
		t.Fatal(err)
	}
	now := time.Now().Unix()
	var samples strings.Builder
	for line := range strings.Lines(scrape) {
		if line = strings.TrimSpace(line); line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		for at := now - 900; at <= now; at += 60 {
			fmt.Fprintf(&samples, "%s %d\n", line, at)
		}
	}
	server := testenv.Prometheus(t, testenv.PrometheusOptions{OpenMetrics: samples.String() + "# EOF\n"})
	for _, rule := range doc.Groups[0].Rules {
		r, err := http.Get(fmt.Sprintf("%s/api/v1/query?time=%d&query=%s", server.URL(), now, url.QueryEscape(rule.Expr)))
		if err != nil {
			t.Fatal(err)
		}
		var answer struct {
			Status string
			Data   struct{ Result []json.RawMessage }
		}
		err = json.NewDecoder(r.Body).Decode(&answer)
		_ = r.Body.Close()
		if err != nil || answer.Status != "success" {
			t.Fatalf("%s: %+v %v", rule.Alert, answer, err)
		}
		if len(answer.Data.Result) > 0 {
			names = append(names, rule.Alert)
		}
	}
	slices.Sort(names)
	return names
}
