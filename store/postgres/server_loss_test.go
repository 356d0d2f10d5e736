package postgres_test

import (
	"strings"
	"testing"

	"github.com/stranglerfig/migrator/migration"
	"github.com/stranglerfig/migrator/store"
	"github.com/stranglerfig/migrator/store/postgres"
)

// TestLookForLoss: each way in which a server can have lost transactions, as it shows afterwards. Real
// crashes and failovers are tests of internal/test/cases.
func TestLookForLoss(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	d.exec("CREATE TABLE items (id bigint PRIMARY KEY)")
	legacy := d.legacy(testConfig("items"))
	t.Run("legacy", func(t *testing.T) { testLookForLoss(t, legacy, d, "migrator_legacy.alive") })
	m := &migration.Config{Name: "alive", Target: migration.Target{Store: "postgres", Part: &postgres.TargetConfig{Table: "items"}}}
	schema := *legacy.Schema()
	target, err := postgres.OpenTarget(d.ctx, m, d.url, &schema)
	d.ok(err)
	t.Cleanup(func() { _ = target.Close() })
	d.ok(target.Prepare(d.ctx))
	t.Run("target", func(t *testing.T) { testLookForLoss(t, target, d, `migrator_target."migrator alive"`) })
}

func testLookForLoss(t *testing.T, finder store.LossFinder, d *database, table string) {
	look := func(seen string) (now, lost string) {
		t.Helper()
		now, lost, err := finder.LookForLoss(t.Context(), seen)
		if err != nil {
			t.Fatal(err)
		}
		return now, lost
	}
	seen, lost := look("")
	if lost != "" {
		t.Fatalf("at the first look: %s", lost)
	}
	seen, lost = look(seen)
	if lost != "" {
		t.Fatalf("nothing has happened: %s", lost)
	}
	parts := strings.Split(seen, " ")
	if len(parts) != 4 {
		t.Fatalf("%q", seen)
	}
	with := func(at int, text string) string {
		changed := append([]string{}, parts...)
		changed[at] = text
		return strings.Join(changed, " ")
	}
	for what, c := range map[string]struct{ seen, want string }{
		"another server":    {with(0, "1"), "system identifier"},
		"a failover":        {with(1, "7"), "timeline"},
		"an older copy":     {with(2, "FFFFFFF/0"), "its log is at"},
		"another mark":      {with(3, "another"), "unlogged mark"},
		"before it had one": {with(3, ""), ""},
	} {
		if _, lost := look(c.seen); !strings.Contains(lost, c.want) || (lost == "") != (c.want == "") {
			t.Errorf("%s: %q, want %q", what, lost, c.want)
		}
	}
	d.exec("TRUNCATE " + table)
	now, lost := look(seen)
	if !strings.Contains(lost, "unlogged mark") {
		t.Errorf("without its row: %q", lost)
	}
	if _, lost := look(now); lost != "" {
		t.Errorf("once it is known: %q", lost)
	}
}

// TestInstallUpgradesItsSchema: a database that an earlier version prepared gets the mark.
func TestInstallUpgradesItsSchema(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	d.exec("CREATE TABLE items (id bigint PRIMARY KEY)")
	legacy := d.legacy(testConfig("items"))
	if _, err := legacy.Pool().Exec(t.Context(), "DROP TABLE migrator_legacy.alive; UPDATE migrator_legacy.schema SET number = 1"); err != nil {
		t.Fatal(err)
	}
	if err := legacy.Install(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, lost, err := legacy.LookForLoss(t.Context(), ""); err != nil || lost != "" {
		t.Errorf("%q, %v", lost, err)
	}
}
