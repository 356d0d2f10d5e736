package postgres_test

import (
	"errors"
	"fmt"
	"testing"

	"github.com/stranglerfig/migrator/record"
	"github.com/stranglerfig/migrator/store"
	"github.com/stranglerfig/migrator/store/postgres"
)

// rendered reads a table by Scan and by ScanBlocks, and returns the number of rows.
func sameInBlocks(t *testing.T, d *database, l *postgres.Legacy, ofBlock int) (rows int) {
	t.Helper()
	chunks, err := l.Chunks(d.ctx, 1000)
	d.ok(err)
	for _, c := range chunks {
		var want []record.Record
		d.ok(l.Scan(d.ctx, c, func(r store.Row) error {
			want = append(want, r.Record.Clone())
			return nil
		}))
		var got []record.Record
		d.ok(l.ScanBlocks(d.ctx, c, ofBlock, func() *record.Block { return new(record.Block) }, func(b *record.Block) error {
			if b.Rows() == 0 || b.Rows() > ofBlock {
				t.Errorf("a block of %d rows, want 1 to %d", b.Rows(), ofBlock)
			}
			for i := range b.Rows() {
				got = append(got, b.Record(i))
			}
			return nil
		}))
		if len(got) != len(want) {
			t.Fatalf("%d rows in blocks, %d one by one", len(got), len(want))
		}
		fields := l.Schema().Fields
		for i := range want {
			for f := range want[i] {
				if got[i][f] != want[i][f] {
					t.Errorf("%s (%s): %q in blocks, %q by itself", fields[f].Name, fields[f].Type, got[i][f].Text, want[i][f].Text)
				}
			}
		}
		rows += len(want)
	}
	return rows
}

// TestBlocksEqualScan: each value of every type has the same text, whether the server
// prints it or this package renders it.
func TestBlocksEqualScan(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	d.exec(kindsDDL)
	for i, c := range kindCases {
		d.exec(fmt.Sprintf(`INSERT INTO "Order Items" ("user", "Line, No", %s) VALUES (gen_random_uuid(), %d, %s)`, c.column, i, c.sql))
	}
	d.exec(`INSERT INTO "Order Items" ("user", "Line, No", p) VALUES (gen_random_uuid(), -1, ROW(NULL, NULL))`)
	if n := sameInBlocks(t, d, d.legacy(testConfig(`"Order Items"`)), 7); n != len(kindCases)+1 {
		t.Errorf("%d rows, want %d", n, len(kindCases)+1)
	}
}

// TestBlocksOfRandomValues covers the whole range of the types that this package renders.
func TestBlocksOfRandomValues(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	d.exec(`CREATE TABLE wide (id int8 PRIMARY KEY, n numeric, m numeric(30,7), d date, ts timestamp, tz timestamptz, i2 int2, i4 int4, u uuid, jb jsonb, b bytea);
		INSERT INTO wide SELECT g,
			CASE g % 7 WHEN 0 THEN 0 WHEN 1 THEN 'NaN' WHEN 2 THEN '-Infinity' WHEN 3 THEN 'Infinity'
				WHEN 4 THEN (random() - 0.5)::numeric * power(10::numeric, (g % 90) - 45)
				ELSE round(((random() - 0.5) * 1e9)::numeric, g % 20) END,
			round(((random() - 0.5) * 1e12)::numeric, 7),
			'4713-11-24 BC'::date + (random() * 5000000)::int,
			'4000-01-01 BC'::timestamp + random() * interval '20000 years' + (g % 3) * interval '1 millisecond',
			date_trunc((ARRAY['second', 'millisecond', 'microsecond', 'year'])[1 + g % 4], '1990-01-01Z'::timestamptz + random() * interval '40 years'),
			(random() * 65535 - 32768)::int2, (random() * 4e9 - 2e9)::int4, gen_random_uuid(), jsonb_build_object('k' || g, random()), sha256(g::text::bytea)
		FROM generate_series(1, 20000) g;
		INSERT INTO wide (id, n) VALUES (-1, 10000), (-2, 99999999.00010000), (-3, 0.00010000), (-4, -0.5), (-5, 0.000), (-6, 10000000000000000000000), (-7, 1e-200)`)
	if n := sameInBlocks(t, d, d.legacy(testConfig("wide")), 500); n != 20007 {
		t.Errorf("%d rows", n)
	}
}

// TestBlocksStop: an error of yield is returned, and the connection stays usable.
func TestBlocksStop(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	d.exec(`CREATE TABLE many (id int PRIMARY KEY); INSERT INTO many SELECT generate_series(1, 5000)`)
	l := d.legacy(testConfig("many"))
	enough := errors.New("enough")
	chunks, err := l.Chunks(d.ctx, 100_000)
	d.ok(err)
	for range 20 {
		err := l.ScanBlocks(d.ctx, chunks[0], 10, func() *record.Block { return new(record.Block) }, func(*record.Block) error { return enough })
		if !errors.Is(err, enough) {
			t.Fatalf("%v, want %v", err, enough)
		}
	}
	if n := sameInBlocks(t, d, l, 100); n != 5000 {
		t.Errorf("%d rows", n)
	}
}
