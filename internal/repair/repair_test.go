package repair_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stranglerfig/migrator/internal/repair"
	"github.com/stranglerfig/migrator/record"
	"github.com/stranglerfig/migrator/store"
)

func v(lsn uint64) record.Version { return record.MakeVersion(1, 1, lsn) }

func live(k record.Key, text string, at record.Version) store.Entry {
	return store.Entry{Key: k, Presence: store.Live, Version: at, Record: record.Record{record.TextValue(text)}}
}

// bothForms runs a test with and without RowsFirst: what it saves must change no result.
func bothForms(t *testing.T, test func(t *testing.T, rowsFirst bool)) {
	for _, rowsFirst := range []bool{false, true} {
		t.Run(fmt.Sprintf("rows first %v", rowsFirst), func(t *testing.T) {
			t.Parallel()
			test(t, rowsFirst)
		})
	}
}

func TestRepairCorrectsTheTarget(t *testing.T) {
	t.Parallel()
	bothForms(t, func(t *testing.T, rowsFirst bool) {
		later := record.MakeVersion(2, 0, 1)
		none := record.Version{}
		for name, c := range map[string]struct {
			row      string // "": legacy lacks it
			entry    store.Entry
			lost     record.Version
			fenced   bool
			equal    record.Key
			action   repair.Action
			presence store.Presence
			version  record.Version // zero: newer than 100, legacy's present
		}{
			"missing":                      {row: "a", action: repair.Wrote, presence: store.Live},
			"field":                        {row: "a", entry: live("k", "b", v(7)), action: repair.Wrote, presence: store.Live},
			"deleted here, there again":    {row: "a", entry: store.Entry{Presence: store.Tombstone, Version: v(7)}, action: repair.Wrote, presence: store.Live},
			"foreign":                      {row: "a", entry: store.Entry{Presence: store.Unowned}, action: repair.Wrote, presence: store.Live},
			"wrong type":                   {row: "a", entry: store.Entry{Presence: store.WrongType}, action: repair.Wrote, presence: store.Live},
			"ahead of legacy":              {row: "a", entry: live("k", "b", v(1<<40)), action: repair.Wrote, presence: store.Live},
			"ahead, on a timeline":         {row: "a", entry: live("k", "b", record.MakeVersion(1, 9, 0)), action: repair.Wrote, presence: store.Live},
			"a later era is not touched":   {row: "a", entry: live("k", "b", later), action: repair.Left, presence: store.Live, version: later},
			"an equal key":                 {equal: "k ", entry: live("k", "b", v(7)), action: repair.Equal, presence: store.Live, version: v(7)},
			"an equal key, and a loss":     {equal: "k ", entry: live("k", "b", v(7)), lost: v(9), action: repair.Equal, presence: store.Live, version: v(7)},
			"an equal key, foreign":        {equal: "k ", entry: store.Entry{Presence: store.Unowned}, action: repair.Equal, presence: store.Unowned, version: none},
			"extra":                        {entry: live("k", "b", v(7)), action: repair.Tombstoned, presence: store.Tombstone, version: v(7)},
			"extra, and a lost delete":     {entry: live("k", "b", v(7)), lost: v(9), action: repair.Tombstoned, presence: store.Tombstone, version: v(9)},
			"extra, and an older loss":     {entry: live("k", "b", v(7)), lost: v(3), action: repair.Tombstoned, presence: store.Tombstone, version: v(7)},
			"nothing, but a lost delete":   {lost: v(9), action: repair.Tombstoned, presence: store.Tombstone, version: v(9)},
			"a tombstone, and a later one": {entry: store.Entry{Presence: store.Tombstone, Version: v(7)}, lost: v(9), action: repair.Tombstoned, presence: store.Tombstone, version: v(9)},
			"a tombstone already":          {entry: store.Entry{Presence: store.Tombstone, Version: v(9)}, lost: v(9), action: repair.Agreed, presence: store.Tombstone, version: v(9)},
			"nothing on either side":       {action: repair.Agreed, presence: store.Absent, version: none},
			"foreign, legacy lacks it":     {entry: store.Entry{Presence: store.Unowned}, action: repair.Foreign, presence: store.Unowned, version: none},
			"foreign, over a tombstone":    {entry: store.Entry{Presence: store.Unowned, Version: v(7)}, lost: v(3), action: repair.Foreign, presence: store.Unowned, version: v(7)},
			"foreign, and a lost delete":   {entry: store.Entry{Presence: store.Unowned, Version: v(7)}, lost: v(9), action: repair.Foreign, presence: store.Unowned, version: v(9)},
			"wrong type, legacy lacks it":  {entry: store.Entry{Presence: store.WrongType}, lost: v(4), action: repair.Foreign, presence: store.WrongType, version: v(4)},
			"damage, legacy lacks it":      {entry: store.Entry{Presence: store.Damaged}, action: repair.Tombstoned, presence: store.Tombstone, version: record.MakeVersion(1, 0, 1)},
			"extra of a later era":         {entry: live("k", "b", later), action: repair.Left, presence: store.Live, version: later},
			"written since the fence":      {fenced: true, entry: live("k", "b", later), action: repair.Left, presence: store.Live, version: later},
			"extra from before the fence":  {fenced: true, entry: live("k", "b", v(7)), action: repair.Tombstoned, presence: store.Tombstone, version: v(7)},
			"loss of a later era":          {lost: later, action: repair.Left, presence: store.Absent, version: none},
		} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				s := newStores()
				s.fenced = c.fenced
				if c.equal != "" {
					s.equal = map[record.Key]record.Key{"k": c.equal}
				}
				if c.row != "" {
					s.rows["k"] = c.row
				}
				if c.entry.Presence != "" {
					c.entry.Key = "k"
					s.target["k"] = c.entry
				}
				f := repair.Repairer{RowsFirst: rowsFirst, Locker: s, Target: s, Pause: time.Millisecond}
				got, err := f.Repair(t.Context(), []repair.Item{{Key: "k", Journaled: c.lost}})
				if err != nil || got[0].Err != nil {
					t.Fatal(err, got[0].Err)
				}
				e := s.get("k")
				if got[0].Action != c.action || e.Presence != c.presence || e.Version != got[0].Version {
					t.Fatalf("%+v left %+v, want %q and %s", got[0], e, c.action, c.presence)
				}
				if c.row != "" && c.action == repair.Wrote {
					if e.Record[0].Text != c.row || !e.Version.NewerThan(v(100)) || e.Version.NewerThan(v(s.lsn)) {
						t.Fatalf("left %+v", e)
					}
				} else if e.Version != c.version {
					t.Fatalf("left version %s, want %s", e.Version, c.version)
				}
			})
		}
	})
}

// raising is stores whose legacy can raise its era.
type raising struct{ *stores }

func (s raising) RaiseEra(_ context.Context, above record.Version) (uint32, error) {
	if err := s.call("raise"); err != nil {
		return 0, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.era = max(s.era, above.Era()+1)
	return s.era, nil
}

// An entry that is ahead of legacy, in its era or a later one, is repaired in an era above it, so
// that the writes that follow are newer too. That is recorded first.
func TestRepairRaisesTheEraAboveAnEntryAhead(t *testing.T) {
	t.Parallel()
	bothForms(t, func(t *testing.T, rowsFirst bool) {
		for name, seen := range map[string]record.Version{"position": v(1 << 40), "era": record.MakeVersion(5, 0, 1)} {
			for _, row := range []string{"a", ""} {
				if row == "" && name == "position" {
					continue // legacy has no position of a row that it lacks
				}
				t.Run(name+" "+row, func(t *testing.T) {
					t.Parallel()
					s := newStores()
					if row != "" {
						s.rows["k"] = row
					}
					s.target["k"] = live("k", "b", seen)
					var recorded []record.Version
					refuse := errors.New("the state is away")
					f := repair.Repairer{RowsFirst: rowsFirst, Locker: raising{s}, Target: s, Pause: time.Millisecond, Attempts: 2, OnAhead: func(_ context.Context, seen record.Version) error {
						if s.era != 1 {
							t.Error("recorded after the era was raised")
						}
						recorded = append(recorded, seen)
						return refuse
					}}
					got, err := f.Repair(t.Context(), []repair.Item{{Key: "k"}})
					if err != nil || !errors.Is(got[0].Err, refuse) || s.era != 1 || s.get("k").Version != seen {
						t.Fatalf("not recorded: %v %+v, era %d", err, got, s.era)
					}
					refuse = nil
					got, err = f.Repair(t.Context(), []repair.Item{{Key: "k"}})
					if err != nil || got[0].Err != nil || s.era != seen.Era()+1 || recorded[len(recorded)-1] != seen {
						t.Fatalf("%v %+v, era %d, recorded %v", err, got, s.era, recorded)
					}
					e := s.get("k")
					if row != "" && (e.Record[0].Text != row || e.Version.Era() != s.era) || row == "" && e.Presence != store.Tombstone {
						t.Errorf("left %+v", e)
					}
					if r, _ := s.Apply(t.Context(), []store.Write{s.write("k", "later")}); r[0].Outcome != store.Applied {
						t.Errorf("the write that follows is %s", r[0].Outcome)
					}
				})
			}
		}
		s := newStores()
		s.fenced, s.rows["k"], s.target["k"] = true, "a", live("k", "b", record.MakeVersion(2, 0, 1))
		got, err := (&repair.Repairer{RowsFirst: rowsFirst, Locker: raising{s}, Target: s}).Repair(t.Context(), []repair.Item{{Key: "k"}})
		if err != nil || got[0].Action != repair.Left || s.era != 1 {
			t.Errorf("behind a fence: %v %+v, era %d", err, got, s.era)
		}
	})
}

// An entry that is ahead refuses live writes. A write that comes between the locked
// read and the lowering must still arrive, by the second read.
func TestRepairOfAnEntryAheadKeepsAWriteThatWasRefusedMeanwhile(t *testing.T) {
	t.Parallel()
	bothForms(t, func(t *testing.T, rowsFirst bool) {
		s := newStores()
		s.rows["k"] = "old"
		s.target["k"] = live("k", "damage", v(1<<40))
		s.before = func(call string) {
			if call != "apply" {
				return
			}
			s.before = nil
			results, _ := s.Apply(context.Background(), []store.Write{s.write("k", "new")})
			if results[0].Outcome != store.Older {
				t.Errorf("the live write was %s, want it refused", results[0].Outcome)
			}
		}
		f := repair.Repairer{RowsFirst: rowsFirst, Locker: s, Target: s, Pause: time.Millisecond}
		got, err := f.Repair(t.Context(), []repair.Item{{Key: "k"}})
		if err != nil || got[0].Err != nil || s.get("k").Record[0].Text != "new" {
			t.Fatalf("%v %+v left %+v, want new", err, got, s.get("k"))
		}
	})
}

// A key that is inserted while its tombstone is being decided keeps its record.
func TestRepairKeepsAnInsertThatCameBetween(t *testing.T) {
	t.Parallel()
	bothForms(t, func(t *testing.T, rowsFirst bool) {
		for _, moment := range []string{"get", "locked", "apply"} {
			s := newStores()
			s.target["k"] = live("k", "ghost", v(7))
			s.before = func(call string) {
				if call == moment {
					s.before = nil
					if _, err := s.Apply(context.Background(), []store.Write{s.write("k", "new")}); err != nil {
						t.Error(err)
					}
				}
			}
			f := repair.Repairer{RowsFirst: rowsFirst, Locker: s, Target: s, Pause: time.Millisecond}
			got, err := f.Repair(t.Context(), []repair.Item{{Key: "k", Journaled: v(50)}})
			if err != nil || got[0].Err != nil || s.get("k").Presence != store.Live || s.get("k").Record[0].Text != "new" {
				t.Fatalf("before %s: %v %+v left %+v, want new", moment, err, got, s.get("k"))
			}
		}
	})
}

// What another program writes under a key between the repair's reads and its tombstone stays.
func TestRepairKeepsAnotherProgramsValueThatCameBetween(t *testing.T) {
	t.Parallel()
	bothForms(t, func(t *testing.T, rowsFirst bool) {
		for name, version := range map[string]record.Version{"a lost delete": {}, "an extra record": v(7)} {
			s := newStores()
			if !version.IsZero() {
				s.target["k"] = live("k", "ghost", version)
			}
			s.before = func(call string) {
				if call == "apply" {
					s.target["k"] = store.Entry{Key: "k", Presence: store.Unowned}
				}
			}
			f := repair.Repairer{RowsFirst: rowsFirst, Locker: s, Target: s, Pause: time.Millisecond}
			got, err := f.Repair(t.Context(), []repair.Item{{Key: "k", Journaled: v(9)}})
			if err != nil || got[0].Err != nil || got[0].Action != repair.Foreign || s.get("k").Presence != store.Unowned {
				t.Errorf("%s: %v %+v left %+v", name, err, got, s.get("k"))
			}
		}
	})
}

func TestRepairRetriesAndThenReportsTheCause(t *testing.T) {
	t.Parallel()
	bothForms(t, func(t *testing.T, rowsFirst bool) {
		items := make([]repair.Item, 30)
		for i := range items {
			items[i].Key = record.Key(fmt.Sprint(i))
		}
		calls := []string{"now", "locked", "apply"}
		if !rowsFirst { // legacy has each row, and the target is never ahead: no read of the target
			calls = append(calls, "get")
		}
		for _, call := range calls {
			s := newStores()
			for _, it := range items {
				s.rows[it.Key] = "a"
			}
			s.broken[call] = 6
			f := repair.Repairer{RowsFirst: rowsFirst, Locker: s, Target: s, Batch: 4, Pause: time.Millisecond}
			got, err := f.Repair(t.Context(), items)
			if err != nil {
				t.Fatal(err)
			}
			for i := range got {
				if got[i].Err != nil || got[i].Action != repair.Wrote {
					t.Fatalf("after six failures of %s: %+v", call, got[i])
				}
			}
			s.broken[call] = 1 << 30
			f.Attempts = 3
			if got, err = f.Repair(t.Context(), items); err != nil || got[29].Err == nil || got[29].Action != "" {
				t.Fatalf("with %s broken for good: %v %+v", call, err, got[29])
			}
		}
		s := newStores()
		ctx, cancel := context.WithCancel(t.Context())
		s.before = func(string) { cancel() }
		if _, err := (&repair.Repairer{RowsFirst: rowsFirst, Locker: s, Target: s}).Repair(ctx, items); !errors.Is(err, context.Canceled) {
			t.Fatalf("got %v, want it cancelled", err)
		}
	})
}

// TestALockedRowDelaysNoOther: later attempts lock fewer rows at a time.
func TestALockedRowDelaysNoOther(t *testing.T) {
	t.Parallel()
	bothForms(t, func(t *testing.T, rowsFirst bool) {
		s := newStores()
		s.held = "7"
		items := make([]repair.Item, 30)
		for i := range items {
			items[i].Key = record.Key(fmt.Sprint(i))
			s.rows[items[i].Key] = "a"
		}
		got, err := (&repair.Repairer{RowsFirst: rowsFirst, Locker: s, Target: s, Attempts: 6, Pause: time.Millisecond}).Repair(t.Context(), items)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range got {
			if failed := r.Err != nil; failed != (r.Key == s.held) {
				t.Errorf("%+v", r)
			}
		}
	})
}

// A repairer that sleeps between its reads and its write comes too late with what it read: the
// target refuses that, and both stores are read again.
func TestRepairThatComesLateReadsAgain(t *testing.T) {
	t.Parallel()
	bothForms(t, func(t *testing.T, rowsFirst bool) {
		for _, row := range []string{"a", ""} {
			s := newStores()
			if row != "" {
				s.rows["k"] = row
			} else {
				s.target["k"] = live("k", "b", v(7))
			}
			reads := 0
			s.before = func(call string) {
				switch {
				case call == "locked":
					reads++
				case call == "apply" && reads == 1:
					s.ahead = time.Hour
				}
			}
			f := repair.Repairer{RowsFirst: rowsFirst, Locker: s, Target: s, Pause: time.Millisecond}
			got, err := f.Repair(t.Context(), []repair.Item{{Key: "k"}})
			if err != nil || got[0].Err != nil {
				t.Fatal(err, got[0].Err)
			}
			if reads != 2 {
				t.Errorf("row %q: repaired after %d reads: %+v", row, reads, got[0])
			}
		}
	})
}

// Repairs at random moments beside a writer whose target writes are delayed, journaled
// instead, or in order: once the journal is repaired too, both agree and no version has
// gone back.
func TestRepairBesideAWriter(t *testing.T) {
	t.Parallel()
	bothForms(t, func(t *testing.T, rowsFirst bool) {
		for seed := range uint64(400) {
			rng := rand.New(rand.NewPCG(seed, 1))
			s := newStores()
			lost := map[record.Key]record.Version{}
			var delayed []store.Write
			high := map[record.Key]record.Version{}
			write := func() {
				k := record.Key(fmt.Sprint(rng.IntN(3)))
				var w store.Write
				if rng.IntN(3) == 0 {
					w = s.remove(k)
				} else {
					w = s.write(k, fmt.Sprint(rng.IntN(1000)))
				}
				switch rng.IntN(3) {
				case 0:
					lost[k] = lost[k].Max(w.Version)
				case 1:
					delayed = append(delayed, w)
				default:
					_, _ = s.Apply(context.Background(), []store.Write{w})
				}
				if len(delayed) > 0 && rng.IntN(2) == 0 {
					i := rng.IntN(len(delayed))
					_, _ = s.Apply(context.Background(), delayed[i:i+1])
					delayed = append(delayed[:i], delayed[i+1:]...)
				}
				for k := range s.target {
					if high[k].NewerThan(s.get(k).Version) {
						t.Fatalf("seed %d: key %s went back from %s to %s", seed, k, high[k], s.get(k).Version)
					}
					high[k] = s.get(k).Version
				}
			}
			nested := false
			s.before = func(string) {
				if !nested && rng.IntN(2) == 0 {
					nested = true
					write()
					nested = false
				}
			}
			f := repair.Repairer{RowsFirst: rowsFirst, Locker: s, Target: s, Pause: time.Microsecond, Attempts: 50}
			repairAll := func() {
				var items []repair.Item
				for i := range 3 {
					k := record.Key(fmt.Sprint(i))
					items = append(items, repair.Item{Key: k, Journaled: lost[k]})
				}
				if got, err := f.Repair(t.Context(), items); err != nil || got[0].Err != nil {
					t.Fatal(err, got)
				}
			}
			for range 5 {
				nested = true
				write()
				nested = false
				repairAll()
			}
			s.before = nil
			repairAll()
			_, _ = s.Apply(t.Context(), delayed) // what was late, after the repair
			for i := range 3 {
				k := record.Key(fmt.Sprint(i))
				e := s.get(k)
				if text, ok := s.rows[k]; ok != (e.Presence == store.Live) || ok && e.Record[0].Text != text {
					t.Fatalf("seed %d: key %s is %q (%v) in legacy and %+v in the target", seed, k, text, ok, e)
				}
			}
		}
	})
}
