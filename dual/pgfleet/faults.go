package pgfleet

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/stranglerfig/migrator/dual"
	"github.com/stranglerfig/migrator/internal/statedb"
)

// Fault implements dual.FaultSwitch. It checks the environment again before it returns
// the fault.
func (f *Fleet) Fault(ctx context.Context, lease string, report dual.FaultReport) (dual.Fault, error) {
	var stored string
	var remaining int64
	err := f.pool.QueryRow(ctx, `WITH reported AS (UPDATE migrator.leases SET
				fault = CASE WHEN NOT $6 THEN nullif($3, '') END,
				fault_of = CASE WHEN $3 = '' THEN fault_of ELSE $3 END,
				fault_executed = CASE WHEN $3 = '' THEN fault_executed ELSE $4 END,
				fault_first_at = CASE WHEN $3 = '' THEN fault_first_at WHEN $4 > 0 THEN clock_timestamp() - $5 * interval '1 microsecond' END
			WHERE id = $2 AND migration = $1 AND CASE WHEN $3 = '' THEN fault IS NOT NULL
				ELSE (fault, fault_of, fault_executed) IS DISTINCT FROM (CASE WHEN NOT $6 THEN $3 END, $3, $4) END)
		SELECT fault::text, (extract(epoch FROM fault_until - clock_timestamp()) * 1000)::bigint FROM migrator.migrations
		WHERE name = $1 AND environment = 'staging' AND fault_until > clock_timestamp()`,
		f.migration, lease, report.ID, int64(report.Executed), max(report.FirstAge, 0).Microseconds(), report.Over).Scan(&stored, &remaining)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return dual.Fault{}, nil
	case err != nil:
		return dual.Fault{}, statedb.Explain(err)
	}
	var k statedb.ActiveFault
	if err := json.Unmarshal([]byte(stored), &k); err != nil {
		return dual.Fault{}, fmt.Errorf("the migration's fault: %w", err)
	}
	return dual.Fault{
		ID: k.ID, Kind: k.Kind, Share: k.Share, Delay: time.Duration(k.Delay) * time.Millisecond,
		Reads: k.Reads, Writes: k.Writes, For: time.Duration(remaining) * time.Millisecond,
	}, nil
}
