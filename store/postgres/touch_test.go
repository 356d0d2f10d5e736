package postgres_test

import (
	"testing"

	"github.com/stranglerfig/migrator/migration"
	"github.com/stranglerfig/migrator/record"
	"github.com/stranglerfig/migrator/store"
	"github.com/stranglerfig/migrator/store/postgres"
)

// TestTouchIsAWrite: it changes the given column only, runs triggers, and gives each write
// a newer version.
func TestTouchIsAWrite(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	d.exec(`CREATE TABLE items (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, double numeric GENERATED ALWAYS AS (price * 2) STORED,
			name varchar(40), price numeric(10,2), writes int NOT NULL DEFAULT 0);
		CREATE FUNCTION count_writes() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.writes := OLD.writes + 1; RETURN NEW; END $$;
		CREATE TRIGGER count_writes BEFORE UPDATE ON items FOR EACH ROW EXECUTE FUNCTION count_writes();
		INSERT INTO items (name, price) VALUES ('a', 1.50), (NULL, NULL)`)
	for _, c := range []struct{ name, version string }{{"log", ""}, {"column", "writes"}} {
		m := &migration.Config{Name: "items_" + c.name, Legacy: migration.Legacy{Store: "postgres", Part: &postgres.LegacyConfig{Table: "items", VersionColumn: c.version}}}
		l, err := postgres.OpenLegacy(d.ctx, m, d.url)
		d.ok(err)
		t.Cleanup(l.Close)
		d.ok(l.Install(d.ctx))
		var last record.Version
		touch := func(key record.Key, column string, v record.Value) store.Row {
			t.Helper()
			row, err := l.Touch(d.ctx, key, column, v)
			d.ok(err)
			if !row.Found || !row.Version.NewerThan(last) {
				t.Fatalf("%s: %+v after %s", c.name, row, last)
			}
			last = row.Version
			return row
		}
		before := d.text(`SELECT writes::text FROM items WHERE id = 1`)
		was := d.text(`SELECT (id, double, name, price)::text FROM items WHERE id = 1`)
		touch("1", "", record.Value{})
		if got := d.text(`SELECT (id, double, name, price)::text FROM items WHERE id = 1`); got != was || d.text(`SELECT writes::text FROM items WHERE id = 1`) == before {
			t.Errorf("%s: %s became %s", c.name, was, got)
		}
		row := touch("1", "name", record.TextValue(`it's "new", {x}`))
		if at := l.Schema().Index("name"); row.Record[at].Text != `it's "new", {x}` || d.text(`SELECT name FROM items WHERE id = 1`) != row.Record[at].Text {
			t.Errorf("%+v", row.Record)
		}
		touch("1", "name", record.NullValue)
		touch("1", "price", record.TextValue("2.25"))
		touch("1", "name", record.TextValue("a"))
		touch("1", "price", record.TextValue("1.50"))
		if d.text(`SELECT (name IS NULL)::text FROM items WHERE id = 2`) != "true" || d.text(`SELECT writes::text FROM items WHERE id = 2`) != "0" {
			t.Error("another record was written")
		}
		for _, none := range []record.Key{"99", "no number", "1,2"} {
			if row, err := l.Touch(d.ctx, none, "", record.Value{}); err == nil && row.Found {
				t.Errorf("%q: %+v", none, row)
			}
		}
		if _, err := l.Touch(d.ctx, "1", "colour", record.TextValue("red")); err == nil {
			t.Error("a column that there is not was written")
		}
		d.ok(l.Uninstall(d.ctx)) // a table has one migration
	}
}
