// Package openstore is the list of the stores that the tool can move records between.
// A new store is one folder under store/, and one line here.
package openstore

import (
	"github.com/stranglerfig/migrator/internal/schedule"
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

// Load reads a migration file of any kinds of store.
func Load(path string) (*migration.Config, error) { return loader().Load(path) }

// Parse is Load of a text; see migration.Parse.
func Parse(name string, data []byte, getenv func(string) (string, bool)) (*migration.Config, error) {
	return loader().Parse(name, data, getenv)
}

func loader() migration.Loader { return migration.Loader{Kinds: Kinds(), Schedule: schedule.Check} }

// Stored reads what the state database keeps of a migration file.
func Stored(text []byte) (*migration.Config, error) { return migration.Stored(text, Kinds()...) }
