package state

import (
	"context"
	"encoding/json"
	"time"

	"github.com/stranglerfig/migrator/internal/statedb"
	"github.com/stranglerfig/migrator/phases"
)

// ReceivedAlert is an alert for a trigger that an Alertmanager has sent and not yet resolved.
type ReceivedAlert struct {
	Trigger     string    `json:"trigger"`
	Fingerprint string    `json:"fingerprint"`
	StartsAt    time.Time `json:"starts_at"`
	Detail      string    `json:"detail"`
	Heard       time.Time `json:"heard,omitzero"` // when it was last sent
}

// Received is what Alertmanagers have sent for a trigger.
type Received struct {
	Alerts   []ReceivedAlert // not resolved, those that began last first
	Watchdog time.Time       // when an Alertmanager last sent its Watchdog; zero: never
	Now      time.Time
}

// NoteAlerts notes what one webhook of an Alertmanager says.
func (s *Store) NoteAlerts(ctx context.Context, migration string, firing, resolved []ReceivedAlert, watchdog bool) error {
	var docs [2]string
	for i, all := range [][]ReceivedAlert{firing, resolved} {
		clean := make([]ReceivedAlert, len(all))
		for j, a := range all {
			a.Detail = statedb.CleanText(a.Detail)
			clean[j] = a
		}
		doc, err := json.Marshal(clean)
		if err != nil {
			return err
		}
		docs[i] = string(doc)
	}
	_, err := s.pool.Exec(ctx, `SELECT migrator.note_alerts($1, $2::jsonb, $3::jsonb, $4)`, migration, docs[0], docs[1], watchdog)
	return statedb.Explain(err)
}

// ReceivedAlerts returns what Alertmanagers have sent for the trigger.
func (s *Store) ReceivedAlerts(ctx context.Context, migration, trigger string) (r Received, err error) {
	rows, err := s.pool.Query(ctx, `SELECT clock_timestamp(), a.trigger, a.fingerprint, a.starts_at, a.detail, a.heard_at
		FROM (SELECT) AS one LEFT JOIN migrator.alerts a ON a.migration = $1 AND a.trigger IN ('', $2) ORDER BY a.starts_at DESC`, migration, trigger)
	if err != nil {
		return r, statedb.Explain(err)
	}
	defer rows.Close()
	for rows.Next() {
		var of, fingerprint, detail *string
		var starts, heard *time.Time
		if err := rows.Scan(&r.Now, &of, &fingerprint, &starts, &detail, &heard); err != nil {
			return r, err
		}
		switch {
		case of == nil:
		case *of == "":
			r.Watchdog = *heard
		default:
			r.Alerts = append(r.Alerts, ReceivedAlert{Trigger: *of, Fingerprint: *fingerprint, StartsAt: *starts, Detail: *detail, Heard: *heard})
		}
	}
	return r, statedb.Explain(rows.Err())
}

// SidesChanged is when reads last went to the target, or back to legacy; the zero time: never.
func (s *Store) SidesChanged(ctx context.Context, migration string) (at time.Time, err error) {
	changes, err := s.Changes(ctx, migration)
	for _, c := range changes {
		if (phases.Route{Phase: c.From}).ReadsTarget() != (phases.Route{Phase: c.To}).ReadsTarget() {
			at = c.At
		}
	}
	return at, err
}
