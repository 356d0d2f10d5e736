package redis

import "github.com/stranglerfig/migrator/record"

var _ record.Namer = (*Target)(nil)

// NameOf implements record.Namer: the Redis key that holds the record.
func (t *Target) NameOf(k record.Key) (string, error) { return t.template.Render(k) }
