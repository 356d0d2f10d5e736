package pairtest

import "github.com/stranglerfig/migrator/record"

// Shift returns a version that PostgreSQL has not given: the given timelines and bytes of the
// write-ahead log beyond v, in the same era.
func Shift(v record.Version, timelines, bytes int64) record.Version {
	high, low := v.Position()
	return record.MakeVersion(v.Era(), high+uint32(timelines), low+uint64(bytes))
}
