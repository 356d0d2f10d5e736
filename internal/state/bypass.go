package state

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/stranglerfig/migrator/internal/statedb"
	"github.com/stranglerfig/migrator/phases"
)

// BypassLook is the last look at legacy's counters, with what the next one is compared with.
type BypassLook struct {
	phases.Bypass
	Stay      int64           // Status.LegacyEpoch then: another one makes the look void
	Epoch     int64           // of the route then
	Counters  string          // what legacy's store gave; "": nothing that can be compared
	Samples   json.RawMessage // of changes that were counted, a list
	Discarded int64           // windows of telemetry that instances had discarded
}

// BypassContext is what a look at legacy's counters is to be judged with.
type BypassContext struct {
	Now    time.Time   // of the state database
	Last   *BypassLook // nil: none in this stay beyond legacy
	Status phases.Status
	// Unreported is why what instances have reported since Last may not be all that they wrote; "":
	// it is, once their present windows have arrived.
	Unreported string
	Discarded  int64
	Reporting  time.Time // until when there was an instance that reports; Now: there is one; zero: there was none
	Passed     bool      // since Last the migration was in a phase whose writes are not compared
}

// silentAfter is how long an instance may take to its first report.
const silentAfter = "40 seconds"

// BypassContext reads it, as of one moment.
func (s *Store) BypassContext(ctx context.Context, migration string) (b BypassContext, err error) {
	err = pgx.BeginTxFunc(ctx, s.pool, statedb.RepeatableRead, func(tx pgx.Tx) error {
		if b.Status, err = statedb.ReadStatus(ctx, tx, migration); err != nil {
			return err
		}
		if err := tx.QueryRow(ctx, `SELECT clock_timestamp()`).Scan(&b.Now); err != nil {
			return err
		}
		if b.Last, err = readBypass(ctx, tx, migration, b.Status.LegacyEpoch); err != nil {
			return err
		}
		since, epoch := b.Now, b.Status.Route.Epoch
		if b.Last != nil {
			since, epoch = b.Last.Looked, b.Last.Epoch
		}
		var reporting *time.Time
		err := tx.QueryRow(ctx, `SELECT
			coalesce((SELECT CASE
					WHEN l.ended_at IS NULL AND l.expires_at <= $2 THEN 'the lease of ' || l.instance || ' has expired, and what it wrote may not be reported'
					WHEN l.lost_at > $3 THEN l.instance || ' ended without leaving, and what it wrote last was not reported'
					ELSE l.instance || ' does not report what it writes' END
				FROM migrator.leases l WHERE l.migration = $1 AND (
					l.ended_at IS NULL AND l.expires_at <= $2 OR l.lost_at > $3
					OR l.ended_at IS NULL AND l.joined_at < $2 - interval '`+silentAfter+`'
						AND NOT EXISTS (SELECT FROM migrator.windows w WHERE w.migration = $1 AND w.instance = l.instance)
						AND NOT EXISTS (SELECT FROM migrator.incarnations i WHERE i.migration = $1 AND i.instance = l.instance))
				ORDER BY l.instance LIMIT 1), ''),
			coalesce((SELECT sum(discarded) FROM migrator.incarnations WHERE migration = $1), 0)::int8
				+ coalesce((SELECT sum(discarded) FROM migrator.windows w WHERE w.migration = $1 AND `+notCounted+`), 0)::int8,
			(SELECT max(least(coalesce(ended_at, $2), $2)) FROM migrator.leases WHERE migration = $1),
			EXISTS (SELECT FROM migrator.epochs WHERE migration = $1 AND epoch > $4 AND phase NOT IN ('shadow-write', 'dual-read', 'cutover', 'grace'))`,
			migration, b.Now, since, epoch).Scan(&b.Unreported, &b.Discarded, &reporting, &b.Passed)
		b.Reporting = statedb.OrZero(reporting)
		return err
	})
	return b, statedb.Explain(err)
}

// readBypass reads the last look of a stay; nil if there is none.
func readBypass(ctx context.Context, q statedb.Querier, migration string, stay int64) (*BypassLook, error) {
	var l BypassLook
	var seconds float64
	var first, last *time.Time
	var samples string
	err := q.QueryRow(ctx, `SELECT stay, epoch, began_at, looked_at, judged, why, counters, samples::text, discarded, least, most, first_at, last_at, writers
		FROM migrator.bypass WHERE migration = $1 AND stay = $2`, migration, stay).
		Scan(&l.Stay, &l.Epoch, &l.Began, &l.Looked, &seconds, &l.Why, &l.Counters, &samples, &l.Discarded, &l.Least, &l.Most, &first, &last, &l.Writers)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, nil
	}
	l.Judged = phases.Duration(seconds * float64(time.Second))
	l.Samples, l.First, l.Last = json.RawMessage(samples), statedb.OrZero(first), statedb.OrZero(last)
	return &l, err
}

// NoteBypass notes a look at legacy's counters, if the last one is still the given one; false: another
// process has looked meanwhile. The history gets an entry where news is not "".
func (s *Store) NoteBypass(ctx context.Context, migration string, last *BypassLook, next BypassLook, news string) (noted bool, err error) {
	err = s.exclusive(ctx, migration, func(tx pgx.Tx) error {
		var looked *time.Time
		if last != nil {
			looked = &last.Looked
		}
		if next.Writers == nil {
			next.Writers = []string{}
		}
		err := tx.QueryRow(ctx, `SELECT migrator.note_bypass($1, $16::timestamptz, ($1, $2::bigint, $3::bigint, $4::timestamptz, $5::timestamptz, $6::float8, left($7, 500), $8::text, $9::jsonb,
			$10::bigint, $11::bigint, $12::bigint, $13::timestamptz, $14::timestamptz, $15::text[]))`,
			migration, next.Stay, next.Epoch, next.Began, next.Looked, time.Duration(next.Judged).Seconds(), statedb.CleanText(next.Why), next.Counters, string(next.Samples),
			next.Discarded, next.Least, next.Most, orNull(next.First), orNull(next.Last), cleanTexts(next.Writers), looked).Scan(&noted)
		if err != nil || !noted || news == "" {
			return err
		}
		return note(ctx, tx, migration, phases.CauseTable, news, struct{}{})
	})
	return noted && err == nil, err
}

func cleanTexts(texts []string) []string {
	clean := make([]string, len(texts))
	for n, t := range texts {
		clean[n] = statedb.CleanText(t)
	}
	return clean
}
