package state

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/stranglerfig/migrator/internal/hint"
	"github.com/stranglerfig/migrator/internal/humanize"
	"github.com/stranglerfig/migrator/internal/statedb"
	"github.com/stranglerfig/migrator/store"
)

// SeenCheck is a check as the leading daemon last made it.
type SeenCheck struct {
	store.Check
	// Applied is the result of the daemon's first look under the present configuration: what plan and apply
	// found too.
	Applied store.CheckResult
	Since   time.Time // of the result
	Looked  time.Time
}

// Worse reports whether the result is worse than when the migration file was applied.
func (c SeenCheck) Worse() bool { return c.Result.WorseThan(c.Applied) }

// NoteChecks replaces what the last look saw, and returns the results of before, by name. Names must
// differ.
func (s *Store) NoteChecks(ctx context.Context, migration string, checks []store.Check) (before map[string]store.CheckResult, err error) {
	for i := range checks {
		checks[i].Name, checks[i].Detail = statedb.CleanText(checks[i].Name), statedb.CleanText(checks[i].Detail)
	}
	doc, err := json.Marshal(checks)
	if err != nil {
		return nil, err
	}
	var text string
	if err := s.pool.QueryRow(ctx, `SELECT migrator.note_checks($1, $2::jsonb)::text`, migration, string(doc)).Scan(&text); err != nil {
		return nil, statedb.Explain(err)
	}
	return before, json.Unmarshal([]byte(text), &before)
}

// Checks returns what the leading daemon saw when it last looked, by name, and the state's time; none: no
// daemon has looked yet.
func (s *Store) Checks(ctx context.Context, migration string) (all []SeenCheck, now time.Time, err error) {
	rows, err := s.pool.Query(ctx, `SELECT n.now, c.name, c.result, c.applied, c.detail, c.hint::text, c.since, c.looked_at
		FROM (SELECT clock_timestamp() AS now) n LEFT JOIN migrator.checks c ON c.migration = $1 ORDER BY c.name`, migration)
	if err != nil {
		return nil, now, statedb.Explain(err)
	}
	defer rows.Close()
	for rows.Next() {
		var name, result, applied, detail, hinted *string
		var since, looked *time.Time
		if err := rows.Scan(&now, &name, &result, &applied, &detail, &hinted, &since, &looked); err != nil {
			return nil, now, err
		}
		if name == nil {
			continue
		}
		c := SeenCheck{
			Check:   store.Check{Name: *name, Result: store.CheckResult(*result), Detail: *detail},
			Applied: store.CheckResult(*applied), Since: *since, Looked: *looked,
		}
		if err := json.Unmarshal([]byte(*hinted), &c.Hint); err != nil {
			return nil, now, fmt.Errorf("the hint of the check %s: %w", c.Name, err)
		}
		all = append(all, c)
	}
	return all, now, statedb.Explain(rows.Err())
}

// Waiting are the messages to webhooks that could not be delivered yet.
type Waiting struct {
	Messages int64
	Oldest   time.Time // when the oldest of them was written; zero: there is none
	Failure  string    // of the newest attempt
	Now      time.Time
}

// waitsLong is from when a message that waits is a symptom: by then it was tried six times.
const waitsLong = 5 * time.Minute

// Check is whether messages reach their receivers.
func (w Waiting) Check() store.Check {
	c := store.Check{Name: "delivery", Result: store.Good, Detail: "no message waits"}
	switch age := w.Now.Sub(w.Oldest); {
	case w.Messages == 0:
	case age < waitsLong:
		c.Detail = fmt.Sprintf("%d messages are on their way", w.Messages)
	default:
		c.Result, c.Detail = store.Warned, fmt.Sprintf("%s %s, the oldest for %s", humanize.Counted(w.Messages, "message"), humanize.Either(w.Messages, "waits", "wait"), age.Round(time.Second))
		if w.Failure != "" {
			c.Detail += ": " + w.Failure
		}
		c.Hint = hint.Hint{Text: "check the receiver, and webhooks in the migration file; what waits is sent again for a week, at least every hour"}
	}
	return c
}

// WaitingMessages counts the messages to webhooks that are not delivered.
func (s *Store) WaitingMessages(ctx context.Context, migration string) (w Waiting, err error) {
	var oldest *time.Time
	err = s.pool.QueryRow(ctx, `SELECT count(*), min(at), coalesce((array_agg(failure ORDER BY next_at DESC) FILTER (WHERE failure <> ''))[1], ''), clock_timestamp()
		FROM migrator.outbox WHERE migration = $1 AND delivered_at IS NULL`, migration).Scan(&w.Messages, &oldest, &w.Failure, &w.Now)
	w.Oldest = statedb.OrZero(oldest)
	return w, statedb.Explain(err)
}

// CheckServer examines the state database's server by a connection of the store: what may change while a
// migration runs.
func (s *Store) CheckServer(ctx context.Context) (checks []store.Check, err error) {
	err = s.pool.AcquireFunc(ctx, func(conn *pgxpool.Conn) error {
		checks, err = examine(ctx, conn.Conn())
		return err
	})
	return checks, statedb.Explain(err)
}
