package app

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/stranglerfig/migrator/internal/hint"
	"github.com/stranglerfig/migrator/internal/state"
	"github.com/stranglerfig/migrator/migration"
	"github.com/stranglerfig/migrator/phases"
	"github.com/stranglerfig/migrator/record"
	"github.com/stranglerfig/migrator/store"
)

// withColumns returns the migration file with the columns that are applied, which its stores are
// opened with.
func withColumns(m *migration.Config, applied state.Applied) (*migration.Config, error) {
	schema, err := applied.Columns()
	if err != nil {
		return nil, fmt.Errorf("the applied columns of %s can't be read: %w", m.Name, err)
	}
	own := *m
	own.Schema = schema
	return &own, nil
}

// appliedColumns is withColumns of what is applied now; m itself if nothing is.
func appliedColumns(ctx context.Context, st *state.Store, m *migration.Config) (*migration.Config, error) {
	applied, err := st.Config(ctx, m.Name)
	if state.IsUnknown(err) {
		return m, nil
	}
	if err != nil {
		return nil, err
	}
	return withColumns(m, applied)
}

// ColumnFlags are the changes of columns that an apply confirms.
type ColumnFlags struct{ Add, Drop []string }

// resolved is what an apply makes of a table.
type resolved struct {
	schema         *record.Schema
	added, dropped []string // names in legacy; a column in both is moved with another type
	change         bool     // other columns than before are moved, in an epoch of their own
}

// resolveColumns compares the columns that are applied with those of the table and the file, and
// decides which are moved from now on. In legacy that is the table's; beyond it each change must be
// confirmed by its flag, and is made in shadow-write and dual-read alone.
func resolveColumns(applied *record.Schema, at phases.Phase, now *record.Schema, flags ColumnFlags) (resolved, error) {
	r := resolved{schema: now}
	if applied == nil {
		applied = now // not applied yet, or by a release that kept no columns
	}
	differ := compareColumns(applied, now)
	for _, name := range slices.Concat(flags.Add, flags.Drop) {
		if !slices.Contains(differ.added, name) && !slices.Contains(differ.dropped, name) && !slices.Contains(differ.changed, name) && !differ.untyped {
			return r, refuseHint(flagHint(name, flags, now), "nothing is to be done about column %q: %s", name, placeOf(name, applied, now))
		}
	}
	r.added, r.dropped = slices.Concat(differ.added, differ.changed), slices.Concat(differ.dropped, differ.changed)
	if at == phases.Legacy || at == "" {
		return r, nil
	}
	// From here on what is moved stays, but for what the flags name.
	r.schema = withTable(applied, now)
	confirmed := func(names, given []string) bool {
		return !slices.ContainsFunc(names, func(name string) bool { return !slices.Contains(given, name) })
	}
	switch {
	case differ.key:
		return r, refuseHint(hint.Hint{Text: "roll back to legacy, and apply there"}, "the key's columns can't be changed at %s: %s", at, keyText(applied, now))
	case len(r.added)+len(r.dropped) == 0:
		return r, nil
	case at != phases.ShadowWrite && at != phases.DualRead:
		return r, refuseHint(r.flags("after a rollback to dual-read; or leave what is moved as it is until complete: a new column belongs in exclude"),
			"the columns that are moved can't be changed at %s: %s", at, differ)
	case !confirmed(r.dropped, flags.Drop) || !confirmed(r.added, flags.Add):
		return r, refuseHint(r.flags("which begins an epoch of its own; a new column that is not to be moved belongs in exclude"),
			"the table or the file has other columns than are moved: %s", differ)
	}
	r.schema, r.change = changedColumns(applied, now, r.added, r.dropped), true
	return r, nil
}

// CheckColumns makes Apply's comparison of legacy's columns alone, which needs no target. It changes
// nothing.
func CheckColumns(ctx context.Context, st *state.Store, m *migration.Config, flags ColumnFlags) error {
	file, err := state.ToApply(m)
	if err != nil {
		return err
	}
	if _, err := st.Compare(ctx, file); err != nil { // another table has other columns
		return err
	}
	known, at, err := columnsBefore(ctx, st, m.Name)
	if err != nil || known == nil && len(flags.Add)+len(flags.Drop) == 0 {
		return err
	}
	legacy, err := m.OpenLegacy(ctx)
	if err != nil {
		return err
	}
	defer legacy.Close()
	_, err = resolveColumns(known, at.Phase, legacy.Schema(), flags)
	return err
}

// columnsBefore returns what is applied, and the route; nil and zero if nothing is.
func columnsBefore(ctx context.Context, st *state.Store, migration string) (*record.Schema, phases.Route, error) {
	e, applied, err := st.Open(ctx, migration)
	if state.IsUnknown(err) {
		return nil, phases.Route{}, nil
	}
	if err != nil {
		return nil, phases.Route{}, err
	}
	known, err := applied.Columns()
	return known, e.Status.Route, err
}

// columnDifference is how two schemas differ in the columns that they move.
type columnDifference struct {
	added, dropped, changed []string // names in legacy
	key                     bool
	untyped                 bool // the target's types, which are applied, were not looked at now
}

func (d columnDifference) String() string {
	var texts []string
	for _, of := range []struct {
		names []string
		what  string
	}{{d.added, "is not moved"}, {d.dropped, "is moved, and gone from the table or the file"}, {d.changed, "is moved as another type"}} {
		for _, name := range of.names {
			texts = append(texts, fmt.Sprintf("column %q %s", name, of.what))
		}
	}
	return strings.Join(texts, ", ")
}

// compareColumns compares what is applied with what the table and the file have now. What an earlier
// release did not note is taken for equal; whether a column may be null does not change what moves.
func compareColumns(applied, now *record.Schema) (d columnDifference) {
	for _, f := range now.Fields {
		i := applied.Index(f.Name)
		if i < 0 {
			d.added = append(d.added, f.Name)
			continue
		}
		was := applied.Fields[i]
		d.untyped = d.untyped || was.TargetType != "" && f.TargetType == ""
		noted := func(was, is string) bool { return was == "" || is == "" || was == is }
		if was.Type != f.Type || was.Kind != f.Kind || was.Element != f.Element || was.Target != f.Target ||
			!noted(was.Collation, f.Collation) || !noted(was.TargetType, f.TargetType) || !noted(was.TargetCollation, f.TargetCollation) ||
			len(record.ChangedInside(was.Inside, f.Inside))+len(record.ChangedInside(was.TargetInside, f.TargetInside)) > 0 ||
			applied.Table == now.Table && was.Number != 0 && was.Number != f.Number {
			d.changed = append(d.changed, f.Name)
		}
	}
	for _, f := range applied.Fields {
		if now.Index(f.Name) < 0 {
			d.dropped = append(d.dropped, f.Name)
		}
	}
	d.key = !slices.Equal(keyNames(applied), keyNames(now))
	return d
}

func keyNames(s *record.Schema) (names []string) {
	for _, i := range s.Key {
		names = append(names, s.Fields[i].Name)
	}
	return names
}

func keyText(applied, now *record.Schema) string {
	return fmt.Sprintf("it is (%s), and the table or the file says (%s)", strings.Join(keyNames(applied), ", "), strings.Join(keyNames(now), ", "))
}

// withTable is what is moved, with what the table has besides: it is known now.
func withTable(applied, now *record.Schema) *record.Schema {
	s := *applied
	s.Left = now.Left
	return &s
}

// changedColumns keeps the order of the fields that stay.
func changedColumns(applied, now *record.Schema, added, dropped []string) *record.Schema {
	s := &record.Schema{Left: now.Left, Table: now.Table}
	for _, f := range applied.Fields {
		switch i := now.Index(f.Name); {
		case slices.Contains(dropped, f.Name) && slices.Contains(added, f.Name):
			s.Fields = append(s.Fields, now.Fields[i])
		case slices.Contains(dropped, f.Name):
		default:
			if i >= 0 {
				f.Number = now.Fields[i].Number
			}
			s.Fields = append(s.Fields, f)
		}
	}
	for _, f := range now.Fields {
		if slices.Contains(added, f.Name) && s.Index(f.Name) < 0 {
			s.Fields = append(s.Fields, f)
		}
	}
	for _, name := range keyNames(applied) {
		s.Key = append(s.Key, s.Index(name))
	}
	return s
}

func placeOf(name string, applied, now *record.Schema) string {
	switch {
	case applied.Index(name) >= 0:
		return "it is moved, and the file and the table have it as it was applied"
	case slices.Contains(now.Left, name):
		return "it is not moved, and the file leaves it out"
	default:
		return "the table has no such column"
	}
}

func flagHint(name string, flags ColumnFlags, now *record.Schema) hint.Hint {
	switch {
	case slices.Contains(flags.Drop, name) && now.Index(name) >= 0:
		return hint.Hint{Text: "name it in exclude, or take it out of fields, in the migration file"}
	case slices.Contains(flags.Add, name) && slices.Contains(now.Left, name):
		return hint.Hint{Text: "take it out of exclude, or name it in fields, in the migration file"}
	default:
		return hint.Hint{}
	}
}

// flags are those that confirm the changes.
func (r resolved) flags(text string) hint.Hint {
	h := hint.Hint{Text: text}
	switch {
	case len(r.dropped) == 0:
		h.Do, h.Of = hint.AddField, r.added[:1]
	case len(r.added) == 0:
		h.Do, h.Of = hint.DropField, r.dropped[:1]
	default:
		h.Do, h.Of = hint.ChangeField, []string{r.dropped[0], r.added[0]}
	}
	if len(r.dropped) > 1 || len(r.added) > 1 {
		h.Text = "with such a flag for each column, " + text
	}
	return h
}

// typed is legacy's schema with the target's types.
func typed(legacy store.Legacy, target store.Target) *record.Schema {
	if t, ok := target.(store.ColumnTyper); ok {
		return t.TypedSchema()
	}
	return legacy.Schema()
}

// SeeColumns compares the columns of both stores with those that are applied, and notes how they
// differ. news is what has changed since the last look; unclean is true if the migration is by that.
func (j *Job) SeeColumns(ctx context.Context) (news []string, unclean bool, err error) {
	return seeColumns(ctx, j.State, j.Config, j.Legacy, j.Target)
}

func seeColumns(ctx context.Context, st *state.Store, m *migration.Config, legacy store.Legacy, target store.Target) (news []string, unclean bool, err error) {
	if m.Schema == nil {
		return nil, false, nil
	}
	hash := m.Hash()
	for _, side := range []struct {
		name  string
		store any
	}{{"legacy", legacy}, {"target", target}} {
		w, ok := side.store.(store.ColumnWatcher)
		if !ok {
			continue
		}
		// [columns-watched]: migrator can't forbid DDL, so columns are looked at.
		changes, err := w.ColumnChanges(ctx, m.Schema)
		if err != nil {
			return news, unclean, err
		}
		new, broken, err := st.SeeColumns(ctx, m.Name, hash, side.name, changes)
		if err != nil {
			return news, unclean, err
		}
		if new != "" {
			news = append(news, "the columns of "+new)
		}
		unclean = unclean || broken
	}
	return news, unclean, nil
}

// lookAtColumns is SeeColumns with stores of its own, of which it opens those that have columns.
func lookAtColumns(ctx context.Context, st *state.Store, m *migration.Config) error {
	if m.Schema == nil {
		return nil
	}
	legacy, err := m.OpenLegacy(ctx)
	if err != nil {
		return err
	}
	defer legacy.Close()
	var target store.Target
	if _, ok := m.Target.Part.(migration.SQLPart); ok {
		if target, err = m.OpenTarget(ctx, m.Schema); err != nil {
			return err
		}
		defer func() { _ = target.Close() }()
	}
	_, _, err = seeColumns(ctx, st, m, legacy, target)
	return err
}

// String lists the changes.
func (r resolved) String() string {
	var texts []string
	for _, name := range r.added {
		texts = append(texts, "+"+name)
	}
	for _, name := range r.dropped {
		texts = append(texts, "-"+name)
	}
	return strings.Join(texts, " ")
}
