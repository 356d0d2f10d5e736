package state_test

import (
	"sync"
	"testing"
	"time"

	"github.com/stranglerfig/migrator/dual"
	"github.com/stranglerfig/migrator/dual/pgfleet"
	"github.com/stranglerfig/migrator/internal/state/outbox"
	"github.com/stranglerfig/migrator/phases"
)

func TestTheOutboxFollowsTheHistory(t *testing.T) {
	t.Parallel()
	s, _ := open(t)
	o := outbox.New(s.Pool(), testMigration)
	walk(t, s, nil, shadowWrite, dualRead, cutover5)
	fired := recorded(t, s, evaluation(phases.TriggerKind, "errors", phases.Firing))[0].ID
	_, err := rollBack(t, s, "errors", fired)
	must(t, err)
	must(t, s.Acknowledge(t.Context(), testMigration, "seen"))
	must(t, s.Pause(t.Context(), testMigration, "lunch"))
	must(t, s.Resume(t.Context(), testMigration, "done"))
	_, err = s.Transition(t.Context(), testMigration, func(e phases.Snapshot) (phases.Move, error) {
		return phases.Move{From: e.Status.Route, To: cutover5, Cause: phases.CauseAdvance, Gates: []phases.GateResult{{Gate: "soak-time", Verdict: phases.Fail, Overridden: "hurry"}}}, nil
	})
	must(t, err)
	must(t, pgfleet.New(s.Pool(), testMigration, pgfleet.Options{}).RollBack(t.Context(), 6, "down"))
	_, err = s.Transition(t.Context(), testMigration, func(phases.Snapshot) (phases.Move, error) { return phases.Move{}, errNo })
	if err == nil {
		t.Error("no error")
	}
	for range 3 {
		must(t, o.Announce(t.Context(), outbox.StepDue, "consistency, epoch 7", map[string]string{"gate": "consistency"}))
	}
	must(t, o.Announce(t.Context(), outbox.StepDue, "consistency, epoch 8", nil))

	want := []outbox.Event{
		outbox.Moved, outbox.Moved, outbox.Moved, outbox.RolledBack, outbox.Acknowledged, outbox.Paused, outbox.Resumed,
		outbox.Overridden, outbox.RolledBack, outbox.StepDue, outbox.StepDue,
	}
	messages, err := o.Claim(t.Context(), 100, time.Minute)
	must(t, err)
	if len(messages) != len(want) {
		t.Fatalf("%d messages: %+v", len(messages), messages)
	}
	entries, err := s.History(t.Context(), testMigration, 100)
	must(t, err)
	for i, m := range messages {
		if m.Event != want[i] || m.ID == "" || m.Attempts != 1 || m.Migration != testMigration {
			t.Errorf("message %d: %+v", i, m)
		}
		if (m.Entry == nil) != (m.Event == outbox.StepDue) || m.Entry != nil && m.Entry.Hash != entries[i+1].Hash {
			t.Errorf("message %d: entry %+v", i, m.Entry)
		}
	}
	if string(messages[9].Detail) != `{"gate": "consistency"}` {
		t.Errorf("detail %s", messages[9].Detail)
	}
}

var errNo = dual.ErrRouteMoved

func TestTwoDaemonsShareAnOutbox(t *testing.T) {
	t.Parallel()
	s, _ := open(t)
	o := outbox.New(s.Pool(), testMigration)
	const n = 40
	for i := range n {
		must(t, o.Announce(t.Context(), outbox.StepDue, string(rune('a'+i)), nil))
	}
	var wg sync.WaitGroup
	var mu sync.Mutex
	seen := map[string]int{}
	for range 4 {
		wg.Go(func() {
			for {
				got, err := o.Claim(t.Context(), 3, time.Minute)
				if err != nil {
					t.Error(err)
				}
				if len(got) == 0 {
					return
				}
				mu.Lock()
				for _, m := range got {
					seen[m.ID]++
				}
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	if len(seen) != n {
		t.Errorf("%d of %d were claimed", len(seen), n)
	}
	for id, times := range seen {
		if times != 1 {
			t.Errorf("%s was claimed %d times", id, times)
		}
	}
	due := func() {
		t.Helper()
		exec(t, s, `UPDATE migrator.outbox SET next_at = clock_timestamp()`)
	}
	claim := func(want int) []outbox.Message {
		t.Helper()
		got, err := o.Claim(t.Context(), 100, time.Minute)
		must(t, err)
		if len(got) != want {
			t.Fatalf("claimed %d, want %d", len(got), want)
		}
		return got
	}
	claim(0)
	due() // a daemon that claimed them has died
	slow := claim(n)[0]
	due()
	other := claim(n)[0]
	next := func() time.Time {
		return value[time.Time](t, s, `SELECT next_at FROM migrator.outbox WHERE id = $1`, other.ID)
	}
	claimed := next()
	must(t, o.Failed(t.Context(), slow, "too late")) // another sender has claimed it by now
	if got := next(); !got.Equal(claimed) {
		t.Errorf("due at %s after another's failure, was %s", got, claimed)
	}
	// pause is how long the message waits after a failure: between two readings of the clock.
	pause := func() (least, most time.Duration) {
		before := value[time.Time](t, s, `SELECT clock_timestamp()`)
		must(t, o.Failed(t.Context(), other, "503"))
		after := value[time.Time](t, s, `SELECT clock_timestamp()`)
		return next().Sub(after), next().Sub(before)
	}
	if least, most := pause(); least > 20*time.Second || most < 20*time.Second { // the third attempt
		t.Errorf("due in %s to %s after the third failure", least, most)
	}
	exec(t, s, `UPDATE migrator.outbox SET attempts = 5000 WHERE id = $1`, other.ID)
	other.Attempts = 5000
	if least, most := pause(); least > time.Hour || most < time.Hour {
		t.Errorf("due in %s to %s after the 5000th failure", least, most)
	}
	must(t, o.Delivered(t.Context(), slow)) // delivered, whichever sender has claimed it
	due()
	claim(n - 1)
	must(t, s.Prune(t.Context(), testMigration))
	if kept := value[int64](t, s, `SELECT count(*) FROM migrator.outbox`); kept != n {
		t.Errorf("%d are remembered", kept)
	}
	exec(t, s, `UPDATE migrator.outbox SET at = at - interval '6 days'`)
	must(t, s.Prune(t.Context(), testMigration))
	if kept := value[int64](t, s, `SELECT count(*) FROM migrator.outbox`); kept != n {
		t.Errorf("%d are remembered after 6 days", kept)
	}
	exec(t, s, `UPDATE migrator.outbox SET at = at - interval '2 days', delivered_at = delivered_at - interval '29 days'`)
	must(t, s.Prune(t.Context(), testMigration))
	if kept := value[int64](t, s, `SELECT count(*) FROM migrator.outbox`); kept != 1 {
		t.Errorf("%d are remembered after 8 days, want the delivered one", kept)
	}
}

// TestWakeUpsWithoutASenderArePruned: a migration without webhooks has no process that takes them.
func TestWakeUpsWithoutASenderArePruned(t *testing.T) {
	t.Parallel()
	s, _ := open(t)
	exec(t, s, `INSERT INTO migrator.outbox (migration, event, topic) SELECT $1, 'held', i::text FROM generate_series(1, 3) i`, testMigration)
	wakeups := func() int64 {
		return value[int64](t, s, `SELECT count(*) FROM migrator_river.river_job WHERE kind = 'webhooks'`)
	}
	must(t, s.Prune(t.Context(), testMigration))
	if n := wakeups(); n != 3 {
		t.Errorf("%d wake-ups of an hour, want 3", n)
	}
	exec(t, s, `UPDATE migrator_river.river_job SET scheduled_at = scheduled_at - interval '2 hours'`)
	exec(t, s, `UPDATE migrator_river.river_job SET queue = 'another' WHERE id = (SELECT min(id) FROM migrator_river.river_job)`)
	must(t, s.Prune(t.Context(), testMigration))
	if n := wakeups(); n != 1 {
		t.Errorf("%d wake-ups are left, want another migration's", n)
	}
}
