package migration

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"slices"

	"github.com/stranglerfig/migrator/record"
)

// Public is the migration file as JSON, for the state database: the same bytes for the
// same content, without URLs, their files, and the sections that tell how to reach
// outside systems (prometheus, webhooks, runbook), and without capture where it is off. Stored reads all the rest back; a
// field that is left out there is a zero, not a default.
func (m *Config) Public() ([]byte, error) {
	public := *m
	public.Legacy.URL, public.Legacy.URLFile = "", ""
	public.Target.URL, public.Target.URLFile = "", ""
	public.Prometheus, public.Webhooks, public.Runbook = Prometheus{}, nil, Runbook{}
	if !m.Capture.Mode.On() { // as in releases that had no such section
		public.Capture = Capture{}
	}
	return json.Marshal(public)
}

// Hash is the config hash, which telemetry, runs and approvals are bound to: 64
// hexadecimal digits of SHA-256 over what decides which records are moved, how they are
// compared and written, and what a step requires. With m.Schema, as apply has resolved it, the
// columns are part of it.
//
// It leaves out what may be tuned beside a running migration: URLs (so a password can be
// changed), what only its store knows to be tunable (legacy's standbys), prometheus, webhooks, runbook, phases' auto and shadow, fleet, backfill, throttle, of capture all
// but mode, and of reconcile all but pause and rereads; of the rules show, the wording of ignore, and
// their order.
//
// Hazard: a URL that points to another server keeps the hash, so results of the old
// server still count. After a change of more than a URL's password, run a full reconcile.
func (m *Config) Hash() string {
	what := *m
	what.Fleet, what.Backfill, what.Throttle, what.Capture = Fleet{}, Backfill{}, Throttle{}, Capture{Mode: m.Capture.Mode}
	what.Reconcile = Reconcile{Pause: m.Reconcile.Pause, Rereads: m.Reconcile.Rereads}
	what.Phases.DualRead.Auto, what.Phases.Cutover.Auto = nil, nil
	what.Phases.Cutover.Shadow, what.Phases.Grace.Shadow = 0, 0
	what.Compare = nil
	for _, r := range m.Compare {
		r.Show = false
		if r.Ignore != "" {
			r.Ignore = "yes"
		}
		if r.Ignore != "" || r.Tolerance != "" || r.Precision != 0 || r.As != "" {
			what.Compare = append(what.Compare, r)
		}
	}
	slices.SortFunc(what.Compare, func(a, b record.Rule) int { return cmp.Compare(a.Path, b.Path) })
	what.Exclude = slices.Sorted(slices.Values(m.Exclude))
	public, _ := what.Public() // texts, numbers and lists: JSON can't fail on them
	if m.Schema != nil {
		public = append(public, m.Schema.Hash()...)
	}
	sum := sha256.Sum256(public)
	return hex.EncodeToString(sum[:])
}

// Moves is a hash of what an instance of the migration moves, from where to where and in which form:
// two instances with the same one write the same entries for the same records. Unlike Hash it
// covers nothing else. The columns are those of m.Schema; "" without it: what is moved is not known.
func (m *Config) Moves() string {
	if m.Schema == nil {
		return ""
	}
	what := struct {
		Name   string `json:"name"`
		Legacy Legacy `json:"legacy"`
		Target Target `json:"target"`
		Schema string `json:"schema"`
	}{m.Name, m.Legacy, m.Target, m.Schema.Hash()}
	what.Legacy.URL, what.Legacy.URLFile, what.Target.URL, what.Target.URLFile = "", "", "", ""
	text, _ := json.Marshal(what)
	sum := sha256.Sum256(append([]byte("moves "), text...))
	return hex.EncodeToString(sum[:])
}
