//go:build unix

package cases

import (
	"fmt"
	"strings"
	"syscall"
	"testing"

	"github.com/stranglerfig/migrator/internal/test/testenv"
	"github.com/stranglerfig/migrator/phases"
)

// reconnect waits until legacy answers on new connections.
func (w *world) reconnect() {
	w.t.Helper()
	testenv.Await(w.t, "legacy to answer", func() bool {
		w.db.Reset()
		return w.db.Ping(w.ctx) == nil
	})
}

// dropped writes each of the first n records and returns the acknowledged writes that a
// read does not return.
func (a *application) dropped(n int64) (wrong []string) {
	for id := int64(1); id <= n; id++ {
		name := fmt.Sprintf("later %d", id)
		err := a.write(id, name)
		if got := a.read(id); err == nil && got != name {
			wrong = append(wrong, fmt.Sprintf("key %d: %q was acknowledged, legacy has %q, a read answers %q", id, name, a.w.inLegacy(id), got))
		}
	}
	return wrong
}

// TestWritesAfterACrashWithoutSyncAreNotDropped: legacy commits without waiting for
// its log (synchronous_commit = off) and crashes: it loses its last commits, and its
// log begins again below what the target has. The writes that follow, durable ones,
// carry versions below the target's, which drops them as older. That counts as
// success: they are acknowledged, and no read returns them.
func TestWritesAfterACrashWithoutSyncAreNotDropped(t *testing.T) {
	t.Parallel()
	server := testenv.Postgres(t, testenv.PostgresOptions{Settings: map[string]string{
		"wal_buffers": "16MB", "bgwriter_lru_maxpages": "0", "autovacuum": "off", // nothing else flushes the log
	}})
	url, drop, err := server.CreateDatabase(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(drop)
	w := newWorld(t, options{legacyURL: url})
	a := w.application(setup{})
	w.upto(phases.Grace)
	w.run(url, "CREATE TABLE other (filler text); ALTER ROLE postgres SET synchronous_commit = off")
	w.db.Reset()
	// Pages that PostgreSQL has written and not synced survive a crash of the server, though not of
	// the machine: the log writer is stopped, so that they are lost as in a crash of the machine.
	var logWriter int
	w.check(w.db.QueryRow(w.ctx, "SELECT pid FROM pg_stat_activity WHERE backend_type = 'walwriter'").Scan(&logWriter))
	w.check(syscall.Kill(logWriter, syscall.SIGSTOP))
	w.run(url, "INSERT INTO other SELECT repeat(md5(i::text), 30) FROM generate_series(1, 5000) i") // some megabytes of log
	const lost = "lost in the crash"
	for id := range int64(20) {
		a.mustWrite(id+1, lost)
	}
	w.check(server.Kill())
	w.check(server.Restart(w.ctx))
	w.run(url, "ALTER ROLE postgres SET synchronous_commit = on")
	w.reconnect()
	if w.inLegacy(1) == lost {
		t.Fatal("legacy has lost nothing: this test shows nothing")
	}
	if wrong := a.dropped(20); len(wrong) > 0 {
		t.Errorf("%d of 20 acknowledged writes can't be read, the first: %s", len(wrong), wrong[0])
	}
}

// TestTortureUpgradeOfLegacy: legacy failed over once, so that its
// timeline is 2, and is upgraded by pg_upgrade, whose cluster begins at timeline 1. The
// instances continue without a restart, and all that they write is older than the
// target's versions. The system identifier changes, and only a command that opens legacy
// checks it: writes take effect only from then on.
func TestTortureUpgradeOfLegacy(t *testing.T) {
	t.Parallel()
	onlyLong(t)
	c := newCluster(t)
	url := c.database("shop")
	c.stop("fast")
	c.promote()
	w := newWorld(t, options{legacyURL: url})
	a := w.application(setup{})
	w.upto(phases.Grace)
	for id := range int64(20) {
		a.mustWrite(id+1, "before the upgrade")
	}
	c.stop("fast")
	c.upgraded()
	w.reconnect()
	if wrong := a.dropped(20); len(wrong) > 0 {
		t.Errorf("%d of 20 acknowledged writes can't be read, the first: %s", len(wrong), wrong[0])
	}
	opened, err := w.m.OpenLegacy(w.ctx) // as any command does
	w.check(err)
	opened.Close()
	if wrong := a.dropped(20); len(wrong) > 0 {
		t.Errorf("once a command has opened legacy: %d of 20 acknowledged writes can't be read, the first: %s", len(wrong), wrong[0])
	}
}

// TestLegacyCrashIsFound: legacy is killed, as the kernel kills it, and recovers. Its log shows nothing,
// and no write need follow that the target would refuse. The next look returns reads to it,
// raises the era and voids a backfill whose barrier may be above legacy's present.
func TestLegacyCrashIsFound(t *testing.T) {
	t.Parallel()
	server := testenv.Postgres(t, testenv.PostgresOptions{})
	url, drop, err := server.CreateDatabase(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(drop)
	w := newWorld(t, options{legacyURL: url})
	l := w.leader()
	a := w.application(setup{})
	w.upto(phases.Grace)
	a.mustWrite(1, "before the crash")
	look := func() (lost string) {
		testenv.Await(w.t, "a look at legacy", func() bool { // connections from before a crash fail first
			var err error
			lost, err = l.job.WatchLegacy(w.ctx)
			return err == nil
		})
		return lost
	}
	for range 2 {
		if lost := look(); lost != "" {
			t.Fatalf("before the crash: %s", lost)
		}
	}
	w.run(w.stateURL, `INSERT INTO migrator.backfills (migration, epoch, progress, chunks, began_at) VALUES ('items', 2, '{}', '[]', now())`)
	_, before, err := w.legacy.FenceState(w.ctx)
	w.check(err)
	w.check(server.Kill())
	w.check(server.Restart(w.ctx))
	w.reconnect()
	if lost := look(); !strings.Contains(lost, "unlogged mark") {
		t.Fatalf("after the crash: %q", lost)
	}
	if lost := look(); lost != "" {
		t.Errorf("at the next look: %s", lost)
	}
	st := w.status()
	if st.Route.Phase != phases.DualRead || !strings.Contains(st.Unclean, "unlogged mark") || st.LastCause != string(phases.CauseLoss) {
		t.Errorf("%s, unclean: %q, last: %s", st.Route, st.Unclean, st.LastCause)
	}
	if _, era, err := w.legacy.FenceState(w.ctx); err != nil || era <= before {
		t.Errorf("era %d, before the crash %d (%v)", era, before, err)
	}
	var voided int
	w.check(w.state.Pool().QueryRow(w.ctx, "SELECT count(*) FROM migrator.backfills WHERE void_at IS NOT NULL").Scan(&voided))
	if voided != 1 {
		t.Errorf("%d backfills are void", voided)
	}
	a.mustWrite(1, "after the crash")
	if got := a.read(1); got != "after the crash" {
		t.Errorf("read %q", got)
	}
	w.check(server.Restart(w.ctx)) // a clean restart loses nothing
	w.reconnect()
	if lost := look(); lost != "" {
		t.Errorf("after a clean restart: %s", lost)
	}
}
