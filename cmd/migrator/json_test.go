package main

import (
	"encoding/json"
	"maps"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/stranglerfig/migrator/examples/demo"
	"github.com/stranglerfig/migrator/examples/storefront/load"
	"github.com/stranglerfig/migrator/internal/backfill"
	"github.com/stranglerfig/migrator/internal/control"
	"github.com/stranglerfig/migrator/internal/drill"
	"github.com/stranglerfig/migrator/internal/state"
	"github.com/stranglerfig/migrator/internal/state/drills"
	"github.com/stranglerfig/migrator/internal/state/runbooks"
	"github.com/stranglerfig/migrator/phases"
	"github.com/stranglerfig/migrator/reconcile"
	"github.com/stranglerfig/migrator/record"
	"github.com/stranglerfig/migrator/runbook"
	"github.com/stranglerfig/migrator/store"
)

const jsonDoc = "../../docs/json.md"

// contractTypes are the types of docs/json.md that have a Go type.
func contractTypes() map[reflect.Type]string {
	return map[reflect.Type]string{
		reflect.TypeFor[phases.Approval](): "approval", reflect.TypeFor[backfill.Progress](): "backfill",
		reflect.TypeFor[phases.BackfillEvidence](): "backfill evidence", reflect.TypeFor[store.Check](): "check",
		reflect.TypeFor[state.Entry]():          "entry",
		reflect.TypeFor[phases.DrillEvidence](): "drill evidence",
		reflect.TypeFor[phases.Evidence]():      "evidence", reflect.TypeFor[record.Field](): "field",
		reflect.TypeFor[reconcile.Finding](): "finding", reflect.TypeFor[phases.Fleet](): "fleet",
		reflect.TypeFor[phases.Evaluation](): "evaluation", reflect.TypeFor[phases.Latch](): "latch",
		reflect.TypeFor[triggers](): "triggers", reflect.TypeFor[triggerView](): "trigger view",
		reflect.TypeFor[automaticRollback](): "automatic rollback", reflect.TypeFor[explained](): "explained",
		reflect.TypeFor[gateView](): "gate ahead", reflect.TypeFor[nextStep](): "next step",
		reflect.TypeFor[rehearsed](): "rehearsed", reflect.TypeFor[rehearsedFiring](): "rehearsed firing",
		reflect.TypeFor[rehearsedTrigger](): "rehearsed trigger",
		reflect.TypeFor[verified]():         "verified", reflect.TypeFor[broken](): "broken",
		reflect.TypeFor[phases.GateResult](): "gate", reflect.TypeFor[phases.Lease](): "lease", reflect.TypeFor[phases.Lost](): "lost",
		reflect.TypeFor[demo.Report](): "demo", reflect.TypeFor[demo.Automatic](): "demo rollback",
		reflect.TypeFor[load.Report](): "ledger", reflect.TypeFor[plan](): "plan",
		reflect.TypeFor[plannedPhase](): "planned phase", reflect.TypeFor[problem](): "problem",
		reflect.TypeFor[phases.ReconcileEvidence](): "reconcile evidence", reflect.TypeFor[reconciled](): "report",
		reflect.TypeFor[phases.Rollback](): "rollback", reflect.TypeFor[phases.Route](): "route",
		reflect.TypeFor[reconcile.Run](): "run", reflect.TypeFor[settings](): "settings",
		reflect.TypeFor[phases.Standing](): "standing", reflect.TypeFor[status](): "status",
		reflect.TypeFor[control.Step](): "step", reflect.TypeFor[worked](): "worked", reflect.TypeFor[reconcile.Planned](): "planned repair",
		reflect.TypeFor[reconcile.Explanation](): "explanation", reflect.TypeFor[reconcile.KeyColumn](): "key column",
		reflect.TypeFor[reconcile.Side](): "side", reflect.TypeFor[reconcile.ExplainedField](): "explained field",
		reflect.TypeFor[record.Difference](): "field difference", reflect.TypeFor[reconcile.JournaledKey](): "journalled key",
		reflect.TypeFor[reconcile.PastFinding](): "past finding", reflect.TypeFor[reconcile.Coverage](): "coverage",
		reflect.TypeFor[listedRun]():      "listed run",
		reflect.TypeFor[runbook.Detail](): "runbook detail", reflect.TypeFor[phases.RunbookEvidence](): "runbook evidence",
		reflect.TypeFor[runbooks.Run](): "runbook run", reflect.TypeFor[runbook.Record](): "runbook step",
		reflect.TypeFor[runbookVerdict](): "runbook verdict", reflect.TypeFor[runbookView](): "runbook view",
		reflect.TypeFor[drill.Report](): "drill report", reflect.TypeFor[drill.Fault](): "drill fault",
		reflect.TypeFor[drill.Step](): "drill step", reflect.TypeFor[drill.Healthy](): "drill healthy time",
		reflect.TypeFor[drill.Looks](): "drill looks", reflect.TypeFor[drill.Player](): "drill instance",
		reflect.TypeFor[drill.Killed](): "drill daemon", reflect.TypeFor[drill.Fired](): "drill verdict",
		reflect.TypeFor[drill.Times](): "drill times", reflect.TypeFor[drill.Totals](): "drill load",
		reflect.TypeFor[drill.Checked](): "drill ledger", reflect.TypeFor[drill.Controls](): "drill controls",
		reflect.TypeFor[drill.Reconciled](): "drill reconcile", reflect.TypeFor[drill.Second](): "drill second",
		reflect.TypeFor[drill.Mark](): "drill mark", reflect.TypeFor[drills.Run](): "drill run",
		reflect.TypeFor[exported](): "exported drill", reflect.TypeFor[imported](): "imported drill",
	}
}

// TestJSONTypes compares docs/json.md with the Go types, field by field.
func TestJSONTypes(t *testing.T) {
	t.Parallel()
	c, err := readContract(jsonDoc)
	if err != nil {
		t.Fatal(err)
	}
	names := contractTypes()
	for goType, name := range names {
		if name == "settings" {
			continue // printed as a table's rows; TestJSONContract looks at them
		}
		want, got := fieldsOf(goType, names), c.types[name]
		if len(got) == 0 {
			t.Errorf("docs/json.md does not describe %s (%s)", name, goType)
		}
		for _, f := range want {
			if !slices.Contains(got, f) {
				t.Errorf("%s: docs/json.md has no such field of %s: %+v", name, goType, f)
			}
		}
		for _, f := range got {
			if !slices.Contains(want, f) {
				t.Errorf("%s: %s has no such field: %+v", name, goType, f)
			}
		}
	}
}

// TestJSONWords: the words that a program compares with are all there.
func TestJSONWords(t *testing.T) {
	t.Parallel()
	data, err := os.ReadFile(jsonDoc)
	if err != nil {
		t.Fatal(err)
	}
	rows := map[string]string{}
	for line := range strings.Lines(string(data)) {
		if m := fieldRow.FindStringSubmatch(strings.TrimSpace(line)); m != nil {
			rows[m[1]] += line
		}
	}
	for field, words := range map[string][]string{
		"cause":   words(phases.CauseCreated, phases.CauseAdvance, phases.CauseRollback, phases.CauseFence, phases.CauseFailure, phases.CauseConfig, phases.CauseEvict, phases.CausePause, phases.CauseResume, phases.CauseApprove, phases.CauseTrigger, phases.CauseAcknowledge, phases.CauseSchedule),
		"verdict": words(phases.Pass, phases.Off, phases.Fail, phases.Inconclusive, phases.NoData, phases.Error, phases.Quiet, phases.Firing),
		"phase":   append(words(phases.Order...), words(phases.Fenced, phases.Lifting, phases.Returning)...),
		"class": append(words(phases.LosslessNow, phases.LosslessAfter, phases.Impossible),
			words(reconcile.Missing, reconcile.Extra, reconcile.Stale, reconcile.Ahead, reconcile.FieldDiff, reconcile.Encoding, reconcile.Expiry, reconcile.Type, reconcile.ForeignClass)...),
		"result": words(store.Good, store.Warned, store.Refused),
		"status": append(words(reconcile.Running, reconcile.Paused, reconcile.Done, reconcile.Stopped, reconcile.Cancelled),
			words(runbook.Running, runbook.Waiting, runbook.RunDone, runbook.RunFailed, runbook.Compensating, runbook.Compensated)...),
		"outcome":   words(runbook.Done, runbook.Failed, runbook.Skipped, runbook.Unknown),
		"direction": words(runbook.Forward, runbook.Compensate),
		"kind": words(record.Bool, record.Int, record.Decimal, record.Float, record.Float32, record.Text, record.Bytes, record.Date,
			record.TimeOfDay, record.Timestamp, record.TimestampTZ, record.Interval, record.UUID, record.JSON, record.Array, record.Other),
	} {
		for _, word := range words {
			if !strings.Contains(rows[field], "`"+word+"`") {
				t.Errorf("the field %s may be %q, which docs/json.md does not say", field, word)
			}
		}
	}
}

func words[W ~string](list ...W) []string {
	texts := make([]string, len(list))
	for i, w := range list {
		texts[i] = string(w)
	}
	return texts
}

// TestJSONContract runs each command with -o json on real stores and compares what
// it prints with docs/json.md: every documented field is there, with its type, and
// no other. Exit codes are those that docs/cli.md has for the command.
func TestJSONContract(t *testing.T) {
	t.Parallel()
	c, err := readContract(jsonDoc)
	if err != nil {
		t.Fatal(err)
	}
	o := newOperator(t, "products", "  table: products\n", "  key: product:{id}\n", `
phases:
  dual_read: {steps: [100], over: 14d}
  cutover: {steps: [100], over: 2d}
gates:
  consistency: {off: a test without traffic}
  shadow_writes: {off: a test without traffic}
  target_reads: {off: a test without traffic}
  added_latency: {off: a test without traffic}
  custom: [{name: smoke, command: ["true"], before: [cutover]}]
writing: {not_after: 1s}
reconcile: {pause: 10ms}
`)
	o.sql(o.legacy, `CREATE TABLE products (id bigint PRIMARY KEY, name text NOT NULL, tags text[]);
		INSERT INTO products SELECT i, 'Product ' || i, '{a}' FROM generate_series(1, 200) i`)
	a := &audit{t: t, o: o, c: c, seen: map[string]bool{}, codes: map[string]map[int]bool{}}
	a.scenario()
	a.everything()
}

// audit checks one document after the other.
type audit struct {
	t     *testing.T
	o     *operator
	c     *contract
	seen  map[string]bool
	codes map[string]map[int]bool // by command, without its flags
}

// expect runs a command that must exit with the code. Its name in docs/json.md is
// the longest that the line begins with.
func (a *audit) expect(code int, args ...string) {
	a.t.Helper()
	line, name, bare := "migrator "+strings.Join(args, " "), "", ""
	for _, known := range slices.Sorted(maps.Keys(a.c.commands)) {
		if line == known || strings.HasPrefix(line, known+" ") {
			name = known
			if !strings.Contains(known, " --") {
				bare = known
			}
		}
	}
	got, stdout, stderr := a.o.try(append(slices.Clone(args), "-o", "json")...)
	if got != code {
		a.t.Fatalf("%s: exit code %d, want %d\n%s%s", line, got, code, stdout, stderr)
	}
	if a.codes[bare] == nil {
		a.codes[bare] = map[int]bool{}
	}
	a.codes[bare][code] = true
	if stdout != "" {
		a.seen[name] = true
		if err := a.c.document(name, []byte(stdout)); err != nil {
			a.t.Errorf("%s: %v", line, err)
		}
	}
	if code == exitDone {
		return
	}
	lines := strings.Split(strings.TrimSpace(stderr), "\n")
	var p problem
	var v any
	last := []byte(lines[len(lines)-1])
	if err := json.Unmarshal(last, &p); err != nil || p.Code != code {
		a.t.Errorf("%s: the last line of stderr is no problem with code %d: %s", line, code, last)
	}
	_ = json.Unmarshal(last, &v)
	p.Code = 0
	if err := a.c.object("stderr of "+line, "problem", withNumbers(v)); err != nil {
		a.t.Error(err)
	}
}

// withNumbers replaces the exit code, which was not read as a json.Number.
func withNumbers(v any) any {
	if m, ok := v.(map[string]any); ok {
		m["code"] = json.Number("1")
	}
	return v
}
