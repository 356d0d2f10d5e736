// Package kit is the short way to embed dual: one call from a migration file to an
// application's records.
//
//	type Session struct {
//		Token   string    `db:"token"`
//		UserID  int64     `db:"user_id"`
//		Expires time.Time `db:"expires"`
//	}
//
//	m, err := migration.Load("sessions.yaml", postgres.Kind(), redis.Kind())
//	sessions, err := kit.Open(ctx, m, kit.Options{StateURL: stateURL}, kit.Binding[string, Session]{
//		Read: readSession, // from legacy, as the application always did
//	})
//	err = sessions.Serve(ctx, serve)
//
// Records has the methods of dual.Reader and dual.Writer: Get, Write, Put and Delete.
// Everything that dual can be configured with is still there: see Options and Binding.
package kit

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/stranglerfig/migrator/dual"
	"github.com/stranglerfig/migrator/dual/httpfleet"
	"github.com/stranglerfig/migrator/dual/pgfleet"
	"github.com/stranglerfig/migrator/migration"
	"github.com/stranglerfig/migrator/record"
	"github.com/stranglerfig/migrator/store"
)

// Options are what differs between the places that an application runs in. StateURL, Daemons or
// Fleet is required.
type Options struct {
	StateURL string       // the state database, as migrator's MIGRATOR_STATE_URL
	Logger   *slog.Logger // nil: silent
	About    string       // of the process, for operators: its name, its release

	// Daemons replaces StateURL where the application may not reach the state database: the addresses
	// of daemons that run with serve --api, and a token.
	Daemons *httpfleet.Options
	// Fleet replaces both: a dual.MemoryFleet in tests, a pgfleet.Fleet on a pool of the
	// application's own. Open does not close it.
	Fleet dual.Fleet
	// Target replaces the migration file's: a memory.Target in tests. Open does not close it.
	Target store.TargetRecords
	// Schema makes Open not connect to legacy: after complete it may be switched off. Nil: Open
	// connects to legacy, and reads under the row's lock where a write must be settled. The columns
	// that are moved are those that the state has as applied; only with a Fleet that does not know
	// them are they Schema's, or else those that legacy has.
	Schema *record.Schema
	// Strict makes writes fail whose changes are not those of their Keys; for tests.
	Strict bool
	// Instance changes the instance's configuration before it joins.
	Instance func(*dual.Config)
}

// Binding connects an application's types with the records.
type Binding[K comparable, V any] struct {
	// Read reads legacy as the application always did. If the migration file has expires, it
	// must not return a record that has expired. Required.
	Read func(ctx context.Context, key K) (value V, found bool, err error)
	// Columns are the columns of V. Nil: V's struct tags (dual.Columns).
	Columns []dual.Column[V]
	// Key makes a record's key. Nil: K's own value, or its struct tags (dual.KeyFor).
	Key func(K) record.Key
	// Reader and Writer change their configurations: OnMismatch, Clone, ShadowPercent, Corrupt.
	Reader func(*dual.ReaderConfig[K, V])
	Writer func(*dual.WriterConfig[K, V])
}

// TargetTimeout is how long a read waits for the target before legacy answers, unless
// Binding.Reader sets another time.
const TargetTimeout = 200 * time.Millisecond

// Records are an application's records that are being moved. It is safe for concurrent use.
type Records[K comparable, V any] struct {
	*dual.Reader[K, V]
	*dual.Writer[K, V]
	// Instance is the process's part in the migration. Serve runs it; an application that
	// does not call Serve calls Instance.Run, and Close when that has returned.
	Instance *dual.Instance
	// Version is the SQL of a write's version, for its RETURNING clause; "" if legacy has none.
	Version string

	close func()
}

// Open makes this process an instance of the migration's fleet. The application must not read
// or write the records before Open has succeeded: without a route no store is right. Open needs
// the state database, or a daemon, and legacy unless Options.Schema is given: retry it with a pause.
func Open[K comparable, V any](ctx context.Context, m *migration.Config, o Options, b Binding[K, V]) (_ *Records[K, V], err error) {
	if b.Read == nil {
		return nil, errors.New("kit: Binding.Read is missing")
	}
	var closers []func()
	r := &Records[K, V]{close: sync.OnceFunc(func() {
		for n := len(closers) - 1; n >= 0; n-- {
			closers[n]()
		}
	})}
	defer func() {
		if err != nil {
			r.close()
		}
	}()
	if p, ok := m.Legacy.Part.(migration.VersionPart); ok {
		r.Version = p.VersionExpr(m.Name)
	}
	staging := m.Environment == "staging"
	fleet, closer, err := o.fleet(ctx, m.Name)
	if err != nil {
		return nil, err
	}
	closers = append(closers, closer)
	m, codec, err := described(ctx, m, fleet, b)
	if err != nil {
		return nil, err
	}
	schema := cmp.Or(m.Schema, o.Schema)
	var legacy store.Legacy // nil: Options.Schema was given
	if o.Schema == nil {
		if legacy, err = m.OpenLegacy(ctx); err != nil {
			return nil, err
		}
		closers = append(closers, legacy.Close)
		schema = legacy.Schema()
	}
	if m.Schema == nil {
		if codec, err = dual.NewCodec(schema, b.Key, b.Columns); err != nil {
			return nil, err
		}
	}
	compare, err := newComparison(schema, m.Compare)
	if err != nil {
		return nil, err
	}
	target := o.Target
	if target == nil {
		opened, err := m.OpenTarget(ctx, schema)
		if err != nil {
			return nil, err
		}
		closers = append(closers, func() { _ = opened.Close() })
		target = opened
	}
	config := dual.Config{
		Fleet: fleet, Logger: o.Logger, Strict: o.Strict, Faults: staging,
		Identity: dual.Identity{About: cmp.Or(o.About, m.Name)}, Moves: m.Moves(),
	}
	config.Marks, _ = target.(store.Marker)
	if config.Applied = Applied(fleet, target, func(applied *migration.Config) {
		if err := compare.follow(applied.Compare); err != nil && o.Logger != nil {
			o.Logger.Warn("the applied rules of comparison don't fit the columns that this process moves; keeping the present ones", "error", err)
		}
	}); config.Applied == nil {
		config.Writing = Writing(m.Writing)
	}
	if o.Instance != nil {
		o.Instance(&config)
	}
	bound := dual.Bind(target, codec)
	reader := dual.ReaderConfig[K, V]{
		Target: bound, Key: codec.Key, Legacy: b.Read, Compare: compareBy(codec, compare), TargetTimeout: TargetTimeout,
	}
	writer := dual.WriterConfig[K, V]{Target: bound, Key: codec.Key, Legacy: b.Read, Compare: compareBy(codec, compare)}
	if legacy != nil {
		writer.Locked, writer.ReadBacks = Locked(legacy, codec), staging
	}
	if b.Reader != nil {
		b.Reader(&reader)
	}
	if b.Writer != nil {
		b.Writer(&writer)
	}
	// Last: a lease that is taken and not kept would block advances until it is evicted.
	instance, err := dual.Join(ctx, config)
	if err != nil {
		return nil, explainOther(ctx, m, fleet, err)
	}
	r.Instance, reader.Instance, writer.Instance = instance, instance, instance
	if r.Reader, err = dual.NewReader(reader); err == nil {
		r.Writer, err = dual.NewWriter(writer)
	}
	if err != nil {
		stopped, stop := context.WithCancel(ctx)
		stop()
		return nil, errors.Join(err, instance.Run(stopped)) // gives the lease back
	}
	return r, nil
}

// fleet is the one of Options, or opens one.
func (o Options) fleet(ctx context.Context, migration string) (_ dual.Fleet, closer func(), err error) {
	switch {
	case o.Fleet != nil:
		return o.Fleet, func() {}, nil
	case o.StateURL != "" && o.Daemons != nil:
		return nil, nil, errors.New("kit: Options.StateURL and Options.Daemons are given: want one")
	case o.Daemons != nil:
		opened, err := httpfleet.New(migration, *o.Daemons)
		if err != nil {
			return nil, nil, err
		}
		return opened, opened.Close, nil
	case o.StateURL == "":
		return nil, nil, errors.New("kit: Options.StateURL is missing, the URL of the state database, and so is Options.Daemons")
	}
	opened, err := pgfleet.Open(ctx, o.StateURL, migration, pgfleet.Options{})
	if err != nil {
		return nil, nil, err
	}
	return opened, opened.Close, nil
}

// Locked makes a dual.WriterConfig's Locked of a legacy store.
func Locked[K comparable, V any](legacy store.Locker, codec dual.Codec[K, V]) func(context.Context, K) (dual.Versioned[V], error) {
	return func(ctx context.Context, key K) (v dual.Versioned[V], err error) {
		rows, err := legacy.LookupLocked(ctx, []record.Key{codec.Key(key)})
		if err != nil || len(rows) != 1 {
			return v, err
		}
		// [repair-equal]: not found would make the writer delete the target's record.
		if equal := rows[0].Equal; equal != "" {
			return v, fmt.Errorf("legacy has the record under the key %q, which it takes as equal to %q", equal, rows[0].Key)
		}
		if !rows[0].Found {
			return v, nil
		}
		v.Found, v.Version = true, rows[0].Version
		v.Value, err = codec.Decode(rows[0].Record)
		return v, err
	}
}

// Serve runs the instance and the application's own work until ctx ends, or serve returns; then
// it closes r. serve returns after its last operation, and only then the instance leaves the
// fleet. Where the instance can't leave cleanly, Serve returns that error too.
func (r *Records[K, V]) Serve(ctx context.Context, serve func(context.Context) error) error {
	defer r.Close()
	stay, leave := context.WithCancel(context.WithoutCancel(ctx))
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	left := make(chan error, 1)
	go func() {
		left <- r.Instance.Run(stay)
		stop() // without its instance the application must not go on
	}()
	err := serve(ctx)
	leave()
	if gone := <-left; gone != nil {
		err = errors.Join(err, fmt.Errorf("leave the migration: %w", gone))
	}
	return err
}

// Close closes what Open has opened. Call it after Instance.Run has returned; Serve does both.
func (r *Records[K, V]) Close() { r.close() }
