package reconcile

import (
	"context"
	"fmt"
	"time"

	"github.com/stranglerfig/migrator/internal/repair"
	"github.com/stranglerfig/migrator/internal/sleep"
	"github.com/stranglerfig/migrator/record"
	"github.com/stranglerfig/migrator/store"
)

// stores are the two stores of a run, with the reads that its parts share.
type stores struct {
	legacy store.LegacyRecords
	locker store.Locker // nil: legacy's rows can't be read under their locks
	target store.TargetRecords
}

// snapshot is one key in both stores. The era was read before the entry, and the
// entry before the row.
type snapshot struct {
	era   uint32
	row   store.Row
	entry store.Entry
	now   time.Time // the target's clock, before the entry was read
}

// snapshots reads the target and then legacy: legacy's state is at least as new as
// the target's, so a difference is a write that the target still lacks. after is the
// target's clock once both are read.
func (s *stores) snapshots(ctx context.Context, keys []record.Key) (read []snapshot, after time.Time, err error) {
	var era uint32
	if s.locker != nil {
		if era, _, err = repair.Era(ctx, s.locker); err != nil {
			return nil, after, err
		}
	}
	now, entries, err := s.entries(ctx, keys)
	if err != nil {
		return nil, after, err
	}
	rows, err := s.rows(ctx, keys)
	if err != nil {
		return nil, after, err
	}
	if after, err = s.now(ctx); err != nil {
		return nil, after, err
	}
	for i := range rows {
		read = append(read, snapshot{era: era, row: rows[i], entry: entries[i], now: now})
	}
	return read, after, nil
}

// governs reports whether legacy has been the authority since its era was read as era.
func (s *stores) governs(ctx context.Context, era uint32) (bool, error) {
	now, fenced, err := repair.Era(ctx, s.locker)
	return now == era && !fenced, err
}

// entries reads the target's clock and then the entries of the keys.
func (s *stores) entries(ctx context.Context, keys []record.Key) (now time.Time, entries []store.Entry, err error) {
	if now, err = s.now(ctx); err != nil {
		return now, nil, err
	}
	if entries, err = s.target.Get(ctx, keys); err != nil {
		return now, nil, fmt.Errorf("read the target: %w", err)
	}
	return now, entries, nil
}

func (s *stores) now(ctx context.Context) (time.Time, error) {
	now, err := s.target.Now(ctx)
	if err != nil {
		return now, fmt.Errorf("read the target's clock: %w", err)
	}
	return now, nil
}

// rows reads legacy's rows, without versions.
func (s *stores) rows(ctx context.Context, keys []record.Key) ([]store.Row, error) {
	if len(keys) == 0 {
		return nil, nil
	}
	rows, err := s.legacy.Lookup(ctx, keys)
	if err != nil {
		return nil, fmt.Errorf("read legacy: %w", err)
	}
	return rows, nil
}

// lockedRows reads legacy's rows under their locks, with versions. The application's
// writers of these rows wait meanwhile; a row that a writer holds for long is tried
// a few times.
func (s *stores) lockedRows(ctx context.Context, keys []record.Key) ([]store.Row, error) {
	for try := 1; ; try++ {
		rows, err := s.locker.LookupLocked(ctx, keys)
		if err == nil {
			return rows, nil
		}
		if try == 4 || ctx.Err() != nil {
			return nil, fmt.Errorf("read legacy under lock: %w", err)
		}
		if err := sleep.For(ctx, time.Duration(try)*250*time.Millisecond); err != nil {
			return nil, err
		}
	}
}
