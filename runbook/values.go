package runbook

import "github.com/stranglerfig/migrator/migration"

// Values returns the names that a runbook may write as ${name}, taken from the migration file.
// URLs are not among them: steps name connections, and programs read URLs from variables.
func Values(m *migration.Config) map[string]string {
	v := map[string]string{
		"migration":    m.Name,
		"environment":  m.Environment,
		"legacy.store": m.Legacy.Store,
		"target.store": m.Target.Store,
		"decider":      m.Phases.Approval.Role,
	}
	if p, ok := m.Legacy.Part.(migration.NamedPart); ok {
		for name, text := range p.Names() {
			v["legacy."+name] = text
		}
	}
	if p, ok := m.Target.Part.(migration.NamedPart); ok {
		for name, text := range p.Names() {
			v["target."+name] = text
		}
	}
	return v
}
