package zoo

import (
	"context"
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stranglerfig/migrator/internal/capture"
	"github.com/stranglerfig/migrator/record"
	"github.com/stranglerfig/migrator/store"
)

// inMemory keeps a capture's progress for as long as the test lasts.
type inMemory struct {
	t     *testing.T
	saved chan capture.Progress
}

func (m *inMemory) Begin(context.Context) (capture.Progress, func(), error) {
	return capture.Progress{}, func() {}, nil
}
func (m *inMemory) Held(context.Context) error { return nil }
func (m *inMemory) Save(ctx context.Context, p capture.Progress) error {
	select {
	case m.saved <- p:
	case <-ctx.Done():
	}
	return nil
}

func (m *inMemory) Journal(_ context.Context, keys []capture.Refused) error {
	for _, k := range keys {
		m.t.Errorf("key %s is refused: %v", k.Key, k.Err)
	}
	return nil
}

func (m *inMemory) Unclean(_ context.Context, why string) error {
	m.t.Errorf("unclean: %s", why)
	return nil
}

// TestZooThroughCapture: the target has of each value in the log what a query prints, whatever the database's own
// settings are.
func TestZooThroughCapture(t *testing.T) {
	t.Parallel()
	z := open(t)
	z.create("zoo", z.types(movable))
	z.exec("CREATE TABLE before AS TABLE zoo; DELETE FROM zoo")
	for _, setting := range []string{
		"DateStyle = 'SQL, DMY'", "TimeZone = 'Asia/Kathmandu'", "IntervalStyle = 'postgres_verbose'", "extra_float_digits = -10", "bytea_output = 'escape'",
		"xmloption = 'document'", "quote_all_identifiers = on", "client_encoding = 'LATIN1'", "default_transaction_isolation = 'serializable'",
	} {
		z.exec("DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET " + strings.ReplaceAll(setting, "'", "''") + "', current_database()); END $$")
	}
	m := config("zoo")
	l := z.legacy(m)
	if err := l.Install(t.Context()); err != nil {
		t.Fatal(err)
	}
	target := redisTarget(z, m, l.Schema(), "hash")
	memory := &inMemory{t, make(chan capture.Progress, 1)}
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		done <- (&capture.Capture{Legacy: l, Target: target, Ledger: memory, Beat: 100 * time.Millisecond}).Run(ctx)
	}()
	defer func() { stop(); <-done }()
	until := func(what string, reached func(capture.Progress) bool) {
		t.Helper()
		for late := time.After(5 * time.Minute); ; {
			select {
			case p := <-memory.saved:
				if reached(p) {
					return
				}
			case err := <-done:
				done <- err
				t.Fatalf("%s: capture has ended: %v", what, err)
			case <-late:
				t.Fatalf("in vain for %s", what)
			}
		}
	}
	until("a slot", func(p capture.Progress) bool { return p.Slot != "" })
	v, err := l.Barrier(t.Context(), time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	until("the barrier", func(p capture.Progress) bool { return !v.NewerThan(p.Barrier) })
	z.exec("INSERT INTO zoo SELECT * FROM before")
	if v, err = l.Barrier(t.Context(), time.Minute); err != nil {
		t.Fatal(err)
	}
	until("the rows", func(p capture.Progress) bool { return !v.NewerThan(p.Barrier) })

	rows := z.read(l)
	ids := slices.Sorted(maps.Keys(rows))
	keys := make([]record.Key, len(ids))
	for n, id := range ids {
		keys[n] = record.MakeKey(strconv.Itoa(id))
	}
	entries, err := target.Get(t.Context(), keys)
	if err != nil {
		t.Fatal(err)
	}
	for n := range entries {
		e := &entries[n]
		if e.Presence != store.Live {
			t.Fatalf("key %s: %s", keys[n], e.Presence)
		}
		for i, f := range l.Schema().Fields {
			if is := rows[ids[n]][i]; is != e.Record[i] {
				t.Errorf("key %s, %s (%s): the log has %q, a query %q", keys[n], f.Name, f.Type, e.Record[i].Text, is.Text)
			}
		}
	}
}
