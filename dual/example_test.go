package dual_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"strconv"

	"github.com/stranglerfig/migrator/dual"
	"github.com/stranglerfig/migrator/record"
)

// Product is the application's own type.
type Product struct {
	ID    int64
	Name  string
	Stock int
}

var (
	db       *sql.DB                      // the application's own connection to legacy
	fleet    dual.Fleet                   // pgfleet.Open makes one
	target   dual.Target[int64, Product]  // dual.Bind makes one
	instance *dual.Instance               //
	reader   *dual.Reader[int64, Product] //
	writer   *dual.Writer[int64, Product] //
	version  string                       // postgres.VersionExpr gives it: "... RETURNING <version>"
)

func productKey(id int64) record.Key { return record.Key(strconv.FormatInt(id, 10)) }

func productFromLegacy(ctx context.Context, id int64) (p Product, found bool, err error) {
	err = db.QueryRowContext(ctx, `SELECT id, name, stock FROM products WHERE id = $1`, id).Scan(&p.ID, &p.Name, &p.Stock)
	if errors.Is(err, sql.ErrNoRows) {
		return p, false, nil
	}
	return p, err == nil, err
}

// scanVersion reads the version from a statement's RETURNING; none if it changed no row.
func scanVersion(row *sql.Row) (v record.Version, err error) {
	var text string
	if err := row.Scan(&text); err != nil {
		if errors.Is(err, sql.ErrNoRows) {
			err = nil
		}
		return v, err
	}
	return record.ParseVersion(text)
}

// A process joins once for each migration, before it serves, and runs the
// instance for as long as it does.
func Example() {
	ctx := context.Background()
	instance, err := dual.Join(ctx, dual.Config{Fleet: fleet, Logger: slog.Default()})
	if err != nil {
		panic(err)
	}
	reader, err := dual.NewReader(dual.ReaderConfig[int64, Product]{
		Instance: instance, Legacy: productFromLegacy, Target: target, Key: productKey,
		Equal: func(legacy, target Product) bool { return legacy == target },
		OnMismatch: func(m dual.Mismatch) {
			slog.Warn("the stores differ", "key", m.Key, "kind", m.Kind)
		},
	})
	if err != nil {
		panic(err)
	}
	writer, err := dual.NewWriter(dual.WriterConfig[int64, Product]{Instance: instance, Legacy: productFromLegacy, Target: target, Key: productKey})
	if err != nil {
		panic(err)
	}
	serving, stopped := context.WithCancel(ctx) // ends after the server has answered its last request
	left := make(chan error, 1)
	go func() { left <- instance.Run(serving) }()
	serve(reader, writer)
	stopped()
	if err := <-left; err != nil {
		slog.Error("the migration was not left cleanly", "error", err)
	}
}

func serve(*dual.Reader[int64, Product], *dual.Writer[int64, Product]) {}

func ExampleReader_Get() {
	p, found, err := reader.Get(context.Background(), 42)
	fmt.Println(p, found, err)
}

// A record that is written whole needs one statement and its version.
func ExampleWriter_Put() {
	p := Product{ID: 42, Name: "lamp", Stock: 7}
	err := writer.Put(context.Background(), p.ID, p, func(ctx context.Context) (record.Version, error) {
		return scanVersion(db.QueryRowContext(ctx, `INSERT INTO products (id, name, stock) VALUES ($1, $2, $3)
			ON CONFLICT (id) DO UPDATE SET name = excluded.name, stock = excluded.stock RETURNING `+version, p.ID, p.Name, p.Stock))
	})
	fmt.Println(err)
}

func ExampleWriter_Delete() {
	err := writer.Delete(context.Background(), 42, func(ctx context.Context) (record.Version, error) {
		return scanVersion(db.QueryRowContext(ctx, `DELETE FROM products WHERE id = $1 RETURNING `+version, 42))
	})
	fmt.Println(err)
}

// A write that depends on the present record, or that changes several records in one
// transaction, needs both forms.
func ExampleWriter_Write() {
	errSoldOut := errors.New("sold out")
	sell := func(id int64) dual.Op[int64, Product] {
		return dual.Op[int64, Product]{
			Legacy: func(ctx context.Context) ([]dual.Change[int64, Product], error) {
				var p Product
				var v string
				err := db.QueryRowContext(ctx, `UPDATE products SET stock = stock - 1 WHERE id = $1 AND stock > 0
					RETURNING id, name, stock, `+version, id).Scan(&p.ID, &p.Name, &p.Stock, &v)
				if errors.Is(err, sql.ErrNoRows) {
					return nil, errSoldOut
				}
				if err != nil {
					return nil, err
				}
				parsed, err := record.ParseVersion(v)
				return []dual.Change[int64, Product]{{Key: id, Value: p, Version: parsed}}, err
			},
			Keys: []int64{id},
			Update: func(_ int64, p Product, found bool) (Product, bool, error) {
				if !found || p.Stock == 0 {
					return p, false, errSoldOut
				}
				p.Stock--
				return p, false, nil
			},
		}
	}
	err := writer.Write(context.Background(), sell(42))
	var behind *dual.TargetError
	switch {
	case errors.Is(err, errSoldOut):
		fmt.Println("sold out")
	case errors.As(err, &behind) && behind.Legacy:
		fmt.Println("sold, and the target does not know yet: don't sell it again")
	case err != nil:
		fmt.Println(err)
	}
}

func ExampleInstance_Stats() {
	s := instance.Stats()
	fmt.Println(s.Epoch, s.LegacyReads, s.TargetReads, s.Mismatches, s.Unsettled)
}
