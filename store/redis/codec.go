package redis

import (
	"github.com/stranglerfig/migrator/record"
	"github.com/stranglerfig/migrator/store"
)

// codec is a format: how a record is stored in Redis.
type codec interface {
	// kind is the type of the Redis key, as TYPE reports it.
	kind() string
	// shared is the format's argument of apply.lua for all records of a call.
	shared() string
	// appendRecord appends the arguments for a record. The error names a field whose
	// value the format can't hold.
	appendRecord(args []any, version []byte, r record.Record) ([]any, error)
	// read is the command that reads a record without its sidecar.
	read(key string) []any
	// fields are the arguments with which look.lua reads the record.
	fields() []any
	// decode sets Presence, Version, Record and Detail from the reply to read. Absent
	// means that there is no key, or that the hash has none of the requested fields.
	decode(e *store.Entry, reply any)
	// comparer compares records with rows in the fields, without decoding the records.
	comparer(fields []int) rowComparer
	// versions reads a record's version alone.
	versions() versionReader
	// bulkWriters write new records: fast is refused by some servers and users, sure
	// needs only the commands of a single write.
	bulkWriters(version []byte) (fast, sure bulkWriter)
}

// size estimates the bytes of the arguments on the wire.
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
