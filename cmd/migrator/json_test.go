package main

import (
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/stranglerfig/migrator/internal/app"
	"github.com/stranglerfig/migrator/internal/backfill"
	"github.com/stranglerfig/migrator/internal/control"
	"github.com/stranglerfig/migrator/internal/daemon"
	"github.com/stranglerfig/migrator/internal/drill"
	"github.com/stranglerfig/migrator/internal/hint"
	"github.com/stranglerfig/migrator/internal/judge"
	"github.com/stranglerfig/migrator/internal/preflight"
	"github.com/stranglerfig/migrator/internal/state"
	"github.com/stranglerfig/migrator/internal/state/drills"
	"github.com/stranglerfig/migrator/internal/state/runbooks"
	"github.com/stranglerfig/migrator/internal/test/clitest"
	"github.com/stranglerfig/migrator/phases"
	"github.com/stranglerfig/migrator/reconcile"
	"github.com/stranglerfig/migrator/record"
	"github.com/stranglerfig/migrator/runbook"
	"github.com/stranglerfig/migrator/store"
)

// contractTypes are the types of docs/json.md that have a Go type.
func contractTypes() map[reflect.Type]string {
	return map[reflect.Type]string{
		reflect.TypeFor[app.ApplyResult](): "applied", reflect.TypeFor[state.KeyChange](): "key change",
		reflect.TypeFor[phases.Approval](): "approval", reflect.TypeFor[backfill.Progress](): "backfill",
		reflect.TypeFor[phases.BackfillStatus](): "newest backfill", reflect.TypeFor[store.Check](): "check",
		reflect.TypeFor[phases.DrillResult]():   "newest drill",
		reflect.TypeFor[phases.InjectedFault](): "injected fault", reflect.TypeFor[liftedFault](): "lifted fault",
		reflect.TypeFor[phases.Snapshot](): "snapshot", reflect.TypeFor[record.Field](): "field",
		reflect.TypeFor[reconcile.Finding](): "finding", reflect.TypeFor[phases.Fleet](): "fleet",
		reflect.TypeFor[phases.Evaluation](): "evaluation", reflect.TypeFor[phases.Latch](): "latch",
		reflect.TypeFor[phases.Bypass](): "bypass", reflect.TypeFor[app.Forgotten](): "forgotten", reflect.TypeFor[store.Trace](): "trace",
		reflect.TypeFor[app.Triggers](): "triggers", reflect.TypeFor[app.TriggerView](): "trigger view",
		reflect.TypeFor[app.AutomaticRollback](): "automatic rollback", reflect.TypeFor[explained](): "explained",
		reflect.TypeFor[app.GateView](): "gate ahead", reflect.TypeFor[app.NextStep](): "next step", reflect.TypeFor[app.ReentryCost](): "reentry", reflect.TypeFor[app.LongJob](): "long job",
		reflect.TypeFor[judge.Replayed](): "replayed", reflect.TypeFor[judge.ReplayedFiring](): "replayed firing",
		reflect.TypeFor[judge.ReplayedTrigger](): "replayed trigger",
		reflect.TypeFor[state.Token]():           "token", reflect.TypeFor[changedToken](): "changed token",
		reflect.TypeFor[validated](): "validated", reflect.TypeFor[phases.Capture](): "change capture",
		reflect.TypeFor[verified](): "verified", reflect.TypeFor[broken](): "broken",
		reflect.TypeFor[state.Entry](): "entry", reflect.TypeFor[phases.GateResult](): "gate", reflect.TypeFor[hint.Hint](): "hint", reflect.TypeFor[phases.Lease](): "lease", reflect.TypeFor[phases.Column](): "column", reflect.TypeFor[phases.StateLoss](): "state loss",
		reflect.TypeFor[preflight.Report]():       "plan",
		reflect.TypeFor[preflight.PlannedPhase](): "planned phase", reflect.TypeFor[problem](): "problem",
		reflect.TypeFor[phases.ReconcileResult](): "newest reconcile", reflect.TypeFor[app.Reconciled](): "report",
		reflect.TypeFor[phases.Rollback](): "rollback", reflect.TypeFor[phases.Route](): "route",
		reflect.TypeFor[reconcile.Run](): "run", reflect.TypeFor[settings](): "settings",
		reflect.TypeFor[phases.Status](): "migration status", reflect.TypeFor[app.Status](): "status",
		reflect.TypeFor[rehearsed](): "rehearsed", reflect.TypeFor[refusedKey](): "refused key",
		reflect.TypeFor[control.Step](): "step", reflect.TypeFor[daemon.Worked](): "worked", reflect.TypeFor[reconcile.Planned](): "planned repair",
		reflect.TypeFor[reconcile.Explanation](): "explanation", reflect.TypeFor[reconcile.KeyColumn](): "key column",
		reflect.TypeFor[reconcile.Side](): "side", reflect.TypeFor[reconcile.ExplainedField](): "explained field",
		reflect.TypeFor[record.Difference](): "field difference", reflect.TypeFor[reconcile.JournaledKey](): "journaled key",
		reflect.TypeFor[reconcile.PastFinding](): "past finding", reflect.TypeFor[reconcile.Coverage](): "coverage",
		reflect.TypeFor[app.ListedRun]():  "listed run",
		reflect.TypeFor[runbook.Detail](): "runbook detail", reflect.TypeFor[phases.VerificationResult](): "newest verification",
		reflect.TypeFor[runbooks.Run](): "runbook run", reflect.TypeFor[runbook.Record](): "runbook step",
		reflect.TypeFor[app.RunbookVerdict](): "runbook verdict", reflect.TypeFor[app.RunbookView](): "runbook view",
		reflect.TypeFor[drill.Report](): "drill report", reflect.TypeFor[drill.Fault](): "drill fault",
		reflect.TypeFor[drill.Step](): "drill step", reflect.TypeFor[drill.Healthy](): "drill healthy time",
		reflect.TypeFor[drill.Observations](): "drill observations", reflect.TypeFor[drill.FaultTarget](): "drill instance",
		reflect.TypeFor[drill.Killed](): "drill daemon", reflect.TypeFor[drill.Fired](): "drill verdict",
		reflect.TypeFor[drill.Times](): "drill times", reflect.TypeFor[drill.Totals](): "drill load",
		reflect.TypeFor[drill.Checked](): "drill ledger", reflect.TypeFor[drill.Controls](): "drill controls",
		reflect.TypeFor[drill.Reconciled](): "drill reconcile", reflect.TypeFor[drill.Second](): "drill second",
		reflect.TypeFor[drill.Mark](): "drill mark", reflect.TypeFor[drills.Run](): "drill run",
		reflect.TypeFor[app.ExportedDrill](): "exported drill", reflect.TypeFor[app.ImportedDrill](): "imported drill",
	}
}

// TestJSONTypes compares docs/json.md with the Go types, field by field.
func TestJSONTypes(t *testing.T) {
	t.Parallel()
	c, err := clitest.ReadContract()
	if err != nil {
		t.Fatal(err)
	}
	names := contractTypes()
	for goType, name := range names {
		if name == "settings" {
			continue // printed as a table's rows; TestJSONContract checks them
		}
		want, got := clitest.FieldsOf(goType, names), c.Types[name]
		if len(got) == 0 {
			t.Errorf("docs/json.md does not describe %s (%s)", name, goType)
		}
		for _, f := range want {
			if !slices.Contains(got, f) {
				t.Errorf("%s: docs/json.md has no such field of %s: %+v", name, goType, f)
			}
		}
		for _, f := range got {
			if !slices.Contains(want, f) && f != clitest.DryRun() {
				t.Errorf("%s: %s has no such field: %+v", name, goType, f)
			}
		}
	}
}

// TestJSONWords: the reference lists every value that a program may compare with.
func TestJSONWords(t *testing.T) {
	t.Parallel()
	data, err := os.ReadFile("../../docs/json.md")
	if err != nil {
		t.Fatal(err)
	}
	rows := map[string]string{}
	for line := range strings.Lines(string(data)) {
		if m := clitest.FieldRow.FindStringSubmatch(strings.TrimSpace(line)); m != nil {
			rows[m[1]] += line
		}
	}
	for field, words := range map[string][]string{
		"cause":   words(phases.CauseCreated, phases.CauseAdvance, phases.CauseRollback, phases.CauseFence, phases.CauseFailure, phases.CauseConfig, phases.CauseLoss, phases.CauseTable, phases.CauseEvict, phases.CausePause, phases.CauseResume, phases.CauseApprove, phases.CauseTrigger, phases.CauseAcknowledge, phases.CauseSchedule),
		"verdict": words(phases.Pass, phases.Off, phases.Fail, phases.Inconclusive, phases.NoData, phases.Error, phases.Quiet, phases.Firing),
		"phase":   append(words(phases.Order...), words(phases.Fenced, phases.Lifting, phases.Returning)...),
		"class": append(words(phases.LosslessNow, phases.LosslessAfter, phases.Unknown, phases.Impossible),
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
				t.Errorf("the field %s may be %q, which docs/json.md does not list", field, word)
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
