package memory_test

import (
	"context"
	"fmt"
	"strconv"

	"github.com/stranglerfig/migrator/dual"
	"github.com/stranglerfig/migrator/migration"
	"github.com/stranglerfig/migrator/record"
	"github.com/stranglerfig/migrator/store"
	"github.com/stranglerfig/migrator/store/memory"
	"github.com/stranglerfig/migrator/store/postgres"
)

// Customer is the application's own type.
type Customer struct {
	ID   int64
	Name string
}

func customerKey(id int64) record.Key { return record.MakeKey(strconv.FormatInt(id, 10)) }

// customers is the shape of the records. In production legacy gives it.
var customers = &record.Schema{
	Fields: []record.Field{
		{Name: "id", Target: "id", Kind: record.Int, Type: "bigint", NotNull: true},
		{Name: "name", Target: "name", Kind: record.Text, Type: "text"},
	},
	Key: []int{0},
}

var columns = []dual.Column[Customer]{
	{
		Name: "id",
		Get:  func(c *Customer) record.Value { return record.TextValue(strconv.FormatInt(c.ID, 10)) },
		Set: func(c *Customer, v record.Value) (err error) {
			c.ID, err = strconv.ParseInt(v.Text, 10, 64)
			return err
		},
	},
	{
		Name: "name",
		Get:  func(c *Customer) record.Value { return record.TextValue(c.Name) },
		Set:  func(c *Customer, v record.Value) error { c.Name = v.Text; return nil },
	},
}

// A target takes each write once, and none that is older than what it has.
func Example() {
	ctx := context.Background()
	target := memory.New(customers, nil)
	first := record.FirstOf(1)
	second, _ := first.Next(1)
	ann := record.Record{record.TextValue("1"), record.TextValue("Ann")}
	for _, w := range []store.Write{
		{Key: customerKey(1), Record: ann, Version: first},
		{Key: customerKey(1), Deleted: true, Version: second},
		{Key: customerKey(1), Record: ann, Version: first}, // it was delayed
	} {
		results, err := target.Apply(ctx, []store.Write{w})
		if err != nil {
			panic(err)
		}
		fmt.Println(results[0].Outcome)
	}
	entries, err := target.Get(ctx, []record.Key{customerKey(1)})
	if err != nil {
		panic(err)
	}
	fmt.Println(entries[0].Presence)
	// Output:
	// applied
	// applied
	// older
	// tombstone
}

// A program names the kinds of store that a migration file may have, and links those
// alone.
func ExampleKind() {
	// docs: kinds
	file := []byte(`
name: customers
legacy: {store: postgres, url: "postgres://app@db/shop", table: customers}
target: {store: memory}
`)
	m, err := migration.Parse("customers.yaml", file, nil, postgres.Kind(), memory.Kind())
	if err != nil {
		panic(err)
	}
	target, err := m.OpenTarget(context.Background(), customers) // by the kind that the file names
	// docs: end
	if err != nil {
		panic(err)
	}
	fmt.Println(m.Target.Store, target.Close())
	// Output: memory <nil>
}

// docs: bind

// An application's test binds its own type to a target, as it binds it to Redis in
// production.
func ExampleNew() {
	ctx := context.Background()
	codec, err := dual.NewCodec(customers, customerKey, columns)
	if err != nil {
		panic(err)
	}
	target := dual.Bind(memory.New(customers, nil), codec)
	change := dual.Change[int64, Customer]{Key: 1, Value: Customer{1, "Ann"}, Version: record.FirstOf(1)}
	result, err := target.Apply(ctx, change, dual.ApplyOptions{})
	if err != nil {
		panic(err)
	}
	found, err := target.Get(ctx, 1)
	if err != nil {
		panic(err)
	}
	fmt.Println(result.Outcome, found.Value.Name)
	// Output: applied Ann
}

// docs: end
