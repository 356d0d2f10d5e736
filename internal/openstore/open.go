// Package openstore lists the kinds of store that migrator links. A new store is one
// folder under store/, and one line here.
package openstore

import (
	"github.com/stranglerfig/migrator/migration"
	"github.com/stranglerfig/migrator/store/postgres"
	"github.com/stranglerfig/migrator/store/redis"
)

// Kinds are all kinds of store, in the order in which messages name them.
func Kinds() []migration.Kind {
	return []migration.Kind{
		redis.Kind(),
		postgres.Kind(),
	}
}

// Load reads a migration file with all kinds of store.
func Load(path string) (*migration.Config, error) { return migration.Load(path, Kinds()...) }

// Parse is Load of a text; see migration.Parse.
func Parse(name string, data []byte, getenv func(string) (string, bool)) (*migration.Config, error) {
	return migration.Parse(name, data, getenv, Kinds()...)
}

// Stored reads a migration file from the state database's JSON.
func Stored(text []byte) (*migration.Config, error) { return migration.Stored(text, Kinds()...) }
