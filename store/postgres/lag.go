package postgres

import (
	"context"
	"fmt"
	"time"

	"github.com/stranglerfig/migrator/internal/hint"
	"github.com/stranglerfig/migrator/store"
)

// Load reports how far the slowest standby is behind, and how many sessions are active.
//
// A role that is not a member of pg_monitor sees the standbys without their lag: that is an error, not 0. A
// logical subscriber is no standby: change capture would wait for itself.
func (l *Legacy) Load(ctx context.Context) (load store.Load, err error) {
	var seconds float64
	var hidden bool
	err = l.pool.QueryRow(ctx, `SELECT coalesce(extract(epoch FROM max(r.replay_lag)), 0)::float8,
		       coalesce(max(pg_wal_lsn_diff(pg_current_wal_lsn(), r.replay_lsn)), 0)::int8, coalesce(bool_or(r.state IS NULL), false),
		       CASE WHEN pg_has_role('pg_read_all_stats', 'USAGE') THEN
		            (SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND backend_type = 'client backend' AND application_name <> 'migrator')
		       ELSE -1 END
		FROM pg_stat_replication r LEFT JOIN pg_replication_slots s ON s.active_pid = r.pid
		WHERE s.slot_type IS DISTINCT FROM 'logical' AND r.state IS DISTINCT FROM 'backup'`).Scan(&seconds, &load.StandbyBytes, &hidden, &load.Sessions)
	if err != nil {
		return load, fmt.Errorf("read how far legacy's standbys are behind: %w", err)
	}
	if hidden {
		return load, hint.Errorf(hint.Hint{Text: "GRANT pg_monitor TO the role in legacy's URL"}, "the role may not see how far legacy's standbys are behind")
	}
	load.StandbyLag = time.Duration(seconds * float64(time.Second))
	return load, nil
}
