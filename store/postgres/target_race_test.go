package postgres

import (
	"testing"

	"github.com/stranglerfig/migrator/internal/test/testenv"
	"github.com/stranglerfig/migrator/migration"
	"github.com/stranglerfig/migrator/record"
	"github.com/stranglerfig/migrator/store"
)

// TestADeleteRemovesWhatWasThere when its version was locked: another program, which locks no version, may
// insert a row of the key after that.
func TestADeleteRemovesWhatWasThere(t *testing.T) {
	t.Parallel()
	ctx, url := t.Context(), testenv.PostgresURL(t)
	pool, err := connect(ctx, "target", url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	exec := func(sql string) {
		t.Helper()
		if _, err := pool.Exec(ctx, sql); err != nil {
			t.Fatal(err)
		}
	}
	exec("CREATE TABLE goods (id bigint PRIMARY KEY, name text)")
	schema := &record.Schema{Fields: []record.Field{
		{Name: "id", Target: "id", Kind: record.Int, Type: "bigint", NotNull: true},
		{Name: "name", Target: "name", Kind: record.Text, Type: "text"},
	}, Key: []int{0}}
	target, err := OpenTarget(ctx, &migration.Config{Name: "move", Target: migration.Target{Store: KindName, Part: &TargetConfig{Table: "goods"}}}, url, schema)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = target.Close() })
	if err := target.Prepare(ctx); err != nil {
		t.Fatal(err)
	}

	gone := []store.Write{{Key: "1", Deleted: true, Overwrite: true, Version: record.MakeVersion(1, 0, 5)}}
	states := []keyState{{key: "1"}}
	conn, err := target.pool.Acquire(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Release()
	reads, err := target.lockAndRead(gone, states, []record.Key{"1"})
	if err != nil {
		t.Fatal(err)
	}
	if err := reads.send(ctx, conn.Conn().PgConn()); err != nil {
		t.Fatal(err)
	}
	states[0].decided = decide(&gone[0], &states[0])
	exec("INSERT INTO goods VALUES (1, 'another program''s')")
	writes, err := target.writeDecided(gone, states, false)
	if err != nil {
		t.Fatal(err)
	}
	if err := writes.send(ctx, conn.Conn().PgConn()); err != nil {
		t.Fatal(err)
	}
	entries, err := target.Get(ctx, []record.Key{"1"})
	if err != nil || entries[0].Presence != store.Unowned || entries[0].Version != gone[0].Version {
		t.Errorf("%+v, %v: want another program's row, and the version beside it", entries, err)
	}
}
