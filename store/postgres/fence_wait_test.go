package postgres_test

import (
	"context"
	"encoding/binary"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/stranglerfig/migrator/internal/test/testenv"
	"github.com/stranglerfig/migrator/record"
	"github.com/stranglerfig/migrator/store/postgres"
)

// await polls until the condition, a boolean SQL expression, is true.
func (d *database) await(what, condition string, args ...any) {
	d.Helper()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for {
		var holds bool
		d.ok(d.pool.QueryRow(d.ctx, "SELECT coalesce(("+condition+"), false)", args...).Scan(&holds))
		if holds {
			return
		}
		select {
		case <-d.ctx.Done():
			d.Fatal("timeout: " + what)
		case <-tick.C:
		}
	}
}

// TestFenceStartsItsEraAfterOpenWriters: a writer that has locked the table may write
// again while the fence waits for it. That version must be of the era before the fence:
// in the fence's era it would be newer than a replay of the target's writes. So
// RaiseFence locks the table first, and starts the era then.
func TestFenceStartsItsEraAfterOpenWriters(t *testing.T) {
	t.Parallel()
	for _, table := range []string{"products", "products_low"} { // directly into a partition, its parent is not locked
		t.Run(table, func(t *testing.T) {
			t.Parallel()
			d := newDatabase(t)
			d.exec(partitioned)
			l := d.legacy(testConfig("products"))
			writer := d.begin(pgx.TxOptions{})
			_, err := writer.Exec(d.ctx, `UPDATE `+table+` SET name = 'open' WHERE id = 1`)
			d.ok(err)
			type raised struct {
				era uint32
				err error
			}
			done := make(chan raised, 1)
			go func() {
				era, err := l.RaiseFence(d.ctx, "A", wait)
				done <- raised{era, err}
			}()
			d.await("the fence to wait for the writer", `SELECT bool_or(NOT granted) FROM pg_locks
				WHERE locktype = 'relation' AND database = (SELECT oid FROM pg_database WHERE datname = current_database())`)
			var text string
			d.ok(writer.QueryRow(d.ctx, `UPDATE `+table+` SET name = 'once more' WHERE id = 1 RETURNING `+postgres.VersionExpr("it's a test")).Scan(&text))
			d.ok(writer.Commit(d.ctx))
			got := <-done
			d.ok(got.err)
			version, err := record.ParseVersion(text)
			d.ok(err)
			if version.Era() >= got.era {
				t.Errorf("a write before the fence has era %d, the fence began era %d", version.Era(), got.era)
			}
		})
	}
}

// standby is a physical standby from its primary's view: it streams, and reports its
// flushed position.
type standby struct {
	*database
	conn *pgconn.PgConn
}

func newStandby(d *database, name string) *standby {
	d.Helper()
	config, err := pgconn.ParseConfig(d.url)
	d.ok(err)
	config.RuntimeParams["replication"] = "true"
	config.RuntimeParams["application_name"] = name
	conn, err := pgconn.ConnectConfig(d.ctx, config)
	d.ok(err)
	d.Cleanup(func() { _ = conn.Close(context.WithoutCancel(d.ctx)) })
	conn.Frontend().SendQuery(&pgproto3.Query{String: "START_REPLICATION PHYSICAL " + d.text("SELECT pg_current_wal_flush_lsn()::text")})
	d.ok(conn.Frontend().Flush())
	for {
		message, err := conn.ReceiveMessage(d.ctx)
		d.ok(err)
		switch message := message.(type) {
		case *pgproto3.CopyBothResponse:
			return &standby{d, conn}
		case *pgproto3.ErrorResponse:
			d.Fatal(message.Message)
		}
	}
}

// stored reports that all up to the position is on the standby's disk, and returns
// once the primary knows.
func (s *standby) stored(position string) {
	s.Helper()
	var high, low uint64
	_, err := fmt.Sscanf(position, "%X/%X", &high, &low)
	s.ok(err)
	at := high<<32 | low
	status := []byte{'r'} // Standby status update: written, flushed, applied, the time, no reply wanted
	for _, n := range []uint64{at, at, at, 0} {
		status = binary.BigEndian.AppendUint64(status, n)
	}
	s.conn.Frontend().Send(&pgproto3.CopyData{Data: append(status, 0)})
	s.ok(s.conn.Frontend().Flush())
	s.await("the standby's report", "SELECT flush_lsn = $1::text::pg_lsn AND state = 'streaming' FROM pg_stat_replication", position)
}

// TestFenceWaitsForStandbys: a standby promoted without the fence would accept writes.
func TestFenceWaitsForStandbys(t *testing.T) {
	t.Parallel()
	server := testenv.Postgres(t) // standbys are seen, and waited for, by every database of a server
	d := &database{T: t, url: server.URL()}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	t.Cleanup(cancel)
	d.ctx = ctx
	var err error
	d.pool, err = pgxpool.New(ctx, d.url)
	d.ok(err)
	t.Cleanup(d.pool.Close)
	d.exec(`CREATE TABLE products (id int8 PRIMARY KEY, name text)`)
	l := d.legacy(testConfig("products"))
	s := newStandby(d, "reporting-replica")
	s.stored(d.text("SELECT pg_current_wal_flush_lsn()::text"))
	_, err = l.RaiseFence(d.ctx, "A", 100*time.Millisecond)
	if err == nil || !strings.Contains(err.Error(), "standby") {
		t.Errorf("RaiseFence returned (%v) although a standby lacks the fence", err)
	}
	attempt, era, err := l.FenceState(d.ctx)
	d.ok(err)
	if attempt != "A" {
		t.Fatalf("the fence is of attempt %q, want it raised", attempt)
	}
	s.stored("FFFF/0") // raising it again adds to the log
	again, err := l.RaiseFence(d.ctx, "A", wait)
	if err != nil || again != era {
		t.Errorf("once the standby has it: era %d (%v), want %d", again, err, era)
	}
}
