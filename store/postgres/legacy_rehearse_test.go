package postgres_test

import (
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/stranglerfig/migrator/store"
	"github.com/stranglerfig/migrator/store/postgres"
)

// TestCheckRunsWhatWillRun: Check computes a version under a row's lock and writes a record as a
// return does, and leaves no trace. A server that has no write-ahead log of its own, as Aurora, is
// simulated by functions that come before PostgreSQL's own in the search path.
func TestCheckRunsWhatWillRun(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	d.exec(`CREATE TABLE products (id int8 PRIMARY KEY, name text, at timestamptz);
		INSERT INTO products VALUES (1, 'one', '2024-01-01Z')`)
	look := func(when string, install bool, want ...string) {
		t.Helper()
		before := d.text(`SELECT string_agg(xmin || ' ' || p::text, ',') FROM products p`)
		l, err := postgres.OpenLegacy(d.ctx, testConfig("products"), d.url)
		d.ok(err)
		defer l.Close()
		if install {
			d.ok(l.Install(d.ctx))
		}
		checks, err := l.Check(d.ctx)
		d.ok(err)
		for i := 0; i < len(want); i += 2 {
			name, part := want[i], want[i+1]
			seen := ""
			for _, c := range checks {
				if c.Name == name {
					seen += string(c.Result) + " " + c.Detail + "\n"
				}
			}
			if !strings.Contains(seen, part) {
				t.Errorf("%s: %s: %q, want %q", when, name, seen, part)
			}
		}
		if after := d.text(`SELECT string_agg(xmin || ' ' || p::text, ',') FROM products p`); after != before {
			t.Errorf("%s: the check changed the rows to %s", when, after)
		}
	}
	fine := []string{"legacy-versions", "ok a locked record has a version", "legacy-rehearsal", "ok a record was written over itself"}
	look("before apply", false, fine...)
	look("after apply", true, fine...)

	d.exec(`CREATE FUNCTION stamp() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.at = now(); RETURN NEW; END $$;
		CREATE TRIGGER stamp BEFORE UPDATE ON products FOR EACH ROW EXECUTE FUNCTION stamp()`)
	look("with a trigger that changes the row", false, "legacy-rehearsal", `warning a trigger changes what a return from retain writes to public.products: columns "at"`)
	d.exec(`CREATE OR REPLACE FUNCTION stamp() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM FROM gone; RETURN NEW; END $$`)
	look("with a trigger that fails", false, "legacy-rehearsal", `warning a return from retain could not write the record of key "1", though it changes nothing: SQLSTATE 42P01`)
	d.exec(`CREATE OR REPLACE FUNCTION stamp() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$`)
	look("with a trigger that drops the row", false, "legacy-rehearsal", `warning a return from retain could not write`)
	d.exec(`DROP TRIGGER stamp ON products`)

	l := d.legacy(testConfig("products"))
	_, err := l.RaiseFence(d.ctx, "A", wait)
	d.ok(err)
	checks, err := l.Check(d.ctx)
	d.ok(err)
	for _, c := range checks {
		if c.Name == "legacy-rehearsal" || c.Name == "legacy-versions" && c.Result != store.Good {
			t.Errorf("behind a fence: %+v", c)
		}
	}
	_, err = l.LiftFence(d.ctx, "A", wait)
	d.ok(err)

	tx := d.begin(pgx.TxOptions{})
	_, err = tx.Exec(d.ctx, `SELECT FROM products FOR UPDATE`)
	d.ok(err)
	look("while a transaction holds the row", false, "legacy-versions", "ok", "legacy-rehearsal", "ok a return's statements fit the table; no record was there, or free, to write")
	d.ok(tx.Rollback(d.ctx))

	for _, function := range []string{"pg_walfile_name(pg_lsn) RETURNS text", "pg_current_wal_insert_lsn() RETURNS pg_lsn"} {
		d.exec(`DROP SCHEMA IF EXISTS aurora CASCADE; CREATE SCHEMA aurora; CREATE FUNCTION aurora.` + function + ` LANGUAGE plpgsql AS
			$$ BEGIN RAISE EXCEPTION USING ERRCODE = '55000', MESSAGE = 'recovery is not in progress'; END $$;
			DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET search_path = aurora, pg_catalog, public', current_database()); END $$`)
		look("without a write-ahead log: "+function, false, "legacy-versions", "refused the server gives no version of a write, and every write of the application would fail")
	}
}
