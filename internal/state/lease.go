package state

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/stranglerfig/migrator/internal/failpoint"
	"github.com/stranglerfig/migrator/phases"
)

// notOver: the lease still counts, live or lapsed.
const notOver = `(l.ended_at IS NULL OR l.ended_at > clock_timestamp())`

// mayLose: between the epoch that the lease acknowledged and now it may have been
// on a route that writes the target after legacy. What such an instance had
// committed in legacy and not yet applied, nobody else knows of.
const mayLose = `EXISTS (SELECT FROM migrator.epochs e WHERE e.migration = l.migration
	AND e.epoch >= l.acknowledged_epoch AND e.phase IN ('shadow-write', 'dual-read', 'cutover', 'grace'))`

// Leases are those that count, live and lapsed, by instance.
func (s *Store) Leases(ctx context.Context, migration string) (leases []phases.Lease, err error) {
	err = pgx.BeginTxFunc(ctx, s.pool, oneMoment, func(tx pgx.Tx) error {
		leases, _, err = readLeases(ctx, tx, migration)
		if err == nil && len(leases) == 0 {
			_, err = standing(ctx, tx, migration)
		}
		return err
	})
	return leases, explain(err)
}

func readLeases(ctx context.Context, q querier, migration string) (leases []phases.Lease, now time.Time, err error) {
	if err := q.QueryRow(ctx, `SELECT clock_timestamp()`).Scan(&now); err != nil {
		return nil, now, err
	}
	rows, err := q.Query(ctx, `SELECT instance, acknowledged_epoch, joined_at, renewed_at, expires_at, expires_at <= $2, about
		FROM migrator.leases WHERE migration = $1 AND (ended_at IS NULL OR ended_at > $2) ORDER BY instance, joined_at`, migration, now)
	if err != nil {
		return nil, now, err
	}
	leases, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (l phases.Lease, err error) {
		err = row.Scan(&l.Instance, &l.Acknowledged, &l.Joined, &l.Renewed, &l.Expires, &l.Lapsed, &l.About)
		return l, err
	})
	return leases, now, err
}

// Evict takes an operator's word that an instance whose lease lapsed has stopped.
// It refuses one that still renews. What the instance had in its queue is lost: the
// migration is marked dirty.
func (s *Store) Evict(ctx context.Context, migration, instance, reason string) error {
	if strings.TrimSpace(reason) == "" {
		return errors.New("an eviction needs a reason: how you know that the instance has stopped")
	}
	err := s.alone(ctx, migration, func(tx pgx.Tx) error {
		leases, _, err := readLeases(ctx, tx, migration)
		if err != nil {
			return err
		}
		if err := evictable(leases, instance); err != nil {
			return err
		}
		rows, err := tx.Query(ctx, `UPDATE migrator.leases l SET ended = 'evicted', ended_at = clock_timestamp(),
				lost_at = CASE WHEN `+mayLose+` THEN clock_timestamp() END
			WHERE migration = $1 AND instance = $2 AND ended_at IS NULL AND expires_at <= clock_timestamp()
			RETURNING json_build_object('lease', id, 'about', about, 'acknowledged_epoch', acknowledged_epoch,
				'expired', expires_at, 'dirty', lost_at IS NOT NULL)::text`, migration, instance)
		if err != nil {
			return err
		}
		ended, err := pgx.CollectRows(rows, pgx.RowTo[string])
		if err != nil {
			return err
		}
		return note(ctx, tx, migration, phases.CauseEvict, reason, map[string]any{"instance": instance, "leases": rawList(ended)})
	})
	if err == nil {
		failpoint.Here("state.evict.committed")
		s.settle(ctx, migration)
	}
	return err
}

func evictable(leases []phases.Lease, instance string) error {
	var lapsed []string
	var live *phases.Lease
	for i, l := range leases {
		switch {
		case l.Lapsed && l.Instance == instance:
			return nil
		case l.Lapsed:
			lapsed = append(lapsed, l.Instance)
		case l.Instance == instance:
			live = &leases[i]
		}
	}
	switch {
	case live != nil:
		return fmt.Errorf("%s still renews its lease (last at %s): stop it, and it leaves by itself; an instance that was killed can be evicted after %s; try: migrator fleet list",
			instance, live.Renewed.UTC().Format(time.RFC3339), live.Expires.UTC().Format(time.RFC3339))
	case len(lapsed) == 0:
		return fmt.Errorf("no instance %q has a lease, and none has lapsed; try: migrator fleet list", instance)
	}
	return fmt.Errorf("no instance %q has a lease; lapsed are: %s; try: migrator fleet list", instance, strings.Join(lapsed, ", "))
}

const settleSQL = `UPDATE migrator.epochs e SET settled_at = clock_timestamp()
	FROM migrator.migrations m
	WHERE m.name = $1 AND e.migration = m.name AND e.epoch = m.epoch AND e.settled_at IS NULL
	  AND NOT EXISTS (SELECT FROM migrator.leases l WHERE l.migration = m.name AND ` + notOver + `
	                  AND (l.acknowledged_epoch < m.epoch OR l.expires_at <= clock_timestamp()))`

// settle notes when the present epoch was settled. It runs after, not in, the
// transaction that may have settled it: of two instances that acknowledge at once,
// the one that commits last then sees both. Nothing is decided on the note, so a
// failure to write it is nobody's error; the next renewal tries again.
func settle(ctx context.Context, pool *pgxpool.Pool, migration string) {
	_, _ = pool.Exec(ctx, settleSQL, migration)
}

func (s *Store) settle(ctx context.Context, migration string) { settle(ctx, s.pool, migration) }
