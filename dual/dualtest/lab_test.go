package dualtest

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/stranglerfig/migrator/dual"
	"github.com/stranglerfig/migrator/dual/kit"
	"github.com/stranglerfig/migrator/internal/test/testenv"
	"github.com/stranglerfig/migrator/migration"
	"github.com/stranglerfig/migrator/phases"
	"github.com/stranglerfig/migrator/record"
	"github.com/stranglerfig/migrator/store/memory"
	"github.com/stranglerfig/migrator/store/postgres"
)

func TestMain(m *testing.M) { testenv.Main(m) }

type item struct {
	ID      int64     `db:"id"`
	N       int       `db:"n"`
	Note    *string   `db:"note"`
	Changed time.Time `db:"changed"`
	Doc     document  `migrator:"doc,json"`
}

type document struct{ Zip, City string }

type items struct {
	*kit.Records[int64, item]
	db *pgxpool.Pool
}

type (
	change = dual.Change[int64, item]
	op     = dual.Op[int64, item]
)

const returning = ` RETURNING id, n, note, changed, doc, `

func (s *items) read(ctx context.Context, id int64) (v item, ok bool, err error) {
	err = s.db.QueryRow(ctx, `SELECT id, n, note, changed, doc FROM items WHERE id = $1`, id).Scan(&v.ID, &v.N, &v.Note, &v.Changed, &v.Doc)
	if errors.Is(err, pgx.ErrNoRows) {
		return v, false, nil
	}
	return v, err == nil, err
}

func scan(row pgx.Row) (c change, err error) {
	v := &c.Value
	err = row.Scan(&v.ID, &v.N, &v.Note, &v.Changed, &v.Doc, &c.Version)
	c.Key = v.ID
	return c, err
}

// recorder is a test whose failures are the result.
type recorder struct {
	testing.TB
	mu    sync.Mutex
	found []string
}

func (r *recorder) Errorf(format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.found = append(r.found, fmt.Sprintf(format, args...))
}

// newItems is an application of ten items, each with n 10.
func newItems(t *testing.T) (*Lab, *items) {
	t.Helper()
	url := testenv.PostgresURL(t)
	db, err := pgxpool.New(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(db.Close)
	if _, err := db.Exec(t.Context(), `CREATE TABLE items (id bigint PRIMARY KEY, n integer NOT NULL, note text, changed timestamptz NOT NULL DEFAULT now(), doc jsonb NOT NULL DEFAULT '{"Zip": "1", "City": "x"}');
		INSERT INTO items SELECT i, 10, NULL FROM generate_series(1, 10) i`, pgx.QueryExecModeSimpleProtocol); err != nil {
		t.Fatal(err)
	}
	m, err := migration.Parse("items.yaml", []byte("name: items\nlegacy: {store: postgres, table: items, url: '"+url+"'}\ntarget: {store: memory}\n"),
		nil, postgres.Kind(), memory.Kind())
	if err != nil {
		t.Fatal(err)
	}
	lab := New(t, m)
	app := &items{db: db}
	if app.Records, err = kit.Open(t.Context(), m, lab.Options(), kit.Binding[int64, item]{Read: app.read}); err != nil {
		t.Fatal(err)
	}
	lab.Serve(app)
	return lab, app
}

// add is right: one statement, its own version, and the same in the second form.
func (s *items) add(id int64, n int) op {
	return op{
		Keys: []int64{id},
		Legacy: func(ctx context.Context) ([]change, error) {
			c, err := scan(s.db.QueryRow(ctx, `UPDATE items SET n = n + $2 WHERE id = $1`+returning+s.Version, id, n))
			return []change{c}, err
		},
		Update: addTo(n),
	}
}

func addTo(n int) func(int64, item, bool) (item, bool, error) {
	return func(_ int64, v item, found bool) (item, bool, error) {
		if !found {
			return v, false, pgx.ErrNoRows
		}
		v.N += n
		return v, false, nil
	}
}

// inTx makes a transaction, and commits it.
func (s *items) inTx(ctx context.Context, do func(pgx.Tx) error) error {
	return pgx.BeginFunc(ctx, s.db, do)
}

// TestCheck finds each way in which closures are wrong, and nothing in those that are right.
func TestCheck(t *testing.T) {
	t.Parallel()
	lab, s := newItems(t)
	note := "x"
	for _, c := range []struct {
		name    string
		write   func(context.Context) error
		ignore  []string
		finding string // "": none
	}{
		{name: "right", write: func(ctx context.Context) error { return s.Write(ctx, s.add(1, 5)) }},
		{name: "right, of no record", write: func(ctx context.Context) error { return s.Write(ctx, s.add(999, 5)) }},
		{name: "right, whole", write: func(ctx context.Context) error {
			v := item{ID: 20, N: 1, Note: &note, Changed: time.Unix(1e9, 0), Doc: document{"2", "y"}} // jsonb changes its text
			return s.Put(ctx, v.ID, v, func(ctx context.Context) (version record.Version, err error) {
				err = s.db.QueryRow(ctx, `INSERT INTO items VALUES ($1, $2, $3, $4, $5) RETURNING `+s.Version, v.ID, v.N, v.Note, v.Changed, v.Doc).Scan(&version)
				return version, err
			})
		}},
		{name: "right, deleted", write: func(ctx context.Context) error {
			return s.Delete(ctx, 20, func(ctx context.Context) (version record.Version, err error) {
				err = s.db.QueryRow(ctx, `DELETE FROM items WHERE id = 20 RETURNING `+s.Version).Scan(&version)
				return version, err
			})
		}},
		{
			name: "a time of its own is ignored", ignore: []string{"changed"},
			write: func(ctx context.Context) error {
				o := s.add(1, 0)
				o.Legacy = func(ctx context.Context) ([]change, error) {
					c, err := scan(s.db.QueryRow(ctx, `UPDATE items SET changed = clock_timestamp() WHERE id = 1`+returning+s.Version))
					return []change{c}, err
				}
				return s.Write(ctx, o)
			},
		},
		{
			name: "the forms differ", finding: "the legacy form and Update differ in /n",
			write: func(ctx context.Context) error {
				o := s.add(1, 5)
				o.Update = addTo(6)
				return s.Write(ctx, o)
			},
		},
		{
			name: "one form fails", finding: "the forms disagree",
			write: func(ctx context.Context) error {
				o := s.add(1, 5)
				o.Update = func(_ int64, v item, _ bool) (item, bool, error) { return v, false, errors.New("too many") }
				return s.Write(ctx, o)
			},
		},
		{
			name: "an undone savepoint's row", finding: "but the closure returned",
			write: func(ctx context.Context) error {
				o := s.add(2, 0)
				o.Update = func(_ int64, v item, _ bool) (item, bool, error) { v.Note = &note; return v, false, nil }
				o.Legacy = func(ctx context.Context) (changes []change, err error) {
					err = s.inTx(ctx, func(tx pgx.Tx) error {
						inner, err := tx.Begin(ctx)
						if err != nil {
							return err
						}
						c, err := scan(inner.QueryRow(ctx, `UPDATE items SET n = 99 WHERE id = 2`+returning+s.Version))
						changes = []change{c}
						if err := errors.Join(err, inner.Rollback(ctx)); err != nil {
							return err
						}
						_, err = tx.Exec(ctx, `UPDATE items SET note = 'x' WHERE id = 2`)
						return err
					})
					return changes, err
				}
				return s.Write(ctx, o)
			},
		},
		{
			name: "COMMIT's error is ignored", finding: "although its COMMIT failed",
			write: func(ctx context.Context) error {
				o := s.add(3, 5)
				o.Legacy = func(ctx context.Context) ([]change, error) {
					tx, err := s.db.Begin(ctx)
					if err != nil {
						return nil, err
					}
					c, err := scan(tx.QueryRow(ctx, `UPDATE items SET n = n + 5 WHERE id = 3`+returning+s.Version))
					if err != nil {
						return nil, errors.Join(err, tx.Rollback(ctx))
					}
					_ = tx.Commit(ctx)
					return []change{c}, nil
				}
				return s.Write(ctx, o)
			},
		},
		{
			name: "a change outside of Keys", finding: "1 changes are outside",
			write: func(ctx context.Context) error {
				o := s.add(4, 5)
				first := o.Legacy
				o.Legacy = func(ctx context.Context) ([]change, error) {
					one, err := first(ctx)
					two, err2 := scan(s.db.QueryRow(ctx, `UPDATE items SET n = 0 WHERE id = 5`+returning+s.Version))
					return append(one, two), errors.Join(err, err2)
				}
				return s.Write(ctx, o)
			},
		},
		{
			name: "a change too few", finding: "1 of the Keys have no change",
			write: func(ctx context.Context) error {
				o := s.add(4, 5)
				o.Keys = []int64{4, 5}
				o.Legacy = func(ctx context.Context) ([]change, error) {
					// Both rows are written, one is returned.
					c, err := scan(s.db.QueryRow(ctx, `UPDATE items SET n = n + 5 WHERE id IN (4, 5)`+returning+s.Version))
					return []change{c}, err
				}
				return s.Write(ctx, o)
			},
		},
		{
			name: "a change that is not returned", finding: "but the closure returned",
			write: func(ctx context.Context) error {
				o := s.add(4, 5)
				o.Keys, o.Fewer = []int64{4, 5}, true
				o.Legacy = func(ctx context.Context) ([]change, error) {
					c, err := scan(s.db.QueryRow(ctx, `UPDATE items SET n = n + 5 WHERE id IN (4, 5)`+returning+s.Version))
					return []change{c}, err
				}
				return s.Write(ctx, o)
			},
		},
		{
			name: "a version from before the lock", finding: "before the write had the row's lock",
			write: func(ctx context.Context) error {
				o := s.add(6, 5)
				o.Legacy = func(ctx context.Context) (changes []change, err error) {
					err = s.inTx(ctx, func(tx pgx.Tx) error {
						var early record.Version
						if err := tx.QueryRow(ctx, `SELECT `+s.Version).Scan(&early); err != nil {
							return err
						}
						c, err := scan(tx.QueryRow(ctx, `UPDATE items SET n = n + 5 WHERE id = 6`+returning+s.Version))
						c.Version = early
						changes = []change{c}
						return err
					})
					return changes, err
				}
				return s.Write(ctx, o)
			},
		},
		{
			name: "the value that was sent, not the row", finding: "but the closure returned",
			write: func(ctx context.Context) error {
				v := item{ID: 7, N: 11, Changed: time.Unix(1e9, 0)}
				return s.Put(ctx, v.ID, v, func(ctx context.Context) (version record.Version, err error) {
					err = s.db.QueryRow(ctx, `UPDATE items SET n = $1, changed = DEFAULT WHERE id = 7 RETURNING `+s.Version, v.N).Scan(&version)
					return version, err
				})
			},
		},
	} {
		r := &recorder{TB: t}
		lab.check(r, &check{ignored: c.ignore}, c.write)
		found := strings.Join(r.found, "\n")
		if c.finding == "" && found != "" || !strings.Contains(found, c.finding) {
			t.Errorf("%s: found %q, want %q", c.name, found, c.finding)
		}
	}
}

// TestMove: the instance reads what legacy has, from the target alone.
func TestMove(t *testing.T) {
	t.Parallel()
	lab, s := newItems(t)
	lab.Move(phases.Complete)
	if v, found, err := s.Get(t.Context(), 3); err != nil || !found || v.N != 10 {
		t.Errorf("%+v, %v, %v", v, found, err)
	}
	if err := s.Write(t.Context(), s.add(3, 5)); err != nil {
		t.Fatal(err)
	}
	if v, _, err := s.read(t.Context(), 3); err != nil || v.N != 10 {
		t.Errorf("legacy has %+v, %v", v, err)
	}
	if v, _, err := s.Get(t.Context(), 3); err != nil || v.N != 15 {
		t.Errorf("%+v, %v", v, err)
	}
}
