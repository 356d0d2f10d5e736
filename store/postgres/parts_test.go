package postgres_test

import (
	"fmt"
	"strings"
	"testing"
)

// TestPartChanges: of every kind, with what it means for the records.
func TestPartChanges(t *testing.T) {
	t.Parallel()
	const nested = `CREATE TABLE products (id int8, day date, PRIMARY KEY (id, day)) PARTITION BY RANGE (day);
		CREATE TABLE "Old" PARTITION OF products FOR VALUES FROM ('2026-01-01') TO ('2026-02-01');
		CREATE TABLE new PARTITION OF products FOR VALUES FROM ('2026-02-01') TO ('2026-03-01') PARTITION BY HASH (id);
		CREATE TABLE new_0 PARTITION OF new FOR VALUES WITH (MODULUS 1, REMAINDER 0);
		INSERT INTO products VALUES (1, '2026-01-05'), (2, '2026-02-05')`
	const plain = `CREATE TABLE products (id int8 PRIMARY KEY)`
	for sql, want := range map[[2]string]string{
		{plain, `INSERT INTO products VALUES (1); TRUNCATE products; REINDEX TABLE products`}:                                                                           "",
		{plain, `DROP TABLE products; CREATE TABLE products (id int8 PRIMARY KEY)`}:                                                                                     "table public.products was dropped, or is another one true false",
		{plain, `ALTER TABLE products RENAME TO old; CREATE TABLE products (id int8 PRIMARY KEY)`}:                                                                      "table public.products was dropped, or is another one true false",
		{plain, `ALTER TABLE products RENAME TO other`}:                                                                                                                 "public.products was renamed to public.other false false",
		{plain, `CREATE TABLE child (CHECK (id > 0)) INHERITS (products)`}:                                                                                              "partition public.child was added, empty false false",
		{`CREATE TABLE products (id int8 PRIMARY KEY, name text); INSERT INTO products VALUES (1, 'a')`, `ALTER TABLE products ALTER name TYPE text USING upper(name)`}: `public.products was rewritten by ALTER TABLE, and may have other values ("name") true false`,
		{plain, `VACUUM FULL products`}: "",
		{plain, `ALTER TABLE products ALTER id SET STATISTICS 50; ALTER TABLE products RENAME CONSTRAINT products_pkey TO other`}:                                                                                         "",
		{`CREATE TABLE products (id int8 PRIMARY KEY, _left int); INSERT INTO products VALUES (1, 2)`, `ALTER TABLE products ALTER _left TYPE int8; ALTER TABLE products ADD added text DEFAULT clock_timestamp()::text`}: "",
		{nested + `; ALTER TABLE products ADD name text`, `ALTER TABLE products ALTER name TYPE text USING 'x' || id`}:                                                                                                    `public."Old" was rewritten by ALTER TABLE, and may have other values ("name"), public.new_0 was rewritten by ALTER TABLE, and may have other values ("name") true false`,
		{nested, `ALTER TABLE products DETACH PARTITION "Old"`}: `partition public."Old" was detached true false`,
		{nested, `DROP TABLE "Old"`}:                            `partition public."Old" was dropped true false`,
		{nested, `ALTER TABLE products DETACH PARTITION new`}:   "partition public.new was detached, partition public.new_0 was detached true false",
		{nested, `DROP TABLE new`}:                              "partition public.new was dropped, partition public.new_0 was dropped true false",
		{nested, `ALTER TABLE new RENAME TO newer`}:             "public.new was renamed to public.newer false false",
		{nested, "CREATE TABLE \"a\x1bb\" PARTITION OF products FOR VALUES FROM ('2026-03-01') TO ('2026-04-01')"}:                                                                                                     `partition public."a\x1bb" was added, empty false false`,
		{nested, `CREATE TABLE april (id int8 NOT NULL, day date NOT NULL); INSERT INTO april VALUES (3, '2026-04-05'); ALTER TABLE products ATTACH PARTITION april FOR VALUES FROM ('2026-04-01') TO ('2026-05-01')`}: "partition public.april was added, with records false true",
		{nested, `CREATE TABLE a (LIKE products); CREATE TABLE b (LIKE products); CREATE TABLE c (LIKE products); CREATE TABLE d (LIKE products); CREATE TABLE e (LIKE products); CREATE TABLE f (LIKE products);
			DO $$ DECLARE t text; n int := 3; BEGIN FOREACH t IN ARRAY ARRAY['a', 'b', 'c', 'd', 'e', 'f'] LOOP
				EXECUTE format('ALTER TABLE products ATTACH PARTITION %I FOR VALUES FROM (%L) TO (%L)', t, make_date(2026, n, 1), make_date(2026, n + 1, 1)); n := n + 1; END LOOP; END $$`}: "partition public.a was added, empty, partition public.b was added, empty, partition public.c was added, empty, partition public.d was added, empty, partition public.e was added, empty, and 1 more changes false false",
	} {
		t.Run(want, func(t *testing.T) {
			t.Parallel()
			d := newDatabase(t)
			d.exec(sql[0])
			m := testConfig("products")
			if strings.Contains(sql[0], "_left") {
				m.Exclude = []string{"_left"}
			}
			l := d.legacy(m)
			before, err := l.Parts(d.ctx)
			d.ok(err)
			d.exec(sql[1])
			now, err := l.Parts(d.ctx)
			d.ok(err)
			changes, gone, come, err := l.PartChanges(d.ctx, before, now)
			d.ok(err)
			got := changes
			if changes != "" {
				got = fmt.Sprint(changes, " ", gone, " ", come)
			}
			if got != want {
				t.Errorf("%s, want %s", got, want)
			}
			if changes, _, _, err := l.PartChanges(d.ctx, now, now); changes != "" || err != nil {
				t.Errorf("of the same: %q, %v", changes, err)
			}
		})
	}
}
