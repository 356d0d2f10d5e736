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

// Explanation is all there is to know of one key: both sides at one look, the rule
// that each field is compared by, and what earlier runs have found. It holds no
// values, unless their rule says show.
type Explanation struct {
	Key      record.Key       `json:"key"`
	Columns  []KeyColumn      `json:"columns"`
	At       time.Time        `json:"at"` // by the target's clock
	Era      int64            `json:"era"`
	Same     bool             `json:"same"`
	Class    Class            `json:"class,omitempty"` // as a run would call it if it lasts
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

// Side is what one store says of the key.
type Side struct {
	Presence store.Presence `json:"presence"` // of legacy live or absent
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

// PastFinding is what a run has found of the key.
type PastFinding struct {
	Run   int64     `json:"run"`
	Began time.Time `json:"began"`
	Finding
}

// Past is what is kept of one key.
type Past interface {
	// JournalEntry of the key; nil: it is not journalled.
	JournalEntry(ctx context.Context, key record.Key) (*JournaledKey, error)
	// FindingsOf the key, newest first, up to limit.
	FindingsOf(ctx context.Context, key record.Key, limit int) ([]PastFinding, error)
}

// pastFindings are as many as one looks at.
const pastFindings = 20

// Explain looks at one key. The key must be one of the schema's (see
// record.Schema.CheckKey). rules are those of the Comparer, for their words.
func (rc *Reconciler) Explain(ctx context.Context, key record.Key, past Past, rules []record.Rule) (*Explanation, error) {
	schema := rc.Legacy.Schema()
	parts, err := schema.CheckKey(key)
	if err != nil {
		return nil, err
	}
	if rc.Locker == nil {
		return nil, errors.New("this legacy store does not read rows under their lock")
	}
	r, err := rc.start()
	if err != nil {
		return nil, err
	}
	lost, err := past.JournalEntry(ctx, key)
	if err != nil {
		return nil, fmt.Errorf("read the journal: %w", err)
	}
	sight, err := r.fixer.Look(ctx, []record.Key{key})
	if err != nil {
		return nil, err
	}
	row, entry := sight.Rows[0], sight.Seen[0]
	x := &Explanation{Key: key, At: sight.Now, Era: int64(sight.Era), Same: r.same(row, entry, sight.Now)}
	for i, at := range schema.Key {
		x.Columns = append(x.Columns, KeyColumn{Name: schema.Fields[at].Name, Type: schema.Fields[at].Type, Value: parts[i]})
	}
	x.Legacy, x.Target = r.legacySide(row, sight.Now), Side{
		Presence: entry.Presence, Version: entry.Version, Expires: entry.Expires, Detail: entry.Detail,
	}
	if n, ok := rc.Target.(store.KeyNamer); ok {
		if x.Target.Name, err = n.NameOf(key); err != nil {
			return nil, err
		}
	}
	var version record.Version
	if lost != nil {
		version = lost.Version
		x.Journal = lost
	}
	x.judged(r, sight, version)
	x.Repair = planned(sight.Plan(0, version), x.Class, lost != nil)
	x.Fields = r.explainFields(schema, row, entry, rules)
	if x.Findings, err = past.FindingsOf(ctx, key, pastFindings); err != nil {
		return nil, fmt.Errorf("read earlier findings: %w", err)
	}
	return x, nil
}

// judged classifies what is seen.
func (x *Explanation) judged(r *work, sight repair.Sight, lost record.Version) {
	row, entry := sight.Rows[0], sight.Seen[0]
	if entry.Version.Era() > sight.Era {
		x.Same, x.Detail = true, "the target's entry belongs to a later era than what legacy says: the target is the authority"
		return
	}
	// A run reads legacy's row without a version first, so that lag behind the
	// present one does not count as staleness.
	seen := evidence{era: sight.Era, row: row, entry: entry, now: sight.Now}
	seen.row.Version = record.Version{}
	if f := r.classify(seen, row, lost); f != nil {
		x.Same, x.Class, x.Detail = false, f.Class, f.Detail
	}
}

func (r *work) legacySide(row store.Row, now time.Time) Side {
	if !row.Found {
		return Side{Presence: store.Absent}
	}
	s := Side{Presence: store.Live, Version: row.Version, Expired: r.expired(row.Record, now)}
	if then, ok := r.expiry(row.Record); ok {
		s.Expires = then
	}
	return s
}

func (r *work) explainFields(schema *record.Schema, row store.Row, entry store.Entry, rules []record.Rule) []ExplainedField {
	fields := make([]ExplainedField, len(schema.Fields))
	byField := map[string][]record.Difference{}
	if row.Found && entry.Record != nil {
		for _, d := range r.compare.Compare(row.Record, entry.Record) {
			tokens, err := record.ParsePointer(d.Path)
			if err == nil && len(tokens) > 0 {
				byField[tokens[0]] = append(byField[tokens[0]], d)
			}
		}
	}
	for i, f := range schema.Fields {
		x := ExplainedField{Field: f.Name, Target: f.Target, Type: f.Type, Rule: f.How(rules), Differences: byField[f.Name]}
		x.InLegacy, x.InTarget = r.compare.Sides(i, row.Record, entry.Record)
		fields[i] = x
	}
	return fields
}
