package dual_test

import (
	"context"
	"fmt"
	"time"

	"github.com/stranglerfig/migrator/dual"
	"github.com/stranglerfig/migrator/phases"
	"github.com/stranglerfig/migrator/record"
	"github.com/stranglerfig/migrator/store/memory"
)

// sessions is the shape of a table. In production legacy gives it.
var sessions = &record.Schema{
	Fields: []record.Field{
		{Name: "token", Target: "token", Kind: record.Text, Type: "text", NotNull: true},
		{Name: "user_id", Target: "user_id", Kind: record.Int, Type: "bigint"},
		{Name: "expires", Target: "expires", Kind: record.TimestampTZ, Type: "timestamp with time zone", NotNull: true},
	},
	Key: []int{0},
}

// Session has the table's columns as tags.
type Session struct {
	Token   string    `db:"token"`
	UserID  *int64    `db:"user_id"` // NULL: an anonymous session
	Expires time.Time `db:"expires"`
}

func ExampleNewCodec() {
	codec, err := dual.NewCodec[string, Session](sessions, nil, nil) // the key and the columns of the types
	if err != nil {
		panic(err)
	}
	r, err := codec.Encode(Session{Token: "a", Expires: time.Date(2030, 1, 1, 12, 0, 0, 0, time.UTC)})
	fmt.Println(codec.Key("a"), r[1].State == record.Null, r[2].Text, err)
	// Output: a true 2030-01-01T12:00:00Z <nil>
}

// A type whose columns are not the migration's is refused: its first write would erase a field.
func ExampleColumns() {
	type Part struct {
		Token  string `db:"token"`
		UserID int64  `db:"user_id"`
	}
	columns, err := dual.Columns[Part]()
	if err != nil {
		panic(err)
	}
	_, err = dual.NewCodec[string](sessions, nil, columns)
	fmt.Println(err)
	// Output: the application and the migration differ: column "user_id": the column may be NULL, and int64 can't: use *int64 or sql.Null[int64], or declare the column NOT NULL; the application does not know field "expires"
}

// Columns can be listed, a line each, where a type has no tags.
func ExampleColumnOf() {
	// docs: columns
	codec, err := dual.NewCodec[string](sessions, nil, []dual.Column[Session]{
		dual.ColumnOf("token", func(s *Session) *string { return &s.Token }),
		dual.ColumnOf("user_id", func(s *Session) **int64 { return &s.UserID }),
		dual.ColumnOf("expires", func(s *Session) *time.Time { return &s.Expires }),
	})
	// docs: end
	if err != nil {
		panic(err)
	}
	s, err := codec.Decode(record.Record{record.TextValue("a"), record.TextValue("7"), record.TextValue("2030-01-01T12:00:00Z")})
	fmt.Println(s.Token, *s.UserID, s.Expires.Year(), err)
	// Output: a 7 2030 <nil>
}

// A key of several columns is a struct with their tags.
func ExampleKeyFor() {
	type Seat struct {
		Show int64  `db:"show"`
		Row  string `db:"row"`
	}
	schema := &record.Schema{
		Fields: []record.Field{{Name: "show", Kind: record.Int, NotNull: true}, {Name: "row", Kind: record.Text, NotNull: true}},
		Key:    []int{0, 1},
	}
	key, err := dual.KeyFor[Seat](schema)
	if err != nil {
		panic(err)
	}
	fmt.Println(key(Seat{42, "K"}))
	// Output: 42,K
}

// A test moves an instance through the phases without a database.
func ExampleMemoryFleet() {
	ctx, leave := context.WithCancel(context.Background())
	fleet := dual.NewMemoryFleet(phases.Route{Phase: phases.Legacy})
	instance, err := dual.Join(ctx, dual.Config{Fleet: fleet})
	if err != nil {
		panic(err)
	}
	left := make(chan error)
	go func() { left <- instance.Run(ctx) }()

	codec, err := dual.NewCodec[string, Session](sessions, nil, nil)
	if err != nil {
		panic(err)
	}
	target := dual.Bind(memory.New(sessions, nil), codec)
	writer, err := dual.NewWriter(dual.WriterConfig[string, Session]{
		Instance: instance, Target: target, Key: codec.Key,
		Legacy: func(context.Context, string) (s Session, found bool, err error) { return s, false, nil },
	})
	if err != nil {
		panic(err)
	}
	put := func(context.Context) (record.Version, error) { return record.MakeVersion(1, 1, 1), nil } // legacy's write
	for _, phase := range []phases.Phase{phases.Legacy, phases.Grace} {
		if err := fleet.Move(ctx, phase, phases.All); err != nil {
			panic(err)
		}
		if err := writer.Put(ctx, "a", Session{Token: "a"}, put); err != nil {
			panic(err)
		}
		found, err := target.Get(ctx, "a")
		fmt.Println(instance.Route().Phase, "target:", found.Found, err)
	}
	leave()
	fmt.Println(<-left)
	// Output:
	// legacy target: false <nil>
	// grace target: true <nil>
	// <nil>
}
