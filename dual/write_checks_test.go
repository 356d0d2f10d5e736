package dual

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stranglerfig/migrator/phases"
	"github.com/stranglerfig/migrator/record"
)

// TestChangesAreComparedWithKeys: in every phase in which legacy is written, also in legacy.
func TestChangesAreComparedWithKeys(t *testing.T) {
	t.Parallel()
	for _, phase := range []phases.Phase{phases.Legacy, phases.ShadowWrite, phases.DualRead, phases.Cutover, phases.Grace} {
		for _, strict := range []bool{false, true} {
			synctest.Test(t, func(t *testing.T) {
				p := newTestInstance(t, newFleet(route(phase)), newTarget(), newLegacy(), adjust{config: func(c *Config) { c.Strict = strict }})
				for _, c := range []struct {
					name             string
					keys, changed    []int
					fewer            bool
					outside, missing uint64
				}{
					{name: "all of them", keys: []int{1, 2}, changed: []int{2, 1}},
					{name: "no second form", changed: []int{1, 2}},
					{name: "outside", keys: []int{1}, changed: []int{1, 2, 3}, outside: 2},
					{name: "missing", keys: []int{1, 2, 3}, changed: []int{1}, missing: 2},
					{name: "none", keys: []int{1}, missing: 1},
					{name: "one twice", keys: []int{1, 2}, changed: []int{1, 1}, missing: 1},
					{name: "another", keys: []int{1}, changed: []int{2}, outside: 1, missing: 1},
					{name: "one twice, outside", keys: []int{1}, changed: []int{1, 2, 2}, outside: 1},
					{name: "fewer", keys: []int{1, 2}, changed: []int{1}, fewer: true},
					{name: "fewer and outside", keys: []int{1, 2}, changed: []int{3}, fewer: true, outside: 1},
				} {
					before := p.Stats()
					err := p.writer.Write(t.Context(), Op[int, int]{
						Keys: c.keys, Fewer: c.fewer,
						Legacy: func(ctx context.Context) (changes []Change[int, int], err error) {
							for _, k := range c.changed {
								v, err := p.legacy.put(k, 7)(ctx)
								if err != nil {
									return nil, err
								}
								changes = append(changes, Change[int, int]{Key: k, Value: 7, Version: v})
							}
							return changes, nil
						},
						Update: func(int, int, bool) (int, bool, error) { return 7, false, nil },
					})
					s := p.Stats()
					if s.OutsideKeys-before.OutsideKeys != c.outside || s.MissingKeys-before.MissingKeys != c.missing {
						t.Errorf("%s, %s: %d outside, %d missing", phase, c.name, s.OutsideKeys-before.OutsideKeys, s.MissingKeys-before.MissingKeys)
					}
					if wrong := c.outside+c.missing > 0; errors.Is(err, ErrChanges) != (wrong && strict) || err != nil && !errors.Is(err, ErrChanges) {
						t.Errorf("%s, %s, strict %v: %v", phase, c.name, strict, err)
					}
					synctest.Wait()
					for _, k := range c.changed { // the target is written all the same
						if v, ok := p.target.value(k); phase != phases.Legacy && (!ok || v != 7) {
							t.Errorf("%s, %s: the target has %d, %v under %d", phase, c.name, v, ok, k)
						}
					}
				}
				if err := p.stop(); err != nil {
					t.Fatal(err)
				}
			})
		}
	}
}

// TestWritesAreReadBack: a row that is not what the closure returned is counted once it stays
// so; a record that has been written again proves nothing.
func TestWritesAreReadBack(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		legacy := newLegacy()
		lies := 0 // the first reads of legacy, which return another row
		p := newTestInstance(t, newFleet(route(phases.Grace)), newTarget(), legacy, adjust{writer: func(c *WriterConfig[int, int]) {
			c.ReadBacks = true
			c.Locked = func(ctx context.Context, k int) (Versioned[int], error) {
				v, ok, err := legacy.read(ctx, k)
				if lies > 0 {
					lies--
					v++
				}
				return Versioned[int]{Value: v, Found: ok}, err
			}
			c.Compare = func(a, b int) []record.Difference {
				if a == b {
					return nil
				}
				return []record.Difference{{Path: "/n", Class: record.DifferentValue}}
			}
		}})
		expect := func(what string, readBacks, differences uint64) {
			t.Helper()
			time.Sleep(10 * time.Second) // of the bubble
			if s := p.Stats(); s.ReadBacks != readBacks || s.ReadBackDifferences != differences {
				t.Errorf("%s: %d read back, %d differ; want %d and %d", what, s.ReadBacks, s.ReadBackDifferences, readBacks, differences)
			}
		}
		p.mustPut(1, 10)
		expect("the row", 1, 0)
		lies = 2
		p.mustPut(1, 11)
		expect("a row that another writer is changing", 2, 0)
		lies = 100
		p.mustPut(1, 12)
		expect("another row", 3, 1)
		lies = 2
		p.mustPut(1, 13)
		time.Sleep(readBackPause)
		p.mustPut(1, 14)
		expect("a record that is written again", 4, 1)
		if n := p.Stats().ReadBacksUndecided; n != 1 {
			t.Errorf("%d read-backs are undecided, want 1", n)
		}
		if err := p.writer.Delete(t.Context(), 1, func(context.Context) (record.Version, error) {
			return legacy.put(1, 14)(t.Context()) // the DELETE was undone
		}); err != nil {
			t.Fatal(err)
		}
		expect("a deletion that was undone", 5, 2)
		if err := p.stop(); err != nil {
			t.Fatal(err)
		}
	})
}
