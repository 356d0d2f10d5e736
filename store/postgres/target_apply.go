package postgres

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/stranglerfig/migrator/internal/pgfail"
	"github.com/stranglerfig/migrator/record"
	"github.com/stranglerfig/migrator/store"
)

// batchWrites limits the writes of one transaction.
const batchWrites = 500

// Apply implements store.Target. Writes of different keys share transactions; a refused
// write has the error in its own result.
//
// A transaction that would commit after the not-after of one of its writes is rolled
// back and tried again without that write. Only the duration of the commit itself is
// not covered.
func (t *Target) Apply(ctx context.Context, writes []store.Write) ([]store.Result, error) {
	results := make([]store.Result, len(writes))
	done := 0
	for _, round := range rounds(writes) {
		for batch := range slices.Chunk(round, batchWrites) {
			err := t.apply(ctx, writes, batch, results)
			if err == nil {
				done += len(batch)
				continue
			}
			err = fmt.Errorf("write to target table %s: %w", t.table(), asUnprepared(withoutValue(err)))
			if done == 0 {
				return nil, err
			}
			for i := range results {
				if results[i] == (store.Result{}) {
					results[i].Err = err
				}
			}
			return results, nil
		}
	}
	return results, nil
}

// rounds splits the writes into lists that have each key once, in the order of keys, so
// that two transactions lock in the same order. Writes of one key keep their order.
func rounds(writes []store.Write) [][]int {
	var rounds [][]int
	turn := make(map[record.Key]int, len(writes))
	for i := range writes {
		n := turn[writes[i].Key]
		turn[writes[i].Key]++
		if n == len(rounds) {
			rounds = append(rounds, nil)
		}
		rounds[n] = append(rounds[n], i)
	}
	for _, r := range rounds {
		slices.SortFunc(r, func(a, b int) int { return cmp.Compare(writes[a].Key, writes[b].Key) })
	}
	return rounds
}

// apply halves a batch that the server refuses, until the refused write is alone. From a
// batch that is too late it removes the writes that are late by now. It returns an
// error that concerns the other writes too.
func (t *Target) apply(ctx context.Context, writes []store.Write, batch []int, results []store.Result) error {
	const attempts = 5
	var err error
	for range attempts {
		if err = t.applyOnce(ctx, writes, batch, results, false); !hasState(err, stateSerialization, stateDeadlock) {
			break
		}
	}
	// A record may have a unique value that another one of the batch, which is deleted, had. The other order is for records
	// that refer to each other.
	if hasState(err, stateUnique) && len(batch) > 1 && t.applyOnce(ctx, writes, batch, results, true) == nil {
		return nil
	}
	var left [][]int
	switch {
	case err == nil:
		return nil
	case isLate(err):
		late, rest := firstLate(writes, batch)
		t.tooLate(ctx, writes, late, results)
		left = [][]int{rest}
	case !writeFault(err):
		return err
	case len(batch) > 1:
		left = [][]int{batch[:len(batch)/2], batch[len(batch)/2:]}
	default:
		err = withoutValue(err)
		t.nameColumn(ctx, err, writes[batch[0]].Record, results)
		if pgfail.SQLState(err) != stateLockNotAvailable {
			err = fmt.Errorf("%w: %w", store.ErrRecord, err)
		}
		results[batch[0]] = store.Result{Err: err} // without the key: it may be a reason in the state, which has keys in columns for keys alone
	}
	for _, part := range left {
		if len(part) > 0 {
			if err := t.apply(ctx, writes, part, results); err != nil {
				return err
			}
		}
	}
	return nil
}

// firstLate splits a batch whose earliest not-after has passed on the server: the writes
// with that not-after, and the others.
func firstLate(writes []store.Write, batch []int) (late, rest []int) {
	var first time.Time
	for _, i := range batch {
		if at := writes[i].NotAfter; !at.IsZero() && (first.IsZero() || at.Before(first)) {
			first = at
		}
	}
	for _, i := range batch {
		if writes[i].NotAfter.Equal(first) {
			late = append(late, i)
		} else {
			rest = append(rest, i)
		}
	}
	return late, rest
}

// tooLate sets the results of writes whose not-after has passed.
func (t *Target) tooLate(ctx context.Context, writes []store.Write, late []int, results []store.Result) {
	keys := make([]record.Key, len(late))
	for n, i := range late {
		keys[n] = writes[i].Key
	}
	entries, err := t.Get(ctx, keys)
	for n, i := range late {
		results[i] = store.Result{Outcome: store.Late}
		if err == nil {
			results[i].Version = entries[n].Version
		}
	}
}

var errKeyForm = errors.New("the key does not fit the target table's key")

// writeFault reports whether an error concerns one write only: its value, a constraint,
// a limit, a trigger of the table, or a row that another transaction has locked.
func writeFault(err error) bool {
	var unfit errUnfit
	if errors.Is(err, errKeyForm) || errors.As(err, &unfit) || ofARow(err) {
		return true
	}
	state := pgfail.SQLState(err)
	if len(state) != 5 {
		return false
	}
	return slices.Contains([]string{"21", "22", "23", "44", "54", "P0"}, state[:2]) || state == stateLockNotAvailable
}

// lateMark is the text in the error that addNotAfter causes on the server.
const lateMark = "migrator: too late"

func isLate(err error) bool {
	var pg *pgconn.PgError
	return errors.As(err, &pg) && strings.Contains(pg.Message, lateMark)
}

// keyState is what the target has under a key, while its version is locked.
type keyState struct {
	write   int
	key     string
	created bool // there was no version; this transaction has inserted the row in the table of versions
	version record.Version
	deleted bool
	present bool // the record exists
	now     int64
	decided store.Result
	read    bool
}

// foreign: there is a record without a live version. It is another program's.
func (s *keyState) foreign() bool { return s.present && (s.created || s.deleted) }

// decide returns the outcome of a write. It contains all rules.
func decide(w *store.Write, s *keyState) store.Result {
	r := store.Result{Version: s.version}
	switch {
	// [not-after]: s.now is the target's clock, read under the lock.
	case !w.NotAfter.IsZero() && s.now > w.NotAfter.UnixMicro():
		r.Outcome = store.Late
	// [owned-only]: another program's record is refused, or replaced by a repair.
	case s.foreign() && !w.Overwrite:
		r.Outcome = store.Foreign
	// [retain-cas], [repair-unchanged]: another write followed the read on which this one is based.
	case w.Only != nil && *w.Only != s.version:
		r.Outcome = store.Changed
	// [newer-only]: only a conditional repair lowers a version.
	case w.Only == nil && !w.Version.NewerThan(s.version), s.version.NewerThan(w.Version) && !w.Overwrite:
		r.Outcome = store.Older
	// [owned-only]: no delete removes it. The version is kept beside it.
	case s.foreign() && w.Deleted:
		r = store.Result{Outcome: store.Foreign, Version: w.Version}
	default:
		r = store.Result{Outcome: store.Applied, Version: w.Version}
	}
	return r
}

// applyOnce is one transaction in two round trips: one locks the versions and reads, one
// writes and commits.
func (t *Target) applyOnce(ctx context.Context, writes []store.Write, batch []int, results []store.Result, removeFirst bool) error {
	states, keys := make([]keyState, len(batch)), make([]record.Key, len(batch))
	for n, i := range batch {
		states[n] = keyState{write: i, key: t.sideKey(string(writes[i].Key))}
		keys[n] = writes[i].Key
	}
	reads, err := t.lockAndRead(writes, states, keys)
	if err != nil {
		return err
	}
	conn, err := t.pool.Acquire(ctx)
	if err != nil {
		return err
	}
	defer conn.Release()
	pg := conn.Conn().PgConn()
	defer func() { rollBack(ctx, pg) }()
	if err := reads.send(ctx, pg); err != nil {
		return err
	}
	for n := range states {
		s := &states[n]
		if !s.read {
			return fmt.Errorf("the version of key %q is locked and can't be read", s.key)
		}
		s.decided = decide(&writes[s.write], s)
	}
	writeBack, err := t.writeDecided(writes, states, removeFirst)
	if err != nil {
		return err
	}
	if err := writeBack.send(ctx, pg); err != nil {
		return err
	}
	for _, s := range states {
		results[s.write] = s.decided
	}
	return nil
}

// lockAndRead inserts a version where there is none, expecting that the write will be
// applied, and locks the others: ON CONFLICT DO UPDATE locks the existing row even if
// its condition prevents the update. Then it reads. It reads the clock under the locks:
// a write that waited for a lock must not be applied after its not-after.
func (t *Target) lockAndRead(writes []store.Write, states []keyState, keys []record.Key) (*pipeline, error) {
	all := make([]int, len(keys))
	names, versions := make([]string, len(keys)), make([]string, len(keys))
	deleted, keep := make([]string, len(keys)), make([]string, len(keys))
	byKey := make(map[string]*keyState, len(keys))
	for n := range states {
		w := &writes[states[n].write]
		all[n], names[n] = n, states[n].key
		versions[n] = string(w.Version.AppendText32(nil))
		deleted[n], keep[n] = strconv.FormatBool(w.Deleted), strconv.FormatBool(w.Keep)
		byKey[names[n]] = &states[n]
	}
	q := t.shape.keyQuery(keys, all, t.sideKey)
	if len(q.at) != len(keys) {
		return nil, errKeyForm
	}
	// [newer-only]: the version's row stays locked until the commit: what decide sees can't
	// change before writeDecided's statements run.
	p := newPipeline("BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE")
	p.add(nil, "SELECT set_config('lock_timeout', $1, true)", milliseconds(rowLockTimeout))
	p.add(func(v [][]byte) error {
		if s := byKey[string(v[0])]; s != nil {
			s.created = true
		}
		return nil
	}, `INSERT INTO `+t.side+` AS s (key, version, deleted, expires)
		SELECT u.key, u.version, u.deleted::bool, `+t.expires()+`
		FROM unnest($1::text[], $2::text[], $3::text[], $4::text[]) AS u(key, version, deleted, keep)
		ORDER BY u.key COLLATE "C" ON CONFLICT (key) DO UPDATE SET version = EXCLUDED.version WHERE false RETURNING s.key`,
		names, versions, deleted, keep, time.Duration(t.horizon.Load()).Microseconds())
	p.add(func(v [][]byte) error {
		n, err := q.place(v[0])
		if err != nil {
			return err
		}
		s := &states[q.at[n]]
		s.read = true
		s.deleted, s.present = string(v[2]) == "t", string(v[3]) == "t"
		if s.now, err = strconv.ParseInt(string(v[4]), 10, 64); err != nil || s.created {
			return err
		}
		s.version, err = record.ParseVersion(string(v[1]))
		return err
	}, `SELECT u.ordinal, s.version, s.deleted, `+t.shape.columns[t.shape.key[0]].present("t.")+`,
		(extract(epoch FROM clock_timestamp()) * 1000000)::int8
		FROM `+q.from+` JOIN `+t.side+` s ON s.key = u.key LEFT JOIN `+t.shape.name.Sanitize()+` t ON `+q.on, q.args...)
	return p, nil
}

// expires is the SQL of the expiry of a tombstone u; $5 is the horizon in microseconds.
func (t *Target) expires() string {
	// [tombstone]: NULL, which never expires, with keep.
	return "CASE WHEN u.deleted::bool AND NOT u.keep::bool THEN clock_timestamp() + $5::int8 * interval '1 microsecond' END"
}
