package preflight

import (
	"context"

	"github.com/stranglerfig/migrator/internal/hint"
	"github.com/stranglerfig/migrator/store"
)

// checkParts compares the parts of legacy's table with those that the state has noted. It notes
// nothing: the daemon does, and apply.
func (p *Preflight) checkParts(ctx context.Context, legacy store.Legacy) []store.Check {
	w, ok := legacy.(store.PartWatcher)
	s, err := p.state(ctx)
	if !ok || err != nil {
		return nil
	}
	before, err := s.Parts(ctx, p.Config.Name)
	if err != nil || before == nil {
		return nil
	}
	now, err := w.Parts(ctx)
	if err != nil {
		return []store.Check{refusal("parts", err)}
	}
	changes, _, _, err := w.PartChanges(ctx, before, now)
	switch {
	case err != nil:
		return []store.Check{refusal("parts", err)}
	case changes == "":
		return nil
	}
	return []store.Check{{Name: "parts", Result: store.Warned, Detail: "since the last look: " + changes, Hint: partsHint}}
}

// partsHint is the remedy of a table whose parts have changed.
var partsHint = hint.Hint{Do: hint.ReconcileFull, Text: "and settle what differs; then apply accepts the table as it is"}
