package postgres_test

import (
	"context"
	"database/sql"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"
	_ "github.com/jackc/pgx/v5/stdlib" // the driver "pgx"
	_ "github.com/lib/pq"              // the driver "postgres"

	"github.com/stranglerfig/migrator/store"
)

// TestDriversErrors: with each driver, the fence's refusal is recognized, and a COMMIT whose
// answer never arrives is uncertain, as a refused statement is not.
func TestDriversErrors(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	d.exec(`CREATE TABLE products (id int8 PRIMARY KEY, name text); INSERT INTO products VALUES (1, 'one');
		CREATE TABLE slow (id int8 PRIMARY KEY);
		CREATE FUNCTION wait() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_advisory_xact_lock(1); RETURN NULL; END';
		CREATE CONSTRAINT TRIGGER wait AFTER INSERT ON slow DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION wait()`)
	l := d.legacy(testConfig("products"))
	_, err := l.RaiseFence(d.ctx, "A", wait)
	d.ok(err)
	// COMMIT waits for this lock.
	holder, err := pgxpool.New(d.ctx, d.url)
	d.ok(err)
	defer holder.Close()
	held, err := holder.Acquire(d.ctx)
	d.ok(err)
	defer held.Release()
	_, err = held.Exec(d.ctx, `SELECT pg_advisory_lock(1)`)
	d.ok(err)
	for _, driver := range []string{"pgx", "postgres"} {
		db, err := sql.Open(driver, d.url)
		d.ok(err)
		defer db.Close()
		if _, err := db.ExecContext(d.ctx, `UPDATE products SET name = 'x'`); !store.IsFenced(err) || store.IsUncertain(err) {
			t.Errorf("%s: a fenced write: %v", driver, err)
		}
		var version string
		if err := db.QueryRowContext(d.ctx, `DELETE FROM products RETURNING name`).Scan(&version); !store.IsFenced(err) {
			t.Errorf("%s: a fenced write with RETURNING: %v", driver, err)
		}
		if _, err := db.ExecContext(d.ctx, `INSERT INTO slow VALUES (NULL)`); err == nil || store.IsFenced(err) || store.IsUncertain(err) {
			t.Errorf("%s: a refused write: %v", driver, err)
		}
		for _, how := range []string{"terminated", "cancelled"} {
			conn, err := db.Conn(d.ctx)
			d.ok(err)
			var pid int
			d.ok(conn.QueryRowContext(d.ctx, `SELECT pg_backend_pid()`).Scan(&pid))
			ctx, cancel := context.WithCancel(d.ctx)
			committed := make(chan error, 1)
			go func() { // a statement by itself ends with a COMMIT too
				_, err := conn.ExecContext(ctx, `INSERT INTO slow SELECT coalesce(max(id), 0) + 1 FROM slow`)
				committed <- err
			}()
			const waits = `SELECT EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND NOT granted AND pid = $1)`
			d.await("COMMIT waits", waits, pid)
			if how == "cancelled" {
				cancel()
			} else {
				_, err = held.Exec(d.ctx, `SELECT pg_terminate_backend($1)`, pid)
				d.ok(err)
			}
			// lib/pq cancels the statement and waits for the server's answer, which is certain.
			answered := driver == "postgres" && how == "cancelled"
			if err := <-committed; err == nil || store.IsUncertain(err) == answered || store.IsFenced(err) {
				t.Errorf("%s: a COMMIT that was %s: %#v", driver, how, err)
			}
			cancel()
			_ = conn.Close()
			_, err = held.Exec(d.ctx, `SELECT pg_terminate_backend($1)`, pid)
			d.ok(err)
			d.await("the session ends", `SELECT NOT EXISTS (SELECT FROM pg_stat_activity WHERE pid = $1)`, pid)
		}
	}
}
