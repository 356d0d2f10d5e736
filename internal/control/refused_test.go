package control_test

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/stranglerfig/migrator/dual/pgfleet"
	"github.com/stranglerfig/migrator/internal/control"
	"github.com/stranglerfig/migrator/internal/hint"
	"github.com/stranglerfig/migrator/phases"
	"github.com/stranglerfig/migrator/record"
	"github.com/stranglerfig/migrator/store"
)

// named writes records in retain as an instance does: "5 x" names the record 5 x, "5" deletes it.
func (b *bench) named(texts ...string) {
	b.t.Helper()
	st, err := b.state.Status(b.ctx, "items")
	b.check(err)
	keys, writes := make([]record.Key, len(texts)), make([]store.Write, len(texts))
	for i, text := range texts {
		key, name, live := strings.Cut(text, " ")
		keys[i] = record.Key(key)
		writes[i] = store.Write{Key: keys[i], Deleted: !live, Keep: true, Record: record.Record{record.TextValue(key), record.TextValue(name)}}
	}
	b.check(pgfleet.New(b.state.Pool(), "items", pgfleet.Options{}).Return(b.ctx, st.Route.Epoch, keys))
	entries, err := b.target.Get(b.ctx, keys)
	b.check(err)
	for i := range writes {
		only := entries[i].Version
		writes[i].Only = &only
		writes[i].Version, err = only.Next(st.FenceEra)
		b.check(err)
	}
	results, err := b.target.Apply(b.ctx, writes)
	b.check(err)
	for i, r := range results {
		if r.Outcome != store.Applied {
			b.t.Fatalf("%s: %+v", texts[i], r)
		}
	}
}

// keepsName checks what both stores have of keys.
func (b *bench) keepsName(names map[record.Key]string) {
	b.t.Helper()
	for key, want := range names {
		if got := b.legacyName(key); got != want {
			b.t.Errorf("legacy has %q under key %s, want %q", got, key, want)
		}
		entries, err := b.target.Get(b.ctx, []record.Key{key})
		b.check(err)
		got := ""
		if entries[0].Presence == store.Live {
			got = entries[0].Record[1].Text
		}
		if got != want {
			b.t.Errorf("the target has %q under key %s, want %q", got, key, want)
		}
	}
}

// constrained is a bench in retain whose legacy has the constraints.
func constrained(t *testing.T, constraints string) *bench {
	t.Helper()
	b := atGrace(t)
	b.check(b.sql(constraints))
	_, err := b.controller().Advance(b.ctx, fenceGates())
	b.check(err)
	return b
}

// What was unique in the target at every moment returns, whatever the order of the keys, also
// where more than one batch takes part.
func TestReturnHandsUniqueNamesOver(t *testing.T) {
	t.Parallel()
	b := constrained(t, `ALTER TABLE items ADD UNIQUE (name)`)
	const many = 1200 // three batches
	texts := make([]string, 0, many)
	for i := range many {
		texts = append(texts, fmt.Sprintf("%d name %d", 1000+i, i))
	}
	b.named(texts...)
	_, err := b.rollsBack(0)
	b.check(err)
	_, err = b.controller().Advance(b.ctx, fenceGates())
	b.check(err)
	// Some take the name of a record of a later batch, the last of these a new one; two exchange
	// theirs over all batches, and one takes the name of a record that is deleted.
	changed := map[record.Key]string{
		"1000": "name 1100", "2100": "name 1199", "2199": "name 700", "1700": "new", "1001": "name 1198", "2198": "name 1", "1": "item 20", "20": "",
	}
	for i := range texts {
		if name := changed[record.Key(fmt.Sprint(1000+i))]; name != "" {
			texts[i] = fmt.Sprintf("%d %s", 1000+i, name)
		}
	}
	b.named(append(texts, "1 item 20", "20")...)
	moves, err := b.rollsBack(0)
	b.check(err)
	if last := moves[len(moves)-1]; last.Phase != phases.Grace {
		t.Errorf("the rollback ended at %s", last)
	}
	b.consistent(phases.Grace)
	b.keepsName(changed)
}

// Rows that legacy refuses are named before writes wait, with their constraints and without
// values. Nothing is moved.
func TestReturnStopsBeforeWritesWaitIfLegacyRefusesRows(t *testing.T) {
	t.Parallel()
	b := constrained(t, `
		CREATE TABLE names (name text PRIMARY KEY);
		INSERT INTO names SELECT name FROM items UNION VALUES ('fine'), ('low');
		ALTER TABLE items ADD UNIQUE (name), ADD CONSTRAINT known FOREIGN KEY (name) REFERENCES names, ADD CONSTRAINT high CHECK (name <> 'low')`)
	b.named("1 fine", "2 item 3", "4 low", "5 nowhere", "6 item 1")
	want := "2 23505 items_name_key, 4 23514 high, 5 23503 known"
	causes := func(refused []store.Refusal) string {
		var all []string
		for _, r := range refused {
			all = append(all, string(r.Key)+" "+r.Code+" "+r.Constraint)
		}
		return strings.Join(all, ", ")
	}
	for range 2 {
		rehearsal, err := b.controller().Rehearse(b.ctx)
		b.check(err)
		if got := causes(rehearsal.Refused); got != want || rehearsal.Keys != 5 || rehearsal.Missing != 0 {
			t.Errorf("the rehearsal: %s, %+v", got, rehearsal)
		}
		b.consistent(phases.Retain)
		var refused *control.RefusedError
		moves, err := b.rollsBack(0)
		if !errors.As(err, &refused) || causes(refused.Refused) != want || refused.Keys != 5 || len(moves) != 0 {
			t.Fatalf("%v, %v", moves, err)
		}
		if h, ok := hint.Of(err); !ok || h.Do != hint.SetAside {
			t.Errorf("hint %+v", h)
		}
		if strings.Contains(err.Error(), "nowhere") {
			t.Errorf("a value is in %q", err)
		}
		b.consistent(phases.Retain)
		if got := b.legacyName("1"); got != "item 1" {
			t.Errorf("legacy has %q under key 1", got)
		}
	}
	b.named("2 item 2", "4 item 4", "5 item 5")
	_, err := b.rollsBack(0)
	b.check(err)
	b.keepsName(map[record.Key]string{"1": "fine", "2": "item 2", "4": "item 4", "5": "item 5", "6": "item 1"})
}

// A row that legacy refuses only once writes wait stops the return, and the others are replayed.
func TestReturnStopsIfLegacyRefusesRowsMeanwhile(t *testing.T) {
	t.Parallel()
	b := inRetain(t)
	ctl := b.controller()
	ctl.State = interferedState{State: b.state, to: phases.Returning, moved: func() {
		b.check(b.sql(`ALTER TABLE items ADD CONSTRAINT late CHECK (name <> 'born in retain')`))
	}}
	var refused *control.RefusedError
	_, err := ctl.Rollback(b.ctx, control.Rollback{Reason: "test"})
	if !errors.As(err, &refused) || len(refused.Refused) != 1 || refused.Refused[0].Constraint != "late" || refused.Refused[0].Key != "100" {
		t.Fatal(err)
	}
	if refused.At.Phase != phases.Retain {
		t.Errorf("it stopped at %s", refused.At)
	}
	b.consistent(phases.Retain)
	b.keepsName(map[record.Key]string{"1": "changed in retain", "2": "", "3": "item 3"})
	// Writes go on at the fence's new era, also of keys that the return has written.
	b.named("1 written after it", "3 so is this")
	b.check(b.sql(`ALTER TABLE items DROP CONSTRAINT late`))
	_, err = b.rollsBack(0)
	b.check(err)
	b.consistent(phases.Grace)
	b.keepsName(map[record.Key]string{"1": "written after it", "2": "", "3": "so is this", "100": "born in retain"})
}

// A controller that wakes late must not overwrite what another one has copied since.
func TestAnOlderRunWritesNothing(t *testing.T) {
	t.Parallel()
	b := inRetain(t)
	ctl := b.controller()
	ctl.Legacy = interferedFence{Legacy: b.legacy, begun: func() { b.check(b.controller().Resume(b.ctx)) }}
	if _, err := ctl.Rollback(b.ctx, control.Rollback{Reason: "test"}); err == nil {
		t.Error("a run that is over went on")
	}
	b.consistent(phases.Grace)
	b.returned()
}

// TestARowThatIsTooLargeIsRefused: a value that no index takes is refused as by a constraint.
func TestARowThatIsTooLargeIsRefused(t *testing.T) {
	t.Parallel()
	b := constrained(t, `CREATE INDEX ON items (name)`)
	large := make([]byte, 6000)
	_, _ = rand.Read(large)
	b.named("1 fine", "4 "+hex.EncodeToString(large))
	var refused *control.RefusedError
	if _, err := b.rollsBack(0); !errors.As(err, &refused) || len(refused.Refused) != 1 || refused.Refused[0].Key != "4" {
		t.Fatal(err)
	}
	_, err := b.controller().Rollback(b.ctx, control.Rollback{Reason: "test", SetAside: true})
	b.check(err)
	b.keepsName(map[record.Key]string{"1": "fine", "4": "item 4"})
}
