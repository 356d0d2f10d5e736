// Package storetest is the suite that every store must pass: RunTarget for a target,
// RunLegacy for a legacy store.
package storetest

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/stranglerfig/migrator/record"
	"github.com/stranglerfig/migrator/store"
)

// TargetHarness makes targets for RunTarget, and describes their abilities.
// Hooks that are nil skip their cases.
type TargetHarness struct {
	// Open returns a target for records of the schema that holds nothing, of the
	// test's own. It is closed by t.Cleanup, not by the suite.
	Open func(t *testing.T, schema *record.Schema, o TargetOptions) store.Target
	// Expires is true if the target supports expiring records.
	Expires bool
	// Foreign puts a value without version under the key, as another client would.
	Foreign func(t *testing.T, target store.Target, key record.Key)
	// WrongType puts a value that can be no record under the key.
	WrongType func(t *testing.T, target store.Target, key record.Key)
	// Damage makes the live record under the key unreadable; its version stays.
	Damage func(t *testing.T, target store.Target, key record.Key)
	// UnknownKey puts a value where Scan finds it under a name that no key leads to.
	UnknownKey func(t *testing.T, target store.Target)
}

// TargetOptions change the target that Open makes.
type TargetOptions struct {
	Expires    string        // the timestamptz column past which a record does not exist; empty: none
	Tombstones time.Duration // how long versions of deleted records stay; 0: the default
}

// RunTarget runs the whole suite as subtests, which run in parallel.
func RunTarget(t *testing.T, h TargetHarness) {
	for _, c := range []struct {
		name string
		run  func(t *testing.T, h TargetHarness)
	}{
		{"VersionOrder", testVersionOrder},
		{"WholeStateReplaced", testWholeState},
		{"Tombstones", testTombstones},
		{"NotAfter", testNotAfter},
		{"Only", testOnly},
		{"Keep", testKeep},
		{"KeepTombstones", testKeepTombstones},
		{"AbsentAndOrder", testAbsentAndOrder},
		{"MixedBatch", testMixedBatch},
		{"OneKeyManyTimesInABatch", testSameKeyInBatch},
		{"ConcurrentWritersNeverGoBack", testConcurrent},
		{"OnlyOneConditionalWriterWins", testConditionalRace},
		{"EveryKind", testEveryKind},
		{"EmptyIsNotNull", testEmptyIsNotNull},
		{"Keys", testKeys},
		{"Scan", testScan},
		{"BulkCompare", testBulkCompare},
		{"BulkCompareEveryKind", testBulkCompareEveryKind},
		{"BulkCompareExpiring", testBulkCompareExpiring},
		{"ListStale", testListStale},
		{"ListStaleKeys", testListStaleKeys},
		{"BulkLoad", testBulkLoad},
		{"BulkLoadLate", testBulkLoadLate},
		{"BulkLoadBesideWriters", testBulkLoadBesideWriters},
		{"BulkLoadEveryKind", testBulkLoadEveryKind},
		{"BulkLoadExpiring", testBulkLoadExpiring},
		{"BigBatch", testBigBatch},
		{"Mark", testMark},
		{"ContextEnds", testContextEnds},
		{"Clock", testClock},
		{"Foreign", testForeign},
		{"WrongType", testWrongType},
		{"Damaged", testDamaged},
		{"UnknownKey", testUnknownKey},
		{"Expiry", testExpiry},
		{"ExpiryRunsOut", testExpiryRunsOut},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			c.run(t, h)
		})
	}
}

// Simple returns a schema with one integer key and two fields.
func Simple() *record.Schema {
	return &record.Schema{
		Fields: []record.Field{
			field("id", record.Int, "bigint", true),
			field("name", record.Text, "text", false),
			field("amount", record.Decimal, "numeric", false),
			field("expires_at", record.TimestampTZ, "timestamptz", false),
		},
		Key: []int{0},
	}
}

// AllKinds returns a schema with a field of every kind, with PostgreSQL's types.
func AllKinds() *record.Schema {
	array := field("array", record.Array, "text[]", false)
	array.Element = record.Text
	return &record.Schema{
		Fields: []record.Field{
			field("id", record.Int, "bigint", true),
			field("bool", record.Bool, "boolean", false),
			field("int", record.Int, "bigint", false),
			field("decimal", record.Decimal, "numeric", false),
			field("float", record.Float, "double precision", false),
			field("float32", record.Float32, "real", false),
			field("text", record.Text, "text", false),
			field("bytes", record.Bytes, "bytea", false),
			field("date", record.Date, "date", false),
			field("time", record.TimeOfDay, "time", false),
			field("timestamp", record.Timestamp, "timestamp", false),
			field("timestamptz", record.TimestampTZ, "timestamptz", false),
			field("interval", record.Interval, "interval", false),
			field("uuid", record.UUID, "uuid", false),
			field("json", record.JSON, "jsonb", false),
			array,
			field("Other Type", record.Other, "inet", false),
		},
		Key: []int{0},
	}
}

// Composite returns a schema whose key is a text and an integer, in another order than
// its fields.
func Composite() *record.Schema {
	return &record.Schema{
		Fields: []record.Field{
			field("number", record.Int, "integer", true),
			field("note", record.Text, "text", false),
			field("tenant", record.Text, "text", true),
		},
		Key: []int{2, 0},
	}
}

func field(name string, kind record.Kind, pgType string, notNull bool) record.Field {
	return record.Field{Name: name, Target: name, Kind: kind, Type: pgType, NotNull: notNull}
}

// at is a version in era 1, timeline 1.
func at(lsn uint64) record.Version { return record.MakeVersion(1, 1, lsn) }

func text(s string) record.Value { return record.TextValue(s) }

// simple returns a Simple record whose fields all contain its version.
func simple(id int, lsn uint64) record.Record {
	return record.Record{text(fmt.Sprint(id)), text(fmt.Sprintf("name %d", lsn)), text(fmt.Sprintf("%d.50", lsn)), record.NullValue}
}

func keyOf(id int) record.Key { return record.MakeKey(fmt.Sprint(id)) }

// put and remove return Simple writes without a not-after.
func put(id int, lsn uint64) store.Write {
	return store.Write{Key: keyOf(id), Record: simple(id, lsn), Version: at(lsn)}
}

func remove(id int, lsn uint64) store.Write {
	return store.Write{Key: keyOf(id), Deleted: true, Version: at(lsn)}
}

func withOnly(w store.Write, only record.Version) store.Write {
	w.Only = &only
	return w
}

// targetFixture is a target under test.
type targetFixture struct {
	t      *testing.T
	ctx    context.Context
	target store.Target
	schema *record.Schema
}

func newTargetFixture(t *testing.T, h TargetHarness, schema *record.Schema, o TargetOptions) *targetFixture {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	return &targetFixture{t: t, ctx: ctx, target: h.Open(t, schema, o), schema: schema}
}

func simpleFixture(t *testing.T, h TargetHarness) *targetFixture {
	t.Helper()
	return newTargetFixture(t, h, Simple(), TargetOptions{})
}

// apply applies the writes, which must not fail.
func (b *targetFixture) apply(writes ...store.Write) []store.Result {
	b.t.Helper()
	results, err := b.target.Apply(b.ctx, writes)
	if err != nil {
		b.t.Fatalf("Apply: %v", err)
	}
	if len(results) != len(writes) {
		b.t.Fatalf("Apply gave %d results for %d writes", len(results), len(writes))
	}
	for i, r := range results {
		if r.Err != nil {
			b.t.Fatalf("Apply of %q: %v", writes[i].Key, r.Err)
		}
	}
	return results
}

// want applies one write and checks its outcome.
func (b *targetFixture) want(w store.Write, outcome store.Outcome, version record.Version) {
	b.t.Helper()
	if r := b.apply(w)[0]; r.Outcome != outcome || r.Version != version {
		b.t.Fatalf("Apply of %q at %s: %s, version %s; want %s, version %s", w.Key, w.Version, r.Outcome, r.Version, outcome, version)
	}
}

func (b *targetFixture) get(keys ...record.Key) []store.Entry {
	b.t.Helper()
	entries, err := b.target.Get(b.ctx, keys)
	if err != nil {
		b.t.Fatalf("Get: %v", err)
	}
	if len(entries) != len(keys) {
		b.t.Fatalf("Get gave %d entries for %d keys", len(entries), len(keys))
	}
	for i, e := range entries {
		if e.Key != keys[i] {
			b.t.Fatalf("Get's entry %d is of %q, want %q", i, e.Key, keys[i])
		}
	}
	return entries
}

// live checks that the target has exactly the record.
func (b *targetFixture) live(key record.Key, r record.Record, version record.Version) {
	b.t.Helper()
	e := b.get(key)[0]
	if e.Presence != store.Live || e.Version != version {
		b.t.Fatalf("%q is %s at %s (%s), want live at %s", key, e.Presence, e.Version, e.Detail, version)
	}
	b.same(key, e.Record, r)
}

// gone checks that the target has no record, and the version that it keeps.
func (b *targetFixture) gone(key record.Key, presence store.Presence, version record.Version) {
	b.t.Helper()
	if e := b.get(key)[0]; e.Presence != presence || e.Version != version {
		b.t.Fatalf("%q is %s at %s, want %s at %s", key, e.Presence, e.Version, presence, version)
	}
}

func (b *targetFixture) same(key record.Key, got, want record.Record) {
	b.t.Helper()
	if len(got) != len(want) {
		b.t.Fatalf("%q has %d values, want %d", key, len(got), len(want))
	}
	for i := range want {
		if !sameValue(b.schema.Fields[i].Kind, got[i], want[i]) {
			b.t.Errorf("%q: field %q (%s) is %v, want %v", key, b.schema.Fields[i].Name, b.schema.Fields[i].Kind, got[i], want[i])
		}
	}
}

// scan returns all that Scan yields, by key; unknown keys by their raw name.
func (b *targetFixture) scan() map[string]store.Entry {
	b.t.Helper()
	found := map[string]store.Entry{}
	err := b.target.Scan(b.ctx, func(batch []store.Entry) error {
		for _, e := range batch {
			name := string(e.Key)
			if e.RawKey != "" {
				name = "raw:" + e.RawKey
			}
			e.Record = append(record.Record(nil), e.Record...)
			found[name] = e
		}
		return nil
	})
	if err != nil {
		b.t.Fatalf("Scan: %v", err)
	}
	return found
}

func (b *targetFixture) now() time.Time {
	b.t.Helper()
	now, err := b.target.Now(b.ctx)
	if err != nil {
		b.t.Fatalf("Now: %v", err)
	}
	return now
}
