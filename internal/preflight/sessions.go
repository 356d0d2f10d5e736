package preflight

import (
	"context"
	"fmt"

	"github.com/stranglerfig/migrator/internal/hint"
	"github.com/stranglerfig/migrator/internal/humanize"
	"github.com/stranglerfig/migrator/internal/state"
	"github.com/stranglerfig/migrator/store"
)

// checkSessions compares the sessions that all at work on the state database needs with those that its server
// has: a server that is full refuses a rollback too.
func (p *Preflight) checkSessions(ctx context.Context) []store.Check {
	st, err := p.state(ctx)
	if err != nil {
		return nil // a check has reported it
	}
	n, err := st.Sessions(ctx)
	if err != nil {
		return []store.Check{{Name: "sessions", Result: store.Warned, Detail: "sessions can't be counted: " + err.Error()}}
	}
	return []store.Check{sessions(n)}
}

func sessions(n state.Sessions) store.Check {
	detail := fmt.Sprintf("%d in use of %d; %s, %s and commands need %d", n.Used, n.Limit, humanize.Counted(n.Instances, "instance"), humanize.Counted(n.Daemons, "daemon"), n.Needed())
	if free := n.Limit - max(n.Used+state.CommandSessions, n.Needed()); free >= 0 {
		return store.Check{Name: "sessions", Result: store.Good, Detail: detail + fmt.Sprintf(": room for about %d more instances", free/state.InstanceSessions)}
	}
	return store.Check{
		Name: "sessions", Result: store.Warned, Detail: detail + ": a server that is full refuses a rollback too",
		Hint: hint.Hint{Text: "raise max_connections of the state database's server, or reserve sessions for operators (docs/operating.md, Sessions of the state database)"},
	}
}
