package embedding

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"golang.org/x/sync/errgroup"

	"github.com/stranglerfig/migrator/dual"
	"github.com/stranglerfig/migrator/dual/pgfleet"
	"github.com/stranglerfig/migrator/internal/state"
	"github.com/stranglerfig/migrator/migration"
	"github.com/stranglerfig/migrator/record"
	"github.com/stranglerfig/migrator/store"
	"github.com/stranglerfig/migrator/store/postgres"
)

// Customers is the application's store of customers.
type Customers struct {
	db       *pgxpool.Pool
	target   store.Target
	fleet    *pgfleet.Fleet
	instance *dual.Instance
	reader   *dual.Reader[int64, Customer]
	writer   *dual.Writer[int64, Customer]
	version  string // SQL: the version of a write
}

// docs: open

// Open makes this process an instance of the migration's fleet. The application must not
// read or write customers before Open has succeeded: without a route no store is right.
func Open(ctx context.Context, m *migration.Config, stateURL string, log *slog.Logger) (_ *Customers, err error) {
	c := &Customers{version: postgres.VersionExpr(m.Name)}
	defer func() {
		if err != nil {
			c.close()
		}
	}()
	if c.db, err = pgxpool.New(ctx, m.Legacy.URL); err != nil {
		return nil, errors.New("the legacy database's URL can't be parsed") // without it: it may contain a password
	}
	legacy, err := m.OpenLegacy(ctx) // for the records' shape alone
	if err != nil {
		return nil, err
	}
	defer legacy.Close()
	if c.target, err = m.OpenTarget(ctx, legacy.Schema()); err != nil {
		return nil, err
	}
	if c.fleet, err = pgfleet.Open(ctx, stateURL, m.Name, pgfleet.Options{}); err != nil {
		return nil, err
	}
	c.instance, err = dual.Join(ctx, dual.Config{
		Fleet: c.fleet, Logger: log,
		Identity: dual.Identity{About: "customers"},
		Writing: dual.Writing{
			OnTargetFailure: dual.Policy(m.Writing.OnTargetFailure),
			Deadline:        time.Duration(m.Writing.Deadline),
			NotAfter:        time.Duration(m.Writing.NotAfter),
			RollbackBudget:  time.Duration(m.Writing.RollbackBudget),
			FenceBudget:     time.Duration(m.Writing.FenceBudget),
			Queue:           m.Writing.Queue,
		},
	})
	if err != nil {
		return nil, err
	}
	return c, c.bind(legacy.Schema(), m.Compare)
}

// docs: end

// docs: bind

// bind puts the application's type between both stores.
func (c *Customers) bind(schema *record.Schema, rules []record.Rule) error {
	codec, err := dual.NewCodec(schema, keyOf, columns())
	if err != nil {
		return err
	}
	comparer, err := record.NewComparer(schema, rules)
	if err != nil {
		return err
	}
	customers := dual.Bind(c.target, codec)
	c.reader, err = dual.NewReader(dual.ReaderConfig[int64, Customer]{
		Instance: c.instance, Target: customers, Key: keyOf,
		Legacy:        c.fromLegacy,
		Compare:       dual.CompareBy(codec, comparer), // as reconcile does
		TargetTimeout: 200 * time.Millisecond,
	})
	if err != nil {
		return err
	}
	c.writer, err = dual.NewWriter(dual.WriterConfig[int64, Customer]{
		Instance: c.instance, Target: customers, Key: keyOf,
		IsFenced:  postgres.IsFenced,
		Uncertain: uncertain,
	})
	return err
}

// docs: end

// docs: get

// Get returns one customer.
func (c *Customers) Get(ctx context.Context, id int64) (Customer, bool, error) {
	return c.reader.Get(ctx, id)
}

func (c *Customers) fromLegacy(ctx context.Context, id int64) (Customer, bool, error) {
	found, err := scan(c.db.QueryRow(ctx, "SELECT "+customerColumns+" FROM customers WHERE id = $1", id))
	if errors.Is(err, pgx.ErrNoRows) {
		return Customer{}, false, nil
	}
	return found, err == nil, err
}

// docs: end

// docs: serve

// Serve runs the application until ctx ends. The order of the end matters: serve
// returns after its last operation, and only then the instance leaves the fleet.
func (c *Customers) Serve(ctx context.Context, serve func(context.Context) error) error {
	defer c.close()
	stay, leave := context.WithCancel(context.WithoutCancel(ctx))
	defer leave()
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return c.instance.Run(stay) })
	group.Go(func() error {
		defer leave()
		return serve(ctx)
	})
	return group.Wait()
}

// docs: end

func (c *Customers) close() {
	if c.fleet != nil {
		c.fleet.Close()
	}
	if c.target != nil {
		_ = c.target.Close()
	}
	if c.db != nil {
		c.db.Close()
	}
}

// docs: grant

// Grant gives the application's role the rights that it needs in the state database. The
// role that ran migrator init must call it, and again after every upgrade.
func Grant(ctx context.Context, stateURL, role string) error {
	store, err := state.Open(ctx, stateURL)
	if err != nil {
		return err
	}
	defer store.Close()
	return store.GrantApplication(ctx, role)
}

// docs: end
