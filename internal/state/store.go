package state

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/stranglerfig/migrator/phases"
)

// Store is the state of all migrations, for operators' commands and the daemon.
// Applications use a Fleet.
type Store struct {
	pool    *pgxpool.Pool
	took    time.Duration
	standby bool
}

// Open connects to the state database. ErrNoSchema, ErrOlder or ErrNewer when its
// schema is not the one that this binary works with.
func Open(ctx context.Context, url string) (*Store, error) {
	cfg, err := parseURL(url)
	if err != nil {
		return nil, err
	}
	cfg.ConnConfig.Tracer = bounds{phases.StatementWithin}
	began := time.Now()
	pool, err := connect(ctx, cfg)
	if err != nil {
		return nil, err
	}
	s := &Store{pool: pool}
	if err := checkVersion(ctx, pool); err != nil {
		pool.Close()
		if errors.Is(err, ErrNoSchema) {
			err = fmt.Errorf("%s (another database than the one that was prepared?): %w", where(cfg.ConnConfig), err)
		}
		return nil, err
	}
	err = pool.QueryRow(ctx, `SELECT pg_is_in_recovery()`).Scan(&s.standby)
	if err != nil {
		pool.Close()
		return nil, explain(err)
	}
	s.took = time.Since(began)
	return s, nil
}

// Trouble is a sentence on the state database as a whole, for a person who is about to
// rely on it: it answers slowly, or is a standby. "" if nothing is known.
func (s *Store) Trouble() string {
	switch {
	case s.standby:
		return "the state database is a read-only standby: what it says may be old, and nothing can be changed through it"
	case s.took > slowFrom:
		return fmt.Sprintf("the state database is slow: connecting and three short questions took %s", s.took.Round(10*time.Millisecond))
	}
	return ""
}

// Close waits for connections in use and closes all.
func (s *Store) Close() { s.pool.Close() }

// Pool is the store's connections, for a Fleet in the same process.
func (s *Store) Pool() *pgxpool.Pool { return s.pool }

// ErrUnknownMigration is wrapped by errors that list the migrations there are.
var ErrUnknownMigration = errors.New("there is no such migration")

func unknown(ctx context.Context, q querier, migration string) error {
	rows, err := q.Query(ctx, `SELECT name FROM migrator.migrations ORDER BY name`)
	if err != nil {
		return explain(err)
	}
	names, err := pgx.CollectRows(rows, pgx.RowTo[string])
	switch {
	case err != nil:
		return explain(err)
	case len(names) == 0:
		return fmt.Errorf("%w as %q: none has been applied; try: migrator apply", ErrUnknownMigration, migration)
	}
	return fmt.Errorf("%w as %q: there are %s; try: migrator status", ErrUnknownMigration, migration, strings.Join(names, ", "))
}

const standingSQL = `
SELECT m.name, m.phase, m.percent, m.epoch, m.phase_since, m.route_since, m.paused, m.config_hash,
       (SELECT coalesce(max(e.epoch), 0) FROM migrator.epochs e WHERE e.migration = m.name AND e.phase = 'legacy'),
       greatest((SELECT max(l.lost_at) FROM migrator.leases l WHERE l.migration = m.name AND l.lost_at IS NOT NULL),
                (SELECT max(e.witnessed_at) FROM migrator.epochs e WHERE e.migration = m.name), m.reclaimed_at),
       coalesce(m.config #>> '{writing,not_after}', ''), m.attempt, m.fence_era, m.reversible,
       (SELECT count(*) FROM migrator.return_journal r WHERE r.migration = m.name),
       (SELECT count(*) FROM migrator.journal j WHERE j.migration = m.name),
       coalesce(h.cause, ''), coalesce(h.reason, ''), coalesce(h.actor, ''), m.environment, m.return_lost,
       f.witness, f.phase, f.percent, f.epoch, f.first_at, f.first_at + m.lease_ms * interval '1 millisecond'
FROM migrator.migrations m
LEFT JOIN LATERAL (SELECT witness, phase, percent, epoch, min(witnessed_at) OVER () AS first_at FROM migrator.epochs
                   WHERE migration = m.name AND epoch > m.epoch ORDER BY epoch DESC LIMIT 1) f ON true
LEFT JOIN LATERAL (SELECT cause, reason, actor FROM migrator.history
                   WHERE migration = m.name ORDER BY seq DESC LIMIT 1) h ON true`

// lateness is how long after an instance's end its last writes may still land.
func lateness(notAfter string) time.Duration {
	if d, err := phases.ParseDuration(notAfter); err == nil && d > 0 {
		return time.Duration(d)
	}
	return phases.NotAfter
}

func scanStanding(row pgx.CollectableRow) (st phases.Standing, err error) {
	var dirty *time.Time
	var notAfter string
	var lost struct {
		witness, phase *string
		percent        *phases.Percent
		epoch          *int64
		since, over    *time.Time
	}
	err = row.Scan(&st.Migration, &st.Route.Phase, &st.Route.Percent, &st.Route.Epoch, &st.PhaseSince, &st.RouteSince,
		&st.Paused, &st.ConfigHash, &st.LegacyEpoch, &dirty, &notAfter, &st.Attempt, &st.FenceEra, &st.Reversible,
		&st.ReturnKeys, &st.JournalKeys, &st.LastCause, &st.LastReason, &st.LastActor, &st.Environment, &st.ReturnLost,
		&lost.witness, &lost.phase, &lost.percent, &lost.epoch, &lost.since, &lost.over)
	if lost.epoch != nil {
		st.Lost = &phases.Lost{
			Instance: *lost.witness, Since: *lost.since, LeasesOver: *lost.over,
			Route: phases.Route{Phase: phases.Phase(*lost.phase), Percent: *lost.percent, Epoch: *lost.epoch},
		}
	}
	if dirty != nil {
		st.Dirty = dirty.Add(lateness(notAfter))
	}
	return st, err
}

func orZero(t *time.Time) time.Time {
	if t == nil {
		return time.Time{}
	}
	return *t
}

func standing(ctx context.Context, q querier, migration string) (phases.Standing, error) {
	rows, err := q.Query(ctx, standingSQL+` WHERE m.name = $1`, migration)
	if err != nil {
		return phases.Standing{}, explain(err)
	}
	st, err := pgx.CollectExactlyOneRow(rows, scanStanding)
	if errors.Is(err, pgx.ErrNoRows) {
		return st, unknown(ctx, q, migration)
	}
	return st, explain(err)
}

// Standing is where one migration stands. ErrUnknownMigration lists those there are.
func (s *Store) Standing(ctx context.Context, migration string) (phases.Standing, error) {
	return standing(ctx, s.pool, migration)
}

// List is where all migrations stand, by name.
func (s *Store) List(ctx context.Context) ([]phases.Standing, error) {
	rows, err := s.pool.Query(ctx, standingSQL+` ORDER BY m.name`)
	if err != nil {
		return nil, explain(err)
	}
	all, err := pgx.CollectRows(rows, scanStanding)
	return all, explain(err)
}

// Epoch is one route that a migration was on.
type Epoch struct {
	Route   phases.Route `json:"route"`
	Began   time.Time    `json:"began"`
	Settled time.Time    `json:"settled,omitzero"` // when the last instance was known to be on it; zero: not before the next epoch
}

// Epochs returns up to limit routes of the migration, newest first.
func (s *Store) Epochs(ctx context.Context, migration string, limit int) ([]Epoch, error) {
	rows, err := s.pool.Query(ctx, `SELECT phase, percent, epoch, began_at, settled_at FROM migrator.epochs
		WHERE migration = $1 ORDER BY epoch DESC LIMIT $2`, migration, limit)
	if err != nil {
		return nil, explain(err)
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (e Epoch, err error) {
		var settled *time.Time
		err = row.Scan(&e.Route.Phase, &e.Route.Percent, &e.Route.Epoch, &e.Began, &settled)
		e.Settled = orZero(settled)
		return e, err
	})
}

// clean makes free text storable: PostgreSQL takes neither NUL nor what is not UTF-8.
func clean(s string) string {
	return strings.ReplaceAll(strings.ToValidUTF8(s, "\uFFFD"), "\x00", "")
}
