package redis

import (
	"github.com/stranglerfig/migrator/record"
	"github.com/stranglerfig/migrator/store"
)

// hashCodec stores a record as a hash: canonical texts unchanged, bytes raw. NULL is
// an absent field, which is what readers of hashes expect. So a hash can't
// distinguish a missing field from NULL; both are read as NULL.
type hashCodec struct {
	names    []string
	reserved string
	readArgs []any // the version's field, then the names
}

func newHashCodec(_ *record.Schema, names []string, reserved string) *hashCodec {
	c := &hashCodec{names: names, reserved: reserved, readArgs: []any{reserved}}
	for _, name := range names {
		c.readArgs = append(c.readArgs, name)
	}
	return c
}

func (c *hashCodec) kind() string { return "hash" }

func (c *hashCodec) shared() string { return c.reserved }

func (c *hashCodec) appendRecord(args []any, _ []byte, r record.Record) ([]any, error) {
	for i := range r {
		if r[i].State == record.Present {
			args = append(args, c.names[i], r[i].Text)
		}
	}
	return args, nil
}

func (c *hashCodec) read(key string) []any {
	return append([]any{"hmget", key}, c.readArgs...)
}

func (c *hashCodec) fields() []any { return c.readArgs }

func (c *hashCodec) decode(e *store.Entry, reply any) {
	e.Presence = store.Absent
	values, ok := reply.([]any)
	if !ok || len(values) != len(c.readArgs) {
		return
	}
	e.Record = make(record.Record, len(c.names))
	found := false
	for i := range e.Record {
		e.Record[i] = record.NullValue
		if text, ok := values[i+1].(string); ok {
			e.Record[i] = record.TextValue(text)
			found = true
		}
	}
	version, versioned := values[0].(string)
	switch {
	case versioned && record.IsVersion(version):
		e.Presence, e.Version = store.Live, versionOf(version)
	case versioned:
		e.Presence, e.Detail = store.Damaged, "field "+c.reserved+" holds no version"
	case found:
		e.Presence, e.Detail = store.Unowned, "a hash without the field "+c.reserved
	default:
		e.Record = nil
	}
}
