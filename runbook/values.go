package runbook

import (
	"strings"

	"github.com/stranglerfig/migrator/migration"
)

// Values returns the names that a runbook may write as ${name}, taken from the migration file.
// URLs are not among them: steps name connections, and programs read URLs from variables.
func Values(m *migration.Config) map[string]string {
	v := map[string]string{
		"migration":    m.Name,
		"environment":  m.Environment,
		"legacy.table": m.Legacy.Table,
		"legacy.store": m.Legacy.Store,
		"target.store": m.Target.Store,
		"decider":      m.Phases.Approval.Role,
	}
	if m.Target.Table != "" {
		v["target.table"] = m.Target.Table
	}
	if m.Target.KeyTemplate != "" {
		v["target.key_prefix"], _, _ = strings.Cut(m.Target.KeyTemplate, "{")
	}
	return v
}
