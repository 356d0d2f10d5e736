package reconcile

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/stranglerfig/migrator/internal/repair"
	"github.com/stranglerfig/migrator/record"
	"github.com/stranglerfig/migrator/store"
)

// Explanation is all that is known of one key: both sides as read at once, the rule by
// which each field is compared, and what earlier runs have found. It holds no values,
// unless their rule shows them.
type Explanation struct {
	Key      record.Key       `json:"key"`
	Columns  []KeyColumn      `json:"columns"`
	At       time.Time        `json:"at"` // by the target's clock
	Era      int64            `json:"era"`
	Same     bool             `json:"same"`
	Class    Class            `json:"class,omitempty"` // of a run's finding, if the difference stays
	Detail   string           `json:"detail,omitempty"`
	Legacy   Side             `json:"legacy"`
	Target   Side             `json:"target"`
	Fields   []ExplainedField `json:"fields"`
	Journal  *JournaledKey    `json:"journal,omitempty"`
	Repair   Planned          `json:"repair"`
	Findings []PastFinding    `json:"findings"` // newest first
}

// KeyColumn is one column of a key.
type KeyColumn struct {
	Name  string `json:"name"`
	Type  string `json:"type"`
	Value string `json:"value"`
}

// Side is one store's state of the key.
type Side struct {
	Presence store.Presence `json:"presence"` // of legacy: live or absent
	Name     string         `json:"name,omitempty"`
	// Version of legacy is the one that a repair would write now: newer than every
	// committed write of the key.
	Version record.Version `json:"version,omitzero"`
	Expires time.Time      `json:"expires,omitzero"`
	Expired bool           `json:"expired,omitempty"`
	Detail  string         `json:"detail,omitempty"`
}

// ExplainedField is one field on both sides.
type ExplainedField struct {
	Field       string              `json:"field"`
	Target      string              `json:"target"` // its name there
	Type        string              `json:"type"`
	Rule        string              `json:"rule"`
	InLegacy    string              `json:"in_legacy"` // a keyed hash, null or missing; the value where shown
	InTarget    string              `json:"in_target"`
	Differences []record.Difference `json:"differences,omitempty"`
}

// PastFinding is a finding of an earlier run.
type PastFinding struct {
	Run   int64     `json:"run"`
	Began time.Time `json:"began"`
	Finding
}

// Past reads what is kept of one key.
type Past interface {
	// JournalEntry returns the journaled key; nil: the key is not journaled.
	JournalEntry(ctx context.Context, key record.Key) (*JournaledKey, error)
	// FindingsOf returns the key's findings, newest first, up to limit.
	FindingsOf(ctx context.Context, key record.Key, limit int) ([]PastFinding, error)
}

// pastFindings is how many findings an explanation has at most.
const pastFindings = 20

// Explain reads one key, under its lock in legacy. The key must be one of the schema's
// (see record.Schema.CheckKey). rules are those of the Comparer, for their words.
func (rc *Reconciler) Explain(ctx context.Context, key record.Key, past Past, rules []record.Rule) (*Explanation, error) {
	schema := rc.Legacy.Schema()
	parts, err := schema.CheckKey(key)
	if err != nil {
		return nil, err
	}
	if rc.Locker == nil {
		return nil, errors.New("this legacy store can't read rows under their lock")
	}
	r, err := newRules(rc)
	if err != nil {
		return nil, err
	}
	journaled, err := past.JournalEntry(ctx, key)
	if err != nil {
		return nil, fmt.Errorf("read the journal: %w", err)
	}
	observed, err := (&repair.Repairer{Locker: rc.Locker, Target: rc.Target}).Observe(ctx, []record.Key{key})
	if err != nil {
		return nil, err
	}
	now := snapshot{era: observed.Era, row: observed.Rows[0], entry: observed.Seen[0], now: observed.Now}
	x := &Explanation{
		Key: key, At: now.now, Era: int64(now.era), Same: r.agreed(now), Journal: journaled,
		Legacy: r.legacySide(now), Target: Side{
			Presence: now.entry.Presence, Version: now.entry.Version, Expires: now.entry.Expires, Detail: now.entry.Detail,
		},
	}
	for i, at := range schema.Key {
		x.Columns = append(x.Columns, KeyColumn{Name: schema.Fields[at].Name, Type: schema.Fields[at].Type, Value: parts[i]})
	}
	if n, ok := rc.Target.(store.KeyNamer); ok {
		if x.Target.Name, err = n.NameOf(key); err != nil {
			return nil, err
		}
	}
	var lost record.Version
	if journaled != nil {
		lost = journaled.Version
	}
	x.classify(r, now, lost, observed.Fenced)
	if x.Same && x.Detail == "" && !now.row.Found && now.entry.Presence == store.Absent {
		x.Detail = "neither store has a record of this key"
	}
	x.Repair = planned(observed.Plan(0, lost), x.Class, journaled != nil)
	x.Fields = r.explainFields(schema, now, rules)
	if x.Findings, err = past.FindingsOf(ctx, key, pastFindings); err != nil {
		return nil, fmt.Errorf("read earlier findings: %w", err)
	}
	return x, nil
}

// classify sets the class that a run's finding would have.
func (x *Explanation) classify(r *rules, now snapshot, lost record.Version, fenced bool) {
	if fenced && now.entry.Version.Era() > now.era {
		x.Same, x.Detail = true, "the target's entry was written after legacy was fenced: the target is the authority"
		return
	}
	// A run reads legacy's row without a version, so that lag behind the row's present
	// version does not count as staleness.
	locked := now.row
	now.row.Version = record.Version{}
	if f := r.classify(now, locked, lost); f != nil {
		x.Same, x.Class, x.Detail = false, f.Class, f.Detail
	}
}

func (r *rules) legacySide(s snapshot) Side {
	if !s.row.Found {
		return Side{Presence: store.Absent}
	}
	side := Side{Presence: store.Live, Version: s.row.Version, Expired: r.expired(s.row.Record, s.now)}
	if then, ok := r.expiry(s.row.Record); ok {
		side.Expires = then
	}
	return side
}

func (r *rules) explainFields(schema *record.Schema, s snapshot, rules []record.Rule) []ExplainedField {
	fields := make([]ExplainedField, len(schema.Fields))
	byField := map[string][]record.Difference{}
	if s.row.Found && s.entry.Record != nil {
		for _, d := range r.compare.Compare(s.row.Record, s.entry.Record) {
			tokens, err := record.ParsePointer(d.Path)
			if err == nil && len(tokens) > 0 {
				byField[tokens[0]] = append(byField[tokens[0]], d)
			}
		}
	}
	for i, f := range schema.Fields {
		x := ExplainedField{Field: f.Name, Target: f.Target, Type: f.Type, Rule: f.How(rules), Differences: byField[f.Name]}
		x.InLegacy, x.InTarget = r.compare.Sides(i, s.row.Record, s.entry.Record)
		fields[i] = x
	}
	return fields
}
