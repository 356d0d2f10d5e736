package state_test

import (
	"context"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/stranglerfig/migrator/dual/pgfleet"
	"github.com/stranglerfig/migrator/internal/state/outbox"
	"github.com/stranglerfig/migrator/phases"
)

// listening serves the outbox's wake-ups until the test ends. It returns once they are served.
func listening(t *testing.T, o *outbox.Outbox) (woken chan time.Time) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	woken, ended := make(chan time.Time, 1000), make(chan error, 1)
	go func() { ended <- o.Wakeups(ctx, slog.New(slog.DiscardHandler), func() { woken <- time.Now() }) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	must(t, o.Announce(t.Context(), outbox.StepDue, "the first", nil))
	<-woken
	return woken
}

// TestEachMessageWakesTheSender, also one that an application writes, whose role has no rights in
// the queue.
func TestEachMessageWakesTheSender(t *testing.T) {
	t.Parallel()
	s, dbURL := open(t)
	o := outbox.New(s.Pool(), testMigration)
	role, roleURL := newRole(t, dbURL)
	must(t, s.GrantApplication(t.Context(), role))
	pool, err := pgxpool.New(t.Context(), roleURL)
	must(t, err)
	defer pool.Close()
	f := pgfleet.New(pool, testMigration, pgfleet.Options{})
	for _, forbidden := range []string{
		`SELECT * FROM migrator_river.river_job`,
		`INSERT INTO migrator_river.river_job (kind, queue, args, max_attempts) VALUES ('webhooks', 'x', '{}', 1)`,
	} {
		if _, err := pool.Exec(t.Context(), forbidden); err == nil || !strings.Contains(err.Error(), "permission denied") {
			t.Errorf("%s: %v", forbidden, err)
		}
	}
	woken := listening(t, o)
	for _, write := range []struct {
		who string
		it  func()
	}{
		{"the daemon", func() { must(t, o.Announce(t.Context(), outbox.StepDue, "the second", nil)) }},
		{"a command", func() { walk(t, s, nil, shadowWrite) }},
		{"a command", func() { walk(t, s, nil, dualRead, cutover5); <-woken }},
		{"the application", func() { must(t, f.RollBack(t.Context(), 4, "down")) }},
	} {
		at := time.Now()
		write.it()
		t.Logf("%s: the sender was woken after %s", write.who, (<-woken).Sub(at).Round(time.Millisecond))
	}
	if n := value[int64](t, s, `SELECT count(*) FROM migrator_river.river_job WHERE kind = 'webhooks'`); n != 6 {
		t.Errorf("%d wake-ups", n)
	}
}

// TestAFailedMessageIsDueAgainByTheQueue, at the time that its row says.
func TestAFailedMessageIsDueAgainByTheQueue(t *testing.T) {
	t.Parallel()
	s, _ := open(t)
	o := outbox.New(s.Pool(), testMigration)
	woken := listening(t, o)
	messages, err := o.Claim(t.Context(), 10, time.Minute)
	must(t, err)
	late := messages[0]
	late.Attempts = 0 // a sender that resumed after another has claimed the message
	must(t, o.Failed(t.Context(), late, "too late"))
	must(t, o.Failed(t.Context(), messages[0], "503"))
	if same := value[string](t, s, `SELECT string_agg((q.scheduled_at = o.next_at)::text, ' ') FROM migrator.outbox o, migrator_river.river_job q
		WHERE q.kind = 'webhooks' AND q.state = 'scheduled'`); same != "true" {
		t.Errorf("scheduled as the row says: %s", same)
	}
	<-woken
	if again, err := o.Claim(t.Context(), 10, time.Minute); err != nil || len(again) != 1 || again[0].Attempts != 2 {
		t.Errorf("%+v, %v", again, err)
	}
}

// TestTheQueueHoldsUpNoRollback: it is locked, and then it is not there.
func TestTheQueueHoldsUpNoRollback(t *testing.T) {
	t.Parallel()
	s, _ := open(t)
	walk(t, s, nil, shadowWrite, dualRead, cutover5)
	f := pgfleet.New(s.Pool(), testMigration, pgfleet.Options{})
	tx, err := s.Pool().Begin(t.Context())
	must(t, err)
	_, err = tx.Exec(t.Context(), `LOCK TABLE migrator_river.river_job`)
	must(t, err)
	must(t, f.RollBack(t.Context(), 4, "down"))
	must(t, tx.Rollback(t.Context()))
	walk(t, s, nil, cutover5)
	exec(t, s, `ALTER SCHEMA migrator_river RENAME TO another`)
	must(t, f.RollBack(t.Context(), 6, "down"))
	st, err := s.Status(t.Context(), testMigration)
	must(t, err)
	messages, err := outbox.New(s.Pool(), testMigration).Claim(t.Context(), 10, time.Minute)
	if err != nil || st.Route.Phase != phases.DualRead || len(messages) != 6 {
		t.Errorf("%s, %d messages, %v", st.Route, len(messages), err)
	}
}
