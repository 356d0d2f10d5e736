package reconcile_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/stranglerfig/migrator/dual"
	"github.com/stranglerfig/migrator/dual/pgfleet"
	"github.com/stranglerfig/migrator/internal/state"
	"github.com/stranglerfig/migrator/internal/state/reconciles"
	"github.com/stranglerfig/migrator/internal/test/pairtest"
	"github.com/stranglerfig/migrator/internal/test/statetest"
	"github.com/stranglerfig/migrator/phases"
	"github.com/stranglerfig/migrator/reconcile"
	"github.com/stranglerfig/migrator/record"
)

// application is the load of two instances that embed dual, in dual-read, on a state
// database in which the reconciler keeps its runs too.
func application(t *testing.T, p *pairtest.Pair, rc *reconcile.Reconciler) load {
	t.Helper()
	url := statetest.URL(t)
	store := openState(t, url)
	for _, to := range []phases.Route{{Phase: phases.ShadowWrite}, {Phase: phases.DualRead, Percent: phases.All}} {
		if _, err := store.Transition(t.Context(), "move", func(e phases.Snapshot) (phases.Move, error) {
			return phases.Move{From: e.Status.Route, To: to, Cause: phases.CauseAdvance, Reason: "test"}, nil
		}); err != nil {
			t.Fatal(err)
		}
	}
	rc.Ledger = reconciles.New(store.Pool(), "move")
	l := load{wait: func() {}}
	var lost sync.Map
	var writers []*dual.Writer[int, record.Record]
	for range 2 {
		writers = append(writers, instance(t, p, url, rc.NotAfter))
	}
	l.behind = func(k record.Key) bool {
		_, ok := lost.Load(k)
		return ok
	}
	l.write = func(ctx context.Context, id int) error {
		err := change(ctx, p, writers[rand.IntN(len(writers))], id)
		var behind *dual.TargetError
		if errors.As(err, &behind) { // it got the error, and the key is journaled
			for _, k := range behind.Keys {
				lost.Store(k, true)
			}
			return nil
		}
		return err
	}
	return l
}

// openState is a state database with the migration, at legacy.
func openState(t testing.TB, url string) *state.Store {
	t.Helper()
	store, err := state.Open(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(store.Close)
	if _, _, err := store.Apply(t.Context(), state.Applied{Migration: "move", Config: []byte("{}"), ConfigHash: "h", Schema: []byte("{}")}); err != nil {
		t.Fatal(err)
	}
	return store
}

// instance joins the fleet until the test ends.
func instance(t *testing.T, p *pairtest.Pair, url string, notAfter time.Duration) *dual.Writer[int, record.Record] {
	t.Helper()
	fleet, err := pgfleet.Open(t.Context(), url, "move", pgfleet.Options{})
	if err != nil {
		t.Fatal(err)
	}
	joined, err := dual.Join(t.Context(), dual.Config{Fleet: fleet, Writing: dual.Writing{OnTargetFailure: dual.Fail, NotAfter: notAfter}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, leave := context.WithCancel(context.WithoutCancel(t.Context()))
	ended := make(chan error, 1)
	go func() { ended <- joined.Run(ctx) }()
	t.Cleanup(func() {
		leave()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		fleet.Close()
	})
	var columns []dual.Column[record.Record]
	schema := p.Legacy.Schema()
	for i, f := range schema.Fields {
		columns = append(columns, dual.Column[record.Record]{
			Name: f.Name,
			Get:  func(r *record.Record) record.Value { return (*r)[i] },
			Set: func(r *record.Record, v record.Value) error {
				if *r == nil {
					*r = make(record.Record, len(schema.Fields))
				}
				(*r)[i] = v
				return nil
			},
		})
	}
	key := func(id int) record.Key { return record.MakeKey(strconv.Itoa(id)) }
	codec, err := dual.NewCodec(schema, key, columns)
	if err != nil {
		t.Fatal(err)
	}
	w, err := dual.NewWriter(dual.WriterConfig[int, record.Record]{
		Instance: joined, Target: dual.Bind(p.Target, codec), Key: key,
		Legacy: func(ctx context.Context, id int) (record.Record, bool, error) {
			rows, err := p.Legacy.Lookup(ctx, []record.Key{key(id)})
			if err != nil {
				return nil, false, err
			}
			return rows[0].Record, rows[0].Found, nil
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	return w
}

// change puts an item, or deletes it.
func change(ctx context.Context, p *pairtest.Pair, w *dual.Writer[int, record.Record], id int) error {
	version := func(row pgx.Row) (record.Version, error) {
		var text string
		err := row.Scan(&text)
		if errors.Is(err, pgx.ErrNoRows) {
			return record.Version{}, nil
		}
		if err != nil {
			return record.Version{}, err
		}
		return record.ParseVersion(text)
	}
	if rand.IntN(5) == 0 {
		return w.Delete(ctx, id, func(ctx context.Context) (record.Version, error) {
			return version(p.SQL.QueryRow(ctx, "DELETE FROM items WHERE id = $1 RETURNING migrator_legacy.version('move')", id))
		})
	}
	name, amount := fmt.Sprint("written ", rand.IntN(1_000_000)), fmt.Sprint(rand.IntN(1000), ".50")
	value := record.Record{record.TextValue(strconv.Itoa(id)), record.TextValue(name), record.TextValue(amount), record.NullValue}
	return w.Put(ctx, id, value, func(ctx context.Context) (record.Version, error) {
		return version(p.SQL.QueryRow(ctx, `INSERT INTO items VALUES ($1, $2, $3::text::numeric)
			ON CONFLICT (id) DO UPDATE SET name = excluded.name, amount = excluded.amount
			RETURNING migrator_legacy.version('move')`, id, name, amount))
	})
}
