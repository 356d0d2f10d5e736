package state

import (
	"context"

	"github.com/stranglerfig/migrator/internal/statedb"
)

// Sessions is what the server of the state database has, and what is at work on it.
type Sessions struct {
	Limit     int // of roles without special rights: max_connections without those that are reserved
	Used      int // by all databases of the server
	Instances int // live leases of all migrations that the role may see
	Daemons   int // leaders and standbys
}

// Sessions that one of them has: an instance has one at rest and another one while it is busy; a daemon has one for its
// leaderships and four for the rest. Operators run three commands at once, of four sessions at most.
const (
	InstanceSessions = 2
	DaemonSessions   = 5
	CommandSessions  = 12
)

// Needed is how many sessions all that is at work needs, and commands beside it.
func (s Sessions) Needed() int {
	return s.Instances*InstanceSessions + s.Daemons*DaemonSessions + CommandSessions
}

// Sessions counts them.
func (s *Store) Sessions(ctx context.Context) (n Sessions, err error) {
	err = s.pool.QueryRow(ctx, `SELECT current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int
			- coalesce(current_setting('reserved_connections', true)::int, 0),
		(SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'),
		(SELECT count(*) FROM migrator.leases WHERE ended_at IS NULL AND expires_at > clock_timestamp()),
		(SELECT count(*) FROM pg_stat_activity WHERE application_name = $1 AND datname = current_database())`, leaderName).
		Scan(&n.Limit, &n.Used, &n.Instances, &n.Daemons)
	return n, statedb.Explain(err)
}
