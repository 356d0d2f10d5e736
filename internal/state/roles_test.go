package state_test

import (
	"context"
	"crypto/rand"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/stranglerfig/migrator/dual"
	"github.com/stranglerfig/migrator/dual/pgfleet"
	"github.com/stranglerfig/migrator/dual/telemetry"
	"github.com/stranglerfig/migrator/internal/state"
	"github.com/stranglerfig/migrator/internal/state/reconciles"
	"github.com/stranglerfig/migrator/phases"
	"github.com/stranglerfig/migrator/reconcile"
	"github.com/stranglerfig/migrator/record"
)

// newRole makes a login role, dropped at the end, and returns the database's URL as it.
func newRole(t *testing.T, dbURL string) (role, roleURL string) {
	t.Helper()
	role = "state_test_" + strings.ToLower(rand.Text()[:10])
	conn, err := pgx.Connect(t.Context(), dbURL)
	must(t, err)
	defer conn.Close(t.Context())
	_, err = conn.Exec(t.Context(), `CREATE ROLE `+role+` LOGIN PASSWORD 'pw'`)
	must(t, err)
	t.Cleanup(func() {
		ctx := context.WithoutCancel(t.Context())
		conn, err := pgx.Connect(ctx, dbURL)
		must(t, err)
		defer conn.Close(ctx)
		_, err = conn.Exec(ctx, `DROP OWNED BY `+role+` CASCADE; DROP ROLE `+role)
		must(t, err)
	})
	return role, as(t, dbURL, role, "pw")
}

func TestAnApplicationsRoleCanDoAllOfAFleetAndNothingElse(t *testing.T) {
	t.Parallel()
	s, dbURL := open(t)
	role, roleURL := newRole(t, dbURL)
	must(t, s.GrantApplication(t.Context(), role))
	f, err := pgfleet.Open(t.Context(), roleURL, testMigration, pgfleet.Options{})
	must(t, err)
	defer f.Close()

	g, err := f.Join(t.Context(), dual.Identity{})
	must(t, err)
	i := &instance{fleet: f, grant: g}
	walk(t, s, []*instance{i}, shadowWrite, dualRead, cutover5)
	ruling, err := f.Journal(t.Context(), []dual.JournalEntry{{Key: "1", Version: record.MakeVersion(0, 0, 1), Reason: "down"}})
	if err != nil || !ruling.TargetRead {
		t.Fatalf("journal: %+v, %v", ruling, err)
	}
	must(t, f.RollBack(t.Context(), i.grant.Route.Epoch, "down"))
	st, err := s.Status(t.Context(), testMigration)
	must(t, err)
	if st.Route.Phase != phases.DualRead || st.LastActor != role || st.LastCause != string(phases.CauseFailure) {
		t.Errorf("after the emergency rollback: %+v", st)
	}
	i.ack(t, st.Route.Epoch)
	if read, err := f.TargetRead(t.Context()); err != nil || read {
		t.Errorf("target read: %v, %v", read, err)
	}
	clearJournal(t, s)
	walk(t, s, []*instance{i}, cutover, grace, fencedRoute, retain)
	must(t, f.Return(t.Context(), i.grant.Route.Epoch, []record.Key{"1"}))
	hints := make(chan int64, 10)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- f.Notifications(ctx, func(e int64) { hints <- e }) }()
	if e := <-hints; e != i.grant.Route.Epoch {
		t.Errorf("hint %d", e)
	}
	cancel()
	<-done
	for range 2 {
		must(t, f.Observe(t.Context(), i.grant.Lease, []telemetry.Window{window("x", 1, 0, 1)}))
	}
	for _, report := range []dual.FaultReport{{}, {ID: "f1", Executed: 1}} {
		_, err := f.Fault(t.Context(), i.grant.Lease, report)
		must(t, err)
	}
	must(t, f.Leave(t.Context(), i.grant.Lease))

	conn, err := pgx.Connect(t.Context(), roleURL)
	must(t, err)
	defer conn.Close(context.WithoutCancel(t.Context()))
	for _, forbidden := range []string{
		`UPDATE migrator.migrations SET phase = 'legacy', percent = 0, epoch = epoch + 1`,
		`UPDATE migrator.migrations SET attempt = ''`,
		`UPDATE migrator.migrations SET fault = '{}', fault_until = now()`,
		`INSERT INTO migrator.drills (migration) VALUES ('products')`,
		`INSERT INTO migrator.epochs (migration, epoch, phase, percent, began_at) VALUES ('products', 99, 'legacy', 0, now())`,
		`INSERT INTO migrator.history (migration, cause) VALUES ('products', 'advance')`,
		`SELECT * FROM migrator.history`,
		`SELECT migrator.move('products', 1, 'legacy', 0, 'rollback', '', '{}', '', 0)`,
		`DELETE FROM migrator.leases`,
		`DELETE FROM migrator.journal`,
		`SELECT * FROM migrator.windows`,
		`UPDATE migrator.windows SET epoch = 1`,
		`DELETE FROM migrator.windows`,
		`SELECT * FROM migrator.buckets`,
		`INSERT INTO migrator.incarnations VALUES ('products', 'x', '', '{}', 0, now())`,
		`INSERT INTO migrator.evaluations (migration, kind) VALUES ('products', 'gate')`,
		`SELECT * FROM migrator.outbox`,
		`SELECT migrator.enter('products')`,
		`SELECT migrator.count_unreadable('products', 1, '')`,
		`SELECT migrator.rescue('products', 1, '', '{}')`,
	} {
		if _, err := conn.Exec(t.Context(), forbidden); err == nil || !strings.Contains(err.Error(), "permission denied") {
			t.Errorf("%s: %v", forbidden, err)
		}
	}
	// What it may call does nothing at the wrong time.
	var undone string
	if err := conn.QueryRow(t.Context(), `SELECT undone FROM migrator.take_reads_back('products', $1, 'x')`, i.grant.Route.Epoch).Scan(&undone); err != nil || undone != "moves" {
		t.Errorf("an emergency rollback from retain: %q, %v", undone, err)
	}
	if err := s.GrantApplication(t.Context(), "no such role"); err == nil || !strings.Contains(err.Error(), "does not exist") {
		t.Errorf("unknown role: %v", err)
	}
}

func clearJournal(t *testing.T, s *state.Store) {
	t.Helper()
	r := reconciles.New(s.Pool(), testMigration)
	list, err := r.Journal(t.Context(), "", 1000)
	must(t, err)
	for _, j := range list {
		if cleared, err := r.Clear(t.Context(), []reconcile.JournaledKey{j}); err != nil || cleared != 1 {
			t.Fatalf("clear %q: %v, %v", j.Key, cleared, err)
		}
	}
}

func TestApproveNeedsTheRole(t *testing.T) {
	t.Parallel()
	s, dbURL := open(t)
	deciders, _ := newRole(t, dbURL)
	alice, aliceURL := newRole(t, dbURL)
	mallory, malloryURL := newRole(t, dbURL)
	for _, role := range []string{alice, mallory} {
		must(t, s.GrantOperator(t.Context(), role))
	}
	exec(t, s, `GRANT `+deciders+` TO `+alice)
	approve := func(roleURL, role string) (phases.Approval, error) {
		s, err := state.Open(t.Context(), roleURL)
		must(t, err)
		defer s.Close()
		return s.Approve(t.Context(), testMigration, phases.Cutover, role, time.Hour, "seen the numbers")
	}
	if _, err := approve(malloryURL, deciders); err == nil || !strings.Contains(err.Error(), "not a member of the role "+deciders) {
		t.Errorf("mallory: %v", err)
	}
	if _, err := approve(aliceURL, "no_such_role"); err == nil || !strings.Contains(err.Error(), "does not exist") {
		t.Errorf("unknown role: %v", err)
	}
	a, err := approve(aliceURL, deciders)
	must(t, err)
	e, err := s.Snapshot(t.Context(), testMigration)
	must(t, err)
	if len(e.Approvals) != 1 || e.Approvals[0].Actor != alice || a.Actor != alice || a.Epoch != 1 || a.ConfigHash != "h1" {
		t.Errorf("approvals %+v, returned %+v", e.Approvals, a)
	}
	if left := a.Expires.Sub(e.Now); left < 59*time.Minute || left > time.Hour {
		t.Errorf("expires in %s", left)
	}
	if _, err := s.Approve(t.Context(), testMigration, phases.Fenced, "", time.Hour, ""); err == nil {
		t.Error("a passing phase was approved")
	}
	exec(t, s, `ALTER TABLE migrator.approvals DISABLE TRIGGER append_only; UPDATE migrator.approvals SET expires_at = now()`)
	if e, err = s.Snapshot(t.Context(), testMigration); err != nil || len(e.Approvals) != 1 || e.Approvals[0].Expires.After(e.Now) {
		t.Errorf("expired in this epoch: %+v, %v", e.Approvals, err)
	}
	exec(t, s, `UPDATE migrator.approvals SET epoch = 0`)
	if e, err = s.Snapshot(t.Context(), testMigration); err != nil || len(e.Approvals) != 0 {
		t.Errorf("expired in an earlier epoch: %+v, %v", e.Approvals, err)
	}
}
