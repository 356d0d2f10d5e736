package daemontest

import (
	"encoding/json"
	"strings"
	"syscall"
	"testing"

	"github.com/stranglerfig/migrator/internal/app"
	"github.com/stranglerfig/migrator/internal/test/clitest"
)

// TestWritersThatBypassAreFound by legacy's counters: a program writes the table, and no instance
// has reported it. Status, doctor, the gate, the metric and the history say so, and reconcile names it
// first where it refuses a mass repair.
func TestWritersThatBypassAreFound(t *testing.T) {
	t.Parallel()
	o := newOperator(t, "items", "  table: items\n", "  key: item:{id}\n",
		strings.Replace(clitest.Served, "gates: {off: a test without traffic}", "gates: {bypass: {for: 45s}}", 1)) // the commands below take less, also where 10 s are not enough for them
	o.SQL(o.Legacy, `CREATE TABLE items (id bigint PRIMARY KEY, name text);
		INSERT INTO items SELECT i, 'item ' || i FROM generate_series(1, 2000) i`)
	o.Does("init", "apply", "phase advance", "backfill run")
	d := o.serve(t)
	if code, out, _ := o.Try("phase", "advance", "--dry-run"); code != clitest.Done && code != clitest.NotYet || !strings.Contains(out, "bypass") {
		t.Errorf("exit code %d: %s", code, out)
	}
	d.awaits("the gate to open", func() bool {
		code, out, _ := o.Try("phase", "advance", "--dry-run")
		return code == clitest.Done && strings.Contains(out, "legacy counted no changes beyond")
	})
	o.SQL(o.Legacy, `SET application_name = 'nightly import'; UPDATE items SET name = name || '!'`)
	d.awaits("the bypass to be found", func() bool { return strings.Contains(d.logText(), "past the application") })

	var all []app.Status
	code, out, _ := o.Try("status", "-o", "json")
	if err := json.Unmarshal([]byte(out), &all); code != clitest.Done || err != nil || len(all) != 1 {
		t.Fatalf("exit code %d: %v", code, err)
	}
	if b := all[0].Snapshot.Bypass; b == nil || b.Least != 2000 || b.Most != 2000 || b.First.IsZero() {
		t.Errorf("%+v", b)
	}
	for _, c := range [][2]string{
		{"phase advance", "fail         bypass"},
		{"status", "2000 to 2000 changes of legacy's table that no instance reported"},
		{"doctor", "items: bypass: 2000 to 2000"},
		{"phase history", "2000 to 2000 changes"},
		{"reconcile run --full --repair", "programs write legacy past the application (2000 to 2000 changes"},
	} {
		if _, out, errs := o.Try(strings.Fields(c[0])...); !strings.Contains(out+errs, c[1]) {
			t.Errorf("%s: no %q in\n%s%s", c[0], c[1], out, errs)
		}
	}
	if _, metrics := d.get("/metrics"); !strings.Contains(metrics, `migrator_bypass_changes{migration="items"} 2000`) {
		t.Errorf("the metric is missing in\n%s", metrics)
	}
	d.end(syscall.SIGTERM)
}
