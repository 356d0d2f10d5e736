//go:build unix

package torture

import (
	"context"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/stranglerfig/migrator/dual"
	"github.com/stranglerfig/migrator/phases"
)

// TestTortureFindsDroppedWrites: a run that could not fail would prove nothing. One of two
// instances reports target writes that it never made.
func TestTortureFindsDroppedWrites(t *testing.T) {
	t.Parallel()
	onlyLong(t)
	const seed = 1
	w := newWorld(t, shape{policy: dual.RollBack, target: "redis"}, 2)
	w.instances[0].broken = dropsWrites
	w.requestFor = time.Minute // on a busy machine too the outcome of every write is known
	w.deploy()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	traffic, stop := context.WithCancel(ctx)
	defer stop()
	var serving errgroup.Group
	for n := range clients {
		serving.Go(func() error { return newClient(w, seed, n, keys).run(traffic) })
	}
	moves := &operator{w: w, random: newRandom(seed, 1)}
	moves.advanceTo(ctx, phases.Cutover)
	err := await(ctx, 2*time.Minute, "a wrong read", func(context.Context) error {
		for _, ops := range w.history.byKey() {
			if len(ledgerViolations(ops)) > 0 {
				return nil
			}
		}
		return os.ErrNotExist
	})
	stop()
	if err := serving.Wait(); err != nil {
		t.Error(err)
	}
	if err != nil {
		t.Fatalf("%v\n%s", err, counted(w.history.count()))
	}
	if _, err := w.addHistory(t.Context()); err != nil {
		t.Error(err)
	}
	dir := t.TempDir()
	for _, v := range w.checkKeys() {
		// Unknown: the model's check took too long. The ledger's has found it all the same.
		if len(v.stale) > 0 != v.violated() || len(v.stale) > 0 && v.result != "Illegal" && v.result != "Unknown" {
			t.Errorf("key %d: the ledger finds %d wrong reads, the model's result is %s", v.key, len(v.stale), v.result)
		}
		if !v.violated() {
			continue
		}
		text, err := publish(dir, w.events.all(), v)
		if err != nil {
			t.Fatal(err)
		}
		for _, want := range []string{">>>", "acknowledged", "cutover", ".html"} {
			if !strings.Contains(text, want) {
				t.Errorf("the output lacks %q:\n%s", want, text)
			}
		}
		if testing.Verbose() {
			t.Logf("found, as it should be:\n%s", text)
		}
	}
}
