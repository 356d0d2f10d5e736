package kit

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

	"github.com/stranglerfig/migrator/dual"
	"github.com/stranglerfig/migrator/migration"
	"github.com/stranglerfig/migrator/record"
)

// Described returns the migration file with the columns that are applied, for a program that calls
// dual.Join itself: it opens its stores with the result, makes its codec for the result's Schema, and
// sets dual.Config.Moves to its Moves. Schema stays nil if the fleet knows no columns.
func Described(ctx context.Context, m *migration.Config, fleet dual.Fleet) (*migration.Config, error) {
	own := *m
	if reader, ok := fleet.(dual.ColumnsReader); ok {
		var err error
		if own.Schema, _, err = reader.Columns(ctx); err != nil {
			return nil, err
		}
	}
	return &own, nil
}

// described returns the migration with the columns that this program moves, and the codec for them:
// those that are applied, or while instances may still move them those of before. m.Schema stays
// nil if the fleet knows none.
func described[K comparable, V any](ctx context.Context, m *migration.Config, fleet dual.Fleet, b Binding[K, V]) (*migration.Config, dual.Codec[K, V], error) {
	var none dual.Codec[K, V]
	own := *m
	reader, ok := fleet.(dual.ColumnsReader)
	if !ok {
		return &own, none, nil
	}
	applied, former, err := reader.Columns(ctx)
	if err != nil || applied == nil {
		return &own, none, err
	}
	var failed error
	for _, schema := range []*record.Schema{applied, former} {
		if schema == nil {
			continue
		}
		// [columns-applied]: and not what the table has today.
		codec, err := dual.NewCodec(schema, b.Key, b.Columns)
		if err == nil {
			own.Schema = schema
			return &own, codec, nil
		}
		if failed == nil {
			failed = err
		}
	}
	return nil, none, failed
}

// explainOther adds to a refused join how the migration file differs from the applied one.
func explainOther(ctx context.Context, m *migration.Config, fleet dual.Fleet, refused error) error {
	f, ok := fleet.(interface {
		AppliedFile(ctx context.Context) ([]byte, error)
	})
	if !ok || !errors.Is(refused, dual.ErrOtherMoves) {
		return refused
	}
	applied, err := f.AppliedFile(ctx)
	if err != nil {
		return refused
	}
	own, err := m.Public()
	if err != nil {
		return refused
	}
	type sides struct {
		Legacy map[string]any `json:"legacy"`
		Target map[string]any `json:"target"`
	}
	var here, there sides
	if json.Unmarshal(own, &here) != nil || json.Unmarshal(applied, &there) != nil {
		return refused
	}
	different := append(differences("legacy", here.Legacy, there.Legacy), differences("target", here.Target, there.Target)...)
	if len(different) == 0 {
		return refused
	}
	return fmt.Errorf("%w (%s)", refused, strings.Join(different, "; "))
}

func differences(side string, here, there map[string]any) (found []string) {
	keys := map[string]bool{}
	for key := range here {
		keys[key] = true
	}
	for key := range there {
		keys[key] = true
	}
	for _, key := range slices.Sorted(maps.Keys(keys)) {
		if !reflect.DeepEqual(here[key], there[key]) {
			found = append(found, fmt.Sprintf("%s.%s is %s here, and %s as applied", side, key, shown(here[key]), shown(there[key])))
		}
	}
	return found
}

func shown(v any) string {
	if v == nil {
		return "not set"
	}
	return fmt.Sprintf("%q", fmt.Sprint(v))
}
