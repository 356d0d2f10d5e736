package postgres_test

import (
	"strings"
	"testing"
	"time"
)

// TestEveryKindOfWriteIsCounted, of a partition too; what changes no record is not, and autovacuum
// and migrator's own reads are not.
func TestEveryKindOfWriteIsCounted(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	d.exec(`CREATE TABLE products (id int8, day date, note text, PRIMARY KEY (id, day)) PARTITION BY RANGE (day);
		CREATE TABLE p1 PARTITION OF products FOR VALUES FROM ('2026-01-01') TO ('2026-02-01');
		CREATE TABLE p2 PARTITION OF products FOR VALUES FROM ('2026-02-01') TO ('2026-03-01');
		INSERT INTO products SELECT i, '2026-01-05', 'a' FROM generate_series(1, 100) i`)
	if d.older(15) {
		t.Skip("needs pg_stat_force_next_flush, of PostgreSQL 15")
	}
	l := d.legacy(testConfig("products"))
	seen := ""
	total := int64(0)
	look := func() {
		t.Helper()
		now, n, why, err := l.CountWrites(d.ctx, seen)
		d.ok(err)
		if why != "" {
			t.Fatal(why)
		}
		seen, total = now, total+n
	}
	d.exec(`SELECT pg_stat_force_next_flush()`)
	look()
	if total != 0 {
		t.Fatalf("the first look counts %d", total)
	}
	for sql, want := range map[string]int64{
		`INSERT INTO products SELECT i, '2026-02-05', 'b' FROM generate_series(1, 30) i`:                                                                        30,
		`UPDATE products SET note = 'c' WHERE id <= 10 AND day = '2026-01-05'`:                                                                                  10,
		`UPDATE products SET day = '2026-02-06' WHERE id = 50`:                                                                                                  2, // to another partition
		`DELETE FROM products WHERE id = 60`:                                                                                                                    1,
		`INSERT INTO products VALUES (1, '2026-01-05', 'd') ON CONFLICT (id, day) DO UPDATE SET note = 'd'`:                                                     1,
		`INSERT INTO products VALUES (1, '2026-01-05', 'd') ON CONFLICT DO NOTHING`:                                                                             0,
		`DO $$ BEGIN BEGIN UPDATE products SET note = 'e' WHERE id = 3 AND day = '2026-01-05'; RAISE 'undone'; EXCEPTION WHEN raise_exception THEN END; END $$`: 1,
		`SELECT * FROM products WHERE id = 3 FOR UPDATE`:                                                                                                        0,
		`VACUUM ANALYZE products`: 0,
		`CREATE TABLE p3 PARTITION OF products FOR VALUES FROM ('2026-03-01') TO ('2026-04-01')`: 0,
	} {
		before := total
		d.exec(sql)
		// What the session passes on, it passes on at once: a later write of it shows that.
		d.exec(`SELECT pg_stat_force_next_flush()`)
		deadline := time.Now().Add(20 * time.Second)
		for look(); total-before < want && time.Now().Before(deadline); look() {
			time.Sleep(20 * time.Millisecond)
		}
		if total-before != want {
			t.Errorf("%s: %d changes, want %d", sql, total-before, want)
		}
	}
	d.exec(`SELECT pg_stat_reset_single_table_counters('p1'::regclass)`)
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		now, n, why, err := l.CountWrites(d.ctx, seen)
		d.ok(err)
		if strings.Contains(why, "reset") && n == 0 && now != "" {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("a reset of one part: %d, %q", n, why)
		}
	}
}

func TestCountersThatCantBeRead(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	d.exec(`CREATE TABLE products (id int8 PRIMARY KEY)`)
	l := d.legacy(testConfig("products"))
	if _, _, why, err := l.CountWrites(d.ctx, `{"server":"another"}`); err != nil || !strings.Contains(why, "replaced") {
		t.Errorf("another server's: %q, %v", why, err)
	}
	d.exec(`DO $$ BEGIN EXECUTE 'ALTER DATABASE ' || quote_ident(current_database()) || ' SET track_counts = off'; END $$`)
	l = d.legacy(testConfig("products"))
	if now, _, why, err := l.CountWrites(d.ctx, ""); err != nil || now != "" || !strings.Contains(why, "track_counts") {
		t.Errorf("without counters: %q, %q, %v", now, why, err)
	}
}

// TestWritersAreNamed: those that have written and not yet committed; printable.
func TestWritersAreNamed(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	d.exec(`CREATE TABLE products (id int8 PRIMARY KEY)`)
	l := d.legacy(testConfig("products"))
	if names, err := l.Writers(d.ctx); err != nil || len(names) != 0 {
		t.Errorf("no session writes: %q, %v", names, err)
	}
	tx, err := d.pool.Begin(d.ctx)
	d.ok(err)
	defer func() { _ = tx.Rollback(d.ctx) }()
	if _, err := tx.Exec(d.ctx, `SET LOCAL application_name = 'nightly import'; INSERT INTO products VALUES (1)`); err != nil {
		t.Fatal(err)
	}
	names, err := l.Writers(d.ctx)
	if err != nil || len(names) != 1 || !strings.HasPrefix(names[0], "nightly import (role ") {
		t.Errorf("%q, %v", names, err)
	}
}
