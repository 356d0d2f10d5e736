package state

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/stranglerfig/migrator/internal/statedb"
	"github.com/stranglerfig/migrator/phases"
)

// rules are what entries of a history must agree with: the configurations that they name, and the approvals.
type rules struct {
	since     time.Time // from when on configurations were kept
	approval  map[string]phases.Approver
	approvals []givenApproval
}

type givenApproval struct {
	phases.Approval
	at time.Time
}

// rules reads what entries are compared with. It reads beside the transaction that reads the entries: rows are
// only added here, and before the entries that name them.
func (s *Store) rules(ctx context.Context, migration string) (*rules, error) {
	r := &rules{approval: map[string]phases.Approver{}}
	rows, err := s.pool.Query(ctx, `SELECT config_hash, config::text, at FROM migrator.configurations WHERE migration = $1 ORDER BY at DESC`, migration)
	if err != nil {
		return nil, err
	}
	var hash, config string
	if _, err := pgx.ForEachRow(rows, []any{&hash, &config, &r.since}, func() error {
		var file struct {
			Phases phases.Settings `json:"phases"`
		}
		_ = json.Unmarshal([]byte(config), &file) // what can't be read demands nothing
		r.approval[hash] = file.Phases.Approval
		return nil
	}); err != nil {
		return nil, err
	}
	rows, err = s.pool.Query(ctx, `SELECT actor, to_phase, epoch, config_hash, expires_at, at FROM migrator.approvals WHERE migration = $1 ORDER BY id`, migration)
	if err != nil {
		return nil, err
	}
	r.approvals, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (a givenApproval, err error) {
		err = row.Scan(&a.Actor, &a.To, &a.Epoch, &a.ConfigHash, &a.Expires, &a.at)
		return a, err
	})
	return r, err
}

// check returns what is wrong with an entry: a step that there is not, a configuration or an approval that never
// was, a step without the approvals that its configuration demanded, an override without the role. "": nothing.
func (r *rules) check(e Entry) string {
	if r.since.IsZero() || e.At.Before(r.since) {
		return "" // of an older release, which kept no configurations
	}
	approval, known := r.approval[e.ConfigHash]
	if !known {
		return fmt.Sprintf("it was made under the configuration %.12s, which was never applied", e.ConfigHash)
	}
	moves := e.From.Epoch != e.To.Epoch && e.Cause != phases.CauseConfig && e.Cause != phases.CauseCreated
	forward := moves && phases.Forward(e.From, e.To)
	switch byName := e.Cause == phases.CauseAdvance || e.Cause == phases.CauseSchedule || e.Cause == phases.CauseFence; {
	case forward && !byName:
		return fmt.Sprintf("a move by %s does not lead from %s to %s", e.Cause, e.From, e.To)
	case moves && !forward && (e.Cause == phases.CauseAdvance || e.Cause == phases.CauseSchedule):
		return fmt.Sprintf("no advance leads from %s to %s", e.From, e.To)
	}
	var evidence struct {
		Gates     []phases.GateResult `json:"gates"`
		Approvals []phases.Approval   `json:"approvals"`
		Decider   string              `json:"decider"`
	}
	if err := json.Unmarshal(e.Evidence, &evidence); err != nil {
		return "" // of another form than a move's
	}
	for _, a := range evidence.Approvals {
		if !slices.ContainsFunc(r.approvals, func(g givenApproval) bool {
			return g.Actor == a.Actor && g.To == a.To && g.Epoch == a.Epoch && g.ConfigHash == a.ConfigHash
		}) {
			return fmt.Sprintf("it names an approval of %s by %s in epoch %d, which was never given", a.To, a.Actor, a.Epoch)
		}
	}
	overridden := false
	for _, g := range evidence.Gates {
		overridden = overridden || g.Gate == "approved" && g.Overridden != ""
		if g.Overridden != "" && evidence.Decider != approval.Role {
			return fmt.Sprintf("the gate %s is overridden without the role %q, which decides", g.Gate, approval.Role)
		}
	}
	if !forward || e.From.Phase == e.To.Phase || e.From.Phase == phases.Fenced {
		return ""
	}
	into := e.To.Phase
	if into == phases.Fenced {
		into = phases.Retain
	}
	two := slices.Contains(approval.TwoPeople, into)
	if !slices.Contains(approval.For, into) || overridden && !two {
		return ""
	}
	if !slices.ContainsFunc(r.approvals, func(a givenApproval) bool {
		return a.To == into && a.Epoch == e.From.Epoch && a.ConfigHash == e.ConfigHash && !a.at.After(e.At) && a.Expires.After(e.At) && (!two || a.Actor != e.Actor)
	}) {
		if two {
			return fmt.Sprintf("%s needed two people, and no approval of it by another person than %s was valid", into, e.Actor)
		}
		return fmt.Sprintf("%s needed an approval, and none was valid", into)
	}
	return ""
}

// Anchor is the end of a history at some time, kept outside of the database.
type Anchor struct {
	Migration string    `json:"migration"`
	Seq       int64     `json:"seq"`
	Hash      string    `json:"hash"`
	At        time.Time `json:"at"` // the database's time when it was anchored
}

// Anchor is the newest entry of the history.
func (s *Store) Anchor(ctx context.Context, migration string) (a Anchor, err error) {
	a.Migration = migration
	err = s.pool.QueryRow(ctx, `SELECT seq, encode(hash, 'hex'), clock_timestamp() FROM migrator.history WHERE migration = $1 ORDER BY seq DESC LIMIT 1`, migration).
		Scan(&a.Seq, &a.Hash, &a.At)
	if errors.Is(err, pgx.ErrNoRows) {
		return a, statedb.UnknownMigration(ctx, s.pool, migration)
	}
	return a, statedb.Explain(err)
}
