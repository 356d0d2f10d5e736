package migration_test

import (
	"encoding/json"
	"os"
	"reflect"
	"strings"
	"testing"

	"github.com/stranglerfig/migrator/internal/openstore"
	"github.com/stranglerfig/migrator/migration"
)

func example(t testing.TB, name string) *migration.Config {
	t.Helper()
	data, err := os.ReadFile("../configs/" + name)
	if err != nil {
		t.Fatal(err)
	}
	m, err := openstore.Parse("../configs/"+name, data, env("LEGACY_URL", "postgres://app:geheim@db:5432/shop?sslmode=require"))
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func TestShow(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"products.yaml", "pgbench.yaml", "odd-table.yaml"} {
		m := example(t, name)
		text, err := migration.Show(m)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(text), "geheim") {
			t.Errorf("%s: shown:\n%s", name, text)
		}
		back, err := openstore.Parse("../configs/shown", text, nil)
		if err != nil {
			t.Fatalf("%s: Parse refuses what Show wrote: %v\n%s", name, err, text)
		}
		back.Legacy.URL, back.Target.URL = m.Legacy.URL, m.Target.URL
		if !reflect.DeepEqual(back, m) || back.Hash() != m.Hash() {
			t.Errorf("%s came back as %+v\nfrom\n%s", name, back, text)
		}
	}
	text, _ := migration.Show(example(t, "products.yaml"))
	for _, want := range []string{
		"url: postgres://app@db:5432/shop\n", "steps: [1, 5, 25, 50, 100]\n", "for: 30d\n", "reversible: true\n", "sample: 1\n",
		"for: [cutover, retain, complete]\n", "lease: 15s\n", "not_after: 10s\n", "rate: 0\n", "exclude: [search_vector]\n",
	} {
		if !strings.Contains(string(text), want) {
			t.Errorf("%q is not in\n%s", want, text)
		}
	}
}

func TestShowKeepsOddTexts(t *testing.T) {
	t.Parallel()
	m := parse(t, least)
	m.Exclude = []string{"true", "5", "~", "null", "a: b", "${HOME}", "$$", "$${x}", "$", "#", "'", "\"", "\u2028", "- x", "2024-01-01", "1e3", "0x1F", "line\nbreak ", " ", "é", "<<", "*a", "!x", "%"}
	m.Phases.ShadowWrite.For, m.Backfill.Rate = 0, 0
	text, err := migration.Show(m)
	if err != nil {
		t.Fatal(err)
	}
	if back := parse(t, string(text)); !reflect.DeepEqual(back, m) {
		t.Errorf("%q came back as %q from\n%s", m.Exclude, back.Exclude, text)
	}
}

func TestPublicContainsNoURL(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"products.yaml", "pgbench.yaml", "odd-table.yaml"} {
		m := example(t, name)
		raw, err := m.Public()
		if err != nil {
			t.Fatal(err)
		}
		for _, secret := range []string{"geheim", "://", "target.url.example", "db:5432"} {
			if strings.Contains(string(raw), secret) {
				t.Errorf("%s: %s is in %s", name, secret, raw)
			}
		}
		if m.Legacy.URL == "" {
			t.Error("Public changed the Config")
		}
		var back migration.Config
		if err := json.Unmarshal(raw, &back); err != nil {
			t.Fatal(err)
		}
		again, err := back.Public()
		if err != nil || string(again) != string(raw) || back.Hash() != m.Hash() {
			t.Errorf("%s: from the state database comes\n%s\nnot\n%s", name, again, raw)
		}
		// An empty list survives, and so does a zero.
		if len(back.Phases.Approval.For) != len(m.Phases.Approval.For) || back.Backfill != m.Backfill || back.Throttle != m.Throttle || back.Fleet != m.Fleet {
			t.Errorf("%s: %+v", name, back)
		}
	}
}

func TestHash(t *testing.T) {
	t.Parallel()
	base := example(t, "products.yaml").Hash()
	if len(base) != 64 || base != example(t, "products.yaml").Hash() {
		t.Fatalf("hash %q", base)
	}
	for name, change := range map[string]func(*migration.Config){
		"url":      func(m *migration.Config) { m.Legacy.URL, m.Target.URL, m.Target.URLFile = "a", "b", "c" },
		"fleet":    func(m *migration.Config) { m.Fleet.Lease *= 2 },
		"backfill": func(m *migration.Config) { m.Backfill.Rate, m.Backfill.Workers, m.Backfill.ChunkRows = 7, 7, 7 },
		"throttle": func(m *migration.Config) {
			m.Throttle = migration.Throttle{Changes: 7, StandbyLag: 7, StandbyMiB: 7, Sessions: 7, TargetLatency: 7}
		},
		"pace":       func(m *migration.Config) { m.Reconcile.Rate, m.Reconcile.Sample, m.Reconcile.Workers = 7, 7, 7 },
		"show":       func(m *migration.Config) { m.Compare[0].Show = true },
		"only show":  func(m *migration.Config) { m.Compare = m.Compare[:3] },
		"wording":    func(m *migration.Config) { m.Compare[1].Ignore = "another reason" },
		"rule order": func(m *migration.Config) { m.Compare[0], m.Compare[1] = m.Compare[1], m.Compare[0] },
		"auto":       func(m *migration.Config) { no := false; m.Phases.Cutover.Auto = &no },
		"prometheus": func(m *migration.Config) { m.Prometheus.URL = "http://prometheus:9090" },
		"webhooks":   func(m *migration.Config) { m.Webhooks = []migration.Webhook{{URL: "https://chat"}} },
		"defaults":   func(m *migration.Config) { m.Writing.Queue = 0; m.Defaults() },
	} {
		m := example(t, "products.yaml")
		if change(m); m.Hash() != base {
			t.Errorf("%s: another hash", name)
		}
	}
	seen := map[string]string{base: "nothing"}
	for name, change := range map[string]func(*migration.Config){
		"name":          func(m *migration.Config) { m.Name = "x" },
		"environment":   func(m *migration.Config) { m.Environment = "staging" },
		"table":         func(m *migration.Config) { legacyPart(m).Table = "x" },
		"key":           func(m *migration.Config) { legacyPart(m).Key = []string{"id"} },
		"version":       func(m *migration.Config) { legacyPart(m).VersionColumn = "rev" },
		"template":      func(m *migration.Config) { targetPart(m).KeyTemplate = "x:{id}" },
		"format":        func(m *migration.Config) { targetPart(m).Format = "json" },
		"expires":       func(m *migration.Config) { targetPart(m).Expires = "until" },
		"exclude":       func(m *migration.Config) { m.Exclude = nil },
		"fields":        func(m *migration.Config) { m.Fields = []migration.Field{{Name: "id", Target: "x"}} },
		"tolerance":     func(m *migration.Config) { m.Compare[2].Tolerance = "1" },
		"precision":     func(m *migration.Config) { m.Compare[0].Precision *= 10 },
		"ignore":        func(m *migration.Config) { m.Compare[1].Path = "/attributes" },
		"steps":         func(m *migration.Config) { m.Phases.Cutover.Steps = m.Phases.Cutover.Steps[1:] },
		"grace":         func(m *migration.Config) { m.Phases.Grace.For = 0 },
		"approval":      func(m *migration.Config) { m.Phases.Approval.Role = "x" },
		"reversible":    func(m *migration.Config) { no := false; m.Phases.Retain.Reversible = &no },
		"on failure":    func(m *migration.Config) { m.Writing.OnTargetFailure = "fail" },
		"not after":     func(m *migration.Config) { m.Writing.NotAfter *= 2 },
		"rereads":       func(m *migration.Config) { m.Reconcile.Rereads = 1 },
		"gate":          func(m *migration.Config) { m.Gates.Consistency.Limit *= 2 },
		"gate off":      func(m *migration.Config) { m.Gates.TargetReads.Off = "no traffic" },
		"trigger":       func(m *migration.Config) { m.Triggers.Errors.DryRun = true },
		"version field": func(m *migration.Config) { targetPart(m).VersionField = "ver" },
	} {
		m := example(t, "products.yaml")
		change(m)
		if other, ok := seen[m.Hash()]; ok {
			t.Errorf("%s: the hash of %s", name, other)
		}
		seen[m.Hash()] = name
	}
}

func TestRedactURL(t *testing.T) {
	t.Parallel()
	for raw, want := range map[string]string{
		"":                                       "",
		"postgres://app:geheim@db:5432/shop":     "postgres://app@db:5432/shop",
		"postgres://app@db/shop?password=geheim": "postgres://app@db/shop",
		"postgres://db/shop#geheim":              "postgres://db/shop",
		"redis://:geheim@cache:6379/0":           "redis://cache:6379/0",
		"redis+sentinel://u:geheim@a:1,b:2/m/0":  "redis+sentinel://u@a:1,b:2/m/0",
		"unix:///run/redis.sock?db=1":            "unix:///run/redis.sock",
		"redis://u:ge/heim@cache":                "(hidden)",
		"redis://u:12/heim@cache":                "(hidden)",
		"redis://u:12?heim@cache":                "(hidden)",
		"redis://u:12#heim@cache":                "(hidden)",
		"redis://u:ge@heim/x@cache":              "(hidden)",
		"redis://u:%zz@cache":                    "(hidden)",
		"://":                                    "(hidden)",
		"geheim":                                 "(hidden)",
		"host=db user=app password=geheim":       "host=db user=app",
		"password=geheim":                        "(hidden)",
		"host=db password='x host=geheim'":       "(hidden)",
		`host=db password=x\ host=geheim`:        "(hidden)",
		"host=db password = geheim":              "(hidden)",
	} {
		if got := migration.RedactURL(raw); got != want {
			t.Errorf("%s is shown as %s, want %s", raw, got, want)
		}
	}
}
