package redis

import (
	"github.com/stranglerfig/migrator/record"
	"github.com/stranglerfig/migrator/store"
)

var _ store.KeyNamer = (*Target)(nil)

// NameOf implements store.KeyNamer: the Redis key that holds the record.
func (t *Target) NameOf(k record.Key) (string, error) { return t.template.Render(k) }
