package migration_test

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/stranglerfig/migrator/internal/openstore"
	"github.com/stranglerfig/migrator/migration"
	"github.com/stranglerfig/migrator/phases"
)

const measured = least + `
phases: {cutover: {auto: false}}
prometheus: {url: "http://prometheus:9090", token_file: token}
gates:
  consistency: {limit: 0.05%, for: 1h, min_samples: 0}
  target_reads: {off: "this is a rehearsal without readers"}
  custom:
    - {name: checkout-errors, promql: 'sum(rate(errors[5m]))', below: 0.01, before: [cutover]}
    - {name: smoke, command: [./smoke, --fast], interval: 10m}
triggers:
  errors: {limit: 1%, dry_run: true}
  latency: {ratio: 1.5, ceiling: 250ms}
  custom:
    - {name: saturation, promql: up, above: 0, on_blind: rollback, consecutive: 3}
    - {name: paged, alertmanager: {labels: {alertname: ShopDown, severity: page}}}
webhooks:
  - {url: "https://chat.example.org/hook/geheim", secret_file: hook.secret}
`

func TestMeasuredSettings(t *testing.T) {
	t.Parallel()
	m := parse(t, measured)
	here, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	zero := 0.0
	for _, c := range []struct {
		name      string
		got, want any
	}{
		{"a share", m.Gates.Consistency.Limit, phases.Share(500)},
		{"a zero that is given", m.Gates.Consistency.MinSamples, 0},
		{"the rest of a gate", m.Gates.Consistency.Coverage, phases.Share(950_000)},
		{"what is embedded", m.Gates.Consistency.Interval, dur(time.Minute)},
		{"a reason", m.Gates.TargetReads.Off, "this is a rehearsal without readers"},
		{"a gate of one's own", *m.Gates.Custom[0].Below, 0.01},
		{"its phases", m.Gates.Custom[0].Before, []phases.Phase{phases.Cutover}},
		{"the phases of one that names none", m.Gates.Custom[1].Before, []phases.Phase{phases.Cutover, phases.Grace, phases.Retain}},
		{"a command", m.Gates.Custom[1].Command, []string{"./smoke", "--fast"}},
		{"an interval", m.Gates.Custom[1].Interval, dur(10 * time.Minute)},
		{"a dry run", m.Triggers.Errors.DryRun, true},
		{"a ratio", m.Triggers.Latency.Ratio, 1.5},
		{"above nothing", m.Triggers.Custom[0].Above, &zero},
		{"labels", m.Triggers.Custom[1].Alertmanager.Labels, map[string]string{"alertname": "ShopDown", "severity": "page"}},
		{"what one blind look means", m.Triggers.Custom[1].OnBlind, "hold"},
		{"by hand", m.Phases.Cutover.ByItself(), false},
		{"by itself", m.Phases.DualRead.ByItself(), true},
		{"a file relative to the migration file", m.Prometheus.TokenFile, filepath.Join(here, "token")},
		{"events", m.Webhooks[0].Events, []string{"rollback", "failure", "loss", "trigger"}},
	} {
		if !reflect.DeepEqual(c.got, c.want) {
			t.Errorf("%s: %v, want %v", c.name, c.got, c.want)
		}
	}
	if got := conforms(t, []byte(measured)); got != "" {
		t.Errorf("the schema refuses it: %s", got)
	}
}

func TestMeasuredSettingsAreShown(t *testing.T) {
	t.Parallel()
	m := parse(t, measured)
	shown, err := migration.Show(m)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(shown), "geheim") {
		t.Errorf("a webhook's URL is shown:\n%s", shown)
	}
	back := parse(t, strings.Replace(string(shown), "url: (hidden)", "url: "+m.Webhooks[0].URL, 1))
	back.Legacy, back.Target = m.Legacy, m.Target
	if !reflect.DeepEqual(back, m) {
		t.Errorf("shown as\n%s", shown)
	}
	public, err := m.Public()
	if err != nil || strings.Contains(string(public), "http") || strings.Contains(string(public), "token") {
		t.Errorf("the state database gets %s (%v)", public, err)
	}
}

func TestMeasuredSettingsAreRefused(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ more, path, want string }{
		{"gates: {consistency: {limit: 0.1}}", "gates.consistency.limit", "with a percent sign"},
		{"gates: {consistency: {limit: 101%}}", "gates.consistency.limit", "from 0 to 100"},
		{"gates: {consistency: {limit: 0%}}", "gates.consistency.limit", "above 0%"},
		{"gates: {consistency: {limit: 0.00001%}}", "gates.consistency.limit", "at most four decimals"},
		{"gates: {consistency: {confidence: 100%}}", "gates.consistency.confidence", "below 100%"},
		{"gates: {consistency: {coverage: 0%}}", "gates.consistency.coverage", "above 0%"},
		{"gates: {consistancy: {}}", "gates.consistancy", `did you mean "consistency"`},
		{"gates: {shadow_writes: {off: ' '}}", "gates.shadow_writes.off", "give a reason"},
		{"gates: {target_reads: {interval: 10ms}}", "gates.target_reads.interval", "at least 1s"},
		{"gates: {added_latency: {p95: 0s}}", "gates.added_latency.p95", "above 0"},
		{"gates: {drill: {within: -1h}}", "gates.drill.within", "negative"},
		{"gates: {drill: {within: 1h, faults: [rain]}}", "gates.drill.faults", `"rain"`},
		{"gates: {drill: {within: 1h, faults: [errors, errors]}}", "gates.drill.faults", `"errors"`},
		{"gates: {drill: {faults: [errors]}}", "gates.drill.faults", "within"},
		{"gates: {custom: [{promql: up, above: 1}]}\nprometheus: {url: 'http://p'}", "gates.custom[0].name", "is missing"},
		{"gates: {custom: [{name: soak-time, command: [a]}]}", "gates.custom[0].name", "is taken"},
		{"gates: {custom: [{name: a, command: [a]}, {name: a, command: [b]}]}", "gates.custom[1].name", "is taken"},
		{"gates: {custom: [{name: Ä, command: [a]}]}", "gates.custom[0].name", "lower-case"},
		{"gates: {custom: [{name: a}]}", "gates.custom[0]", "exactly one of promql"},
		{"gates: {custom: [{name: a, command: [x], above: 1}]}", "gates.custom[0]", "are for promql"},
		{"gates: {custom: [{name: a, promql: up}]}\nprometheus: {url: 'http://p'}", "gates.custom[0]", "either above or below"},
		{"gates: {custom: [{name: a, promql: up, above: 1}]}", "gates.custom[0].promql", "prometheus.url is missing"},
		{"gates: {custom: [{name: a, command: [a], before: [legacy]}]}", "gates.custom[0].before[0]", "want dual-read"},
		{"gates: {custom: [{name: a, promql: up, above: high}]}", "gates.custom[0].above", "want a number"},
		{"triggers: {errors: {limit: 60%}}", "triggers.errors.limit", "below 50%"},
		{"triggers: {latency: {ratio: 0.9}}", "triggers.latency.ratio", "from 1 to 1000"},
		{"triggers: {latency: {ratio: .nan}}", "triggers.latency.ratio", "want a number"},
		{"triggers: {custom: [{name: a, command: [a], on_blind: panic}]}", "triggers.custom[0].on_blind", "want hold or rollback"},
		{"triggers: {custom: [{name: a, alertmanager: {labels: {a: b}}, on_blind: rollback}]}", "triggers.custom[0].on_blind", "leave it out"},
		{"triggers: {custom: [{name: a, alertmanager: {labels: {source: migrator}}}]}", "triggers.custom[0].alertmanager.labels", "fire no trigger"},
		{"triggers: {custom: [{name: a, alertmanager: {labels: {alertname: Watchdog}}}]}", "triggers.custom[0].alertmanager.labels", "fire no trigger"},
		{"triggers: {custom: [{name: a, alertmanager: {labels: [b]}}]}", "triggers.custom[0].alertmanager.labels", "want a mapping"},
		{"triggers: {custom: [{name: errors, command: [a]}]}", "triggers.custom[0].name", "is taken"},
		{"triggers: {mismatches: {dry_run: perhaps}}", "triggers.mismatches.dry_run", "true or false"},
		{"prometheus: {url: 'prometheus:9090'}", "prometheus.url", "want http://"},
		{"prometheus: {url: 'http://p', username: u}", "prometheus.username", "go together"},
		{"webhooks: [{url: 'https://x'}]", "webhooks[0].secret_file", "signed"},
		{"webhooks: [{url: 'ftp://x', secret_file: s}]", "webhooks[0].url", "want http://"},
		{"webhooks: [{url: 'https://x', secret_file: s, events: [all]}]", "webhooks[0].events[0]", "rollback"},
	} {
		_, err := openstore.Parse("m.yaml", []byte(least+c.more), nil)
		var found migration.Errors
		if !errors.As(err, &found) {
			t.Errorf("%s: %v", c.more, err)
			continue
		}
		if found[0].Path != c.path || found[0].Line < 9 || !strings.Contains(found[0].Message, c.want) {
			t.Errorf("%s: %s (%s), want %s: ... %s", c.more, found[0], found[0].Path, c.path, c.want)
		}
	}
}
