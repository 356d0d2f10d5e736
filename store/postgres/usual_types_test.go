package postgres

import (
	"maps"
	"reflect"
	"slices"
	"testing"

	"github.com/stranglerfig/migrator/internal/test/testenv"
)

// TestUsualTypesAreTheCatalogs: what is not asked is what the server would have answered.
func TestUsualTypesAreTheCatalogs(t *testing.T) {
	t.Parallel()
	pool, err := connect(t.Context(), "legacy", testenv.PostgresURL(t))
	if err != nil {
		t.Fatal(err)
	}
	defer pool.Close()
	var server int
	if err := pool.QueryRow(t.Context(), `SELECT current_setting('server_version_num')::int`).Scan(&server); err != nil {
		t.Fatal(err)
	}
	got, err := queryTypes(t.Context(), pool, server, slices.Collect(maps.Keys(usualTypes)))
	if err != nil {
		t.Fatal(err)
	}
	if len(got) != len(usualTypes) {
		t.Errorf("%d types, want %d", len(got), len(usualTypes))
	}
	for oid, want := range usualTypes {
		if !reflect.DeepEqual(got[oid], want) {
			t.Errorf("%s: the catalog has %+v, not %+v", want.name, got[oid], want)
		}
	}
}
