package state

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/stranglerfig/migrator/internal/statedb"
)

const (
	rollUpAtOnce = 5000 // windows in one transaction
	keepBuckets  = 45 * 24 * time.Hour
)

// RollUp adds the windows reported since the last call to their buckets, merges buckets
// older than an hour into ones of five minutes, and deletes those older than 45 days. It
// returns how many windows it has added. Call it every ten seconds: Observed reads each
// window that is in no bucket yet. It may be interrupted anywhere, and run concurrently; a
// window that is reported late, or twice, counts once. Windows that can't be read are
// deleted, counted (Status.UnreadableWindows), and reported by the error.
func (s *Store) RollUp(ctx context.Context, migration string) (windows int64, err error) {
	for {
		var n int64
		var bad error
		err := pgx.BeginTxFunc(ctx, s.pool, statedb.ReadCommitted, func(tx pgx.Tx) (err error) {
			n, bad, err = rollUp(ctx, tx, migration)
			return err
		})
		if err != nil {
			return windows, statedb.Explain(err)
		}
		windows += n
		switch {
		case bad != nil:
			return windows, fmt.Errorf("unreadable telemetry was skipped: %w", bad)
		case n < rollUpAtOnce/2: // of a whole batch, some may have been there before
			return windows, nil
		}
	}
}

func rollUp(ctx context.Context, tx pgx.Tx, migration string) (n int64, bad, failure error) {
	// Other processes that roll up wait; no other code writes buckets.
	if _, err := tx.Exec(ctx, `SELECT pg_advisory_xact_lock(hashtextextended('migrator roll-up ' || $1, 0))`, migration); err != nil {
		return 0, nil, err
	}
	var now time.Time
	if err := tx.QueryRow(ctx, `SELECT clock_timestamp()`).Scan(&now); err != nil {
		return 0, nil, err
	}
	boundary := coarseBefore(now)
	sums := newSums()
	unsound, err := setUnsoundAside(ctx, tx, migration)
	if err != nil {
		return 0, nil, err
	}
	// All parts of the statement see the incarnations as they were before it.
	// Windows are deleted, marked as counted and added up in one transaction: interrupted anywhere,
	// each counts once.
	n, unread, bad, err := sums.readWindows(ctx, tx, boundary, `WITH taken AS (DELETE FROM migrator.windows
			WHERE migration = $1 AND (incarnation, sequence) IN (SELECT incarnation, sequence FROM migrator.windows WHERE migration = $1 LIMIT $2)
			RETURNING *),
		fresh AS MATERIALIZED (SELECT * FROM taken w WHERE `+notCounted+`),
		marked AS (INSERT INTO migrator.incarnations AS i (migration, incarnation, instance, counted, discarded, last_at)
			SELECT migration, incarnation, min(instance), range_agg(int8range(sequence, sequence, '[]')), sum(discarded), clock_timestamp()
			FROM fresh GROUP BY migration, incarnation
			ON CONFLICT (migration, incarnation) DO UPDATE SET counted = i.counted + excluded.counted,
				discarded = i.discarded + excluded.discarded, last_at = excluded.last_at)
		SELECT epoch, config_hash, ended_at, instance, counts FROM fresh`, migration, rollUpAtOnce)
	if err != nil {
		return 0, nil, err
	}
	if unsound > 0 {
		bad = fmt.Errorf("%d windows have a sequence number, a time or an epoch that can't be", unsound)
	}
	if bad != nil {
		if _, err := tx.Exec(ctx, `SELECT migrator.count_unreadable($1, $2, $3)`, migration, unsound+unread, statedb.CleanText(bad.Error())); err != nil {
			return 0, nil, err
		}
	}
	const columns = `began_at, seconds, epoch, config_hash, instances, counts`
	if err := sums.readBuckets(ctx, tx, boundary, `DELETE FROM migrator.buckets
		WHERE migration = $1 AND seconds = 10 AND began_at < $2 RETURNING `+columns, migration, boundary); err != nil {
		return n, bad, err
	}
	began, seconds, epochs, hashes := sums.keys()
	if err := sums.readBuckets(ctx, tx, boundary, `DELETE FROM migrator.buckets b
		USING unnest($2::timestamptz[], $3::integer[], $4::bigint[], $5::text[]) AS k (began_at, seconds, epoch, config_hash)
		WHERE b.migration = $1 AND b.began_at = k.began_at AND b.seconds = k.seconds AND b.epoch = k.epoch AND b.config_hash = k.config_hash
		RETURNING b.began_at, b.seconds, b.epoch, b.config_hash, b.instances, b.counts`,
		migration, began, seconds, epochs, hashes); err != nil {
		return n, bad, err
	}
	if err := sums.insert(ctx, tx, migration); err != nil {
		return n, bad, err
	}
	b := &pgx.Batch{}
	b.Queue(`DELETE FROM migrator.buckets WHERE migration = $1 AND began_at < $2`, migration, now.Add(-keepBuckets))
	b.Queue(`DELETE FROM migrator.incarnations WHERE migration = $1 AND last_at < $2`, migration, now.Add(-keepBuckets))
	return n, bad, tx.SendBatch(ctx, b).Close()
}

// sound is true of a window that can be added up: a highest integer ends no range, an infinite time is
// in no bucket, and no instance has been in an epoch that is not there.
const sound = `w.sequence BETWEEN 0 AND 4611686018427387903 AND w.discarded BETWEEN 0 AND 1000000000000
	AND isfinite(w.began_at) AND isfinite(w.ended_at) AND w.ended_at < now() + interval '1 day'
	AND EXISTS (SELECT FROM migrator.epochs e WHERE e.migration = w.migration AND e.epoch = w.epoch)`

// setUnsoundAside deletes windows that would stop the roll-up, and every decision on telemetry with it.
// No function of the schema takes one; a dump of an earlier release may have some.
func setUnsoundAside(ctx context.Context, tx pgx.Tx, migration string) (int64, error) {
	tag, err := tx.Exec(ctx, `DELETE FROM migrator.windows w WHERE w.migration = $1 AND NOT (`+sound+`)`, migration)
	return tag.RowsAffected(), err
}

func (s *sums) keys() (began []time.Time, seconds []int32, epochs []int64, hashes []string) {
	for k := range s.all {
		began, seconds = append(began, k.began), append(seconds, int32(k.width/time.Second))
		epochs, hashes = append(epochs, k.epoch), append(hashes, k.hash)
	}
	return began, seconds, epochs, hashes
}

func (s *sums) insert(ctx context.Context, tx pgx.Tx, migration string) error {
	var instances, counts [][]byte
	began, seconds, epochs, hashes := s.keys()
	for i := range began {
		sum := s.all[bucketKey{began[i], time.Duration(seconds[i]) * time.Second, epochs[i], hashes[i]}]
		packed, err := statedb.PackCounts(sum.Counts)
		if err != nil {
			return err
		}
		instances, counts = append(instances, sum.union()), append(counts, packed)
	}
	_, err := tx.Exec(ctx, `INSERT INTO migrator.buckets (migration, began_at, seconds, epoch, config_hash, instances, counts)
		SELECT $1, * FROM unnest($2::timestamptz[], $3::integer[], $4::bigint[], $5::text[], $6::bytea[], $7::bytea[])`,
		migration, began, seconds, epochs, hashes, instances, counts)
	return err
}
