package preflight

import (
	"context"
	"fmt"

	"github.com/stranglerfig/migrator/internal/hint"
	"github.com/stranglerfig/migrator/store"
)

// checkDeciders refuses a role that the state database does not have: no one could approve a step,
// and only a superuser could override a gate. It warns of one that no role may act as.
func (p *Preflight) checkDeciders(ctx context.Context) []store.Check {
	role := p.Config.Phases.Approval.Role
	if role == "" {
		return nil
	}
	st, err := p.state(ctx)
	if err != nil {
		return nil // a check has reported it
	}
	members, err := st.Members(ctx, role)
	exists := len(members) > 0
	if err == nil && !exists {
		exists, err = st.HasRole(ctx, role)
	}
	check := store.Check{Name: "deciders", Result: store.Good, Detail: fmt.Sprintf("members of the role %q approve and override", role)}
	switch {
	case err != nil:
		return []store.Check{refusal(check.Name, err)}
	case !exists:
		check.Result, check.Detail = store.Refused, fmt.Sprintf("the state database has no role %q, which phases.approval.role names: no step that needs an approval could be taken", role)
		check.Hint = hint.Hint{Text: "CREATE ROLE in the state database, then GRANT it to those who decide; or name another one"}
	case len(members) == 0:
		check.Result, check.Detail = store.Warned, fmt.Sprintf("the role %q has no member that may log in: only a superuser of the state database can approve and override", role)
		check.Hint = hint.Hint{Text: "GRANT the role to those who decide"}
	}
	return []store.Check{check}
}
