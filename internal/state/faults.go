package state

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/stranglerfig/migrator/dual"
	"github.com/stranglerfig/migrator/internal/drill"
	"github.com/stranglerfig/migrator/internal/statedb"
	"github.com/stranglerfig/migrator/phases"
)

// maxFault bounds how long a fault lasts that is not lifted.
const maxFault = time.Hour

// ErrNotStaging refuses a fault outside staging, where it would affect customers.
var ErrNotStaging = errors.New("faults are injected in staging only")

// InjectFault makes the instances that allow faults inject this one, until it is lifted or
// its time (f.For) is over. Outside staging the error wraps ErrNotStaging. InjectFault
// refuses a second fault beside an active one, and any in a phase in which legacy and the
// target are not both written.
func (s *Store) InjectFault(ctx context.Context, migration string, f dual.Fault) error {
	switch {
	case f.ID == "" || len(f.ID) > statedb.MaxText || statedb.CleanText(f.ID) != f.ID:
		return fmt.Errorf("a fault needs an id of 1 to %d bytes", statedb.MaxText)
	case f.For <= 0 || f.For > maxFault:
		return fmt.Errorf("a fault must end by itself, within %s", maxFault)
	}
	kept, err := json.Marshal(statedb.ActiveFault{ID: f.ID, Kind: f.Kind, Share: f.Share, Delay: f.Delay.Milliseconds(), Reads: f.Reads, Writes: f.Writes})
	if err != nil {
		return err
	}
	return s.exclusive(ctx, migration, func(tx pgx.Tx) error {
		st, err := statedb.ReadStatus(ctx, tx, migration)
		if err != nil {
			return err
		}
		if st.Environment != statedb.Staging {
			return fmt.Errorf("%w: %s is applied with environment: %s", ErrNotStaging, migration, st.Environment)
		}
		if way := st.Route.Behaviour(); way.Writes != phases.WritesBackground && way.Writes != phases.WritesBoth {
			return fmt.Errorf("no fault is injected in %s: it needs a phase in which legacy and the target are both written", st.Route.Phase)
		}
		var injected bool
		err = tx.QueryRow(ctx, `SELECT migrator.inject_fault($1, $2::jsonb, $3)`, migration, string(kept), f.For.Milliseconds()).Scan(&injected)
		if err == nil && !injected {
			err = fmt.Errorf("%s already has an active fault; it ends by itself", migration)
		}
		return err
	})
}

// LiftFault ends the fault with this id; it is no error if there is none any more.
func (s *Store) LiftFault(ctx context.Context, migration, id string) error {
	_, err := s.pool.Exec(ctx, `SELECT migrator.lift_fault($1, $2)`, migration, id)
	return statedb.Explain(err)
}

// FaultTargets returns the live instances of the fleet, by name, with what each has
// reported of the fault: how often it was injected, also after it has ended.
func (s *Store) FaultTargets(ctx context.Context, migration, fault string) ([]drill.FaultTarget, error) {
	rows, err := s.pool.Query(ctx, `SELECT l.instance, l.about, coalesce(l.fault = $2, false),
			CASE WHEN l.fault_of = $2 THEN coalesce(l.fault_executed, 0) ELSE 0 END, CASE WHEN l.fault_of = $2 THEN l.fault_first_at END
		FROM migrator.leases l WHERE l.migration = $1 AND `+statedb.LeaseCountsSQL+` AND l.expires_at > clock_timestamp()
		ORDER BY l.instance, l.joined_at`, migration, fault)
	if err != nil {
		return nil, statedb.Explain(err)
	}
	all, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (p drill.FaultTarget, err error) {
		var first *time.Time
		err = row.Scan(&p.Instance, &p.About, &p.Armed, &p.Executed, &first)
		p.First = statedb.OrZero(first)
		return p, err
	})
	return all, statedb.Explain(err)
}

// activeFault returns the fault in force; nil: none.
func activeFault(ctx context.Context, q statedb.Querier, st phases.Status) (*phases.InjectedFault, error) {
	if st.Environment != statedb.Staging {
		return nil, nil
	}
	var kept []byte
	f := &phases.InjectedFault{}
	err := q.QueryRow(ctx, `SELECT fault, fault_until FROM migrator.migrations WHERE name = $1 AND fault_until > clock_timestamp()`, st.Migration).Scan(&kept, &f.Until)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var a statedb.ActiveFault
	if err := json.Unmarshal(kept, &a); err != nil {
		return nil, fmt.Errorf("read the fault of a drill: %w", err)
	}
	f.ID, f.Kind, f.Share, f.Reads, f.Writes = a.ID, string(a.Kind), a.Share, a.Reads, a.Writes
	return f, nil
}
