package storetest

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/stranglerfig/migrator/record"
	"github.com/stranglerfig/migrator/store"
)

// LegacyStore is what the suite needs of a legacy store.
type LegacyStore interface {
	store.Legacy
	store.Locker
	store.Barrier
	store.Fence
}

// LegacyHarness makes legacy stores for RunLegacy.
type LegacyHarness struct {
	// Open returns an empty store of the test's own, installed and ready, whose
	// records have an integer key "id" and a text "name" that may be null. Clean-up
	// is by t.Cleanup.
	Open func(t *testing.T) LegacyFixture
	// Own is true if a locked read returns exactly the version of the write that it saw,
	// not a newer one: versions are a column of the records.
	Own bool
}

// LegacyFixture is a store with an application: the methods write as the application
// does, without the store.
type LegacyFixture interface {
	// Store is the store under test.
	Store() LegacyStore
	// Begin starts a transaction of the application.
	Begin(ctx context.Context) (LegacyTx, error)
}

// LegacyTx is an application's open transaction. Its writes return the version
// that the application would shadow them with.
type LegacyTx interface {
	Put(ctx context.Context, id int, name string) (record.Version, error)
	Remove(ctx context.Context, id int) (record.Version, error)
	Commit(ctx context.Context) error
	Rollback(ctx context.Context) error
}

// RunLegacy runs the whole suite as subtests, which run in parallel.
func RunLegacy(t *testing.T, h LegacyHarness) {
	for _, c := range []struct {
		name string
		run  func(*legacyFixture)
	}{
		{"Schema", testLegacySchema},
		{"ChunksCoverAll", testLegacyChunks},
		{"ChunksOfNothing", testLegacyEmpty},
		{"ScanStops", testLegacyScanStops},
		{"LookupKeepsOrder", testLegacyLookup},
		{"LookupOfKeysThatCannotBe", testLegacyOddKeys},
		{"VersionsGrow", testLegacyVersions},
		{"LockedReadIsBetweenWrites", testLegacyLockedRead},
		{"LockedReadWaitsForTheWriter", testLegacyLockedWaits},
		{"ConcurrentVersionsFollowCommits", testLegacyConcurrent},
		{"BarrierIsBetweenWrites", testLegacyBarrier},
		{"BarrierTimesOut", testLegacyBarrierTimeout},
		{"FenceRefuses", testLegacyFence},
		{"FenceBelongsToItsAttempt", testLegacyFenceOwner},
		{"FenceWaitsForWriters", testLegacyFenceWaits},
		{"FencedReadsAreOfTheEraBefore", testLegacyFencedRead},
		{"LiftedAttemptStaysLifted", testLegacyLifted},
		{"Replay", testLegacyReplay},
		{"ReplayIsTheAttemptsAlone", testLegacyReplayOwner},
		{"RenewedFence", testLegacyRenewed},
		{"ContextEnds", testLegacyContext},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			t.Cleanup(cancel)
			f := h.Open(t)
			c.run(&legacyFixture{T: t, ctx: ctx, fixture: f, store: f.Store(), own: h.Own})
		})
	}
}

// legacyFixture is a legacy store under test.
type legacyFixture struct {
	*testing.T
	ctx     context.Context
	fixture LegacyFixture
	store   LegacyStore
	own     bool
}

func (b *legacyFixture) ok(err error) {
	b.Helper()
	if err != nil {
		b.Fatal(err)
	}
}

func (b *legacyFixture) begin() LegacyTx {
	b.Helper()
	tx, err := b.fixture.Begin(b.ctx)
	b.ok(err)
	return tx
}

// tryPut commits one write of the application.
func (b *legacyFixture) tryPut(id int, name string) (record.Version, error) {
	return b.try(func(tx LegacyTx) (record.Version, error) { return tx.Put(b.ctx, id, name) })
}

func (b *legacyFixture) tryRemove(id int) (record.Version, error) {
	return b.try(func(tx LegacyTx) (record.Version, error) { return tx.Remove(b.ctx, id) })
}

func (b *legacyFixture) try(do func(LegacyTx) (record.Version, error)) (record.Version, error) {
	tx, err := b.fixture.Begin(b.ctx)
	if err != nil {
		return record.Version{}, err
	}
	v, err := do(tx)
	if err != nil {
		return v, errors.Join(err, tx.Rollback(b.ctx))
	}
	return v, tx.Commit(b.ctx)
}

func (b *legacyFixture) put(id int, name string) record.Version {
	b.Helper()
	v, err := b.tryPut(id, name)
	b.ok(err)
	return v
}

func (b *legacyFixture) putMany(n int) {
	b.Helper()
	tx := b.begin()
	for id := 1; id <= n; id++ {
		_, err := tx.Put(b.ctx, id, legacyName(id))
		b.ok(err)
	}
	b.ok(tx.Commit(b.ctx))
}

func legacyName(id int) string { return fmt.Sprintf("name of %d", id) }

// scan reads all chunks of about rows rows each.
func (b *legacyFixture) scan(rows int) (all map[record.Key]record.Record, chunks []store.Chunk) {
	b.Helper()
	chunks, err := b.store.Chunks(b.ctx, rows)
	b.ok(err)
	all = map[record.Key]record.Record{}
	for _, c := range chunks {
		err := b.store.Scan(b.ctx, c, func(r store.Row) error {
			if _, twice := all[r.Key]; twice {
				return fmt.Errorf("key %q is in two chunks", r.Key)
			}
			if !r.Found || !r.Version.IsZero() {
				return fmt.Errorf("key %q: found %t at version %q, want found, without a version", r.Key, r.Found, r.Version)
			}
			all[r.Key] = r.Record.Clone()
			return nil
		})
		b.ok(err)
	}
	return all, chunks
}

func (b *legacyFixture) locked(id int) store.Row {
	b.Helper()
	rows, err := b.store.LookupLocked(b.ctx, []record.Key{keyOf(id)})
	b.ok(err)
	if len(rows) != 1 || rows[0].Key != keyOf(id) {
		b.Fatalf("LookupLocked of one key gave %d rows", len(rows))
	}
	return rows[0]
}

// name returns the text of the record's name.
func (b *legacyFixture) name(r store.Row) string {
	b.Helper()
	v := r.Record[b.store.Schema().Index("name")]
	if v.State != record.Present {
		b.Fatalf("key %q: the name is not present", r.Key)
	}
	return v.Text
}

func (b *legacyFixture) inOrder(versions ...record.Version) {
	b.Helper()
	for i := 1; i < len(versions); i++ {
		if !versions[i].NewerThan(versions[i-1]) {
			b.Fatalf("version %d (%s) is not newer than the one before (%s)", i, versions[i], versions[i-1])
		}
	}
}

// saw checks the version of a locked read against that of the write it saw.
func (b *legacyFixture) saw(write, read record.Version) {
	b.Helper()
	if b.own && read == write {
		return
	}
	b.inOrder(write, read)
}

const legacyWait = 10 * time.Second
