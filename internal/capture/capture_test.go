package capture_test

import (
	"errors"
	"testing"
	"time"

	"github.com/stranglerfig/migrator/internal/capture"
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

// What is made or applied and not saved is made or applied once more.
func TestWhatWasNotSavedIsDoneAgain(t *testing.T) {
	t.Parallel()
	p := pairtest.New(t, pairtest.Options{})
	r := prepare(t, p, nil)
	unsaved := errors.New("the state does not answer")
	saves := 0
	r.ledger.saved = func(capture.Progress) error { // under the ledger's lock
		if saves++; saves%2 == 1 {
			return unsaved
		}
		return nil
	}
	r.start()
	if err := r.fails(); !errors.Is(err, unsaved) { // a slot, and no progress
		t.Fatal(err)
	}
	r.start()
	r.until("a slot", func(p capture.Progress) bool { return p.Slot != "" })
	if _, err := p.Legacy.Barrier(t.Context(), 10*time.Second); err != nil {
		t.Fatal(err)
	}
	for n := range 4 {
		if err := r.fails(); !errors.Is(err, unsaved) {
			t.Fatal(err)
		}
		p.FillSimple(t, 100*n+1, 100*n+100)
		p.Exec(t, "UPDATE items SET name = 'changed' WHERE id % 3 = 0")
		p.Exec(t, "DELETE FROM items WHERE id % 7 = 0")
		r.start()
		before, err := r.ledger.load()
		if err != nil {
			t.Fatal(err)
		}
		r.until("a save", func(p capture.Progress) bool { return p.Resume > before.Resume })
		p.Exec(t, "UPDATE items SET amount = amount + 1") // so that there is another
	}
	if err := r.fails(); !errors.Is(err, unsaved) {
		t.Fatal(err)
	}
	r.ledger.mu.Lock()
	r.ledger.saved = nil
	r.ledger.mu.Unlock()
	r.start()
	r.same()
}
