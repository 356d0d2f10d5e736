package postgres

import (
	"context"
	"fmt"
	"time"

	"github.com/stranglerfig/migrator/internal/hint"
)

// ReplicationLag is how far the slowest standby is behind in applying; 0 without one.
// A role that is not a member of pg_monitor sees the standbys without their lag: that
// is an error, not 0.
func (l *Legacy) ReplicationLag(ctx context.Context) (time.Duration, error) {
	var seconds float64
	var hidden bool
	err := l.pool.QueryRow(ctx, `SELECT coalesce(extract(epoch FROM max(replay_lag)), 0), coalesce(bool_or(state IS NULL), false)
		FROM pg_stat_replication`).Scan(&seconds, &hidden)
	if err != nil {
		return 0, fmt.Errorf("read how far legacy's standbys are behind: %w", err)
	}
	if hidden {
		return 0, hint.Errorf(hint.Hint{Text: "GRANT pg_monitor TO the role in legacy's URL"}, "the role may not see how far legacy's standbys are behind")
	}
	return time.Duration(seconds * float64(time.Second)), nil
}
