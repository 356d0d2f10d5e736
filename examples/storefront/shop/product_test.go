package shop

import (
	"math/rand/v2"
	"reflect"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/stranglerfig/migrator/dual"
	"github.com/stranglerfig/migrator/internal/test/testenv"
	"github.com/stranglerfig/migrator/migration"
	"github.com/stranglerfig/migrator/record"
	"github.com/stranglerfig/migrator/store/postgres"
)

func TestMain(m *testing.M) { testenv.Main(m) }

// The shop's columns must read what the backfill writes, and write what reconcile expects:
// both are the texts of migrator's own reads of the table.
func TestColumnsMatchMigrator(t *testing.T) {
	t.Parallel()
	const products = 1500
	ctx, url := t.Context(), testenv.PostgresURL(t)
	pool, err := pgxpool.New(ctx, url)
	if err != nil {
		t.Fatal(err)
	}
	defer pool.Close()
	if err := Seed(ctx, pool, products); err != nil {
		t.Fatal(err)
	}
	_, err = pool.Exec(ctx, "UPDATE products SET created_at = '0044-03-15 12:00:00.5+00 BC' WHERE id = 7")
	if err != nil {
		t.Fatal(err)
	}
	legacy, err := (&migration.Config{Name: "products", Legacy: migration.Legacy{Store: "postgres", URL: url, Part: &postgres.LegacyConfig{Table: "products"}}}).OpenLegacy(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer legacy.Close()
	codec, err := dual.NewCodec[int64, Product](legacy.Schema(), nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	comparer, err := record.NewComparer(legacy.Schema(), nil)
	if err != nil {
		t.Fatal(err)
	}
	own := newLegacyStore(pool, "products")
	var keys []record.Key
	for id := range int64(products) {
		keys = append(keys, codec.Key(id+1))
	}
	rows, err := legacy.Lookup(ctx, keys)
	if err != nil {
		t.Fatal(err)
	}
	for i, row := range rows {
		want, found, err := own.get(ctx, int64(i+1))
		if err != nil || !found || !row.Found {
			t.Fatalf("product %d: %v %v %v", i+1, found, row.Found, err)
		}
		decoded, err := codec.Decode(row.Record)
		if err != nil {
			t.Fatalf("product %d: %v", i+1, err)
		}
		encoded, err := codec.Encode(want)
		if err != nil {
			t.Fatal(err)
		}
		if d := comparer.Compare(row.Record, encoded); len(d) > 0 {
			t.Errorf("product %d is written with differences: %v", i+1, d)
		}
		if !reflect.DeepEqual(asJSON(t, decoded), asJSON(t, want)) {
			t.Errorf("product %d reads %s, want %s", i+1, asJSON(t, decoded), asJSON(t, want))
		}
	}
}

func TestPricesAreWrittenLikeNumeric(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"1": "1.0000", "007.5": "7.5000", "-0": "0.0000", "-0.0000": "0.0000", "-0.0001": "-0.0001",
		"0": "0.0000", "99999999.9999": "99999999.9999", "12.3400": "12.3400",
	} {
		if got, err := normalPrice(in); err != nil || got != want {
			t.Errorf("%q: %q, %v, want %q", in, got, err, want)
		}
	}
	for _, bad := range []string{"", ".5", "5.", "1e3", "NaN", "123456789", "1.23456", "+1", " 1", "1\n", "--1"} {
		if got, err := normalPrice(bad); err == nil {
			t.Errorf("%q is accepted as %q", bad, got)
		}
	}
}

func TestRandomProductsAreValid(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(1, 1))
	for id := range int64(5000) {
		p := Random(random, id)
		before := asJSON(t, p)
		if err := p.normalise(); err != nil || asJSON(t, p) != before {
			t.Fatalf("%s: %v", before, err)
		}
	}
}
