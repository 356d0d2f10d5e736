//go:build unix

package main

import (
	"os"
	"os/signal"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stranglerfig/migrator/dual"
	"github.com/stranglerfig/migrator/dual/pgfleet"
	"github.com/stranglerfig/migrator/internal/state"
	"github.com/stranglerfig/migrator/internal/test/clitest"
	"github.com/stranglerfig/migrator/internal/test/testenv"
	"github.com/stranglerfig/migrator/phases"
)

// TestASignalInAFenceLiftsIt: a terminal that closes (SIGHUP), Ctrl-C and systemd's stop end an advance that
// has fenced legacy and waits for an instance. Legacy takes writes again, and the route is grace.
func TestASignalInAFenceLiftsIt(t *testing.T) {
	t.Parallel()
	o := clitest.New(t, "loans", "  table: loans\n", "  key: loan:{id}\n",
		"environment: staging\nphases: {shadow_write: {for: 0s}, dual_read: {steps: [100], over: 0s}, cutover: {steps: [100], over: 0s}, grace: {for: 0s}, approval: {for: []}}\n"+
			"gates: {off: a test}\nwriting: {fence_budget: 4m, not_after: 2s}\nfleet: {lease: 5m, renew: 1m}\n")
	o.SQL(o.Legacy, `CREATE TABLE loans (id bigint PRIMARY KEY, note text); INSERT INTO loans VALUES (1, 'a')`)
	o.Does("init", "apply", "phase advance", "backfill run", "phase advance", "reconcile run --full", "phase advance", "reconcile run --full", "phase advance")
	store, err := state.Open(t.Context(), o.State)
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	at := func() phases.Status {
		t.Helper()
		st, err := store.Status(t.Context(), "loans")
		if err != nil {
			t.Fatal(err)
		}
		return st
	}
	if signal.Ignored(syscall.SIGHUP) { // the tests run under nohup, which their children would respect
		hangups := make(chan os.Signal, 1)
		signal.Notify(hangups, syscall.SIGHUP)
		defer signal.Stop(hangups)
	}
	for _, s := range []syscall.Signal{syscall.SIGHUP, syscall.SIGINT, syscall.SIGTERM} {
		o.Does("reconcile run --full") // of this epoch of grace
		fleet, err := pgfleet.Open(t.Context(), o.State, "loans", pgfleet.Options{Lease: 5 * time.Minute})
		if err != nil {
			t.Fatal(err)
		}
		grant, err := fleet.Join(t.Context(), dual.Identity{Instance: "hung-" + s.String(), Moves: at().Moves})
		if err != nil {
			t.Fatal(err)
		}
		advance := o.Start(t, "phase", "advance")
		testenv.Await(t, "legacy is fenced", func() bool {
			if strings.Contains(advance.Log.String(), "Error:") {
				t.Fatal(advance.Log.String(), advance.Out.String())
			}
			return at().Route.Phase == phases.Fenced
		})
		advance.Signal(s)
		if code := advance.Exits(); code != exitError || !strings.Contains(advance.Log.String(), "the fence was lifted") {
			t.Errorf("%s: exit code %d\n%s", s, code, advance.Log.String())
		}
		if st := at(); st.Route.Phase != phases.Grace || st.Attempt != "" {
			t.Errorf("%s: it is at %s, attempt %q", s, st.Route, st.Attempt)
		}
		o.SQL(o.Legacy, `UPDATE loans SET note = note`)
		if err := fleet.Leave(t.Context(), grant.Lease); err != nil {
			t.Error(err)
		}
		fleet.Close()
	}
}
