package reconcile_test

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/stranglerfig/migrator/internal/repair"
	"github.com/stranglerfig/migrator/internal/state/reconciles"
	"github.com/stranglerfig/migrator/internal/test/pairtest"
	"github.com/stranglerfig/migrator/internal/test/statetest"
	"github.com/stranglerfig/migrator/reconcile"
	"github.com/stranglerfig/migrator/record"
	"github.com/stranglerfig/migrator/store"
)

// stateReconciles is a state database with one migration.
func stateReconciles(t testing.TB) (*reconciles.Runs, func(sql string, args ...any)) {
	t.Helper()
	ctx, store := t.Context(), openState(t, statetest.URL(t))
	return reconciles.New(store.Pool(), "move"), func(sql string, args ...any) {
		t.Helper()
		if _, err := store.Pool().Exec(ctx, sql, args...); err != nil {
			t.Fatal(err)
		}
	}
}

func TestExplainShowsBothSidesAndWhatWasFound(t *testing.T) {
	t.Parallel()
	p := pairtest.New(t, pairtest.Options{Expires: "expires_at"})
	p.FillSimple(t, 1, 100)
	p.Exec(t, "UPDATE items SET expires_at = now() + interval '1 day' WHERE id = 5")
	runBackfill(t, p)
	rc, _ := reconciler(p)
	ledger, sql := stateReconciles(t)
	rc.Ledger = ledger
	rules := []record.Rule{{Path: "/amount", Show: true}}
	var err error
	if rc.Compare, err = record.NewComparer(p.Legacy.Schema(), rules); err != nil {
		t.Fatal(err)
	}
	ctx := t.Context()
	explain := func(key record.Key) *reconcile.Explanation {
		t.Helper()
		x, err := rc.Explain(ctx, key, ledger, rules)
		if err != nil {
			t.Fatal(err)
		}
		return x
	}
	field := func(x *reconcile.Explanation, name string) reconcile.ExplainedField {
		for _, f := range x.Fields {
			if f.Field == name {
				return f
			}
		}
		t.Fatalf("no field %s in %+v", name, x)
		return reconcile.ExplainedField{}
	}

	x := explain("1")
	if !x.Same || x.Class != "" || x.Legacy.Presence != store.Live || x.Target.Presence != store.Live || x.Target.Name != "item:1" ||
		x.Target.Version.IsZero() || !x.Legacy.Version.NewerThan(x.Target.Version) || x.Journal != nil || len(x.Findings) != 0 {
		t.Errorf("one that agrees: %+v", x)
	}
	if f := field(x, "name"); f.InLegacy != f.InTarget || !strings.HasPrefix(f.InLegacy, "#") || f.Rule != "by its bytes" {
		t.Errorf("%+v", f)
	}
	if f := field(x, "amount"); f.InLegacy != `"1.25"` || f.InTarget != `"1.25"` || f.Rule != "shown" {
		t.Errorf("%+v", f)
	}

	for _, args := range [][]any{
		{"HSET", "item:2", "name", "secret", "amount", "77"},
		{"DEL", "item:3"},
		{"HDEL", "item:4", "_v"},
		{"PERSIST", "item:5"},
		{"DEL", "item:6"},
		{"SADD", "item:6", "x"},
		{"HSET", "item:500", "_v", x.Target.Version.String(), "id", "500"},
	} {
		if err := p.Redis.Do(ctx, args...).Err(); err != nil {
			t.Fatal(err)
		}
	}
	sql(`INSERT INTO migrator.journal (migration, key, version, changes, reason, first_at, last_at)
		VALUES ('move', '3', $1, 4, 'the target was away', now(), now())`, x.Target.Version.String())
	first, found := run(t, rc, full)
	if first.Differences != 6 {
		t.Fatalf("%+v %+v", first, found)
	}
	for key, want := range map[record.Key]struct {
		class reconcile.Class
		step  repair.Step
	}{
		"2": {reconcile.FieldDiff, repair.StepWrite}, "3": {reconcile.Missing, repair.StepWrite}, "4": {reconcile.ForeignClass, repair.StepWrite},
		"5": {reconcile.Expiry, repair.StepWrite}, "6": {reconcile.Type, repair.StepWrite}, "500": {reconcile.Extra, repair.StepTombstone},
	} {
		x := explain(key)
		if x.Same || x.Class != want.class || x.Repair.Step != want.step || len(x.Findings) != 1 || x.Findings[0].Run != first.ID || x.Findings[0].Class != found[key].Class {
			t.Errorf("key %s: %+v, want %+v and one finding", key, x, want)
		}
	}
	x = explain("2")
	if f := field(x, "name"); f.InLegacy == f.InTarget || len(f.Differences) != 1 || f.Differences[0].Path != "/name" {
		t.Errorf("%+v", f)
	}
	if f := field(x, "amount"); f.InLegacy != `"2.50"` || f.InTarget != `"77"` {
		t.Errorf("%+v", f)
	}
	if text, err := json.Marshal(x); err != nil || strings.Contains(string(text), "secret") || strings.Contains(string(text), "name 2") {
		t.Errorf("it shows values: %s", text)
	}
	if j := explain("3").Journal; j == nil || j.Changes != 4 || j.Reason != "the target was away" || j.Version != x.Target.Version || time.Since(j.Since) > time.Hour {
		t.Errorf("the journal's entry: %+v", j)
	}
	x = explain("5")
	if x.Legacy.Expires.IsZero() || !x.Target.Expires.IsZero() || !strings.Contains(x.Detail, "never expires") {
		t.Errorf("%+v", x)
	}
	if x := explain("501"); !x.Same || x.Legacy.Presence != store.Absent || x.Target.Presence != store.Absent || x.Repair.Step != repair.StepNone {
		t.Errorf("a key of neither store: %+v", x)
	}

	run(t, rc, repaired)
	wantClean(t, rc)
	x = explain("500")
	if !x.Same || x.Target.Presence != store.Tombstone || x.Target.Version.IsZero() || len(x.Findings) != 2 || !x.Findings[0].Repaired || x.Findings[1].Repaired {
		t.Errorf("the tombstone: %+v", x)
	}
	for key, says := range map[record.Key]string{
		"x":    `"x" is no int, which the column id is written as; a key is id (bigint), such as "42"`,
		"1,2":  "has 2 columns",
		"007":  "no int",
		"%zz":  "hexadecimal",
		"item": "such as",
	} {
		if _, err := rc.Explain(ctx, key, ledger, rules); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("key %q: %v, want %q", key, err, says)
		}
	}
}

// Every key of a table of odd keys is read back as it is printed.
func TestExplainTakesEveryKey(t *testing.T) {
	t.Parallel()
	p := pairtest.New(t, pairtest.Options{DDL: pairtest.MessyDDL, Table: pairtest.MessyTable, Key: pairtest.MessyKey})
	p.FillMessy(t, 30)
	runBackfill(t, p)
	rc, _ := reconciler(p)
	ledger, _ := stateReconciles(t)
	rules := []record.Rule{{Path: "/doc/n", Ignore: "it is made up"}, {Path: "/price", Tolerance: "0.01"}, {Path: "/local", Precision: record.Precision(time.Millisecond)}}
	chunks, err := p.Legacy.Chunks(t.Context(), 1000)
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	if err := p.Legacy.Scan(t.Context(), chunks[0], func(row store.Row) error {
		x, err := rc.Explain(t.Context(), row.Key, ledger, rules)
		if err != nil || !x.Same || len(x.Columns) != 2 || x.Columns[0].Value != row.Record[0].Text {
			t.Errorf("key %q: %v %+v", row.Key, err, x)
		}
		n++
		for _, f := range x.Fields {
			want := map[string]string{"doc": "by meaning; /doc/n ignored: it is made up", "price": "within 0.01", "local": "cut to 1ms"}[f.Field]
			if want != "" && f.Rule != want {
				t.Errorf("%s is compared %q, want %q", f.Field, f.Rule, want)
			}
		}
		return nil
	}); err != nil || n != 30 {
		t.Fatal(err, n)
	}
	if _, err := rc.Explain(t.Context(), "eu", ledger, rules); err == nil || !strings.Contains(err.Error(), `a key is user (text), then id (integer), such as "abc,42": commas between them, and %2C for one inside`) {
		t.Errorf("%v", err)
	}
}
