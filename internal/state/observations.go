package state

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/stranglerfig/migrator/dual/telemetry"
	"github.com/stranglerfig/migrator/internal/statedb"
)

// Widths of buckets: fine ones for the last hour, coarse ones before.
const (
	fine    = 10 * time.Second
	coarse  = 5 * time.Minute
	fineFor = time.Hour
)

// coarseBefore is where coarse buckets end.
func coarseBefore(now time.Time) time.Time { return now.Add(-fineFor).Truncate(coarse) }

// bucketKey identifies a bucket, whose windows are summed. A window belongs to the bucket
// that its end is in.
type bucketKey struct {
	began time.Time // UTC
	width time.Duration
	epoch int64
	hash  string
}

// keyOf finds the bucket for what ended at the given time.
func keyOf(ended, boundary time.Time, epoch int64, hash string) bucketKey {
	width := fine
	last := ended.UTC().Add(-time.Microsecond) // the end is not in
	if last.Before(boundary) {
		width = coarse
	}
	return bucketKey{last.Truncate(width), width, epoch, hash}
}

// sum is a bucket while its windows are added.
type sum struct {
	telemetry.Bucket
	instances [][]byte // lists of hashes, four bytes each
}

type sums struct {
	all  map[bucketKey]*sum
	unpk *statedb.Unpacker
}

func newSums() *sums { return &sums{map[bucketKey]*sum{}, statedb.NewUnpacker()} }

// add adds packed counts; nothing of them if they can't be read.
func (s *sums) add(key bucketKey, instances, counts []byte) error {
	list, err := s.unpk.Unpack(counts)
	if err != nil {
		return err
	}
	s.merge(key, instances, list)
	return nil
}

func (s *sums) merge(key bucketKey, instances []byte, list []telemetry.Count) {
	into := s.all[key]
	if into == nil {
		into = &sum{Bucket: telemetry.Bucket{Epoch: key.epoch, ConfigHash: key.hash, Began: key.began, Ended: key.began.Add(key.width)}}
		s.all[key] = into
	}
	if into.Counts == nil {
		into.Counts = list
	} else {
		into.Add(list)
	}
	into.instances = append(into.instances, bytes.Clone(instances))
}

// addWindow is add for what an instance reported.
func (s *sums) addWindow(key bucketKey, instance, counts []byte) error {
	list, err := s.unpk.Unpack(counts)
	if err != nil {
		return err
	}
	for _, c := range list {
		if c.N > maxCount {
			return fmt.Errorf("it counts %d of %s", c.N, c.Operation)
		}
	}
	s.merge(key, instance, list)
	return nil
}

// instanceHash replaces an instance's name where only the number of instances matters.
func instanceHash(instance string) []byte {
	h := sha256.Sum256([]byte(instance))
	return h[:4]
}

// union is one sorted list of the bucket's instances. Most buckets have one already.
func (s *sum) union() []byte {
	if len(s.instances) == 1 {
		return s.instances[0]
	}
	var hashes []uint32
	for _, list := range s.instances {
		for ; len(list) >= 4; list = list[4:] {
			hashes = append(hashes, binary.BigEndian.Uint32(list))
		}
	}
	slices.Sort(hashes)
	b := make([]byte, 0, 4*len(hashes))
	for _, h := range slices.Compact(hashes) {
		b = binary.BigEndian.AppendUint32(b, h)
	}
	return b
}

// notCounted is true if the window is in no bucket yet.
const notCounted = `NOT EXISTS (SELECT FROM migrator.incarnations i
	WHERE i.migration = w.migration AND i.incarnation = w.incarnation AND i.counted @> w.sequence)`

// Observed returns the telemetry that instances have reported since a moment of the database's
// clock, oldest first: one bucket per epoch, configuration and stretch of time, of ten
// seconds in the last hour, of five minutes before. A window is in the bucket that its
// end is in. The first bucket may begin before since, the last one ends now. No window
// is in two, whether RollUp has seen it or not.
func (s *Store) Observed(ctx context.Context, migration string, since time.Time) ([]telemetry.Bucket, error) {
	return s.observed(ctx, migration, since, newSums())
}

// Counted is Observed without the latencies: weeks of it fit where a day of them does.
func (s *Store) Counted(ctx context.Context, migration string, since time.Time) ([]telemetry.Bucket, error) {
	sums := newSums()
	sums.unpk.Untimed = true
	return s.observed(ctx, migration, since, sums)
}

func (s *Store) observed(ctx context.Context, migration string, since time.Time, sums *sums) ([]telemetry.Bucket, error) {
	var now time.Time
	err := pgx.BeginTxFunc(ctx, s.pool, statedb.RepeatableRead, func(tx pgx.Tx) error {
		if err := tx.QueryRow(ctx, `SELECT clock_timestamp()`).Scan(&now); err != nil {
			return err
		}
		if err := sums.readBuckets(ctx, tx, coarseBefore(now), `SELECT began_at, seconds, epoch, config_hash, instances, counts FROM migrator.buckets
			WHERE migration = $1 AND began_at > $2 AND began_at + seconds * interval '1 second' > $3`, migration, since.Add(-coarse), since); err != nil {
			return err
		}
		// What can't be read is left out: one such window must not stop the triggers. The roll-up counts it.
		_, _, _, err := sums.readWindows(ctx, tx, coarseBefore(now), `SELECT epoch, config_hash, ended_at, instance, counts FROM migrator.windows w
			WHERE migration = $1 AND ended_at > $2 AND `+sound+` AND `+notCounted, migration, since)
		return err
	})
	if err != nil {
		return nil, statedb.Explain(err)
	}
	buckets := make([]telemetry.Bucket, 0, len(sums.all))
	for _, b := range sums.all {
		b.Instances = len(b.union()) / 4
		if b.Ended.After(now) {
			b.Ended = now
		}
		buckets = append(buckets, b.Bucket)
	}
	slices.SortFunc(buckets, func(a, b telemetry.Bucket) int {
		return cmp.Or(a.Began.Compare(b.Began), cmp.Compare(a.Epoch, b.Epoch), cmp.Compare(a.ConfigHash, b.ConfigHash))
	})
	return buckets, nil
}

// readBuckets adds rows of began_at, seconds, epoch, config_hash, instances, counts.
// A fine bucket that the boundary has passed goes into its coarse one.
func (s *sums) readBuckets(ctx context.Context, q statedb.Querier, boundary time.Time, sql string, args ...any) error {
	rows, err := q.Query(ctx, sql, args...)
	if err != nil {
		return err
	}
	var key bucketKey
	var seconds int64
	var instances, counts pgtype.DriverBytes
	_, err = pgx.ForEachRow(rows, []any{&key.began, &seconds, &key.epoch, &key.hash, &instances, &counts}, func() error {
		key.began, key.width = key.began.UTC(), time.Duration(seconds)*time.Second
		if key.width == fine {
			key = keyOf(key.began.Add(fine), boundary, key.epoch, key.hash)
		}
		if err := s.add(key, instances, counts); err != nil {
			return fmt.Errorf("the bucket of %s, epoch %d: %w", key.began.Format(time.RFC3339), key.epoch, err)
		}
		return nil
	})
	return err
}

// maxCount is more than an instance can do in a window, and far from where sums overflow.
const maxCount = 1 << 40

// readWindows adds n rows of epoch, config_hash, ended_at, instance, counts. bad reports one of the
// unread windows among them: those that can't be read.
func (s *sums) readWindows(ctx context.Context, q statedb.Querier, boundary time.Time, sql string, args ...any) (n, unread int64, bad, err error) {
	rows, err := q.Query(ctx, sql, args...)
	if err != nil {
		return 0, 0, nil, err
	}
	var epoch int64
	var hash, instance string
	var ended time.Time
	var counts pgtype.DriverBytes
	_, err = pgx.ForEachRow(rows, []any{&epoch, &hash, &ended, &instance, &counts}, func() error {
		n++
		key := keyOf(ended, boundary, epoch, hash)
		if b := s.all[key]; b != nil && len(b.Counts) > statedb.ManySeries {
			bad = fmt.Errorf("the bucket of %s, epoch %d, has %d series", key.began.Format(time.RFC3339), epoch, len(b.Counts))
			unread++
			return nil
		}
		if err := s.addWindow(key, instanceHash(instance), counts); err != nil {
			bad = fmt.Errorf("a window of %s, epoch %d, that ended at %s: %w", instance, epoch, ended.UTC().Format(time.RFC3339), err)
			unread++
		}
		return nil
	})
	return n, unread, bad, err
}
