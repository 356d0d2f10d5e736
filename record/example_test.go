package record_test

import (
	"fmt"
	"time"

	"github.com/stranglerfig/migrator/record"
)

func ExampleMakeKey() {
	fmt.Println(record.MakeKey("42"))
	fmt.Println(record.MakeKey("eu,west", "42"))
	// Output:
	// 42
	// eu%2Cwest,42
}

// Versions order the states of a record, also beyond a fence.
func ExampleVersion_NewerThan() {
	before, after := record.MakeVersion(1, 1, 900), record.MakeVersion(2, 1, 5)
	fmt.Println(after.NewerThan(before), record.FirstOf(2).NewerThan(after))
	// Output: true false
}

func ExampleFormatTime() {
	at := time.Date(2024, 2, 29, 12, 0, 0, 500_000_000, time.FixedZone("CET", 3600))
	text, err := record.FormatTime(record.TimestampTZ, at)
	fmt.Println(text, err)
	// Output: 2024-02-29T11:00:00.5Z <nil>
}

func ExampleComparer_Compare() {
	schema := &record.Schema{Fields: []record.Field{{Name: "price", Kind: record.Decimal}, {Name: "tags", Kind: record.JSON}}}
	c, err := record.NewComparer(schema, nil)
	if err != nil {
		panic(err)
	}
	legacy := record.Record{record.TextValue("12.50"), record.TextValue(`{"a": 1, "b": [2]}`)}
	target := record.Record{record.TextValue("12.5"), record.TextValue(`{"b": [3], "a": 1.0}`)}
	fmt.Println(c.Compare(legacy, target))
	// Output: [{/tags/b/0 value}]
}
