package capture_test

import (
	"testing"

	"github.com/stranglerfig/migrator/internal/test/pairtest"
	"github.com/stranglerfig/migrator/record"
)

func TestCaptureBringsChanges(t *testing.T) {
	t.Parallel()
	p := pairtest.New(t, pairtest.Options{})
	r := begin(t, p, nil)
	p.FillSimple(t, 1, 1000)
	p.Exec(t, "UPDATE items SET name = 'changed' WHERE id % 3 = 0")
	p.Exec(t, "DELETE FROM items WHERE id % 5 = 0")
	p.Exec(t, "UPDATE items SET id = id + 10000 WHERE id % 7 = 0")
	r.same()
}

// A captured change's version lies between that of its own statement and those of later ones.
func TestTheVersionIsThatOfTheCommit(t *testing.T) {
	t.Parallel()
	p := pairtest.New(t, pairtest.Options{})
	r := begin(t, p, nil)
	var own, later record.Version
	if err := p.SQL.QueryRow(t.Context(), "INSERT INTO items (id) VALUES (1) RETURNING migrator_legacy.version('move')").Scan(&own); err != nil {
		t.Fatal(err)
	}
	if err := p.SQL.QueryRow(t.Context(), "INSERT INTO items (id) VALUES (2) RETURNING migrator_legacy.version('move')").Scan(&later); err != nil {
		t.Fatal(err)
	}
	r.same()
	if v := r.get("1").Version; own.NewerThan(v) || !later.NewerThan(v) {
		t.Errorf("%s is not from %s to before %s", v, own, later)
	}
}
