package postgres_test

import (
	"testing"

	"github.com/stranglerfig/migrator/migration"
	"github.com/stranglerfig/migrator/store"
	"github.com/stranglerfig/migrator/store/postgres"
)

// TestKeysOfEveryTypeAreChecked: CheckKey accepts every key that a table can have.
func TestKeysOfEveryTypeAreChecked(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	for i, c := range []struct{ declared, values string }{
		{"bigint", "('-9223372036854775808'), ('0'), ('42')"},
		{"numeric", "('NaN'), ('-12.50'), ('0.00'), ('Infinity')"},
		{"float8", "('NaN'), ('-Infinity'), ('1e300'), ('-0.1')"},
		{"boolean", "('t'), ('f')"},
		{"date", "('infinity'), ('0044-03-15 BC'), ('12024-02-29'), ('2024-02-29')"},
		{"timestamp", "('-infinity'), ('0044-03-15 12:00:00.5 BC'), ('2024-02-29 12:00:00.123456'), ('12024-01-01')"},
		{"timestamptz", "('infinity'), ('0044-03-15 12:00:00 BC'), ('2024-02-29 12:00:00.120+02')"},
		{"uuid", "('0B5C9D3E-6A2F-4C58-9D2B-3F1A7E8C4D10')"},
		{"text", "(''), ('a,b'), ('50%'), (E'tab\\there'), ('größe'), ('\"quoted\"')"},
		{"inet", "('10.0.0.1'), ('::1')"},
	} {
		table := "keys" + string(rune('a'+i))
		d.exec("CREATE TABLE " + table + " (k " + c.declared + " PRIMARY KEY)")
		d.exec("INSERT INTO " + table + " SELECT v::" + c.declared + " FROM (VALUES " + c.values + ") x (v)")
		m := &migration.Config{Name: "move", Legacy: migration.Legacy{Part: &postgres.LegacyConfig{Table: table}}}
		l, err := postgres.OpenLegacy(d.ctx, m, d.url)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(l.Close)
		chunks, err := l.Chunks(d.ctx, 100)
		if err != nil {
			t.Fatal(err)
		}
		n := 0
		if err := l.Scan(d.ctx, chunks[0], func(row store.Row) error {
			if _, err := l.Schema().CheckKey(row.Key); err != nil {
				t.Errorf("%s: %v", c.declared, err)
			}
			n++
			return nil
		}); err != nil || n == 0 {
			t.Fatalf("%s: %v, %d keys", c.declared, err, n)
		}
		if c.declared == "text" || c.declared == "inet" { // any text may be one
			continue
		}
		if _, err := l.Schema().CheckKey("no such"); err == nil {
			t.Errorf("%s: it accepts any text", c.declared)
		}
	}
}
