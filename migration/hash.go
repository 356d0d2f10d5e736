package migration

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"slices"

	"github.com/stranglerfig/migrator/record"
)

// Public is the description as JSON, for the state database: the same bytes for
// the same description, without URLs, the files that hold them, and what else says how somebody is reached.
// Reading it into a Migration gives all the rest back; a zero that is left out
// there is a zero, not a default.
func (m *Config) Public() ([]byte, error) {
	public := *m
	public.Legacy.URL, public.Legacy.URLFile = "", ""
	public.Target.URL, public.Target.URLFile = "", ""
	public.Prometheus, public.Webhooks, public.Runbook = Prometheus{}, nil, Runbook{}
	return json.Marshal(public)
}

// Hash is what evidence is bound to: 64 hexadecimal digits of SHA-256 over what
// decides which records are moved, how they are compared and written, and what is
// demanded before a step.
//
// Left out is what may be tuned beside a running migration: URLs (so a password
// can be changed), prometheus, webhooks, runbook, phases' auto, fleet, backfill, and of reconcile all but pause and rereads; of
// the rules show, the wording of ignore, and their order. The hazard in it: a URL
// that points to another server leaves old evidence standing. Whoever changes more
// of a URL than its password reconciles anew.
func (m *Config) Hash() string {
	what := *m
	what.Fleet, what.Backfill = Fleet{}, Backfill{}
	what.Reconcile = Reconcile{Pause: m.Reconcile.Pause, Rereads: m.Reconcile.Rereads}
	what.Phases.DualRead.Auto, what.Phases.Cutover.Auto = nil, nil
	what.Compare = nil
	for _, r := range m.Compare {
		r.Show = false
		if r.Ignore != "" {
			r.Ignore = "yes"
		}
		if r.Ignore != "" || r.Tolerance != "" || r.Precision != 0 {
			what.Compare = append(what.Compare, r)
		}
	}
	slices.SortFunc(what.Compare, func(a, b record.Rule) int { return cmp.Compare(a.Path, b.Path) })
	what.Exclude = slices.Sorted(slices.Values(m.Exclude))
	public, _ := what.Public() // texts, numbers and lists: JSON can't fail on them
	sum := sha256.Sum256(public)
	return hex.EncodeToString(sum[:])
}
