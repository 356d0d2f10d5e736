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
	err := f.with(ctx, background, func(q sender) error {
		return q.QueryRow(ctx, `SELECT * FROM migrator.report_fault($1, $2, $3, $4, $5, $6)`,
			f.migration, lease, report.ID, int64(report.Executed), max(report.FirstAge, 0).Microseconds(), report.Over).Scan(&stored, &remaining)
	})
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return dual.Fault{}, nil
	case err != nil:
		return dual.Fault{}, explain(err)
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
