package pgfleet

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/stranglerfig/migrator/dual"
	"github.com/stranglerfig/migrator/internal/failpoint"
	"github.com/stranglerfig/migrator/internal/hint"
	"github.com/stranglerfig/migrator/internal/statedb"
	"github.com/stranglerfig/migrator/phases"
	"github.com/stranglerfig/migrator/record"
)

// Options overrides the migration file's timing. Renew is at most a third of Lease.
type Options struct {
	Lease time.Duration // how long a lease lasts without renewal; 0: the migration file's, else 15 s
	Renew time.Duration // how often it is renewed; 0: the migration file's, else 5 s
}

// Fleet is an application's connection to the state of one migration. Its role needs no
// more rights than Store.GrantApplication gives. It does not check the schema's version:
// applications outlive upgrades of the schema, which only add to what they use.
type Fleet struct {
	pool      *pgxpool.Pool
	migration string
	options   Options
	owned     bool
	instance  atomic.Pointer[string] // that joined last
}

var (
	_ dual.Fleet             = (*Fleet)(nil)
	_ dual.FaultSwitch       = (*Fleet)(nil)
	_ dual.Notifier          = (*Fleet)(nil)
	_ dual.EmergencyRollback = (*Fleet)(nil)
	_ dual.ReturnJournal     = (*Fleet)(nil)
	_ dual.JournalReader     = (*Fleet)(nil)
	_ dual.StateLossReporter = (*Fleet)(nil)
	_ dual.ColumnsReader     = (*Fleet)(nil)
)

// New returns a Fleet that uses an existing pool. The caller closes the pool.
func New(pool *pgxpool.Pool, migration string, o Options) *Fleet {
	return &Fleet{pool: pool, migration: migration, options: o}
}

// Open returns a Fleet with its own pool. It does not connect: an application can start
// while the state database is down, and joins when it is reachable.
func Open(ctx context.Context, url, migration string, o Options) (*Fleet, error) {
	cfg, err := statedb.ParseURL(url)
	if err != nil {
		return nil, err
	}
	pool, err := pgxpool.NewWithConfig(ctx, cfg)
	if err != nil {
		return nil, fmt.Errorf("connect to the state database: %w", err)
	}
	return &Fleet{pool: pool, migration: migration, options: o, owned: true}, nil
}

// Close closes the pool that Open made.
func (f *Fleet) Close() {
	if f.owned {
		f.pool.Close()
	}
}

// oneTrip sends a whole transaction, its COMMIT included, in one round trip: an
// application that freezes between two statements would keep the migration's row locked,
// and so block every rollback, for as long as it is frozen. The transaction locks the
// migration's row in share mode, and fills in g from it.
func (f *Fleet) oneTrip(ctx context.Context, g *dual.Grant, fill func(b *pgx.Batch)) error {
	found := false
	b := &pgx.Batch{}
	b.Queue(`BEGIN ISOLATION LEVEL READ COMMITTED`)
	// [journal-serial], [join-locked], [return-journal]: the turnstile, then the row in share mode.
	// A move waits for this transaction and sees its rows, or this transaction reads the route that
	// the move has committed.
	b.Queue(statedb.TurnstileShared, f.migration)
	b.Queue(`SELECT m.phase, m.percent, m.epoch, `+statedb.ShadowSQL+`, m.lease_ms, m.renew_ms, m.fence_era, m.reversible, m.config_hash
		FROM migrator.migrations m WHERE m.name = $1 FOR SHARE`, f.migration).Query(func(rows pgx.Rows) error {
		if found = rows.Next(); !found {
			return rows.Err()
		}
		var lease, renew int64
		err := rows.Scan(&g.Route.Phase, &g.Route.Percent, &g.Route.Epoch, statedb.ScanShadow(&g.Route.Shadow), &lease, &renew, &g.FenceEra, &g.Reversible, &g.ConfigHash)
		g.TTL, g.Renew = f.timing(lease, renew)
		return err
	})
	fill(b)
	b.Queue(`COMMIT`)
	// BEGIN and COMMIT are in the batch: on any failure the server releases the row without
	// another message from this process.
	if err := f.pool.SendBatch(ctx, b).Close(); err != nil {
		return statedb.Explain(err)
	}
	if !found {
		return statedb.UnknownMigration(ctx, f.pool, f.migration)
	}
	return nil
}

// queueMark reads the mark that the target must have.
func (f *Fleet) queueMark(b *pgx.Batch, g *dual.Grant) {
	b.Queue(`SELECT owner, incarnation, confirmed FROM migrator.mark_of($1)`, f.migration).Query(func(rows pgx.Rows) error {
		if rows.Next() {
			return rows.Scan(&g.Mark.Owner, &g.Mark.Incarnation, &g.Mark.Beat)
		}
		return rows.Err()
	})
}

func (f *Fleet) timing(leaseMS, renewMS int64) (lease, renew time.Duration) {
	lease, renew = time.Duration(leaseMS)*time.Millisecond, time.Duration(renewMS)*time.Millisecond
	if f.options.Lease > 0 {
		lease = f.options.Lease
	}
	if f.options.Renew > 0 {
		renew = f.options.Renew
	}
	return statedb.LeaseTimes(lease, renew)
}

// ttl is how long a lease lasts, for statements that are sent before the response to
// oneTrip's own query arrives: milliseconds, or nil for the migration file's.
func (f *Fleet) ttl() *int64 {
	if f.options.Lease <= 0 {
		return nil
	}
	lease, _ := statedb.LeaseTimes(f.options.Lease, 0)
	ms := lease.Milliseconds()
	return &ms
}

// Join takes a lease that has acknowledged the present epoch: an instance that joins has
// no operation in flight. One that rejoins (Identity.Previous names its own former
// lease) may have. Its new lease starts at the epoch that the old one had acknowledged,
// and the old one ends cleanly, since the process keeps its queue. The same applies to
// leases of the same origin whose grant never reached the process. If such a join
// arrives only after a later one, the lease that it takes replaces the one that it ends,
// until the process rejoins.
//
// Without Previous, or with one that the database no longer records, another lease under
// the same instance's name belongs to a process that has ended, perhaps with queued
// writes: the migration is marked dirty, unless that process still calls Leave. If that
// lease is still live, it can't be renewed any more and counts until it would have
// expired, in case two processes share a name by mistake.
func (f *Fleet) Join(ctx context.Context, identity dual.Identity) (dual.Grant, error) {
	if identity.Instance == "" {
		identity.Instance = generatedName()
	}
	g := dual.Grant{Lease: rand.Text(), Instance: identity.Instance}
	moves := statedb.CleanText(identity.Moves)
	err := f.oneTrip(ctx, &g, func(b *pgx.Batch) {
		// [rejoin-epoch]: leases of the same process end here without a mark: its queue continues,
		// under the lease that this transaction takes.
		if identity.Previous != "" {
			b.Queue(`UPDATE migrator.leases l SET ended = 'superseded', ended_at = clock_timestamp(), lost_at = NULL
				WHERE l.migration = $1 AND l.ended IS DISTINCT FROM 'evicted' AND `+statedb.LeaseCountsSQL+`
				  AND (l.id = $2 OR l.origin = (SELECT p.origin FROM migrator.leases p WHERE p.id = $2 AND p.migration = $1))`,
				f.migration, identity.Previous)
		}
		// [superseded-counts]: a lease that another process takes over counts until it would have
		// expired: if both still run, the route of the first stays live. [unclean-mark]: the first
		// may have had writes that no other process knows of.
		b.Queue(`UPDATE migrator.leases l SET ended = 'superseded', ended_at = greatest(expires_at, clock_timestamp()),
				lost_at = CASE WHEN `+statedb.MayHaveLostWritesSQL+` THEN greatest(expires_at, clock_timestamp()) END
			WHERE migration = $1 AND instance = $2 AND ended_at IS NULL
			  AND NOT EXISTS (SELECT FROM migrator.leases p WHERE p.id = $3 AND p.migration = $1)`, f.migration, identity.Instance, identity.Previous)
		// [join-locked]: the lease acknowledges the epoch that this transaction reads, under the
		// lock that a move takes exclusively. [rejoin-epoch]: not above what the former lease
		// acknowledged. [join-described]: a trigger compares what the instance moves with what is
		// applied, under the same lock.
		b.Queue(`INSERT INTO migrator.leases (id, migration, instance, about, acknowledged_epoch, joined_at, renewed_at, expires_at, origin, moves)
			SELECT $2, m.name, $3, $4, least(m.epoch, p.acknowledged_epoch), now.at, now.at,
			       now.at + coalesce($5::bigint, m.lease_ms) * interval '1 millisecond', coalesce(p.origin, $2), $7
			FROM migrator.migrations m
			CROSS JOIN (SELECT clock_timestamp() AS at) now
			LEFT JOIN migrator.leases p ON p.id = $6 AND p.migration = m.name
			WHERE m.name = $1
			RETURNING (SELECT m.moves FROM migrator.migrations m WHERE m.name = $1)`,
			f.migration, g.Lease, statedb.CleanText(identity.Instance), statedb.CleanText(identity.About), f.ttl(), identity.Previous,
			moves).Query(func(rows pgx.Rows) error {
			if rows.Next() {
				var applied string
				err := rows.Scan(&applied)
				compareMoves(&g, applied, &moves)
				return err
			}
			return rows.Err()
		})
		f.queueMark(b, &g)
	})
	if statedb.IsOtherMoves(err) {
		return dual.Grant{}, hint.Errorf(otherMovesHint(moves), "%w: %w", dual.ErrOtherMoves, err)
	}
	if err != nil {
		return dual.Grant{}, err
	}
	f.instance.Store(&g.Instance)
	return g, nil
}

func otherMovesHint(moves string) hint.Hint {
	if moves == "" {
		return hint.Hint{Text: "set dual.Config.Moves to the Moves of the migration file with the applied columns; kit.Open does"}
	}
	return hint.Hint{Text: "start it with the migration file that is applied (key template, format, tables), and a program that knows its columns"}
}

// compareMoves notes in a grant whether what its instance moves is what is applied. If it is not,
// what it counts is no evidence. A lease of an earlier release does not say what it moves.
func compareMoves(g *dual.Grant, applied string, moves *string) {
	if g.OtherMoves = applied != "" && (moves == nil || *moves != applied); g.OtherMoves {
		g.ConfigHash = ""
	}
}

// AppliedFile is the migration file that is applied, as JSON without URLs.
func (f *Fleet) AppliedFile(ctx context.Context) (config []byte, err error) {
	err = f.pool.QueryRow(ctx, `SELECT config::text FROM migrator.migrations WHERE name = $1`, f.migration).Scan(&config)
	return config, statedb.Explain(err)
}

// Columns implements dual.ColumnsReader.
func (f *Fleet) Columns(ctx context.Context) (applied, former *record.Schema, err error) {
	var texts [2][]byte
	err = f.pool.QueryRow(ctx, `SELECT schema::text, former_schema::text FROM migrator.migrations WHERE name = $1`, f.migration).Scan(&texts[0], &texts[1])
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, nil, statedb.UnknownMigration(ctx, f.pool, f.migration)
	}
	if err != nil {
		return nil, nil, statedb.Explain(err)
	}
	var found [2]*record.Schema
	for i, text := range texts {
		if len(text) == 0 {
			continue
		}
		s := &record.Schema{}
		if err := json.Unmarshal(text, s); err != nil {
			return nil, nil, fmt.Errorf("the migration's columns: %w", err)
		}
		if len(s.Fields) > 0 {
			found[i] = s
		}
	}
	return found[0], found[1], nil
}

// ReportStateLoss implements dual.StateLossReporter: from then on Status.StateLoss
// records the loss, no advance is possible, and each move takes an epoch above this one.
func (f *Fleet) ReportStateLoss(ctx context.Context, pinned phases.Route) error {
	name := "unknown"
	if i := f.instance.Load(); i != nil {
		name = *i
	}
	// [loss-held]: the route counts as live from here on, and every move takes a higher epoch.
	return statedb.RecordStateLoss(ctx, f.pool, f.migration, name, pinned)
}

func generatedName() string {
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	return fmt.Sprintf("%s-%d-%s", host, os.Getpid(), rand.Text()[:6])
}

// Renew extends a live lease. It locks the migration's row in share mode, so that no
// transition counts the lease as lapsed while the renewal is in flight.
func (f *Fleet) Renew(ctx context.Context, lease string, acknowledged int64) (dual.Grant, error) {
	g := dual.Grant{Lease: lease}
	unsettled := false
	err := f.oneTrip(ctx, &g, func(b *pgx.Batch) {
		// [lease-final]: only a lease that has neither ended nor expired is renewed: a rollback may
		// have counted it as lapsed and not waited for it. The acknowledged epoch never decreases,
		// and never exceeds the present one.
		b.Queue(`UPDATE migrator.leases l SET renewed_at = clock_timestamp(),
				expires_at = clock_timestamp() + coalesce($4::bigint, m.lease_ms) * interval '1 millisecond',
				acknowledged_epoch = greatest(l.acknowledged_epoch, least($3, m.epoch))
			FROM migrator.migrations m JOIN migrator.epochs e ON e.migration = m.name AND e.epoch = m.epoch
			WHERE m.name = $1 AND l.id = $2 AND l.migration = m.name AND l.ended_at IS NULL AND l.expires_at > clock_timestamp()
			RETURNING l.instance, e.settled_at IS NULL AND l.acknowledged_epoch = m.epoch, m.moves, l.moves`,
			f.migration, lease, acknowledged, f.ttl()).Query(func(rows pgx.Rows) error {
			if rows.Next() {
				var applied string
				var moves *string
				err := rows.Scan(&g.Instance, &unsettled, &applied, &moves)
				compareMoves(&g, applied, moves)
				return err
			}
			return rows.Err()
		})
		f.queueMark(b, &g)
	})
	switch {
	case err != nil:
		return dual.Grant{}, err
	case g.Instance == "":
		return dual.Grant{}, dual.ErrLeaseLost
	case unsettled:
		failpoint.Here("state.renew.acknowledged")
		// After the commit, so that of two instances which acknowledge at once one sees both.
		statedb.MarkSettled(ctx, f.pool, f.migration)
	}
	return g, nil
}

// Leave ends the lease cleanly, also one that has expired or was superseded: the
// instance's report that it has drained is valid late too, and removes the mark of
// possibly lost writes. Leaving twice, or after an eviction, is not an error.
func (f *Fleet) Leave(ctx context.Context, lease string) error {
	// [leave-drained]: removes the mark of possibly lost writes, since the instance reports that all
	// its operations have drained. An eviction remains: it is in the history, and has its own mark.
	tag, err := f.pool.Exec(ctx, `UPDATE migrator.leases SET ended = 'left', lost_at = NULL,
			ended_at = least(ended_at, clock_timestamp())
		WHERE id = $1 AND migration = $2 AND (ended IS NULL OR ended = 'superseded')`, lease, f.migration)
	if err != nil {
		return statedb.Explain(err)
	}
	if tag.RowsAffected() > 0 {
		failpoint.Here("state.leave.committed")
		statedb.MarkSettled(ctx, f.pool, f.migration)
	}
	return nil
}

func (f *Fleet) present(ctx context.Context, q statedb.Querier) (r phases.Route, err error) {
	err = q.QueryRow(ctx, `SELECT phase, percent, epoch FROM migrator.migrations WHERE name = $1`, f.migration).
		Scan(&r.Phase, &r.Percent, &r.Epoch)
	if errors.Is(err, pgx.ErrNoRows) {
		return r, statedb.UnknownMigration(ctx, q, f.migration)
	}
	return r, statedb.Explain(err)
}
