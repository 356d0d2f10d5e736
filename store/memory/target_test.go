package memory_test

import (
	"testing"

	"github.com/stranglerfig/migrator/migration"
	"github.com/stranglerfig/migrator/record"
	"github.com/stranglerfig/migrator/store"
	"github.com/stranglerfig/migrator/store/memory"
	"github.com/stranglerfig/migrator/store/postgres"
	"github.com/stranglerfig/migrator/store/storetest"
)

// docs: suite

func TestConformance(t *testing.T) {
	t.Parallel()
	storetest.RunTarget(t, storetest.TargetHarness{
		Open: func(_ *testing.T, schema *record.Schema, _ storetest.TargetOptions) store.Target {
			return memory.New(schema, nil)
		},
	})
}

// docs: end

func TestApplyRefusesInvalidWrites(t *testing.T) {
	t.Parallel()
	target := memory.New(storetest.Simple(), nil)
	for _, w := range []store.Write{
		{Key: "one", Deleted: true, Version: record.FirstOf(1)},
		{Key: "1", Record: record.Record{record.TextValue("1")}, Version: record.FirstOf(1)},
	} {
		results, err := target.Apply(t.Context(), []store.Write{w})
		if err != nil || results[0].Err == nil || results[0].Outcome != "" {
			t.Errorf("%+v: %+v, %v", w, results, err)
		}
	}
}

// TestRecordsAreCopied: changing a written or a read record does not change the target.
func TestRecordsAreCopied(t *testing.T) {
	t.Parallel()
	target := memory.New(storetest.Composite(), nil)
	key, r := record.MakeKey("eu", "1"), record.Record{record.TextValue("1"), record.TextValue("a"), record.TextValue("eu")}
	if _, err := target.Apply(t.Context(), []store.Write{{Key: key, Record: r, Version: record.FirstOf(1)}}); err != nil {
		t.Fatal(err)
	}
	r[1] = record.TextValue("b")
	for range 2 {
		entries, err := target.Get(t.Context(), []record.Key{key})
		if err != nil || entries[0].Record[1].Text != "a" {
			t.Fatalf("%+v, %v", entries, err)
		}
		entries[0].Record[1] = record.TextValue("c")
	}
}

// TestKindIsUsableInAMigrationFile: a migration file may name the store, without a change anywhere else.
func TestKindIsUsableInAMigrationFile(t *testing.T) {
	t.Parallel()
	m, err := migration.Parse("m.yaml", []byte("name: move\nlegacy: {store: postgres, url: 'postgres://h/d', table: items}\ntarget: {store: memory}\n"),
		nil, postgres.Kind(), memory.Kind())
	if err != nil {
		t.Fatal(err)
	}
	target, err := m.OpenTarget(t.Context(), storetest.Simple())
	if err != nil {
		t.Fatal(err)
	}
	checks, err := target.Check(t.Context())
	if err != nil || len(checks) != 1 || checks[0].Result != store.Warned {
		t.Errorf("%+v, %v", checks, err)
	}
	if err := target.Close(); err != nil {
		t.Error(err)
	}
}
