package kit_test

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/stranglerfig/migrator/dual"
	"github.com/stranglerfig/migrator/dual/httpfleet"
	"github.com/stranglerfig/migrator/dual/kit"
	"github.com/stranglerfig/migrator/migration"
	"github.com/stranglerfig/migrator/phases"
	"github.com/stranglerfig/migrator/record"
	"github.com/stranglerfig/migrator/store/memory"
	"github.com/stranglerfig/migrator/store/postgres"
)

// Fruit is the application's own type.
type Fruit struct {
	ID   int64  `db:"id"`
	Name string `db:"name"`
}

func Example_settings() {
	read := func(context.Context, int64) (f Fruit, found bool, err error) { return f, false, nil }
	// docs: settings
	options := kit.Options{
		StateURL: "postgres://app@state/migrator",
		Instance: func(c *dual.Config) { c.LeaveWithin = 30 * time.Second },
	}
	binding := kit.Binding[int64, Fruit]{
		Read: read,
		Reader: func(c *dual.ReaderConfig[int64, Fruit]) {
			c.TargetTimeout = 50 * time.Millisecond
			c.ShadowPercent = 5 * phases.All / 100
			c.OnMismatch = func(m dual.Mismatch) { slog.Warn("the stores differ", "key", m.Key, "kind", m.Kind) }
		},
	}
	// docs: end
	fmt.Println(options.StateURL != "", binding.Key == nil)
	// Output: true true
}

func Example_daemons() {
	// docs: daemons
	options := kit.Options{Daemons: &httpfleet.Options{
		URLs:      []string{"https://migrator-a.internal.example:7070", "https://migrator-b.internal.example:7070"},
		CAFile:    "/etc/ssl/internal-ca.pem",    // without it: the system's authorities
		TokenFile: "/run/secrets/migrator-token", // or Token: os.Getenv("MIGRATOR_TOKEN")
	}}
	// docs: end
	fmt.Println(options.StateURL == "")
	// Output: true
}

// In production Options has the StateURL alone, or Daemons; here the fleet, the target and the shape of
// the records replace the servers.
func ExampleOpen() {
	ctx := context.Background()
	m, err := migration.Parse("fruits.yaml", []byte(`
name: fruits
legacy: {store: postgres, url: "postgres://app@db/shop", table: fruits}
target: {store: memory}
`), nil, postgres.Kind(), memory.Kind())
	if err != nil {
		panic(err)
	}
	schema := &record.Schema{Fields: []record.Field{
		{Name: "id", Target: "id", Kind: record.Int, Type: "bigint", NotNull: true},
		{Name: "name", Target: "name", Kind: record.Text, Type: "text", NotNull: true},
	}, Key: []int{0}}
	legacy := map[int64]Fruit{1: {1, "apple"}}
	fruits, err := kit.Open(ctx, m, kit.Options{
		Fleet: dual.NewMemoryFleet(phases.Route{Phase: phases.DualRead}), Schema: schema,
	}, kit.Binding[int64, Fruit]{
		Read: func(_ context.Context, id int64) (Fruit, bool, error) {
			f, found := legacy[id]
			return f, found, nil
		},
	})
	if err != nil {
		panic(err)
	}
	err = fruits.Serve(ctx, func(ctx context.Context) error {
		err := fruits.Put(ctx, 2, Fruit{2, "pear"}, func(context.Context) (record.Version, error) {
			legacy[2] = Fruit{2, "pear"}
			return record.MakeVersion(1, 0, 1), nil // in production: RETURNING fruits.Version
		})
		if err != nil {
			return err
		}
		f, found, err := fruits.Get(ctx, 2)
		fmt.Println(f.Name, found)
		return err
	})
	fmt.Println(fruits.Version, err)
	// Output:
	// pear true
	// migrator_legacy.version('fruits') <nil>
}
