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
	"github.com/stranglerfig/migrator/record"
	"github.com/stranglerfig/migrator/store/postgres"
	"github.com/stranglerfig/migrator/store/redis"
)

// least is the shortest valid migration file.
const least = `name: products
legacy:
  store: postgres
  url: postgres://app@db/shop
  table: products
target:
  store: redis
  url: redis://cache:6379
  key: product:{id}
`

func env(pairs ...string) func(string) (string, bool) {
	return func(name string) (string, bool) {
		for i := 0; i < len(pairs); i += 2 {
			if pairs[i] == name {
				return pairs[i+1], true
			}
		}
		return "", false
	}
}

func parse(t testing.TB, text string, variables ...string) *migration.Config {
	t.Helper()
	m, err := openstore.Parse("m.yaml", []byte(text), env(variables...))
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func legacyPart(m *migration.Config) *postgres.LegacyConfig {
	return m.Legacy.Part.(*postgres.LegacyConfig)
}

func targetPart(m *migration.Config) *redis.TargetConfig { return m.Target.Part.(*redis.TargetConfig) }

func dur(d time.Duration) phases.Duration { return phases.Duration(d) }

func TestDefaults(t *testing.T) {
	t.Parallel()
	got := parse(t, least)
	want := &migration.Config{
		Name: "products", Environment: "production",
		Legacy: migration.Legacy{Store: "postgres", URL: "postgres://app@db/shop", Part: &postgres.LegacyConfig{Table: "products"}},
		Target: migration.Target{Store: "redis", URL: "redis://cache:6379", Part: &redis.TargetConfig{KeyTemplate: "product:{id}", Format: "hash", VersionField: "_v"}},
		Phases: phases.DefaultSettings().Schedule, Gates: phases.DefaultGates(), Triggers: phases.DefaultTriggers(),
		Writing: migration.Writing{
			OnTargetFailure: "rollback", Deadline: dur(time.Second), NotAfter: dur(10 * time.Second),
			RollbackBudget: dur(time.Second), FenceBudget: dur(2 * time.Second), Queue: 10000, Tombstones: dur(24 * time.Hour),
		},
		Capture:  migration.Capture{Mode: phases.CaptureOff, Workers: 4, Beat: dur(10 * time.Second), MaxHeld: 10 << 30, MaxShare: phases.Whole * 8 / 10},
		Fleet:    migration.Fleet{Lease: dur(15 * time.Second), Renew: dur(5 * time.Second)},
		Backfill: migration.Backfill{ChunkRows: 5000, Workers: 2, LockTimeout: dur(5 * time.Second)},
		Reconcile: migration.Reconcile{
			ChunkRows: 5000, Sample: 100, Pause: dur(200 * time.Millisecond), Rereads: 5, Findings: 1000,
			Workers: 2, MaxRepairs: 10000,
			MaxDifference: phases.Whole / 100, Window: dur(30 * 24 * time.Hour), Keep: dur(90 * 24 * time.Hour), Lease: dur(15 * time.Second), StatementTimeout: dur(5 * time.Minute), StopOn: migration.StopOn{Interval: dur(10 * time.Second)}, Recent: migration.Recent{Within: dur(24 * time.Hour), Sample: 1000},
		},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	got.Defaults()
	if !reflect.DeepEqual(got, want) {
		t.Error("Defaults changes a Config that has its defaults")
	}
}

func TestGivenValues(t *testing.T) {
	t.Parallel()
	m := parse(t, least+`
compare:
  - {path: /price, tolerance: 0.010}
  - {path: /seen, precision: 1ms, show: true}
phases:
  shadow_write: {for: 0s}
  dual_read: {over: 1h}
  cutover: {steps: [1, "5", 37.25, 100]}
  grace:
  retain: {reversible: false}
  approval: {for: []}
backfill: {rate: 1_000, workers: 1}
reconcile: {pause: 0s, sample: 0.5, max_repairs: 0}
`)
	d := phases.DefaultSettings()
	for _, c := range []struct {
		name      string
		got, want any
	}{
		{"a tolerance is the text that was written", m.Compare[0].Tolerance, "0.010"},
		{"a precision", m.Compare[1].Precision, record.Precision(time.Millisecond)},
		{"a zero that is given", m.Phases.ShadowWrite.For, dur(0)},
		{"part of a phase", m.Phases.DualRead, phases.Ramp{Steps: d.DualRead.Steps, Over: dur(time.Hour), Auto: d.DualRead.Auto}},
		{"percentages as numbers and texts", m.Phases.Cutover.Ramp, phases.Ramp{Steps: []phases.Percent{100, 500, 3725, phases.All}, Over: d.Cutover.Over, Auto: d.Cutover.Auto}},
		{"an empty phase", m.Phases.Grace, d.Grace},
		{"false", *m.Phases.Retain.Reversible, false},
		{"the rest of retain", m.Phases.Retain.For, d.Retain.For},
		{"no approvals", len(m.Phases.Approval.For), 0},
		{"a number in groups", m.Backfill.Rate, 1000},
		{"no pause", m.Reconcile.Pause, dur(0)},
		{"half a per cent", m.Reconcile.Sample, phases.Percent(50)},
		{"no repairs", m.Reconcile.MaxRepairs, 0},
	} {
		if !reflect.DeepEqual(c.got, c.want) {
			t.Errorf("%s: %v, want %v", c.name, c.got, c.want)
		}
	}
}

func TestVariables(t *testing.T) {
	t.Parallel()
	m := parse(t, `
name: ${NAME:-products}
environment: "${ENV:-production}"
legacy:
  store: postgres
  url: postgres://${USER}:${PASSWORD}@db/shop
  table: products
target:
  store: redis
  url: ${URL:-redis://cache:6379}
  key: '{{${SHARD:-s}}}:$$${SHARD:-s}$5$${NAME}:{id}$'
backfill: {rate: "${RATE}", workers: "${WORKERS:-3}"}
phases:
  cutover: {steps: ["${STEP}", 100], over: "${OVER}"}
  retain: {reversible: "${REVERSIBLE}"}
exclude:
  - "${INJECTED}"
  - '${QUOTED}'
  - >-
    ${FOLDED}
`, "USER", "app", "PASSWORD", "p: w}\n# ${USER}", "ENV", "", "RATE", "250", "STEP", "2.5", "OVER", "2d", "REVERSIBLE", "false",
		"INJECTED", "x]\nname: other", "QUOTED", "'", "FOLDED", "{y}")
	for _, c := range []struct {
		name      string
		got, want any
	}{
		{"a default", m.Name, "products"},
		{"a default for an empty variable", m.Environment, "production"},
		{"what is put in is text, and is not expanded again", m.Legacy.URL, "postgres://app:p: w}\n# ${USER}@db/shop"},
		{"a default with signs", m.Target.URL, "redis://cache:6379"},
		{"dollar signs", targetPart(m).KeyTemplate, "{{s}}:$s$5${NAME}:{id}$"},
		{"a number", m.Backfill.Rate, 250},
		{"a number's default", m.Backfill.Workers, 3},
		{"a percentage", m.Phases.Cutover.Steps[0], phases.Percent(250)},
		{"a duration", m.Phases.Cutover.Over, dur(48 * time.Hour)},
		{"true or false", *m.Phases.Retain.Reversible, false},
		{"a list stays as long as it was", m.Exclude, []string{"x]\nname: other", "'", "{y}"}},
	} {
		if !reflect.DeepEqual(c.got, c.want) {
			t.Errorf("%s: %q, want %q", c.name, c.got, c.want)
		}
	}
}

func TestURLFiles(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	write("url", "\n postgres://app:geheim@db/shop \n")
	write("empty", " \n")
	write("wrong", "mysql://app:geheim@db/shop")
	write("huge", strings.Repeat("x", 1<<17))
	load := func(line string) (*migration.Config, error) {
		return openstore.Load(write("m.yaml", strings.Replace(least, "url: postgres://app@db/shop", line, 1)))
	}
	m, err := load("url_file: url")
	if err != nil || m.Legacy.URL != "postgres://app:geheim@db/shop" || m.Legacy.URLFile != "url" {
		t.Fatalf("%+v, %v", m, err)
	}
	if m, err := load("url_file: " + filepath.Join(dir, "url")); err != nil || m.Legacy.URL != "postgres://app:geheim@db/shop" {
		t.Errorf("by its absolute path: %v", err)
	}
	for line, want := range map[string]string{
		"url_file: nowhere":                  "m.yaml:4: legacy.url_file: ",
		"url_file: empty":                    "empty is empty",
		"url_file: .":                        "is a directory: want a regular file",
		"url_file: huge":                     "bytes, and may have 65536",
		"url_file: wrong":                    "m.yaml:4: legacy.url is no URL of a PostgreSQL server",
		"{url: postgres://x, url_file: u}":   "m.yaml:4: ",
		"url_file: url\n  url: postgres://x": "m.yaml:4: legacy.url_file and legacy.url are both given",
	} {
		_, err := load(line)
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "geheim") {
			t.Errorf("%s: %v, want %q", line, err, want)
		}
	}
	if _, err := openstore.Load(filepath.Join(dir, "none.yaml")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%v", err)
	}
}

// TestExamples: every example in configs is a valid migration file, and conforms to the
// schema that editors use.
func TestExamples(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("../configs/*.yaml")
	if err != nil || len(files) < 3 {
		t.Fatalf("%v, %v", files, err)
	}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.HasPrefix(string(data), "# yaml-language-server: $schema=migration.schema.json\n") {
			continue // something else: rules of alerts, a dashboard
		}
		m, err := openstore.Parse(file, data, env("LEGACY_URL", "postgres://app@localhost/shop"))
		if err != nil {
			t.Error(err)
			continue
		}
		if wrong := conforms(t, data); wrong != "" {
			t.Errorf("%s: by the schema: %s", file, wrong)
		}
		if m.Hash() == "" {
			t.Error("no hash")
		}
	}
}
