package metrics_test

import (
	"encoding/json"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/stranglerfig/migrator/internal/test/testenv"
	"github.com/stranglerfig/migrator/metrics"
	"github.com/stranglerfig/migrator/phases"
)

const rulesDir = "../configs/prometheus/"

type rule struct {
	Record, Alert, Expr string
	Labels, Annotations map[string]string
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func rules(t *testing.T) (all []rule) {
	t.Helper()
	for _, file := range []string{"recording.rules.yml", "alerts.rules.yml"} {
		var doc struct{ Groups []struct{ Rules []rule } }
		if err := yaml.Unmarshal(read(t, rulesDir+file), &doc); err != nil {
			t.Fatal(err)
		}
		for _, g := range doc.Groups {
			all = append(all, g.Rules...)
		}
	}
	return all
}

var metricName = regexp.MustCompile(`[a-z_:]*\bmigrator_[a-z0-9_:]+|[a-z_]+:migrator_[a-z0-9_:]+`)

// known returns the names that an expression may use: metrics, the series of histograms, and
// recording rules.
func known(t *testing.T) (names []string) {
	t.Helper()
	for _, i := range slices.Concat(metrics.Daemon(), metrics.Application(), metrics.WorkerInfos()) {
		names = append(names, i.Name)
		if i.Type == "histogram" {
			names = append(names, i.Name+"_bucket", i.Name+"_sum", i.Name+"_count")
		}
	}
	for _, r := range rules(t) {
		if r.Record != "" {
			names = append(names, r.Record)
		}
	}
	return names
}

func checkNames(t *testing.T, where, expr string, names []string) {
	t.Helper()
	found := metricName.FindAllString(expr, -1)
	if len(found) == 0 {
		t.Errorf("%s uses no metric: %s", where, expr)
	}
	for _, name := range found {
		if !slices.Contains(names, name) {
			t.Errorf("%s uses %s, which does not exist", where, name)
		}
	}
}

// TestRulesUseKnownMetrics: every rule uses existing metrics. Every alert has a section in the
// guide and a severity, and is tested both ways.
func TestRulesUseKnownMetrics(t *testing.T) {
	t.Parallel()
	names := known(t)
	guide := string(read(t, "../docs/alerts.md"))
	var alerts []string
	for _, r := range rules(t) {
		if r.Alert != phases.Watchdog {
			checkNames(t, r.Record+r.Alert, r.Expr, names)
		}
		if r.Alert == "" {
			continue
		}
		alerts = append(alerts, r.Alert)
		if r.Annotations["runbook_url"] == "" { // package runbook tests where it leads
			t.Errorf("%s has no runbook", r.Alert)
		}
		if !strings.Contains(guide, "\n## "+r.Alert+"\n") {
			t.Errorf("docs/alerts.md has no section %s", r.Alert)
		}
		if s := r.Labels["severity"]; s != "page" && s != "warn" && (s != "none" || r.Alert != phases.Watchdog) {
			t.Errorf("%s: severity %q", r.Alert, s)
		}
		if r.Labels["source"] != phases.OwnSource {
			t.Errorf("%s has no label source: it could fire a trigger", r.Alert)
		}
	}
	for _, m := range regexp.MustCompile(`(?m)^## (.+)$`).FindAllStringSubmatch(guide, -1) {
		if !slices.Contains(alerts, m[1]) && m[1] != "Alertmanager" && m[1] != "An evening" {
			t.Errorf("docs/alerts.md describes %s, which does not exist", m[1])
		}
	}
	fires, rests := tested(t)
	for _, a := range alerts {
		if !fires[a] || !rests[a] && a != phases.Watchdog {
			t.Errorf("%s: tested to fire %v, not to fire %v", a, fires[a], rests[a])
		}
	}
	for _, a := range []string{
		"MismatchWarn", "MismatchPage", "NoComparisons", "FleetUnsettled", "TriggerBlind", "TriggerErrors",
		"NothingLeads", "CheckRefused", "CheckWorse", "ChecksStale", "WebhooksWait", "Watchdog", "ReconcileStale", "JournalGrowing", "CaptureLag", "WALHeld", "CaptureStopped", "CaptureLost", "AutoRolledBack", "DrillStale",
	} {
		if !slices.Contains(alerts, a) {
			t.Errorf("there is no alert %s any more", a)
		}
	}
}

var alertAsked = regexp.MustCompile(`ALERTS\{alertname="(\w+)"`)

func tested(t *testing.T) (fires, rests map[string]bool) {
	t.Helper()
	fires, rests = map[string]bool{}, map[string]bool{}
	for _, file := range []string{"alerts_test.yml", "alerts_slow_test.yml"} {
		var doc struct {
			Tests []struct {
				Expressions []struct {
					Expr    string `yaml:"expr"`
					Samples []any  `yaml:"exp_samples"`
				} `yaml:"promql_expr_test"`
			}
		}
		if err := yaml.Unmarshal(read(t, rulesDir+file), &doc); err != nil {
			t.Fatal(err)
		}
		for _, test := range doc.Tests {
			for _, e := range test.Expressions {
				if name := alertAsked.FindStringSubmatch(e.Expr)[1]; len(e.Samples) > 0 {
					fires[name] = true
				} else {
					rests[name] = true
				}
			}
		}
	}
	return fires, rests
}

func TestRulesByPromtool(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{
		{"check", "config", rulesDir + "prometheus.yml"},
		{"check", "rules", rulesDir + "recording.rules.yml", rulesDir + "alerts.rules.yml"},
		{"test", "rules", rulesDir + "alerts_test.yml", rulesDir + "alerts_slow_test.yml"},
	} {
		if out, err := testenv.Promtool(t, args...); err != nil {
			t.Errorf("promtool %s: %v\n%s", strings.Join(args, " "), err, out)
		}
	}
}

// TestAlertmanagerByAmtool: Alertmanager accepts the example, and sends to migrator what its triggers are on and the
// Watchdog, to people too, and none of migrator's own alerts.
func TestAlertmanagerByAmtool(t *testing.T) {
	t.Parallel()
	const file = rulesDir + "alertmanager.yml"
	if out, err := testenv.Amtool(t, "check-config", file); err != nil {
		t.Errorf("amtool check-config: %v\n%s", err, out)
	}
	for labels, want := range map[string]string{
		"alertname=CheckoutBurns rollback=products severity=page":                "migrator,page",
		"alertname=CheckoutBurns rollback=products severity=warn":                "migrator,warn",
		"alertname=CheckoutBurns severity=page":                                  "page",
		"alertname=TriggerBlind rollback=products severity=page source=migrator": "page",
		"alertname=CheckWorse severity=warn source=migrator":                     "warn",
		"alertname=Watchdog severity=none source=migrator":                       "migrator,outside",
	} {
		args := append([]string{"config", "routes", "test", "--config.file=" + file, "--verify.receivers=" + want}, strings.Fields(labels)...)
		if out, err := testenv.Amtool(t, args...); err != nil {
			t.Errorf("%s: %v\n%s", labels, err, out)
		}
	}
}

// TestReceiversByAmtool: Alertmanager accepts the receivers of docs/alerts.md in place of the example's.
func TestReceiversByAmtool(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile(filepath.Join("..", "docs", "alerts.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, block, found := strings.Cut(string(page), "```yaml\nreceivers:\n")
	block, _, ended := strings.Cut(block, "```")
	example, err := os.ReadFile(rulesDir + "alertmanager.yml")
	if err != nil || !found || !ended {
		t.Fatalf("the page has no receivers, or there is no example: %v", err)
	}
	config := regexp.MustCompile(`(?m)^  - name: (page|warn) #.*\n`).ReplaceAllString(string(example), "") + block
	file := filepath.Join(t.TempDir(), "alertmanager.yml")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := testenv.Amtool(t, "check-config", file); err != nil || strings.Count(config, "- name: page") != 1 || strings.Count(config, "- name: warn") != 1 {
		t.Errorf("amtool check-config: %v\n%s\n%s", err, out, config)
	}
}

// TestDashboard: every query of the dashboard uses existing metrics, and a Prometheus accepts
// it.
func TestDashboard(t *testing.T) {
	t.Parallel()
	var dashboard struct {
		Panels []struct {
			Title   string
			Targets []struct{ Expr string }
		}
	}
	if err := json.Unmarshal(read(t, "../configs/grafana/migrator.json"), &dashboard); err != nil {
		t.Fatal(err)
	}
	names := known(t)
	var queries []string
	for _, p := range dashboard.Panels {
		for _, target := range p.Targets {
			checkNames(t, p.Title, target.Expr, names)
			queries = append(queries, strings.NewReplacer("$migration", "products", "$__rate_interval", "5m").Replace(target.Expr))
		}
	}
	if len(queries) < len(dashboard.Panels) || len(queries) < 15 {
		t.Errorf("%d queries of %d panels", len(queries), len(dashboard.Panels))
	}
	server := testenv.Prometheus(t)
	for _, query := range append(queries, "sum(") {
		resp, err := http.Get(server.URL() + "/api/v1/query?query=" + url.QueryEscape(query))
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if (resp.StatusCode == http.StatusOK) != (query != "sum(") {
			t.Errorf("%s: %s", query, resp.Status)
		}
	}
}
