package redis

import (
	"github.com/stranglerfig/migrator/record"
	"github.com/stranglerfig/migrator/store"
)

// codec is a format: how a record stands in Redis.
type codec interface {
	// kind is the type of the Redis key, as TYPE says it.
	kind() string
	// appendWrite appends what the format's script wants, for a record; nil for a
	// deleted one. The error names a field whose value the format can't hold.
	appendWrite(args []any, version []byte, r record.Record) ([]any, error)
	// read is the command that reads a record without its sidecar.
	read(key string) []any
	// fields are the arguments with which look.lua reads it.
	fields() []any
	// decode fills in Presence, Version, Record and Detail from what read replied.
	// Absent: there is no record, or nothing in it to know it by.
	decode(e *store.Entry, reply any)
	// matcher compares records with rows in the fields, without decoding them.
	comparer(fields []int) rowComparer
	// versions reads a record's version alone.
	versions() versionReader
	// fillers write new records of rows: one that some servers or users refuse, and one
	// that needs what a single write does.
	bulkWriters(version []byte) (fast, sure bulkWriter)
}

// size is roughly what the arguments take on the wire.
func size(args []any) int {
	n := 0
	for _, a := range args {
		switch a := a.(type) {
		case string:
			n += len(a) + 8
		case []byte:
			n += len(a) + 8
		}
	}
	return n
}

// versionOf reads digits that record.IsVersion has accepted.
func versionOf(digits string) record.Version {
	v, _ := record.ParseVersion(digits)
	return v
}
