package postgres

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/stranglerfig/migrator/internal/hint"
	"github.com/stranglerfig/migrator/record"
	"github.com/stranglerfig/migrator/store"
)

// rowLockTimeout limits the wait for one row, and for a fence that is being raised.
const rowLockTimeout = 10 * time.Second

// LookupLocked implements store.Locker.
//
// Repair must never cause a deadlock with the application. So it never waits for a row
// while it holds another: first it locks all free rows together, then the remaining
// rows one by one, each in its own transaction.
func (l *Legacy) LookupLocked(ctx context.Context, keys []record.Key) ([]store.Row, error) {
	rows := unfound(keys)
	err := l.shape.inBatches(ctx, l.pool, keys, func(at []int) error { return l.lockFree(ctx, rows, keys, at) })
	if err == nil {
		err = l.lockRest(ctx, rows, keys)
	}
	if err != nil {
		return nil, fmt.Errorf("read %d keys of legacy table %s under their rows' locks: %w", len(keys), l.table(), l.explainLock(ctx, withoutValue(err)))
	}
	return rows, nil
}

func (l *Legacy) lockFree(ctx context.Context, rows []store.Row, keys []record.Key, at []int) error {
	return l.lock(ctx, rows, keys, at, " SKIP LOCKED")
}

// lockRest waits for the rows that another transaction has locked: those that a plain
// read finds. The others don't exist.
func (l *Legacy) lockRest(ctx context.Context, rows []store.Row, keys []record.Key) error {
	var left []int
	var names []record.Key
	for i := range rows {
		if !rows[i].Found && rows[i].Equal == "" {
			left, names = append(left, i), append(names, keys[i])
		}
	}
	if len(left) == 0 {
		return nil
	}
	seen, err := l.Lookup(ctx, names)
	if err != nil {
		return err
	}
	for n, i := range left {
		if !seen[n].Found && seen[n].Equal == "" {
			continue
		}
		if err := l.lockOne(ctx, rows, keys, i); err != nil {
			return err
		}
	}
	return nil
}

func (l *Legacy) lockOne(ctx context.Context, rows []store.Row, keys []record.Key, i int) error {
	const attempts = 5 // a row that has moved to another partition meanwhile is a serialization failure
	var err error
	for range attempts {
		if err = l.lock(ctx, rows, keys, []int{i}, ""); !hasState(err, stateSerialization, stateDeadlock) {
			return err
		}
	}
	return err
}

// lock reads rows under their locks, each with a version taken while it is locked.
//
// The advisory lock prevents the fence from being raised or lifted between the read of
// the row and that of the era. The version is computed outside the common table
// expression, so from a row that is locked already: it does not depend on what the
// executor evaluates again after a wait.
func (l *Legacy) lock(ctx context.Context, rows []store.Row, keys []record.Key, at []int, policy string) error {
	s := l.shape
	q := s.keyQuery(keys, at, nil)
	if len(q.at) == 0 {
		return nil
	}
	inner, outer := "", ""
	for i, c := range s.columns {
		inner += ", " + c.output("t.") + " AS c" + strconv.Itoa(i)
		outer += ", l.c" + strconv.Itoa(i)
	}
	if l.version != "" {
		inner += ", t." + quote(l.version) + " AS version"
	}
	// [repair-row-lock]: FOR SHARE waits for an open writer and makes later ones wait.
	// [version-at-lock]: the version is computed in the outer query, from rows that are locked.
	sql := "WITH l AS MATERIALIZED (SELECT u.ordinal" + inner + " FROM " + q.from + " JOIN " + s.name.Sanitize() + " t ON " + q.on +
		" FOR SHARE OF t" + policy + ") SELECT l.ordinal" + outer + ", " + l.versionExpr("l.version") +
		", (SELECT coalesce(first_era, fence_era) FROM migrator_legacy.migration WHERE name = $" + strconv.Itoa(q.next) + ") FROM l"

	d, n := s.decoder(), len(s.columns)
	p := newPipeline("BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE")
	p.add(nil, "SELECT set_config('lock_timeout', $1, true)", milliseconds(rowLockTimeout))
	// [repair-era]: the era can't change between the row and its version.
	p.add(nil, "SELECT pg_advisory_xact_lock_shared(hashtextextended($1, 0))", advisoryName(l.name))
	p.add(func(raw [][]byte) error {
		at, err := q.place(raw[0])
		if err != nil {
			return err
		}
		row, err := d.row(raw[1 : n+1])
		if err != nil {
			return err
		}
		r := &rows[q.at[at]]
		if row.Key != r.Key {
			r.Equal = record.Key(strings.Clone(string(row.Key)))
			return nil
		}
		if r.Version, err = readVersion(raw[n+1], raw[n+2]); err != nil {
			return err
		}
		r.Found, r.Record = true, row.Record.Clone()
		return nil
	}, sql, append(q.args, l.name)...)
	return asNotInstalled(p.run(ctx, l.pool))
}

// versionExpr is the SQL of this migration's version; value is the SQL of the version
// column's value.
func (l *Legacy) versionExpr(value string) string {
	if l.version == "" {
		return VersionExpr(l.name)
	}
	return versionColumnExpr(l.name, value)
}

// readVersion reads a version and, if the migration is fenced, the fence's era: the
// rows of fenced legacy are older than all later writes of the target.
func readVersion(text, fence []byte) (record.Version, error) {
	if text == nil {
		return record.Version{}, hint.Errorf(hint.Hint{Do: hint.Doctor}, "legacy returned a row without a version")
	}
	v, err := record.ParseVersion(string(text))
	if err != nil || fence == nil {
		return v, err
	}
	era, err := strconv.ParseUint(string(fence), 10, 32)
	if err != nil || era == 0 {
		return v, fmt.Errorf("the era of legacy's fence is %q", fence)
	}
	// [repair-era]: a row of fenced legacy is older than every write of retain.
	return v.InEra(uint32(era) - 1), nil
}

func milliseconds(d time.Duration) string {
	return strconv.FormatInt(max(1, d.Milliseconds()), 10)
}

func advisoryName(migration string) string { return "migrator:" + migration }
