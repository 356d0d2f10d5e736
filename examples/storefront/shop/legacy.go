package shop

import (
	"context"
	"errors"
	"slices"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/stranglerfig/migrator/dual"
	"github.com/stranglerfig/migrator/record"
	"github.com/stranglerfig/migrator/store/postgres"
)

// Schema is the storefront's own table, unchanged by the migration.
const Schema = `
CREATE TABLE IF NOT EXISTS products (
	id           bigint PRIMARY KEY,
	sku          text NOT NULL,
	name         text NOT NULL,
	description  text,
	price        numeric(12,4) NOT NULL,
	currency     char(3) NOT NULL,
	weight_kg    float8,
	tags         text[] NOT NULL DEFAULT '{}',
	attributes   jsonb NOT NULL DEFAULT '{}',
	image        bytea,
	discontinued boolean NOT NULL DEFAULT false,
	created_at   timestamptz NOT NULL DEFAULT now(),
	updated_at   timestamptz NOT NULL DEFAULT now(),
	revision     bigint NOT NULL DEFAULT 1
)`

const productColumns = `id, sku, name, description, price::text, currency, weight_kg, tags, attributes, image,
	discontinued, created_at, updated_at, revision`

// edit changes one product: from its present state (nil: there is none) to its next (nil:
// deleted). It may be called again with another state, so it must only compute.
type edit func(current *Product) (*Product, error)

// legacyStore is the storefront's PostgreSQL. The migration adds only the version that each
// write returns.
type legacyStore struct {
	pool    *pgxpool.Pool
	version string // SQL expression; see postgres.VersionExpr
}

func newLegacyStore(pool *pgxpool.Pool, migration string) *legacyStore {
	return &legacyStore{pool: pool, version: postgres.VersionExpr(migration)}
}

func (l *legacyStore) get(ctx context.Context, id int64) (Product, bool, error) {
	p, err := scanProduct(l.pool.QueryRow(ctx, "SELECT "+productColumns+" FROM products WHERE id = $1", id))
	if errors.Is(err, pgx.ErrNoRows) {
		return Product{}, false, nil
	}
	return p, err == nil, err
}

// edit changes all products in one transaction, and returns every record that it changed, each
// with the version of its own write. It returns after the commit.
func (l *legacyStore) edit(ctx context.Context, edits map[int64]edit) ([]dual.Change[int64, Product], error) {
	ids := make([]int64, 0, len(edits))
	for id := range edits {
		ids = append(ids, id)
	}
	slices.Sort(ids) // one order of locks for all requests: no deadlock
	for {
		changes, err := l.transaction(ctx, ids, edits)
		// Two requests may create the same product at once: the later one retries and finds
		// it.
		if sqlState(err) == uniqueViolation && ctx.Err() == nil {
			continue
		}
		return changes, err
	}
}

const uniqueViolation = "23505"

func (l *legacyStore) transaction(ctx context.Context, ids []int64, edits map[int64]edit) (changes []dual.Change[int64, Product], err error) {
	tx, err := l.pool.Begin(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { _ = tx.Rollback(context.WithoutCancel(ctx)) }() // no effect after a commit
	for _, id := range ids {
		change, err := l.editOne(ctx, tx, id, edits[id])
		if err != nil {
			return nil, err
		}
		if change != nil {
			changes = append(changes, *change)
		}
	}
	if err := tx.Commit(ctx); err != nil {
		if sqlState(err) == "" { // the server has not answered that it refused
			err = &uncertainError{err}
		}
		return nil, err
	}
	return changes, nil
}

// uncertainError is a commit without an answer. The Writer must know it: the products may have
// changed in legacy alone.
type uncertainError struct{ error }

func (e *uncertainError) Unwrap() error { return e.error }

func isUncertain(err error) bool {
	var u *uncertainError
	return errors.As(err, &u)
}

func (l *legacyStore) editOne(ctx context.Context, tx pgx.Tx, id int64, f edit) (*dual.Change[int64, Product], error) {
	var current *Product
	found, err := scanProduct(tx.QueryRow(ctx, "SELECT "+productColumns+" FROM products WHERE id = $1 FOR UPDATE", id))
	switch {
	case err == nil:
		current = &found
	case !errors.Is(err, pgx.ErrNoRows):
		return nil, err
	}
	next, err := f(current)
	if err != nil || next == nil && current == nil {
		return nil, err
	}
	change := &dual.Change[int64, Product]{Key: id, Deleted: next == nil}
	var version string
	if next == nil {
		err = tx.QueryRow(ctx, "DELETE FROM products WHERE id = $1 RETURNING "+l.version, id).Scan(&version)
	} else {
		statement := insertProduct
		if current != nil {
			statement = updateProduct
		}
		// RETURNING gives the row as the table has it now: that goes to the target.
		change.Value, err = scanProduct(tx.QueryRow(ctx, statement+" RETURNING "+productColumns+", "+l.version, next.values()...), &version)
	}
	if err != nil {
		return nil, err
	}
	change.Version, err = record.ParseVersion(version)
	return change, err
}

const (
	insertProduct = `INSERT INTO products (id, sku, name, description, price, currency, weight_kg, tags, attributes, image,
	discontinued, created_at, updated_at, revision)
	VALUES ($1, $2, $3, $4, $5::text::numeric, $6, $7, $8, $9::text::jsonb, $10, $11, $12, $13, $14)`
	updateProduct = `UPDATE products SET sku = $2, name = $3, description = $4, price = $5::text::numeric, currency = $6,
	weight_kg = $7, tags = $8, attributes = $9::text::jsonb, image = $10, discontinued = $11, created_at = $12, updated_at = $13,
	revision = $14 WHERE id = $1`
)

func (p *Product) values() []any {
	return []any{
		p.ID, p.SKU, p.Name, p.Description, p.Price, p.Currency, p.WeightKg, p.Tags, string(p.Attributes), p.Image,
		p.Discontinued, p.CreatedAt, p.UpdatedAt, p.Revision,
	}
}

// scanProduct scans productColumns, and more columns after them.
func scanProduct(row pgx.Row, more ...any) (p Product, err error) {
	err = row.Scan(append([]any{
		&p.ID, &p.SKU, &p.Name, &p.Description, &p.Price, &p.Currency, &p.WeightKg, &p.Tags, &p.Attributes, &p.Image,
		&p.Discontinued, &p.CreatedAt, &p.UpdatedAt, &p.Revision,
	}, more...)...)
	p.CreatedAt, p.UpdatedAt = normalTime(p.CreatedAt), normalTime(p.UpdatedAt)
	return p, err
}

func sqlState(err error) string {
	var pgErr *pgconn.PgError
	if errors.As(err, &pgErr) {
		return pgErr.Code
	}
	return ""
}
