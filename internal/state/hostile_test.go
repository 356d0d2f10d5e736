package state_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/stranglerfig/migrator/dual"
	"github.com/stranglerfig/migrator/dual/pgfleet"
	"github.com/stranglerfig/migrator/dual/telemetry"
	"github.com/stranglerfig/migrator/internal/hint"
	"github.com/stranglerfig/migrator/internal/state"
	"github.com/stranglerfig/migrator/phases"
	"github.com/stranglerfig/migrator/record"
)

// hostile is what an application's role may try, and what it gets: a refusal with these words, or
// ("") a statement that passes, and changes nothing of what is protected.
var hostile = []struct{ what, sql, refused string }{
	{"a lease of a hundred years", `INSERT INTO migrator.leases (id, migration, instance, about, acknowledged_epoch, joined_at, renewed_at, expires_at)
		VALUES ('l2', 'products', 'ghost', '', 9, now(), now(), now() + interval '100 years')`, "permission denied"},
	{"the same by the function", `SELECT migrator.join_fleet('products', 'l3', 'ghost', '', 3155760000000, '', '')`, "want 1 to 300000"},
	{"a lease that has ended before it began", `SELECT migrator.join_fleet('products', 'l3', 'ghost', '', -5, '', '')`, "want 1 to 300000"},
	{"a long renewal", `SELECT migrator.renew_lease('products', '{own}', 1, 9223372036854775807)`, "want 1 to 300000"},
	{"a lease in another migration", `SELECT migrator.join_fleet('users', 'l4', 'ghost', '', NULL, '', '')`, "no grant of the kind application for the migration users"},
	{"a lease without a name", `SELECT migrator.join_fleet('products', 'l5', '', '', NULL, '', '')`, "leases_instance_check"},
	{"a name of a megabyte", `SELECT migrator.join_fleet('products', 'l5', repeat('x', 1000000), '', NULL, '', '')`, "leases_texts"},
	{"the victim's id", `SELECT migrator.join_fleet('products', '{victim}', 'evil', '', NULL, '', '')`, "leases_pkey"},
	{"the victim's name", `SELECT migrator.join_fleet('products', 'l6', 'victim', '', 1, '', '')`, ""},
	{"the victim's place", `SELECT migrator.join_fleet('products', 'l7', 'evil', '', 1, '{victim}', '')`, ""},
	{"an epoch of the future acknowledged", `SELECT migrator.renew_lease('products', '{own}', 9223372036854775807, NULL)`, ""},
	{"the victim's renewal", `SELECT migrator.renew_lease('products', '{victim}', 99, 1)`, ""},
	{"the victim's end", `UPDATE migrator.leases SET ended = 'left', ended_at = now() WHERE instance = 'victim'`, "permission denied"},
	{"the same by the function", `SELECT migrator.leave_fleet('products', '{victim}')`, ""},
	{"the victim's fault", `SELECT migrator.report_fault('products', '{victim}', 'f', 5, 0, false)`, ""},
	{"the highest sequence number", `INSERT INTO migrator.windows SELECT 'products', 'inc1', 9223372036854775807, 'i', 1, '', now() - interval '20 s', now() - interval '10 s', 0, '\x00'`, "permission denied"},
	{"the same by the function", `SELECT migrator.observe('products', '{own}', '{inc1}', '{9223372036854775807}', '{i}', '{1}', '{h}', '{0}', '{0}', '{0}', '{"\\x0100"}')`, "windows_bounds"},
	{"a negative sequence number", `SELECT migrator.observe('products', '{own}', '{inc1}', '{-1}', '{i}', '{1}', '{h}', '{0}', '{0}', '{0}', '{"\\x0100"}')`, "windows_bounds"},
	{"infinite times", `INSERT INTO migrator.windows SELECT 'products', 'inc3', 1, 'i', 1, '', '-infinity', 'infinity', 1, '\x01'`, "permission denied"},
	{"an age of years", `SELECT migrator.observe('products', '{own}', '{inc1}', '{1}', '{i}', '{1}', '{h}', '{9223372036854775807}', '{0}', '{0}', '{"\\x0100"}')`, "out of range"},
	{"a window of the future", `SELECT migrator.observe('products', '{own}', '{inc1}', '{1}', '{i}', '{1}', '{h}', '{-9000000000000}', '{0}', '{0}', '{"\\x0100"}')`, "out of range"},
	{"a length below zero", `SELECT migrator.observe('products', '{own}', '{inc1}', '{1}', '{i}', '{1}', '{h}', '{0}', '{-1}', '{0}', '{"\\x0100"}')`, "out of range"},
	{"counts of nothing", `SELECT migrator.observe('products', '{own}', '{inc1}', '{1}', '{i}', '{1}', '{h}', '{0}', '{0}', '{0}', '{""}')`, "out of range"},
	{"lists of different lengths", `SELECT migrator.observe('products', '{own}', '{inc1,inc2}', '{1}', '{i}', '{1}', '{h}', '{0}', '{0}', '{0}', '{"\\x0100"}')`, ""},
	{"discarded without end", `SELECT migrator.observe('products', '{own}', '{inc1}', '{1}', '{i}', '{1}', '{h}', '{0}', '{0}', '{9223372036854775807}', '{"\\x0100"}')`, "windows_bounds"},
	{"an unknown epoch", `SELECT migrator.observe('products', '{own}', '{inc4}', '{1}', '{i}', '{99}', '{h}', '{0}', '{0}', '{0}', '{"\\x0100"}')`, ""},
	{"bytes that are no counts", `SELECT migrator.observe('products', '{own}', '{inc5}', '{1}', '{i}', '{1}', '{h}', '{0}', '{0}', '{0}', '{"\\x01ffffffff"}')`, ""},
	{"more than was ever counted", `SELECT migrator.observe('products', '{own}', '{inc6}', '{1}', '{i}', '{1}', '{h}', '{0}', '{0}', '{0}', ARRAY['\x0101'::bytea || '\x19'::bytea || 'read target primary ok   '::bytea || '\xffffffffffffffffff0100'::bytea])`, ""},
	{"the victim's telemetry", `SELECT migrator.observe('products', '{victim}', '{inc7}', '{1}', '{i}', '{1}', '{h}', '{0}', '{0}', '{0}', '{"\\x0100"}')`, ""},
	{"telemetry of another migration", `SELECT migrator.observe('users', '{own}', '{inc7}', '{1}', '{i}', '{1}', '{h}', '{0}', '{0}', '{0}', '{"\\x0100"}')`, "no grant"},
	{"the journal emptied", `UPDATE migrator.journal SET migration = 'users' WHERE migration = 'products'`, "permission denied"},
	{"the journal cut", `TRUNCATE migrator.journal`, "permission denied"},
	{"keys of another migration", `SELECT migrator.journal_keys('users', '{"\\x01"}', ARRAY[repeat('0', 32)], '{1}', '{x}')`, "no grant"},
	{"a change that never was", `SELECT migrator.journal_keys('products', '{"\\x01"}', ARRAY[repeat('0', 32)], '{-9223372036854775807}', '{x}')`, "1 to 1000000"},
	{"changes without end", `SELECT migrator.journal_keys('products', '{"\\x01"}', ARRAY[repeat('0', 32)], '{9223372036854775807}', '{x}')`, "1 to 1000000"},
	{"a version of another form", `SELECT migrator.journal_keys('products', '{"\\x01"}', '{x}', '{1}', '{x}')`, "journal_version_check"},
	{"a key of a megabyte", `SELECT migrator.journal_keys('products', ARRAY[convert_to(repeat('k', 1000000), 'UTF8')], ARRAY[repeat('0', 32)], '{1}', '{x}')`, "journal_bounds"},
	{"a return outside of retain", `SELECT migrator.return_keys('products', 1, '{"\\x01"}')`, ""},
	{"an epoch settled by word", `UPDATE migrator.epochs SET settled_at = now()`, "permission denied"},
	{"the same by the function", `SELECT migrator.settle('products')`, ""},
	{"the row locked", `SELECT FROM migrator.migrations FOR UPDATE`, "permission denied"},
	{"every migration's configuration", `SELECT config FROM migrator.migrations`, "permission denied"},
	{"another migration's configuration", `SELECT migrator.applied_file('users')`, "no grant"},
	{"another migration's keys", `SELECT migrator.has_journaled('users', '\x01')`, "no grant"},
	{"a rollback of another migration", `SELECT migrator.take_reads_back('users', 1, 'x')`, "no grant"},
	{"a rollback by the former function", `SELECT migrator.rescue('products', 1, 'x', '{}')`, "permission denied"},
	{"a report of an epoch far away", `SELECT migrator.witness('products', 9223372036854775807, 'retain', 0, 'evil')`, "can not be"},
	{"a report of a route that is none", `SELECT migrator.witness('products', 50, 'cutover', 2000000000, 'evil')`, "no route"},
	{"a report of a phase that is none", `SELECT migrator.witness('products', 50, 'paradise', 0, 'evil')`, "phase_check"},
	{"a report for another migration", `SELECT migrator.witness('users', 50, 'retain', 0, 'evil')`, "no grant"},
	{"a grant of its own", `INSERT INTO migrator.grants (role, kind) VALUES (session_user, 'operator')`, "permission denied"},
	{"a function of the schema's owner", `SELECT migrator.move('products', 1, 'legacy', 0, 'rollback', '', '{}', '', 0)`, "permission denied"},
	{"functions in its own search path", `CREATE TEMP TABLE grants (role text, kind text, migration text); INSERT INTO grants VALUES (session_user, 'application', 'users');
		SET search_path = pg_temp, public; SELECT migrator.has_journaled('users', '\x01')`, "no grant"},
}

// TestAHostileApplicationDoesNoHarm: what a role of an application can't do, and what does no harm.
func TestAHostileApplicationDoesNoHarm(t *testing.T) {
	t.Parallel()
	s, dbURL := open(t)
	other := applied()
	other.Migration = "users"
	_, _, err := s.Apply(t.Context(), other)
	must(t, err)
	honest, honestURL := newRole(t, dbURL)
	evil, evilURL := newRole(t, dbURL)
	must(t, s.GrantApplication(t.Context(), honest))
	must(t, s.GrantApplication(t.Context(), evil, testMigration))
	at := func(url, name string, o pgfleet.Options) *instance {
		f, err := pgfleet.Open(t.Context(), url, testMigration, o)
		must(t, err)
		t.Cleanup(f.Close)
		g, err := f.Join(t.Context(), dual.Identity{Instance: name})
		must(t, err)
		return &instance{fleet: f, grant: g}
	}
	victim, own := at(honestURL, "victim", pgfleet.Options{Lease: 5 * time.Minute}), at(evilURL, "own", pgfleet.Options{Lease: 5 * time.Minute})
	walk(t, s, []*instance{victim, own}, shadowWrite, dualRead, cutover5)
	_, err = victim.Journal(t.Context(), []dual.JournalEntry{{Key: "1", Version: record.MakeVersion(0, 0, 1), Reason: "down"}})
	must(t, err)
	must(t, victim.Observe(t.Context(), victim.grant.Lease, []telemetry.Window{window("x", 1, 0, 7)}))

	const protected = `SELECT (SELECT jsonb_agg(to_jsonb(l) ORDER BY id) FROM migrator.leases l WHERE role = $1)::text
		|| (SELECT jsonb_agg(to_jsonb(j)) FROM migrator.journal j WHERE migration = 'products')
		|| (SELECT jsonb_agg(to_jsonb(m) ORDER BY name) FROM migrator.migrations m)
		|| (SELECT jsonb_agg(to_jsonb(e) ORDER BY migration, epoch) FROM migrator.epochs e)
		|| (SELECT count(*) FROM migrator.history)
		|| (SELECT count(*) FROM migrator.return_journal) || (SELECT count(*) FROM migrator.journal)
		|| (SELECT count(*) FROM migrator.leases WHERE migration = 'users') || (SELECT count(*) FROM migrator.grants)`
	before := value[string](t, s, protected, honest)
	conn, err := pgx.Connect(t.Context(), evilURL)
	must(t, err)
	defer conn.Close(context.WithoutCancel(t.Context()))
	for _, h := range hostile {
		sql := strings.NewReplacer("{own}", own.grant.Lease, "{victim}", victim.grant.Lease).Replace(h.sql)
		_, err := conn.Exec(t.Context(), sql)
		if h.refused == "" && err != nil || h.refused != "" && (err == nil || !strings.Contains(err.Error(), h.refused)) {
			t.Errorf("%s: %v, want %q", h.what, err, h.refused)
		}
		if now := value[string](t, s, protected, honest); now != before {
			t.Fatalf("%s: protected rows have changed from\n%s\nto\n%s", h.what, before, now)
		}
		_, err = conn.Exec(t.Context(), `RESET search_path`)
		must(t, err)
	}
	if n := value[int64](t, s, `SELECT count(*) FROM migrator.leases WHERE expires_at > now() + interval '5 minutes' OR ended_at > now() + interval '5 minutes' OR acknowledged_epoch > 4`); n != 0 {
		t.Errorf("%d leases reach too far", n)
	}

	// The roll-up and the reading of telemetry go on, also beside rows that no function takes.
	exec(t, s, `ALTER TABLE migrator.windows DROP CONSTRAINT windows_bounds;
		INSERT INTO migrator.windows SELECT name, 'inc1', 9223372036854775807, 'i', epoch, config_hash, now(), now(), 0, '\x00' FROM migrator.migrations WHERE name = 'products';
		INSERT INTO migrator.windows SELECT name, 'inc3', 1, 'i', epoch, config_hash, '-infinity', 'infinity', 1, '\x01' FROM migrator.migrations WHERE name = 'products';
		INSERT INTO migrator.windows SELECT name, 'inc8', 1, 'i', 99, config_hash, now(), now(), 1, '\x0100' FROM migrator.migrations WHERE name = 'products'`)
	reads := func() uint64 { return telemetry.N(observed(t, s, time.Hour), readOK) }
	if n := reads(); n != 7 {
		t.Errorf("beside what can't be read, %d reads are observed", n)
	}
	if _, err := s.RollUp(t.Context(), testMigration); err == nil || !strings.Contains(err.Error(), "skipped") {
		t.Errorf("what can't be read was not reported: %v", err)
	}
	if _, err := s.RollUp(t.Context(), testMigration); err != nil || reads() != 7 {
		t.Errorf("after it: %v, %d reads", err, reads())
	}
	st, err := s.Status(t.Context(), testMigration)
	if err != nil || st.UnreadableWindows < 4 || st.UnreadableWhy == "" {
		t.Errorf("not counted: %+v, %v", st, err)
	}

	// A reason is one line.
	must(t, own.RollBack(t.Context(), 4, "a\x1b[2J\x1b]0;pwned\x07\n2026-01-01T00:00:00Z  owner  created  SPOOF"))
	if st, err = s.Status(t.Context(), testMigration); err != nil || st.Route.Phase != phases.DualRead || strings.ContainsAny(st.LastReason, "\x1b\x07\n") || st.LastActor != evil {
		t.Errorf("%+v, %v", st, err)
	}

	// A report of a lost epoch blocks moves forward, and an operator ends that.
	_, err = conn.Exec(t.Context(), `SELECT migrator.witness('products', 10, 'cutover', 10000, E'evil\x1b[2J')`)
	must(t, err)
	if st, err = s.Status(t.Context(), testMigration); err != nil || st.StateLoss == nil || strings.Contains(st.StateLoss.Instance, "\x1b") {
		t.Fatalf("%+v, %v", st, err)
	}
	exec(t, s, `UPDATE migrator.epochs SET witnessed_at = witnessed_at - interval '1 minute', began_at = began_at - interval '1 minute' WHERE epoch = 10`)
	exec(t, s, `UPDATE migrator.leases SET expires_at = clock_timestamp() - interval '1 second'`)
	for _, name := range []string{"own", "victim", "evil"} {
		_ = s.Evict(t.Context(), testMigration, name, "a test", true) // if it has a lease
	}
	_, err = s.Transition(t.Context(), testMigration, func(e phases.Snapshot) (phases.Move, error) {
		return phases.Move{From: e.Status.Route, To: dualRead, Cause: phases.CauseRollback, Reason: "a false report", Reclaim: true}, nil
	})
	if err != nil {
		t.Errorf("no way out of a false report: %v", err)
	}
}

// TestALeaseIsOfItsRole: sessions of the granted role's members share its leases.
func TestALeaseIsOfItsRole(t *testing.T) {
	t.Parallel()
	s, dbURL := open(t)
	group, _ := newRole(t, dbURL)
	monday, mondayURL := newRole(t, dbURL)
	tuesday, tuesdayURL := newRole(t, dbURL)
	exec(t, s, `GRANT `+group+` TO `+monday+`, `+tuesday)
	must(t, s.GrantApplication(t.Context(), group))
	first, err := pgfleet.Open(t.Context(), mondayURL, testMigration, pgfleet.Options{})
	must(t, err)
	defer first.Close()
	second, err := pgfleet.Open(t.Context(), tuesdayURL, testMigration, pgfleet.Options{})
	must(t, err)
	defer second.Close()
	g, err := first.Join(t.Context(), dual.Identity{Instance: "a"})
	must(t, err)
	if _, err := second.Renew(t.Context(), g.Lease, 1); err != nil {
		t.Error(err)
	}
	if role := value[string](t, s, `SELECT role FROM migrator.leases`); role != group {
		t.Errorf("the lease is of %s", role)
	}
	stranger, strangerURL := newRole(t, dbURL)
	third, err := pgfleet.Open(t.Context(), strangerURL, testMigration, pgfleet.Options{})
	must(t, err)
	defer third.Close()
	if _, err := third.Join(t.Context(), dual.Identity{Instance: "a"}); err == nil || !strings.Contains(err.Error(), "lacks a privilege") {
		t.Errorf("without a grant: %v", err)
	}
	must(t, s.GrantApplication(t.Context(), stranger))
	if _, err := third.Renew(t.Context(), g.Lease, 1); !errors.Is(err, dual.ErrLeaseLost) {
		t.Errorf("another role renewed: %v", err)
	}
	long := pgfleet.New(s.Pool(), testMigration, pgfleet.Options{Lease: time.Hour})
	if _, err := long.Join(t.Context(), dual.Identity{Instance: "b"}); err == nil || !strings.Contains(err.Error(), "5m0s at most") {
		t.Errorf("a long lease: %v", err)
	}
}

// TestAForcedEvictionEndsALeaseThatIsRenewed: the route of its instance counts until the lease would
// have expired.
func TestAForcedEvictionEndsALeaseThatIsRenewed(t *testing.T) {
	t.Parallel()
	s, _ := open(t)
	a := join(t, s, "a", pgfleet.Options{Lease: 5 * time.Minute})
	must(t, ignore(s.Evict(t.Context(), testMigration, "a", "it hangs", false), "still renews"))
	// As an earlier release gave it.
	exec(t, s, `ALTER TABLE migrator.leases DROP CONSTRAINT leases_length; UPDATE migrator.leases SET expires_at = now() + interval '100 years'`)
	must(t, s.Evict(t.Context(), testMigration, "a", "it hangs", true))
	if _, err := a.Renew(t.Context(), a.grant.Lease, 1); !errors.Is(err, dual.ErrLeaseLost) {
		t.Errorf("renewed: %v", err)
	}
	left := value[time.Time](t, s, `SELECT ended_at FROM migrator.leases`)
	if d := time.Until(left); d > 5*time.Minute+time.Second || d < 0 {
		t.Errorf("it counts for %s", d)
	}
	st, err := move(t.Context(), s, shadowWrite)
	must(t, err)
	var conflict *phases.RouteConflictError
	if _, err := move(t.Context(), s, dualRead); !errors.As(err, &conflict) {
		t.Errorf("its route is not held at %s: %v", st.Route, err)
	}
	exec(t, s, `UPDATE migrator.leases SET ended_at = now() - interval '1 second', lost_at = now() - interval '1 second'`)
	_, err = move(t.Context(), s, dualRead)
	must(t, err)
}

// TestABlockerIsNamed: a role that may only connect holds the locks of a move and of the leader.
func TestABlockerIsNamed(t *testing.T) {
	t.Parallel()
	s, dbURL := open(t)
	role, roleURL := newRole(t, dbURL)
	conn, err := pgx.Connect(t.Context(), roleURL+"&application_name=stranger")
	must(t, err)
	defer conn.Close(context.WithoutCancel(t.Context()))
	_, err = conn.Exec(t.Context(), `SELECT pg_advisory_lock(hashtextextended('migrator route products', 0)), pg_advisory_lock(hashtextextended('migrator leader keep products', 0))`)
	must(t, err)
	named := make(chan string, 10)
	began := time.Now()
	ctx, cancel := context.WithCancel(hint.OnWait(t.Context(), func(what string, _ hint.Hint) { named <- what }))
	defer cancel()
	moved := make(chan error, 1)
	go func() { _, err := move(ctx, s, shadowWrite); moved <- err }()
	session := fmt.Sprintf("database session %d of the role %q (application \"stranger\"", conn.PgConn().PID(), role)
	if b := <-named; !strings.HasPrefix(b, session) {
		t.Errorf("%s after %s", b, time.Since(began))
	}
	cancel()
	if err := <-moved; err == nil || !strings.Contains(err.Error(), `role "`+role+`"`) {
		t.Errorf("the error does not name it: %v", err)
	}
	leading, stop := context.WithCancel(hint.OnWait(t.Context(), func(what string, _ hint.Hint) { named <- what }))
	defer stop()
	done := make(chan error, 1)
	go func() { done <- s.Lead(leading, "keep products", func(context.Context) error { return nil }) }()
	if b := <-named; !strings.HasPrefix(b, session) {
		t.Errorf("the leader waits for %s", b)
	}
	_, err = conn.Exec(t.Context(), `SELECT pg_advisory_unlock_all()`)
	must(t, err)
	must(t, <-done)
	_, err = move(t.Context(), s, shadowWrite)
	must(t, err)
	if c := find(state.Check(t.Context(), dbURL), "connect"); !strings.Contains(c.Hint.Text, "REVOKE CONNECT ON DATABASE") {
		t.Errorf("%+v", c)
	}
}

// TestAnEarlierApplicationGoesOn: its statements, with the privileges that earlier releases gave, until
// the grants are repeated.
func TestAnEarlierApplicationGoesOn(t *testing.T) {
	t.Parallel()
	s, dbURL := open(t)
	role, roleURL := newRole(t, dbURL)
	exec(t, s, `GRANT USAGE ON SCHEMA migrator TO `+role+`;
		GRANT SELECT ON migrator.migrations, migrator.epochs TO `+role+`;
		GRANT UPDATE (lockable) ON migrator.migrations TO `+role+`; GRANT UPDATE (settled_at) ON migrator.epochs TO `+role+`;
		GRANT SELECT, INSERT, UPDATE ON migrator.leases, migrator.journal, migrator.return_journal TO `+role+`;
		GRANT INSERT ON migrator.windows TO `+role+`;
		GRANT EXECUTE ON FUNCTION migrator.rescue(text, bigint, text, jsonb), migrator.witness(text, bigint, text, integer, text) TO `+role+`;
		GRANT EXECUTE ON FUNCTION migrator.granted(text[]), migrator.mark_of(text), migrator.refuse_lost_target(text),
			migrator.changed_server(), migrator.server() TO `+role+`; -- as the upgrade does
		INSERT INTO migrator.grants (role, kind) VALUES ('`+role+`', 'application')`)
	conn, err := pgx.Connect(t.Context(), roleURL)
	must(t, err)
	defer conn.Close(context.WithoutCancel(t.Context()))
	former := []string{
		`SELECT m.phase, m.epoch FROM migrator.migrations m WHERE m.name = 'products' FOR SHARE`,
		`INSERT INTO migrator.leases (id, migration, instance, about, acknowledged_epoch, joined_at, renewed_at, expires_at, origin, moves)
			SELECT 'id1', m.name, 'a', '', m.epoch, now.at, now.at, now.at + m.lease_ms * interval '1 millisecond', 'id1', ''
			FROM migrator.migrations m CROSS JOIN (SELECT clock_timestamp() AS at) now WHERE m.name = 'products'`,
		`SELECT owner, incarnation, confirmed FROM migrator.mark_of('products')`,
		`UPDATE migrator.leases l SET renewed_at = clock_timestamp(), expires_at = clock_timestamp() + interval '15 seconds' WHERE id = 'id1'`,
		`UPDATE migrator.epochs SET settled_at = clock_timestamp() WHERE migration = 'products'`,
		`INSERT INTO migrator.journal (migration, key, version, changes, reason, first_at, last_at) VALUES ('products', 'k', repeat('0', 32), 1, '', now(), now())`,
		`INSERT INTO migrator.windows SELECT 'products', 'inc', 1, 'a', 1, 'h1', now(), now(), 0, '\x0100' ON CONFLICT DO NOTHING`,
		`SELECT migrator.witness('products', 1, 'legacy', 0, 'a')`,
	}
	for _, sql := range former {
		if _, err := conn.Exec(t.Context(), sql); err != nil {
			t.Errorf("%s: %v", sql, err)
		}
	}
	must(t, s.GrantApplication(t.Context(), role))
	for _, sql := range former[3:7] {
		if _, err := conn.Exec(t.Context(), sql); err == nil || !strings.Contains(err.Error(), "permission denied") {
			t.Errorf("after the grants were repeated: %s: %v", sql, err)
		}
	}
	f, err := pgfleet.Open(t.Context(), roleURL, testMigration, pgfleet.Options{})
	must(t, err)
	defer f.Close()
	if _, err := f.Renew(t.Context(), "id1", 1); err != nil {
		t.Errorf("an application of this release does not renew the lease: %v", err)
	}
}
