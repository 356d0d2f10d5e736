package kit_test

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/stranglerfig/migrator/dual"
	"github.com/stranglerfig/migrator/dual/httpfleet"
	"github.com/stranglerfig/migrator/dual/kit"
	"github.com/stranglerfig/migrator/internal/test/testenv"
	"github.com/stranglerfig/migrator/migration"
	"github.com/stranglerfig/migrator/phases"
	"github.com/stranglerfig/migrator/record"
	"github.com/stranglerfig/migrator/store/memory"
	"github.com/stranglerfig/migrator/store/postgres"
)

func parse(t *testing.T, file string) *migration.Config {
	t.Helper()
	m, err := migration.Parse("m.yaml", []byte(file), nil, postgres.Kind(), memory.Kind())
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// TestStagingReadsWritesBack: a closure that returns another row than it wrote is found in
// staging, and its values are not logged. In production legacy's rows are not locked for it.
func TestStagingReadsWritesBack(t *testing.T) {
	t.Parallel()
	for _, environment := range []string{"staging", "production"} {
		t.Run(environment, func(t *testing.T) {
			t.Parallel()
			url, legacy, _ := openThings(t, `CREATE TABLE fruits (id bigint PRIMARY KEY, name text NOT NULL); INSERT INTO fruits VALUES (1, 'apple'), (2, 'pear')`, "fruits")
			if err := legacy.Install(t.Context()); err != nil {
				t.Fatal(err)
			}
			db, err := pgxpool.New(t.Context(), url)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(db.Close)
			m := parse(t, "name: m\nenvironment: "+environment+"\nlegacy: {store: postgres, table: fruits, url: '"+url+"'}\ntarget: {store: memory}\n")
			var log testenv.Buffer
			fruits, err := kit.Open(t.Context(), m, kit.Options{
				Fleet: dual.NewMemoryFleet(phases.Route{Phase: phases.Grace}), Logger: slog.New(slog.NewTextHandler(&log, nil)),
			}, kit.Binding[int64, Fruit]{Read: func(ctx context.Context, id int64) (f Fruit, found bool, err error) {
				err = db.QueryRow(ctx, `SELECT id, name FROM fruits WHERE id = $1`, id).Scan(&f.ID, &f.Name)
				return f, err == nil, err
			}})
			if err != nil {
				t.Fatal(err)
			}
			rename := func(ctx context.Context, f Fruit, returned string) error {
				return fruits.Write(ctx, dual.Op[int64, Fruit]{Legacy: func(ctx context.Context) ([]dual.Change[int64, Fruit], error) {
					c := dual.Change[int64, Fruit]{Key: f.ID}
					err := db.QueryRow(ctx, `UPDATE fruits SET name = $2 WHERE id = $1 RETURNING id, name, `+fruits.Version, f.ID, f.Name).
						Scan(&c.Value.ID, &c.Value.Name, &c.Version)
					if returned != "" {
						c.Value.Name = returned
					}
					return []dual.Change[int64, Fruit]{c}, err
				}})
			}
			err = fruits.Serve(t.Context(), func(ctx context.Context) error {
				if err := errors.Join(rename(ctx, Fruit{1, "quince"}, ""), rename(ctx, Fruit{2, "plum"}, "secret")); err != nil {
					return err
				}
				for environment == "staging" && fruits.Instance.Stats().ReadBacks < 2 {
					time.Sleep(time.Millisecond) // of a condition that has no notification
					if ctx.Err() != nil {
						return ctx.Err()
					}
				}
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
			s := fruits.Instance.Stats()
			if want := map[string]uint64{"staging": 1}[environment]; s.ReadBackDifferences != want || s.ReadBacks != 2*want {
				t.Errorf("%d read back, %d differ, want %d", s.ReadBacks, s.ReadBackDifferences, want)
			}
			if text := log.String(); strings.Contains(text, "another row") != (environment == "staging") || strings.Contains(text, "secret") || strings.Contains(text, "plum") {
				t.Errorf("logged: %s", text)
			}
		})
	}
}

// TestOpenRefusesWhatCantWork, and takes no lease then.
func TestOpenRefusesWhatCantWork(t *testing.T) {
	t.Parallel()
	m := parse(t, "name: m\nlegacy: {store: postgres, table: fruits, url: 'postgres://app:secret@127.0.0.1:1/db'}\ntarget: {store: memory}\n")
	schema := &record.Schema{Fields: []record.Field{{Name: "id", Kind: record.Int, NotNull: true}, {Name: "name", Kind: record.Text}}, Key: []int{0}}
	read := func(context.Context, int64) (f Fruit, found bool, err error) { return f, false, nil }
	fleet := dual.NewMemoryFleet(phases.Route{Phase: phases.Legacy})
	daemons := &httpfleet.Options{URLs: []string{"http://127.0.0.1:1"}, Token: "secret"}
	for _, c := range []struct {
		options kit.Options
		binding kit.Binding[int64, Fruit]
		want    string
	}{
		{kit.Options{Fleet: fleet}, kit.Binding[int64, Fruit]{}, "Binding.Read is missing"},
		{kit.Options{Fleet: fleet}, kit.Binding[int64, Fruit]{Read: read}, "PostgreSQL"}, // legacy is not reachable
		{kit.Options{Fleet: fleet, Schema: schema}, kit.Binding[int64, Fruit]{Read: read}, `column "name": the column may be NULL`},
		{kit.Options{Schema: schema}, kit.Binding[int64, Fruit]{Read: read}, "StateURL is missing"},
		{kit.Options{StateURL: "postgres://app:secret@127.0.0.1:1/db", Daemons: daemons}, kit.Binding[int64, Fruit]{Read: read}, "want one"},
		{kit.Options{Daemons: &httpfleet.Options{}}, kit.Binding[int64, Fruit]{Read: read}, "Options.URLs is empty"},
		{kit.Options{Daemons: daemons}, kit.Binding[int64, Fruit]{Read: read}, "no answer of a daemon"},
	} {
		_, err := kit.Open(t.Context(), m, c.options, c.binding)
		if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "secret") {
			t.Errorf("%v, want %q", err, c.want)
		}
	}
	// No instance is left that a move would wait for.
	if err := fleet.Move(t.Context(), phases.Grace, phases.All); err != nil {
		t.Error(err)
	}
}
