package migration_test

import (
	"errors"
	"fmt"

	"github.com/stranglerfig/migrator/migration"
	"github.com/stranglerfig/migrator/store/postgres"
	"github.com/stranglerfig/migrator/store/redis"
)

// Everything that is wrong with a file is found at once, each with its line.
func ExampleParse() {
	file := []byte(`
name: sessions
legacy: {store: postgres, url: "postgres://app@db/shop", tabel: sessions}
target: {store: redis, url: "redis://cache:6379", key: "session:{token}"}
writing: {deadline: fast}
`)
	_, err := migration.Parse("sessions.yaml", file, nil, postgres.Kind(), redis.Kind())
	var found migration.Errors
	fmt.Println(errors.As(err, &found))
	fmt.Println(err)
	// Output:
	// true
	// sessions.yaml:3: unknown key "tabel" under legacy: did you mean "table"?
	// sessions.yaml:5: writing.deadline: duration "fast": want something like 30d, 36h or 1d12h
}
