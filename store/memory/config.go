package memory

import (
	"context"

	"github.com/stranglerfig/migrator/migration"
	"github.com/stranglerfig/migrator/record"
	"github.com/stranglerfig/migrator/store"
)

// Kind is for migration.Load, in a test of what reads a migration file:
//
//	target: {store: memory}
//
// Each Open makes a target of its own. The migrator command does not know this kind:
// its commands are processes, each of which would have an empty target.
func Kind() migration.Kind {
	return migration.Kind{Name: "memory", Target: func() migration.TargetPart { return &TargetConfig{} }}
}

// TargetConfig is the part of target in a migration file that is this store's own:
// there is none.
type TargetConfig struct{}

// Defaults implements migration.TargetPart.
func (*TargetConfig) Defaults() {}

// Validate implements migration.TargetPart.
func (*TargetConfig) Validate(migration.Validation) {}

// Open implements migration.TargetPart.
func (*TargetConfig) Open(_ context.Context, _ *migration.Config, schema *record.Schema) (store.Target, error) {
	return New(schema, nil), nil
}
