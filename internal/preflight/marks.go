package preflight

import (
	"context"
	"errors"

	"github.com/stranglerfig/migrator/internal/hint"
	"github.com/stranglerfig/migrator/store"
)

// checkMark finds that the target is another migration's, or is not the one that this migration has
// written.
func (p *Preflight) checkMark(ctx context.Context, target store.Target) []store.Check {
	marker, ok := target.(store.Marker)
	if !ok || p.TakeOver {
		return nil
	}
	name := p.Config.Name
	var owner string
	var m store.Mark
	if st, err := p.state(ctx); err == nil { // else a check has reported it, or there is none yet
		if owner, err = st.Owner(ctx, name); err == nil {
			m, _, err = st.Mark(ctx, name)
		}
		if err != nil {
			return []store.Check{refusal("mark", err)}
		}
	}
	if m.Incarnation != "" {
		err := marker.CheckMark(ctx, m)
		if errors.Is(err, store.ErrMarkLost) {
			err = hint.With(err, store.MarkHint(name, err.Error()))
		}
		if err != nil {
			return []store.Check{refusal("mark", err)}
		}
		return nil
	}
	switch others, err := marker.Owners(ctx, owner); {
	case err != nil:
		return []store.Check{refusal("owner", err)}
	case len(others) > 0:
		return []store.Check{{
			Name: "owner", Result: store.Refused, Detail: "the target's keys belong to another migration: " + others[0],
			Hint: hint.Hint{Do: hint.TakeOver, Text: "if that one is over; else write other keys"},
		}}
	}
	return nil
}
