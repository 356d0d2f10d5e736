package postgres

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/stranglerfig/migrator/internal/oneline"
	"github.com/stranglerfig/migrator/store"
)

var _ store.WriteCounter = (*Legacy)(nil)

// writeCounts are the server's counters of the table and its parts. Server changes whenever they may
// have begun again: at a restart (a crash discards them, a standby has its own) and a reset.
type writeCounts struct {
	Server string           `json:"server"`
	Parts  map[string]int64 `json:"parts"` // by the relation's number: rows inserted, updated and deleted
}

// CountWrites implements store.WriteCounter by what pg_stat_all_tables shows, for which every role
// may ask. A session passes on what it has counted about once a second, or when it has been
// idle for ten; before PostgreSQL 15 at its next transaction. TRUNCATE is not counted.
func (l *Legacy) CountWrites(ctx context.Context, before string) (now string, changes int64, why string, err error) {
	var is writeCounts
	var parts string
	var counting, standby bool
	err = l.pool.QueryRow(ctx, `
		WITH RECURSIVE tree AS (
			SELECT $1::oid AS oid
			UNION
			SELECT i.inhrelid FROM pg_inherits i JOIN tree ON tree.oid = i.inhparent
		)
		SELECT current_setting('track_counts')::bool, pg_is_in_recovery(),
		       concat_ws(' ', extract(epoch FROM pg_postmaster_start_time()), (SELECT extract(epoch FROM stats_reset) FROM pg_stat_database WHERE datname = current_database())),
		       (SELECT coalesce(json_object_agg(oid, pg_stat_get_tuples_inserted(oid) + pg_stat_get_tuples_updated(oid) + pg_stat_get_tuples_deleted(oid)), '{}')::text FROM tree)`,
		l.shape.oid).Scan(&counting, &standby, &is.Server, &parts)
	if err == nil {
		err = json.Unmarshal([]byte(parts), &is.Parts)
	}
	switch {
	case err != nil:
		return "", 0, "", fmt.Errorf("read the counters of legacy table %s: %w", l.table(), err)
	case !counting:
		return "", 0, "legacy's server does not count changes: track_counts is off", nil
	case standby:
		return "", 0, "legacy's server is a standby, which counts no changes", nil
	}
	text, err := json.Marshal(is)
	if err != nil || before == "" {
		return string(text), 0, "", err
	}
	var was writeCounts
	if err := json.Unmarshal([]byte(before), &was); err != nil || was.Server != is.Server {
		return string(text), 0, "legacy's counters were reset, or its server was restarted or replaced", nil
	}
	for part, n := range is.Parts {
		had, known := was.Parts[part]
		switch {
		case !known: // attached with what was counted before, perhaps
		case n < had:
			return string(text), 0, "legacy's counters were reset", nil
		default:
			changes += n - had
		}
	}
	return string(text), changes, "", nil
}

// writersMost is how many sessions are named.
const writersMost = 5

// Writers implements store.WriteCounter. Without pg_read_all_stats the server shows of other roles'
// sessions the role alone.
func (l *Legacy) Writers(ctx context.Context) ([]string, error) {
	rows, err := l.pool.Query(ctx, `
		SELECT DISTINCT left(coalesce(a.application_name, ''), 63), left(coalesce(a.usename, ''), 63)
		FROM pg_locks k JOIN pg_stat_activity a ON a.pid = k.pid
		WHERE k.locktype = 'relation' AND k.database = (SELECT oid FROM pg_database WHERE datname = current_database())
		  AND k.relation IN (SELECT $1::oid UNION SELECT relid::oid FROM pg_partition_tree($1::oid::regclass))
		  AND k.granted AND k.mode = 'RowExclusiveLock' AND k.pid <> pg_backend_pid()
		  AND a.backend_type IS DISTINCT FROM 'autovacuum worker' AND coalesce(a.application_name, '') <> current_setting('application_name')
		ORDER BY 1, 2 LIMIT $2`, l.shape.oid, writersMost)
	if err != nil {
		return nil, fmt.Errorf("look who writes legacy table %s: %w", l.table(), err)
	}
	names, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (string, error) {
		var application, role string
		err := row.Scan(&application, &role)
		if application == "" {
			return "role " + oneline.Escape(role), err
		}
		return oneline.Escape(application) + " (role " + oneline.Escape(role) + ")", err
	})
	if err != nil {
		return nil, fmt.Errorf("look who writes legacy table %s: %w", l.table(), err)
	}
	return names, nil
}
