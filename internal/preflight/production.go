package preflight

import (
	"github.com/stranglerfig/migrator/internal/hint"
	"github.com/stranglerfig/migrator/migration"
	"github.com/stranglerfig/migrator/store"
)

// production is the environment whose safeguards CheckProduction looks for.
const production = "production"

// CheckProduction warns of each safeguard that a migration file of production leaves off, with the
// line that turns it on. A gate with a reason in off is off on purpose. None is on by default: a
// default is part of the hash that evidence of applied migrations is bound to.
func CheckProduction(m *migration.Config) []store.Check {
	if m.Environment != production {
		return nil
	}
	var found []store.Check
	warn := func(name, detail, line string) {
		found = append(found, store.Check{Name: name, Result: store.Warned, Detail: detail, Hint: hint.Hint{Text: line}})
	}
	gates := m.Gates
	if gates.Off == "" && gates.Runbook.Off == "" && gates.Runbook.Within == 0 {
		warn("runbook", "cutover does not require that the rollback runbook was verified", "gates: {runbook: {within: 30d}}")
	}
	if gates.Off == "" && gates.Drill.Off == "" && gates.Drill.Within == 0 {
		warn("drill", "cutover does not require that a rollback was rehearsed", "gates: {drill: {within: 30d}}, with public_key for drills of staging")
	}
	if m.Phases.Approval.Role == "" {
		warn("approval", "every role that may write the state database may approve and override gates", "phases: {approval: {role: ROLE}}, a PostgreSQL role whose members decide")
	}
	if m.Reconcile.Schedule == "" && m.Reconcile.FullSchedule == "" {
		warn("reconcile", "the daemon starts no reconcile run by itself", `reconcile: {schedule: "0 3 * * *"}, or full_schedule`)
	}
	return found
}
