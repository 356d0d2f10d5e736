package statedb

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/stranglerfig/migrator/internal/hint"
	"github.com/stranglerfig/migrator/phases"
)

// LeaseTimes applies the defaults and bounds of a lease and its renewal: a lease lasts
// several renewals.
func LeaseTimes(lease, renew time.Duration) (time.Duration, time.Duration) {
	if lease <= 0 {
		lease = phases.LeaseTTL
	}
	lease = max(lease.Truncate(time.Millisecond), 3*time.Millisecond)
	if renew <= 0 {
		renew = phases.LeaseRenew
	}
	return lease, max(min(renew, lease/phases.RenewShare).Truncate(time.Millisecond), time.Millisecond)
}

// NoNUL replaces the one character of JSON that jsonb refuses.
func NoNUL(text []byte) []byte { return bytes.ReplaceAll(text, []byte(`\u0000`), []byte(`\ufffd`)) }

// ScanRoute reads phase, percent and epoch.
func ScanRoute(row pgx.CollectableRow) (r phases.Route, err error) {
	err = row.Scan(&r.Phase, &r.Percent, &r.Epoch)
	return r, err
}

// RawList makes a JSON list's elements of JSON texts.
func RawList(docs []string) []json.RawMessage {
	list := make([]json.RawMessage, len(docs))
	for i, d := range docs {
		list[i] = json.RawMessage(d)
	}
	return list
}

// MaxText bounds the bytes of an instance's name, an incarnation or a hash.
const MaxText = 256

// ErrUnknownMigration is wrapped by errors that list the existing migrations.
var ErrUnknownMigration = errors.New("there is no such migration")

// UnknownMigration returns an error that wraps ErrUnknownMigration.
func UnknownMigration(ctx context.Context, q Querier, migration string) error {
	rows, err := q.Query(ctx, `SELECT name FROM migrator.migrations ORDER BY name`)
	if err != nil {
		return Explain(err)
	}
	names, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return Explain(err)
	}
	return UnknownAmong(migration, names)
}

// UnknownAmong returns an error that wraps ErrUnknownMigration and lists those that there are.
func UnknownAmong(migration string, names []string) error {
	if len(names) == 0 {
		return hint.Errorf(hint.Hint{Do: hint.Apply}, "%w as %q: none has been applied", ErrUnknownMigration, migration)
	}
	return hint.Errorf(hint.Hint{Do: hint.Apply, Text: "or name one that there is"}, "%w as %q: there are %s", ErrUnknownMigration, migration, strings.Join(names, ", "))
}

// ChangedServer begins the reason why a migration is unclean whose state database is on another
// server than before.
const ChangedServer = "the state database is on another server, and may have lost journalled keys: "

// ShadowSQL is the share of compared reads of the route of m, a row of migrations. A change of it
// in the migration file is a change of route: see Apply of the state.
const ShadowSQL = `CASE WHEN m.phase IN ('cutover', 'grace') THEN m.config #>> ARRAY['phases', m.phase::text, 'shadow'] END`

// ScanShadow is where a value of ShadowSQL is scanned to.
func ScanShadow(to *phases.Shadow) sql.Scanner { return (*shadow)(to) }

type shadow phases.Shadow

// Scan implements sql.Scanner. A text that is no share is none: another release wrote it.
func (s *shadow) Scan(value any) error {
	*s = 0
	switch text := value.(type) {
	case string:
		_ = (*phases.Shadow)(s).UnmarshalText([]byte(text))
	case []byte:
		_ = (*phases.Shadow)(s).UnmarshalText(text)
	}
	return nil
}

// StatusSQL reads the status of migrations.
//
// [unclean-mark]: the newest mark of a lease (lost_at). [loss-unclean]: a reported epoch and a
// reclaim count as marks. [store-unclean]: so does a store that has lost data (unclean_at), which no run behind the fence
// disproves: legacy has nothing of the writes since then.
// [state-server]: so does a server of this database that is not the one that was noted: as of now,
// so that no run is later. [loss-held]: an epoch above the present one was only reported, and makes
// the state loss. [reclaim-leases]: its leases are over one lease time after the first report.
const StatusSQL = `
WITH server AS MATERIALIZED (SELECT migrator.changed_server() AS changed)
SELECT m.name, m.phase, m.percent, m.epoch, ` + ShadowSQL + `, m.phase_since, m.route_since, m.paused, m.config_hash, encode(sha256(convert_to(m.config::text, 'UTF8')), 'hex'),
       (SELECT coalesce(max(e.epoch), 0) FROM migrator.epochs e WHERE e.migration = m.name AND e.phase = 'legacy'),
       greatest((SELECT max(l.lost_at) FROM migrator.leases l WHERE l.migration = m.name AND l.lost_at IS NOT NULL),
                (SELECT max(e.witnessed_at) FROM migrator.epochs e WHERE e.migration = m.name), m.reclaimed_at, m.unclean_at, CASE WHEN server.changed <> '' THEN clock_timestamp() END),
       coalesce(m.config #>> '{writing,not_after}', ''), m.attempt, m.fence_era, m.reversible,
       CASE WHEN m.phase = 'returning' AND r.total > 0 THEN r.total
            ELSE (SELECT count(*) FROM migrator.return_journal j WHERE j.migration = m.name AND j.changes > coalesce(r.floor, 0)) END,
       (SELECT count(*) FROM migrator.return_journal j WHERE j.migration = m.name AND j.changes > coalesce(greatest(r.floor, r.copied), 0)),
       m.first_fence_era, coalesce(r.rate, 0), m.return_sets_aside, m.set_aside, coalesce(r.final, false) AND m.phase = 'returning',
       (SELECT count(*) FROM migrator.journal j WHERE j.migration = m.name),
       coalesce(h.cause, ''), coalesce(h.reason, ''), coalesce(h.actor, ''), m.environment, m.return_lost OR server.changed <> '' AND m.phase IN ('fenced', 'lifting', 'returning', 'retain'),
       m.return_accepted, CASE WHEN server.changed <> '' THEN '` + ChangedServer + `' || server.changed
            WHEN clean.began_at > m.unclean_at THEN '' ELSE m.unclean_why END,
       coalesce(k.lost, ''), k.confirmed_at, coalesce(clean.began_at <= k.doubted_at, k.doubted_at IS NOT NULL), coalesce(p.changed, ''),
       m.moves, m.fields_epoch, m.former_moves <> '',
       coalesce((SELECT jsonb_agg(x.one ORDER BY s.side, x.at) FROM migrator.columns_seen s, jsonb_array_elements(s.changes) WITH ORDINALITY AS x (one, at) WHERE s.migration = m.name), '[]')::text,
       (SELECT min(s.seen_at) FROM migrator.columns_seen s WHERE s.migration = m.name),
       f.witness, f.phase, f.percent, f.epoch, f.first_at, f.first_at + m.lease_ms * interval '1 millisecond',
       coalesce(u.windows, 0), coalesce(u.last_why, '')
FROM migrator.migrations m
CROSS JOIN server
LEFT JOIN migrator.marks k ON k.migration = m.name
LEFT JOIN migrator.unreadable u ON u.migration = m.name
LEFT JOIN migrator.parts p ON p.migration = m.name
LEFT JOIN migrator.returns r ON r.migration = m.name
LEFT JOIN LATERAL (SELECT max(c.began_at) AS began_at FROM migrator.reconcile_runs c
                   WHERE c.migration = m.name AND c.status = 'done' AND c.whole AND c.two_way AND c.differences = 0
                     AND c.repaired + c.journalled = 0 AND c.unsettled = 0
                     AND NOT EXISTS (SELECT FROM migrator.epochs e WHERE e.migration = c.migration AND e.epoch = c.epoch
                                     AND e.phase IN ('fenced', 'lifting', 'returning', 'retain'))) clean ON true
LEFT JOIN LATERAL (SELECT witness, phase, percent, epoch, min(witnessed_at) OVER () AS first_at FROM migrator.epochs
                   WHERE migration = m.name AND epoch > m.epoch ORDER BY epoch DESC LIMIT 1) f ON true
LEFT JOIN LATERAL (SELECT cause, reason, actor FROM migrator.history
                   WHERE migration = m.name ORDER BY seq DESC LIMIT 1) h ON true`

// ApplyDeadline is how long after an instance's end its last writes may still land.
func ApplyDeadline(notAfter string) time.Duration {
	if d, err := phases.ParseDuration(notAfter); err == nil && d > 0 {
		return time.Duration(d)
	}
	return phases.NotAfter
}

// ScanStatus reads a row of StatusSQL.
func ScanStatus(row pgx.CollectableRow) (st phases.Status, err error) {
	var dirty, seen, columnsSeen *time.Time
	var notAfter, columns string
	var lost struct {
		reporter, phase *string
		percent         *phases.Percent
		epoch           *int64
		since, over     *time.Time
	}
	err = row.Scan(&st.Migration, &st.Route.Phase, &st.Route.Percent, &st.Route.Epoch, ScanShadow(&st.Route.Shadow), &st.PhaseSince, &st.RouteSince,
		&st.Paused, &st.ConfigHash, &st.StoredHash, &st.LegacyEpoch, &dirty, &notAfter, &st.Attempt, &st.FenceEra, &st.Reversible,
		&st.ReturnKeys, &st.ReturnRest, &st.FirstFenceEra, &st.ReturnRate, &st.SetsAside, &st.SetAside, &st.ReturnFinal, &st.JournalKeys, &st.LastCause, &st.LastReason, &st.LastActor, &st.Environment, &st.ReturnJournalLost,
		&st.AcceptedMissing, &st.Unclean, &st.TargetLost, &seen, &st.TargetDoubted, &st.LegacyChanged,
		&st.Moves, &st.FieldsEpoch, &st.FieldsOpen, &columns, &columnsSeen,
		&lost.reporter, &lost.phase, &lost.percent, &lost.epoch, &lost.since, &lost.over,
		&st.UnreadableWindows, &st.UnreadableWhy)
	if lost.epoch != nil {
		st.StateLoss = &phases.StateLoss{
			Instance: *lost.reporter, Since: *lost.since, LeasesOver: *lost.over,
			Route: phases.Route{Phase: phases.Phase(*lost.phase), Percent: *lost.percent, Epoch: *lost.epoch},
		}
	}
	st.TargetSeen, st.ColumnsSeen = OrZero(seen), OrZero(columnsSeen)
	if err == nil {
		err = json.Unmarshal([]byte(columns), &st.Columns)
	}
	if len(st.Columns) == 0 {
		st.Columns = nil
	}
	if dirty != nil {
		// [unclean-outlasts]: only a run that begins after this time sees every lost write: until
		// then a write of that instance may still land.
		st.Dirty = dirty.Add(ApplyDeadline(notAfter))
	}
	return st, err
}

// OrZero is the time, or the zero time for NULL.
func OrZero(t *time.Time) time.Time {
	if t == nil {
		return time.Time{}
	}
	return *t
}

// ReadStatus reads a migration's status; an error that wraps ErrUnknownMigration if there
// is none.
func ReadStatus(ctx context.Context, q Querier, migration string) (phases.Status, error) {
	rows, err := q.Query(ctx, StatusSQL+` WHERE m.name = $1`, migration)
	if err != nil {
		return phases.Status{}, Explain(err)
	}
	st, err := pgx.CollectExactlyOneRow(rows, ScanStatus)
	if errors.Is(err, pgx.ErrNoRows) {
		return st, UnknownMigration(ctx, q, migration)
	}
	return st, Explain(err)
}

// CleanText makes free text storable: PostgreSQL takes neither NUL nor invalid UTF-8.
func CleanText(s string) string {
	return strings.ReplaceAll(strings.ToValidUTF8(s, "\uFFFD"), "\x00", "")
}
