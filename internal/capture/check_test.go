package capture_test

import (
	"context"
	"fmt"
	"net/url"
	"strings"
	"testing"

	"github.com/stranglerfig/migrator/internal/capture"
	"github.com/stranglerfig/migrator/internal/test/pairtest"
	"github.com/stranglerfig/migrator/phases"
	"github.com/stranglerfig/migrator/store"
	"github.com/stranglerfig/migrator/store/postgres"
)

// found is the results and details of the checks by name.
func found(checks []store.Check) map[string]string {
	all := map[string]string{}
	for _, c := range checks {
		all[c.Name] = fmt.Sprintf("%s: %s (%s)", c.Result, c.Detail, c.Hint.Text)
	}
	return all
}

// TestChecks: what a role may, what is there, and what would be created.
func TestChecks(t *testing.T) {
	t.Parallel()
	p := pairtest.New(t, pairtest.Options{})
	if got := capture.Check(t.Context(), p.Legacy, phases.CaptureOff); got != nil {
		t.Errorf("off: %v", got)
	}
	want := func(what string, got map[string]string, names map[string][]string) {
		t.Helper()
		for name, texts := range names {
			for _, text := range texts {
				if !strings.Contains(got[name], text) {
					t.Errorf("%s: %s is %q, without %q", what, name, got[name], text)
				}
			}
		}
	}
	name := p.Legacy.CaptureName()
	want("before", found(capture.Check(t.Context(), p.Legacy, phases.CaptureOnly)), map[string][]string{
		"capture-table": {"ok: "}, "capture-role": {"ok: "}, "capture-publication": {"ok: "}, "capture-slots": {"ok: ", "are free"},
		"capture-slot": {"ok: ", "will be created", name}, "capture-connection": {"ok: "}, "capture-wal-kept": {"warning", "max_slot_wal_keep_size"},
	})
	if got := capture.CheckOrphans(t.Context(), p.Legacy); len(got) != 0 {
		t.Errorf("no slot: %v", got)
	}
	r := begin(t, p, nil)
	want("while it runs", found(capture.Check(t.Context(), p.Legacy, phases.CaptureBeside)), map[string][]string{
		"capture-slots": {"ok: ", "has the replication slot"}, "capture-slot": {"ok: ", name + " are there"},
	})
	if got := capture.CheckOrphans(t.Context(), p.Legacy); len(got) != 0 {
		t.Errorf("its own slot: %v", got)
	}
	r.end()
	p.Exec(t, `DELETE FROM migrator_legacy.capture`)
	want("a slot that is left", found(capture.CheckOrphans(t.Context(), p.Legacy)), map[string][]string{
		"capture-orphans": {"warning", name, "pg_drop_replication_slot"},
	})
	dropSlot(t, p, name)
	p.Exec(t, `DROP PUBLICATION `+name)

	// A role that may read the table, and nothing more.
	at, err := url.Parse(p.LegacyURL)
	if err != nil {
		t.Fatal(err)
	}
	role := "reads_" + strings.TrimPrefix(at.Path, "/")
	at.User = url.UserPassword(role, "x")
	p.Exec(t, `CREATE ROLE `+role+` LOGIN PASSWORD 'x'`)
	t.Cleanup(func() {
		_, _ = p.SQL.Exec(context.WithoutCancel(t.Context()), `DROP OWNED BY `+role)
		_, _ = p.SQL.Exec(context.WithoutCancel(t.Context()), `DROP ROLE `+role)
	})
	p.Exec(t, `GRANT SELECT ON ALL TABLES IN SCHEMA public TO `+role)
	p.Exec(t, `GRANT USAGE ON SCHEMA migrator_legacy TO `+role)
	legacy, err := postgres.OpenLegacy(t.Context(), p.Config, at.String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(legacy.Close)
	want("another role", found(capture.Check(t.Context(), legacy, phases.CaptureBeside)), map[string][]string{
		"capture-role":        {"refused", `ALTER ROLE "` + role + `" REPLICATION`},
		"capture-publication": {"refused", `GRANT "`, `TO "` + role + `"`},
		"capture-connection":  {"refused"}, "capture-table": {"ok: "},
	})
	p.Exec(t, `DO $$ BEGIN EXECUTE (SELECT string_agg('REVOKE EXECUTE ON FUNCTION ' || oid::regprocedure || ' FROM PUBLIC', '; ')
		FROM pg_proc WHERE proname = 'pg_logical_emit_message'); END $$`)
	const grant = "GRANT EXECUTE ON FUNCTION pg_logical_emit_message(boolean,text,text"
	got := found(capture.Check(t.Context(), legacy, phases.CaptureBeside))
	want("no markers", got, map[string][]string{"capture-table": {"refused", "markers", grant, ") TO the role"}})
	_, statement, _ := strings.Cut(got["capture-table"], grant)
	arguments, _, _ := strings.Cut(statement, " TO the role")
	p.Exec(t, grant+arguments+` TO `+role)
	want("markers again", found(capture.Check(t.Context(), legacy, phases.CaptureBeside)), map[string][]string{"capture-table": {"ok: "}})
}

// TestChecksRefuse: what can't be captured.
func TestChecksRefuse(t *testing.T) {
	t.Parallel()
	p := pairtest.New(t, pairtest.Options{})
	name, _ := p.Legacy.CaptureTable()
	p.Exec(t, `ALTER TABLE `+name+` REPLICA IDENTITY NOTHING`)
	got := found(capture.Check(t.Context(), p.Legacy, phases.CaptureBeside))
	if text := got["capture-table"]; !strings.Contains(text, "refused") || !strings.Contains(text, "no replica identity") {
		t.Errorf("%q", text)
	}
}

// dropSlot drops a slot that may be active still: until its walsender has ended.
func dropSlot(t *testing.T, p *pairtest.Pair, slot string) {
	t.Helper()
	p.Exec(t, `SELECT pg_terminate_backend(active_pid, 60000) FROM pg_replication_slots WHERE slot_name = $1 AND active`, slot)
	p.Exec(t, `SELECT pg_drop_replication_slot($1)`, slot)
}
