package redis

import (
	"context"
	"errors"
	"fmt"

	"github.com/stranglerfig/migrator/internal/hint"
	"github.com/stranglerfig/migrator/record"
	"github.com/stranglerfig/migrator/store"
)

// Check looks at so many keys, or asks so often for another thousand of whatever
// the database holds.
const (
	sampledKeys  = 5000
	sampleRounds = 200
)

var errEnough = errors.New("enough")

// checkKeys looks at what stands already where records are to stand.
func (t *Target) checkKeys(ctx context.Context) ([]store.Check, error) {
	count := map[store.Presence]int{}
	first := map[store.Presence]string{}
	note := func(p store.Presence, what string) {
		if count[p]++; count[p] == 1 {
			first[p] = what
		}
	}
	seen, rounds, strays, stray := 0, 0, 0, ""
	err := t.scanRecords(ctx, func(found []record.Key, others []store.Entry) error {
		entries, err := t.Get(ctx, found)
		if err != nil {
			return err
		}
		for _, e := range entries {
			raw, _ := t.template.Render(e.Key)
			note(e.Presence, fmt.Sprintf("%q: %s", raw, e.Detail))
		}
		if strays += len(others); stray == "" && len(others) > 0 {
			stray = fmt.Sprintf("%q", others[0].RawKey)
		}
		seen, rounds = seen+len(found)+len(others), rounds+1
		if seen >= sampledKeys || rounds >= sampleRounds {
			return errEnough
		}
		return nil
	})
	if err != nil && !errors.Is(err, errEnough) {
		return nil, err
	}
	of := fmt.Sprintf(" of %d keys", seen)
	if errors.Is(err, errEnough) {
		of = fmt.Sprintf(" of the first %d keys", seen)
	}
	types := store.Check{Name: "redis-types", Result: store.Good, Detail: "no key of target.key holds another type"}
	if n := count[store.WrongType]; n > 0 {
		types.Result = store.Refused
		types.Detail = fmt.Sprintf("%d%s that target.key makes hold another type than target.format wants, such as %s", n, of, first[store.WrongType])
		types.Hint = hint.Hint{Text: "choose another target.key or target.format, or rename or delete these keys"}
	}
	owner := store.Check{Name: "redis-foreign", Result: store.Good, Detail: "every key of target.key was written by migrator, or there is none"}
	switch n, damaged := count[store.Unowned], count[store.Damaged]; {
	case n > 0:
		owner.Result = store.Warned
		owner.Detail = fmt.Sprintf("%d%s hold values without version, such as %s: the application's writes leave them alone, a backfill and a repair replace them", n, of, first[store.Unowned])
		owner.Hint = hint.Hint{Text: "choose another target.key, if somebody else needs these keys"}
	case damaged > 0:
		owner.Result = store.Warned
		owner.Detail = fmt.Sprintf("%d%s can't be read, such as %s", damaged, of, first[store.Damaged])
		owner.Hint = hint.Hint{Do: hint.ReconcileRepair}
	case strays > 0:
		owner.Result = store.Warned
		owner.Detail = fmt.Sprintf("%d%s begin like target.key %q without being made by it, such as %s: reconcile will name them", strays, of, t.template, stray)
		owner.Hint = hint.Hint{Text: "choose a target.key whose beginning nobody else uses"}
	}
	return []store.Check{types, owner}, nil
}
