package preflight

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/stranglerfig/migrator/internal/hint"
	"github.com/stranglerfig/migrator/internal/statedb"
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

// checkGrants warns of roles that kept the rights of an earlier release: what docs/security.md says of applications
// does not hold for them.
func (p *Preflight) checkGrants(ctx context.Context, r *Report) {
	st, err := p.state(ctx)
	if err != nil {
		return // a check has reported it
	}
	roles, err := st.Ungranted(ctx)
	if _, denied := errors.AsType[*statedb.NotAllowedError](err); denied {
		r.unseen("state", "rights on the state's tables that no grant explains: only an operator may see the grants")
		return
	}
	check := store.Check{Name: "grants"}
	switch {
	case err != nil:
		check = refusal(check.Name, err)
	case len(roles) == 0:
		return
	default:
		names := make([]string, len(roles))
		for i, role := range roles {
			names[i] = strconv.Quote(role)
		}
		check.Result, check.Detail = store.Warned, "roles have rights on the state's tables that no grant explains, as earlier releases gave them: "+strings.Join(names, ", ")
		check.Hint = hint.Hint{Do: hint.GrantApplication, Of: roles[:1], Text: "or the grant that the role needs, which revokes all others"}
	}
	r.add("state", []store.Check{check})
}
