package daemontest

import (
	"context"
	"errors"
	"math/rand/v2"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cespare/xxhash/v2"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/stranglerfig/migrator/dual"
	"github.com/stranglerfig/migrator/dual/kit"
	"github.com/stranglerfig/migrator/dual/pgfleet"
	"github.com/stranglerfig/migrator/internal/openstore"
	"github.com/stranglerfig/migrator/internal/state"
	"github.com/stranglerfig/migrator/internal/test/testenv"
	"github.com/stranglerfig/migrator/migration"
	"github.com/stranglerfig/migrator/phases"
	"github.com/stranglerfig/migrator/record"
	"github.com/stranglerfig/migrator/store/postgres"
)

const (
	watchedItems     = 400
	watchedRate      = 100 // operations per second, one in seven a write
	watchedCustomers = 300 // at once: slow reads delay no other customer
	handIn           = 500 * time.Millisecond
)

// watchedRest is the rest of a migration file whose triggers are evaluated each second.
const watchedRest = `
phases:
  shadow_write: {for: 0s}
  dual_read: {steps: [100], over: 0s}
  cutover: {steps: [50, 100], over: 0s, auto: false}
  grace: {for: 0s}
  approval: {for: []}
writing: {not_after: 2s, deadline: 2s, on_target_failure: fail}
fleet: {lease: 3s, renew: 1s}
gates: {off: a test of triggers}
`

const watchedTriggers = `
triggers:
  mismatches: {interval: 1s}
  errors: {interval: 1s}
  latency: {interval: 1s}
  lost_writes: {interval: 1s}
`

// watched is a migration in mid-cutover, with an application under load and daemons.
type watched struct {
	*operator
	t     *testing.T
	redis *testenv.RedisServer
	app   *loaded
	state *state.Store // opened by the first use
}

// newWatched advances to cutover and deploys the application there. A read of either store
// takes delay longer than the store needs.
func newWatched(t *testing.T, rest string, delay time.Duration) *watched {
	t.Helper()
	return newWatchedOn(t, rest, delay, func(*watched) {})
}

// newWatchedOn lets place choose other servers first.
func newWatchedOn(t *testing.T, rest string, delay time.Duration, place func(*watched)) *watched {
	t.Helper()
	if !evening() {
		loadOne(t)
	}
	o := newOperator(t, "items", "  table: items\n", "  key: item:{id}\n", rest)
	w := &watched{operator: o, t: t, redis: testenv.Redis(t)}
	place(w)
	o.Target = w.redis.URL()
	o.Write("target.url", o.Target)
	o.SQL(o.Legacy, `CREATE TABLE items (id bigint PRIMARY KEY, name text NOT NULL);
		INSERT INTO items SELECT i, 'item ' || i FROM generate_series(1, `+strconv.Itoa(watchedItems)+`) i`)
	o.Does("init", "apply", "phase advance", "backfill run", "phase advance", "reconcile run --full", "phase advance")
	m, err := openstore.Load(o.Path("migration.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	w.app = deploy(t, m, o.State, delay)
	return w
}

// item is a row.
type item struct {
	ID   int64
	Name string
}

func itemKey(id int64) record.Key { return record.MakeKey(strconv.FormatInt(id, 10)) }

// flaky is a target some of whose reads fail or are slow.
type flaky struct {
	dual.Target[int64, item]
	slow atomic.Int64 // delay of a read, in nanoseconds
	one  atomic.Int64 // one in this many reads fails; 0: none
	left atomic.Int64 // this many of the next reads fail
}

var errFlaky = errors.New("a read that a test has failed")

func (f *flaky) Get(ctx context.Context, key int64) (dual.Versioned[item], error) {
	if n := f.one.Load(); n > 0 && rand.Int64N(n) == 0 || f.left.Load() > 0 && f.left.Add(-1) >= 0 {
		return dual.Versioned[item]{}, errFlaky
	}
	if err := underway(ctx, time.Duration(f.slow.Load())); err != nil {
		return dual.Versioned[item]{}, err
	}
	return f.Target.Get(ctx, key)
}

// underway waits for the given delay.
func underway(ctx context.Context, d time.Duration) error {
	if d == 0 {
		return nil
	}
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}

// loaded is an application under load.
type loaded struct {
	slow     time.Duration // delay of a read of legacy
	db       *pgxpool.Pool
	target   *flaky
	reader   *dual.Reader[int64, item]
	writer   *dual.Writer[int64, item]
	version  string
	instance *dual.Instance
	spared   atomic.Int64 // an item that no customer writes
	reads    atomic.Int64
	failed   atomic.Int64
}

func deploy(t *testing.T, m *migration.Config, stateURL string, delay time.Duration) *loaded {
	t.Helper()
	ctx := t.Context()
	a := &loaded{version: postgres.VersionExpr(m.Name)}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	config, err := pgxpool.ParseConfig(m.Legacy.URL)
	must(err)
	config.MaxConns, config.MinConns = 10, 10
	a.db, err = pgxpool.NewWithConfig(ctx, config)
	must(err)
	t.Cleanup(a.db.Close)
	fleet, err := pgfleet.Open(ctx, stateURL, m.Name, pgfleet.Options{})
	must(err)
	t.Cleanup(fleet.Close)
	m, err = kit.Described(ctx, m, fleet)
	must(err)
	legacy, err := m.OpenLegacy(ctx)
	must(err)
	defer legacy.Close()
	target, err := m.OpenTarget(ctx, legacy.Schema())
	must(err)
	t.Cleanup(func() { _ = target.Close() })
	instance, err := dual.Join(ctx, dual.Config{
		Fleet: fleet, Moves: m.Moves(), ReportEvery: handIn, LeaveWithin: 3 * time.Second, Identity: dual.Identity{Instance: "shop"},
		Writing: dual.Writing{
			OnTargetFailure: dual.Policy(m.Writing.OnTargetFailure), Deadline: time.Duration(m.Writing.Deadline),
			NotAfter: time.Duration(m.Writing.NotAfter),
		},
	})
	must(err)
	codec, err := dual.NewCodec(legacy.Schema(), itemKey, []dual.Column[item]{
		{
			Name: "id",
			Get:  func(i *item) record.Value { return record.TextValue(strconv.FormatInt(i.ID, 10)) },
			Set:  func(i *item, v record.Value) (err error) { i.ID, err = strconv.ParseInt(v.Text, 10, 64); return },
		},
		{
			Name: "name",
			Get:  func(i *item) record.Value { return record.TextValue(i.Name) },
			Set:  func(i *item, v record.Value) error { i.Name = v.Text; return nil },
		},
	})
	must(err)
	a.target = &flaky{Target: dual.Bind(target, codec)}
	a.reader, err = dual.NewReader(dual.ReaderConfig[int64, item]{
		Instance: instance, Target: a.target, Key: itemKey, Legacy: a.fromLegacy,
		Equal: func(l, t item) bool { return l == t }, TargetTimeout: 5*time.Second + 5*delay, ShadowPercent: phases.All,
	})
	must(err)
	a.writer, err = dual.NewWriter(dual.WriterConfig[int64, item]{Instance: instance, Target: a.target, Key: itemKey, Legacy: a.fromLegacy})
	must(err)
	a.instance = instance
	a.warm(t)
	a.slow = delay
	a.target.slow.Store(int64(delay))
	a.run(t, instance)
	return a
}

// warm opens every connection and prepares every statement.
func (a *loaded) warm(t *testing.T) {
	t.Helper()
	var group sync.WaitGroup
	for range 40 {
		group.Go(func() {
			for id := range int64(5) {
				if _, _, err := a.fromLegacy(t.Context(), id+1); err != nil {
					t.Error(err)
				}
				if _, err := a.target.Get(t.Context(), id+1); err != nil {
					t.Error(err)
				}
			}
		})
	}
	group.Wait()
}

// run runs the instance and its customers until the test ends.
func (a *loaded) run(t *testing.T, instance *dual.Instance) {
	stay, leave := context.WithCancel(context.Background())
	serving, stop := context.WithCancel(context.Background())
	var customers, part sync.WaitGroup
	turns := make(chan struct{})
	customers.Go(func() {
		tick := time.NewTicker(time.Second / rate())
		defer tick.Stop()
		defer close(turns)
		for {
			select {
			case <-serving.Done():
				return
			case <-tick.C:
			}
			select { // if no customer is free, the operation is skipped
			case turns <- struct{}{}:
			default:
			}
		}
	})
	for range watchedCustomers {
		customers.Go(func() {
			for range turns {
				a.visit(context.Background())
			}
		})
	}
	part.Go(func() { _ = instance.Run(stay) })
	t.Cleanup(func() {
		stop()
		customers.Wait()
		leave()
		part.Wait()
	})
}

func (a *loaded) visit(ctx context.Context) {
	id := rand.Int64N(watchedItems) + 1
	var err error
	if rand.IntN(7) == 0 && id != a.spared.Load() {
		name := "item " + strconv.Itoa(rand.IntN(1000))
		err = a.writer.Put(ctx, id, item{id, name}, func(ctx context.Context) (v record.Version, err error) {
			var text string
			err = a.db.QueryRow(ctx, `UPDATE items SET name = $2 WHERE id = $1 RETURNING `+a.version, id, name).Scan(&text)
			if err != nil {
				return v, err
			}
			return record.ParseVersion(text)
		})
	} else {
		_, _, err = a.reader.Get(ctx, id)
	}
	a.reads.Add(1)
	if err != nil {
		a.failed.Add(1)
	}
}

func (a *loaded) fromLegacy(ctx context.Context, id int64) (i item, found bool, err error) {
	if err := underway(ctx, a.slow); err != nil {
		return i, false, err
	}
	err = a.db.QueryRow(ctx, `SELECT id, name FROM items WHERE id = $1`, id).Scan(&i.ID, &i.Name)
	if errors.Is(err, pgx.ErrNoRows) {
		return i, false, nil
	}
	return i, err == nil, err
}

// routedToTarget is an item that the target answers for at this share.
func routedToTarget(share phases.Percent) int64 {
	for id := int64(1); ; id++ {
		if share.Takes(xxhash.Sum64String(string(itemKey(id)))) {
			return id
		}
	}
}

// rate is lighter in an evening, in which many applications run beside each other.
func rate() time.Duration {
	if evening() {
		return 20
	}
	return watchedRate
}

// long reports whether the long versions of tests are enabled.
func long() bool { return os.Getenv("MIGRATOR_TORTURE") != "" }

// onlyLong skips a test that only make torture runs.
func onlyLong(t *testing.T) {
	t.Helper()
	if !long() {
		t.Skip("MIGRATOR_TORTURE is not set")
	}
}
