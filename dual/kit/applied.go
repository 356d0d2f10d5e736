package kit

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/stranglerfig/migrator/dual"
	"github.com/stranglerfig/migrator/migration"
	"github.com/stranglerfig/migrator/record"
	"github.com/stranglerfig/migrator/store"
)

// appliedFile is a fleet that knows the migration file that is applied.
type appliedFile interface {
	AppliedFile(ctx context.Context) ([]byte, error)
}

// Applied makes a dual.Config's Applied of a fleet that knows the migration file that is applied; of
// another it is nil. With it a running instance writes by the applied settings, and the target
// keeps tombstones by them. follow, if not nil, gets the file, as stored: without URLs.
func Applied(fleet dual.Fleet, target store.TargetRecords, follow func(*migration.Config)) func(context.Context) (dual.Writing, error) {
	from, ok := fleet.(appliedFile)
	if !ok {
		return nil
	}
	return func(ctx context.Context) (dual.Writing, error) {
		text, err := from.AppliedFile(ctx)
		if err != nil {
			return dual.Writing{}, err
		}
		m, err := migration.Stored(text)
		if err != nil {
			return dual.Writing{}, fmt.Errorf("the migration file that is applied: %w", err)
		}
		if k, ok := target.(store.TombstoneHolder); ok {
			k.KeepTombstones(time.Duration(m.Writing.Tombstones))
		}
		if follow != nil {
			follow(m)
		}
		return Writing(m.Writing), nil
	}
}

// Writing converts the migration file's settings of writes.
func Writing(w migration.Writing) dual.Writing {
	return dual.Writing{
		OnTargetFailure: dual.Policy(w.OnTargetFailure),
		Deadline:        time.Duration(w.Deadline),
		NotAfter:        time.Duration(w.NotAfter),
		RollbackBudget:  max(time.Duration(w.RollbackBudget), 1), // 0 would be the default, and the file's is not to wait
		FenceBudget:     time.Duration(w.FenceBudget),
		Queue:           w.Queue,
	}
}

// comparison compares by the rules that are applied.
type comparison struct {
	schema *record.Schema
	now    atomic.Pointer[record.Comparer]
}

func newComparison(schema *record.Schema, rules []record.Rule) (*comparison, error) {
	c := &comparison{schema: schema}
	return c, c.follow(rules)
}

// follow takes other rules. It fails only on rules of columns that the schema lacks: those of a process
// that must restart, which counts no evidence.
func (c *comparison) follow(rules []record.Rule) error {
	next, err := record.NewComparer(c.schema, rules)
	if err == nil {
		c.now.Store(next)
	}
	return err
}

// compareBy is dual.CompareBy with the present rules.
func compareBy[K comparable, V any](codec dual.Codec[K, V], c *comparison) func(legacy, target V) []record.Difference {
	return func(legacy, target V) []record.Difference { return dual.CompareBy(codec, c.now.Load())(legacy, target) }
}
