package postgres_test

import (
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stranglerfig/migrator/internal/hint"
	"github.com/stranglerfig/migrator/migration"
	"github.com/stranglerfig/migrator/record"
	"github.com/stranglerfig/migrator/store/postgres"
)

const wait = time.Minute

func itoa(n int) string { return strconv.Itoa(n) }

// TestOpenLegacyRefuses: a table that can't be moved is refused, with the reason and a hint.
func TestOpenLegacyRefuses(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	d.exec(`
		CREATE TABLE nokey (id int);
		CREATE TABLE partial (id int NOT NULL, live bool); CREATE UNIQUE INDEX ON partial (id) WHERE live;
		CREATE TABLE expression (id text NOT NULL); CREATE UNIQUE INDEX ON expression (lower(id));
		CREATE TABLE wide (a int NOT NULL, b int NOT NULL, UNIQUE (a, b));
		CREATE TABLE including (a int NOT NULL, b int); CREATE UNIQUE INDEX ON including (a) INCLUDE (b);
		CREATE TABLE nullable (id int UNIQUE);
		CREATE TABLE late (id int PRIMARY KEY DEFERRABLE);
		CREATE TABLE parent (id int PRIMARY KEY); CREATE TABLE child () INHERITS (parent);
		CREATE VIEW v AS SELECT * FROM parent; CREATE MATERIALIZED VIEW mv AS SELECT * FROM parent; CREATE SEQUENCE seq;
		CREATE TABLE fine (id int PRIMARY KEY, "Rev" int, txt text NOT NULL DEFAULT '')`)
	for name, c := range map[string]struct {
		m    migration.Config
		want []string
	}{
		"no table":         {migration.Config{Legacy: migration.Legacy{Part: &postgres.LegacyConfig{}}}, []string{"legacy.table"}},
		"missing":          {migration.Config{Legacy: migration.Legacy{Part: &postgres.LegacyConfig{Table: "absent"}}}, []string{"has no table public.absent", "legacy.table"}},
		"capitals":         {migration.Config{Legacy: migration.Legacy{Part: &postgres.LegacyConfig{Table: `"Fine"`}}}, []string{`public."Fine"`, "double quotes"}},
		"bad name":         {migration.Config{Legacy: migration.Legacy{Part: &postgres.LegacyConfig{Table: "fine; drop"}}}, []string{"double quotes"}},
		"view":             {migration.Config{Legacy: migration.Legacy{Part: &postgres.LegacyConfig{Table: "v"}}}, []string{"is a view"}},
		"mat view":         {migration.Config{Legacy: migration.Legacy{Part: &postgres.LegacyConfig{Table: "mv"}}}, []string{"is a materialized view"}},
		"sequence":         {migration.Config{Legacy: migration.Legacy{Part: &postgres.LegacyConfig{Table: "seq"}}}, []string{"is no table"}},
		"inheritance":      {migration.Config{Legacy: migration.Legacy{Part: &postgres.LegacyConfig{Table: "parent"}}}, []string{"inherit"}},
		"no primary key":   {migration.Config{Legacy: migration.Legacy{Part: &postgres.LegacyConfig{Table: "nokey"}}}, []string{"no primary key", "legacy.key"}},
		"not unique":       {migration.Config{Legacy: migration.Legacy{Part: &postgres.LegacyConfig{Table: "wide", Key: []string{"a"}}}}, []string{"no unique index over exactly", "CREATE UNIQUE INDEX"}},
		"partial":          {migration.Config{Legacy: migration.Legacy{Part: &postgres.LegacyConfig{Table: "partial", Key: []string{"id"}}}}, []string{"not partial"}},
		"expression":       {migration.Config{Legacy: migration.Legacy{Part: &postgres.LegacyConfig{Table: "expression", Key: []string{"id"}}}}, []string{"no unique index"}},
		"nullable":         {migration.Config{Legacy: migration.Legacy{Part: &postgres.LegacyConfig{Table: "nullable", Key: []string{"id"}}}}, []string{`column "id"`, "SET NOT NULL"}},
		"deferrable":       {migration.Config{Legacy: migration.Legacy{Part: &postgres.LegacyConfig{Table: "late"}}}, []string{"not deferrable"}},
		"key twice":        {migration.Config{Legacy: migration.Legacy{Part: &postgres.LegacyConfig{Table: "wide", Key: []string{"a", "a"}}}}, []string{"named twice"}},
		"unknown key":      {migration.Config{Legacy: migration.Legacy{Part: &postgres.LegacyConfig{Table: "fine", Key: []string{"ID"}}}}, []string{`no column "ID"`, "id, Rev, txt"}},
		"unknown field":    {migration.Config{Legacy: migration.Legacy{Part: &postgres.LegacyConfig{Table: "fine"}}, Fields: []migration.Field{{Name: "rev"}}}, []string{`fields: table public.fine has no column "rev"`, "id, Rev, txt"}},
		"unknown exclude":  {migration.Config{Legacy: migration.Legacy{Part: &postgres.LegacyConfig{Table: "fine"}}, Exclude: []string{"x"}}, []string{`exclude: table public.fine has no column "x"`}},
		"key excluded":     {migration.Config{Legacy: migration.Legacy{Part: &postgres.LegacyConfig{Table: "fine"}}, Exclude: []string{"id"}}, []string{`column "id" is part of the key`}},
		"two of a target":  {migration.Config{Legacy: migration.Legacy{Part: &postgres.LegacyConfig{Table: "fine"}}, Fields: []migration.Field{{Name: "id"}, {Name: "txt", Target: "id"}}}, []string{"same target"}},
		"version column":   {migration.Config{Legacy: migration.Legacy{Part: &postgres.LegacyConfig{Table: "fine", VersionColumn: "txt"}}}, []string{"want an integer"}},
		"version nullable": {migration.Config{Legacy: migration.Legacy{Part: &postgres.LegacyConfig{Table: "fine", VersionColumn: "Rev"}}}, []string{"may be null"}},
	} {
		c.m.Name = "m"
		l, err := postgres.OpenLegacy(d.ctx, &c.m, d.url)
		if err == nil {
			l.Close()
			t.Errorf("%s: no error", name)
			continue
		}
		h, _ := hint.Of(err)
		for _, want := range c.want {
			if !strings.Contains(err.Error()+"\n"+h.Text, want) {
				t.Errorf("%s: %q with the hint %q does not contain %q", name, err, h.Text, want)
			}
		}
	}
	for _, table := range []string{"including", "public.fine", "child"} {
		if table == "child" {
			d.exec("ALTER TABLE child ADD PRIMARY KEY (id)")
		}
		m := &migration.Config{Name: "m", Legacy: migration.Legacy{Part: &postgres.LegacyConfig{Table: table}}}
		if table == "including" {
			m.Legacy.Part.(*postgres.LegacyConfig).Key = []string{"a"}
		}
		l, err := postgres.OpenLegacy(d.ctx, m, d.url)
		if err != nil {
			t.Errorf("%s: %v", table, err)
			continue
		}
		l.Close()
	}
	m := &migration.Config{Name: strings.Repeat("x", 60), Legacy: migration.Legacy{Part: &postgres.LegacyConfig{Table: "fine"}}}
	if _, err := postgres.OpenLegacy(d.ctx, m, d.url); err == nil {
		t.Error("a name whose sequence would be truncated was accepted")
	}
}

func TestErrorsContainNoPassword(t *testing.T) {
	t.Parallel()
	m := &migration.Config{Name: "m", Legacy: migration.Legacy{Part: &postgres.LegacyConfig{Table: "t"}}, Target: migration.Target{Part: &postgres.TargetConfig{Table: "t"}}}
	for _, url := range []string{
		"postgres://user:hunter2@127.0.0.1:1/db", "postgres://user:hunter2@127.0.0.1:notaport/db", "hunter2", "user=u password=hunter2 port=x",
		"postgres://user:hunter2%zz@host/db", "postgres://u:hunter2@[::1/db", "",
	} {
		_, err := postgres.OpenLegacy(t.Context(), m, url)
		if err == nil || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("legacy: %v", err)
		}
		_, err = postgres.OpenTarget(t.Context(), m, url, &record.Schema{})
		if err == nil || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("target: %v", err)
		}
	}
}
