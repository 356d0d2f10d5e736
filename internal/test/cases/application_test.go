package cases

import (
	"context"
	"errors"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/stranglerfig/migrator/dual"
	"github.com/stranglerfig/migrator/dual/kit"
	"github.com/stranglerfig/migrator/dual/pgfleet"
	"github.com/stranglerfig/migrator/record"
	"github.com/stranglerfig/migrator/store"
	"github.com/stranglerfig/migrator/store/postgres"
)

type item struct {
	ID   int64
	Name string
}

var codec = dual.Codec[int64, item]{
	Key: key,
	Encode: func(v item) (record.Record, error) {
		return record.Record{record.TextValue(strconv.FormatInt(v.ID, 10)), record.TextValue(v.Name)}, nil
	},
	Decode: func(r record.Record) (item, error) {
		id, err := strconv.ParseInt(r[0].Text, 10, 64)
		return item{id, r[1].Text}, err
	},
}

// application is one running instance that reads and writes items.
type application struct {
	w      *world
	i      *dual.Instance
	writer *dual.Writer[int64, item]
	reader *dual.Reader[int64, item]
	// Called in a write's closure before its statement and after its commit.
	before, after func()
}

// setup changes an application. Zero: the policy rollback, a lease of 20 s.
type setup struct {
	name      string
	policy    dual.Policy
	lease     time.Duration
	clock     func() time.Duration
	uncertain func(error) bool
	deadline  time.Duration // of a write in the target; 0: the migration file's
	target    store.Target  // nil: the world's
	marked    bool          // it looks at the target's marks
}

// application joins, and runs until the test ends.
func (w *world) application(s setup) *application {
	w.t.Helper()
	if s.lease == 0 {
		s.lease = 20 * time.Second
	}
	if s.deadline == 0 {
		s.deadline = time.Duration(w.m.Writing.Deadline)
	}
	fleet, err := pgfleet.Open(w.ctx, w.stateURL, "items", pgfleet.Options{Lease: s.lease, Renew: s.lease / 6})
	w.check(err)
	w.t.Cleanup(fleet.Close)
	if s.target == nil {
		s.target = w.target
	}
	var marks store.Marker
	if s.marked {
		marks = s.target.(store.Marker)
	}
	a := &application{w: w}
	a.i, err = dual.Join(w.ctx, dual.Config{
		Fleet: fleet, Marks: marks, Moves: w.m.Moves(), Identity: dual.Identity{Instance: s.name}, Clock: s.clock,
		Writing: dual.Writing{
			OnTargetFailure: s.policy, NotAfter: time.Duration(w.m.Writing.NotAfter), Deadline: s.deadline,
		},
		BreakerPause: time.Second, LeaveWithin: 2 * time.Second,
	})
	w.check(err)
	target := dual.Bind(s.target, codec)
	a.writer, err = dual.NewWriter(dual.WriterConfig[int64, item]{
		Instance: a.i, Target: target, Key: key, Legacy: a.fromLegacy, Locked: kit.Locked(w.legacy, codec), Uncertain: s.uncertain,
	})
	w.check(err)
	a.reader, err = dual.NewReader(dual.ReaderConfig[int64, item]{
		Instance: a.i, Target: target, Key: key, TargetTimeout: 500 * time.Millisecond, Legacy: a.fromLegacy,
		Equal: func(a, b item) bool { return a == b },
	})
	w.check(err)
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- a.i.Run(ctx) }()
	w.t.Cleanup(func() {
		stop()
		<-done // bounded by LeaveWithin; it fails since the servers have stopped
	})
	return a
}

func (a *application) fromLegacy(ctx context.Context, id int64) (v item, found bool, err error) {
	err = a.w.db.QueryRow(ctx, "SELECT id, name FROM items WHERE id = $1", id).Scan(&v.ID, &v.Name)
	if errors.Is(err, pgx.ErrNoRows) {
		return v, false, nil
	}
	return v, err == nil, err
}

const upsert = "INSERT INTO items (id, name) VALUES ($1, $2) ON CONFLICT (id) DO UPDATE SET name = $2 RETURNING "

// put is a write's closure.
func (a *application) put(id int64, name string) func(context.Context) (record.Version, error) {
	return func(ctx context.Context) (record.Version, error) {
		if a.before != nil {
			a.before()
		}
		var text string
		if err := a.w.db.QueryRow(ctx, upsert+postgres.VersionExpr("items"), id, name).Scan(&text); err != nil {
			return record.Version{}, err
		}
		if a.after != nil {
			a.after()
		}
		return record.ParseVersion(text)
	}
}

func (a *application) write(id int64, name string) error {
	return a.writer.Put(a.w.ctx, id, item{id, name}, a.put(id, name))
}

func (a *application) mustWrite(id int64, name string) {
	a.w.t.Helper()
	a.w.check(a.write(id, name))
}

// read returns the name, none, or the error.
func (a *application) read(id int64) string {
	v, found, err := a.reader.Get(a.w.ctx, id)
	switch {
	case err != nil:
		return "(error) " + err.Error()
	case !found:
		return none
	}
	return v.Name
}
