package state

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/stranglerfig/migrator/internal/failpoint"
	"github.com/stranglerfig/migrator/internal/hint"
	"github.com/stranglerfig/migrator/internal/statedb"
	"github.com/stranglerfig/migrator/phases"
)

// Leases returns the leases that count, live and lapsed, by instance.
func (s *Store) Leases(ctx context.Context, migration string) (leases []phases.Lease, err error) {
	err = pgx.BeginTxFunc(ctx, s.pool, statedb.RepeatableRead, func(tx pgx.Tx) error {
		leases, _, err = readLeases(ctx, tx, migration)
		if err == nil && len(leases) == 0 {
			_, err = statedb.ReadStatus(ctx, tx, migration)
		}
		return err
	})
	return leases, statedb.Explain(err)
}

func readLeases(ctx context.Context, q statedb.Querier, migration string) (leases []phases.Lease, now time.Time, err error) {
	if err := q.QueryRow(ctx, `SELECT clock_timestamp()`).Scan(&now); err != nil {
		return nil, now, err
	}
	// [superseded-counts], [lapsed-blocks]: leases that end in the future, and those that expired
	// without an end, are listed too.
	rows, err := q.Query(ctx, `SELECT instance, acknowledged_epoch, joined_at, renewed_at, expires_at, expires_at <= $2, about,
			coalesce(l.moves, ''), m.moves <> '' AND l.moves IS DISTINCT FROM m.moves
		FROM migrator.leases l JOIN migrator.migrations m ON m.name = l.migration
		WHERE l.migration = $1 AND (ended_at IS NULL OR ended_at > $2) ORDER BY instance, joined_at`, migration, now)
	if err != nil {
		return nil, now, err
	}
	leases, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (l phases.Lease, err error) {
		err = row.Scan(&l.Instance, &l.Acknowledged, &l.Joined, &l.Renewed, &l.Expires, &l.Lapsed, &l.About, &l.Moves, &l.Other)
		return l, err
	})
	return leases, now, err
}

// Evict ends the lapsed lease of an instance that an operator confirms has stopped.
// It refuses an instance that still renews, unless by force: then its lease can't be renewed any more,
// and counts until it expires, five minutes from now at most. The writes in the instance's queue are
// not applied any more: the migration is marked dirty.
func (s *Store) Evict(ctx context.Context, migration, instance, reason string, force bool) error {
	if strings.TrimSpace(reason) == "" {
		return errors.New("an eviction needs a reason: how you know that the instance has stopped")
	}
	err := s.exclusive(ctx, migration, func(tx pgx.Tx) error {
		leases, _, err := readLeases(ctx, tx, migration)
		if err != nil {
			return err
		}
		// Under the lock: the instance can't renew between this check and the eviction.
		if err := evictable(leases, instance, force); err != nil {
			if done, lookErr := evictedBefore(ctx, tx, migration, instance, leases); lookErr != nil || done {
				return lookErr
			}
			return err
		}
		_, err = tx.Exec(ctx, `SELECT migrator.evict($1, $2, $3, $4)`, migration, instance, statedb.CleanText(reason), force)
		return err
	})
	if err == nil {
		s.evicted(ctx, migration)
	}
	return err
}

// evicted ends an eviction that is committed: the epoch may be settled by it.
func (s *Store) evicted(ctx context.Context, migration string) {
	failpoint.Here("state.evict.committed")
	s.markSettled(ctx, migration)
}

// EvictLapsed evicts every instance whose lease has lapsed, in one transaction, and returns their names.
func (s *Store) EvictLapsed(ctx context.Context, migration, reason string) (evicted []string, err error) {
	err = s.exclusive(ctx, migration, func(tx pgx.Tx) error {
		leases, _, err := readLeases(ctx, tx, migration)
		if err != nil {
			return err
		}
		evicted = lapsedOf(leases)
		for _, instance := range evicted {
			if _, err := tx.Exec(ctx, `SELECT migrator.evict($1, $2, $3, false)`, migration, instance, statedb.CleanText(reason)); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	s.evicted(ctx, migration)
	return evicted, nil
}

func lapsedOf(leases []phases.Lease) (names []string) {
	for _, l := range leases {
		if l.Lapsed && !slices.Contains(names, l.Instance) {
			names = append(names, l.Instance)
		}
	}
	return names
}

// evictedBefore reports whether the instance was evicted, and has not joined since.
func evictedBefore(ctx context.Context, tx pgx.Tx, migration, instance string, leases []phases.Lease) (done bool, err error) {
	if slices.ContainsFunc(leases, func(l phases.Lease) bool { return l.Instance == instance }) {
		return false, nil
	}
	err = tx.QueryRow(ctx, `SELECT coalesce((SELECT ended = 'evicted' FROM migrator.leases
		WHERE migration = $1 AND instance = $2 ORDER BY joined_at DESC, id DESC LIMIT 1), false)`, migration, instance).Scan(&done)
	return done, err
}

func evictable(leases []phases.Lease, instance string, force bool) error {
	list := hint.Hint{Do: hint.FleetList}
	lapsed := lapsedOf(leases)
	var live *phases.Lease
	for i, l := range leases {
		switch {
		case l.Lapsed && l.Instance == instance:
			return nil
		case l.Lapsed:
		case l.Instance == instance:
			live = &leases[i]
		}
	}
	switch {
	case live != nil && force:
		return nil
	case live != nil:
		return hint.Errorf(hint.Hint{Do: hint.FleetList, Text: "or stop the instance: a clean stop ends its lease"},
			"%s still renews its lease (last at %s); if it was killed, the lease expires at %s",
			instance, live.Renewed.UTC().Format(time.RFC3339), live.Expires.UTC().Format(time.RFC3339))
	case len(lapsed) == 0:
		return hint.Errorf(list, "no instance %q has a lease, and none has lapsed", instance)
	}
	return hint.Errorf(list, "no instance %q has a lease; lapsed are: %s", instance, strings.Join(lapsed, ", "))
}

func (s *Store) markSettled(ctx context.Context, migration string) {
	if !statedb.IsDryRun(ctx) {
		statedb.MarkSettled(ctx, s.pool, migration)
	}
}
