package state_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/stranglerfig/migrator/dual"
	"github.com/stranglerfig/migrator/dual/pgfleet"
	"github.com/stranglerfig/migrator/internal/hint"
	"github.com/stranglerfig/migrator/internal/state"
	"github.com/stranglerfig/migrator/internal/statedb"
	"github.com/stranglerfig/migrator/internal/test/testenv"
	"github.com/stranglerfig/migrator/phases"
	"github.com/stranglerfig/migrator/record"
)

func TestApplyCreatesRecordsChangesAndIsIdempotent(t *testing.T) {
	t.Parallel()
	s, _ := open(t)
	st, err := s.Status(t.Context(), testMigration)
	must(t, err)
	if st.Route != (phases.Route{Phase: phases.Legacy, Epoch: 1}) || st.LegacyEpoch != 1 || st.LastCause != "created" || st.LastActor != "postgres" || !st.Reversible {
		t.Errorf("created: %+v", st)
	}
	if _, created, err := s.Apply(t.Context(), applied()); err != nil || created.Any() {
		t.Errorf("again: %v, %v", created, err)
	}
	a := applied()
	a.ConfigHash, a.Config = "h2", []byte(`{"name": "products",  "fleet":{"lease":"30s","renew":"9s"}}`)
	st, done, err := s.Apply(t.Context(), a)
	if want := "fleet.lease: not set → \"30s\", fleet.renew: not set → \"9s\""; changeList(done) != want || !done.Void {
		t.Errorf("changes %s, want %s", changeList(done), want)
	}
	if err != nil || done.Created || st.ConfigHash != "h2" || st.Route.Epoch != 1 || st.LastCause != "config" {
		t.Errorf("changed: %+v, %v, %v", st, done, err)
	}
	got, err := s.Config(t.Context(), testMigration)
	if err != nil || string(got.Config) != string(a.Config) || got.ConfigHash != "h2" {
		t.Errorf("config: %+v, %v", got, err)
	}
	entries, err := s.History(t.Context(), testMigration, 10)
	must(t, err)
	if len(entries) != 2 {
		t.Errorf("%d entries: an unchanged migration file must leave none", len(entries))
	}
	g := join(t, s, "a", pgfleet.Options{}).grant
	if g.TTL != 30*time.Second || g.Renew != 9*time.Second || g.ConfigHash != "h2" {
		t.Errorf("grant: %+v", g)
	}
	other := applied()
	other.Migration = "users"
	if _, created, err := s.Apply(t.Context(), other); err != nil || !created.Created {
		t.Errorf("another: %v, %v", created, err)
	}
	all, err := s.List(t.Context())
	if err != nil || len(all) != 2 || all[0].Migration != "products" || all[1].Migration != "users" {
		t.Errorf("list: %+v, %v", all, err)
	}
	_, err = s.Status(t.Context(), "nope")
	if !errors.Is(err, statedb.ErrUnknownMigration) || !strings.Contains(err.Error(), "products, users") {
		t.Errorf("unknown: %v", err)
	}
	other.Migration = "Not A Name"
	if _, _, err := s.Apply(t.Context(), other); err == nil || !strings.Contains(err.Error(), "lower-case") {
		t.Errorf("bad name: %v", err)
	}
	other.Migration, other.Config = "users", []byte(`{`)
	if _, _, err := s.Apply(t.Context(), other); err == nil {
		t.Error("a migration file that is no JSON was applied")
	}
}

func TestReversibleCanNotChangeBehindTheFence(t *testing.T) {
	t.Parallel()
	s, _ := open(t)
	walk(t, s, nil, shadowWrite, dualRead, cutover, grace, fencedRoute, retain)
	a := applied()
	a.ConfigHash, a.Reversible = "h2", false
	if _, _, err := s.Apply(t.Context(), a); err == nil || !strings.Contains(err.Error(), "retain.reversible") {
		t.Errorf("%v", err)
	}
}

func TestTransitionsOfOneDecisionYieldOneEpochAndClearRefusals(t *testing.T) {
	t.Parallel()
	s, _ := open(t)
	st, err := s.Status(t.Context(), testMigration)
	must(t, err)
	var wg sync.WaitGroup
	errs := make(chan error, 8)
	for n := range cap(errs) {
		wg.Go(func() {
			_, err := s.Transition(t.Context(), testMigration, func(phases.Snapshot) (phases.Move, error) {
				return phases.Move{From: st.Route, To: shadowWrite, Cause: phases.CauseAdvance, Reason: fmt.Sprint("by ", n)}, nil
			})
			errs <- err
		})
	}
	wg.Wait()
	close(errs)
	won := 0
	for err := range errs {
		var moved *state.MovedError
		switch {
		case err == nil:
			won++
		case !errors.As(err, &moved):
			t.Error(err)
		case moved.By != "postgres" || moved.Present.Phase != phases.ShadowWrite || moved.At.IsZero() || !strings.Contains(moved.Reason, "by "):
			t.Errorf("refusal: %+v", moved)
		case !strings.Contains(err.Error(), "postgres moved it to shadow-write (epoch 2)"):
			t.Error(err)
		}
	}
	if st, err = s.Status(t.Context(), testMigration); err != nil || won != 1 || st.Route.Epoch != 2 {
		t.Errorf("%d won, now at %+v, %v", won, st.Route, err)
	}
	if n, err := s.VerifyHistory(t.Context(), testMigration); err != nil || n != 2 {
		t.Errorf("history: %d, %v", n, err)
	}
}

func TestTransitionRefusesWhatNoOverrideOpens(t *testing.T) {
	t.Parallel()
	s, _ := open(t)
	i := join(t, s, "a", pgfleet.Options{})
	sentinel := errors.New("no")
	if _, err := s.Transition(t.Context(), testMigration, func(phases.Snapshot) (phases.Move, error) { return phases.Move{}, sentinel }); !errors.Is(err, sentinel) {
		t.Errorf("decide's own error: %v", err)
	}
	if _, err := move(t.Context(), s, cutover); err == nil {
		t.Error("legacy to cutover passed")
	}
	st, err := move(t.Context(), s, shadowWrite)
	must(t, err)
	// The instance may still be on legacy, beside which dual-read must not run.
	var conflict *phases.RouteConflictError
	if _, err := move(t.Context(), s, dualRead); !errors.As(err, &conflict) || conflict.Live.Phase != phases.Legacy {
		t.Errorf("over an incompatible route: %v", err)
	}
	i.ack(t, st.Route.Epoch)
	if _, err := s.Transition(t.Context(), testMigration, func(e phases.Snapshot) (phases.Move, error) {
		return phases.Move{From: e.Status.Route, To: dualRead, Gates: []phases.GateResult{{Gate: "x", Interlock: true, Verdict: phases.Fail, Overridden: "please"}}}, nil
	}); err == nil || !strings.Contains(err.Error(), "interlock") {
		t.Errorf("over a closed interlock: %v", err)
	}
	lapse(t, s, "a")
	_, err = move(t.Context(), s, dualRead)
	if h, _ := hint.Of(err); h.Do != hint.FleetEvict || !slices.Equal(h.Of, []string{"a"}) {
		t.Errorf("forward beside a lapsed lease: %v", err)
	}
	if _, err := move(t.Context(), s, legacy); err != nil {
		t.Errorf("a lapsed lease blocked a rollback: %v", err)
	}
	epochs, err := s.Epochs(t.Context(), testMigration, 10)
	if err != nil || len(epochs) != 3 || epochs[0].Route.Phase != phases.Legacy {
		t.Errorf("epochs: %+v, %v", epochs, err)
	}
}

func TestARollbackOvertakesAHalfFinishedAdvance(t *testing.T) {
	t.Parallel()
	s, _ := open(t)
	a := join(t, s, "a", pgfleet.Options{})
	walk(t, s, []*instance{a}, shadowWrite, dualRead)
	walk(t, s, nil, cutover5) // a has acknowledged dual-read, and may have swapped to cutover
	if _, err := move(t.Context(), s, dualRead); err != nil {
		t.Fatal(err)
	}
	// shadow-write must wait: a may still be on cutover.
	var conflict *phases.RouteConflictError
	if _, err := move(t.Context(), s, shadowWrite); !errors.As(err, &conflict) || conflict.Live.Phase != phases.Cutover {
		t.Errorf("%v", err)
	}
	e, err := s.Snapshot(t.Context(), testMigration)
	must(t, err)
	if len(e.Fleet.LiveRoutes) != 3 || e.Fleet.LiveRoutes[0].Phase != phases.DualRead || e.Fleet.LiveRoutes[1].Phase != phases.Cutover || e.Fleet.Behind != 1 {
		t.Errorf("fleet: %+v", e.Fleet)
	}
	a.ack(t, e.Status.Route.Epoch)
	walk(t, s, nil, shadowWrite)
}

func TestANotedFenceLetsNothingElseOutOfGrace(t *testing.T) {
	t.Parallel()
	s, _ := open(t)
	walk(t, s, nil, shadowWrite, dualRead, cutover, grace)
	st, err := s.Status(t.Context(), testMigration)
	must(t, err)
	must(t, s.Intend(t.Context(), testMigration, st.Route, "a1", agree))
	must(t, s.Intend(t.Context(), testMigration, st.Route, "a1", agree))
	if err := s.Intend(t.Context(), testMigration, st.Route, "a2", agree); err == nil {
		t.Error("a second attempt was noted")
	}
	if _, err := move(t.Context(), s, dualRead); err == nil || !strings.Contains(err.Error(), "a1") {
		t.Errorf("to dual-read: %v", err)
	}
	f := pgfleet.New(s.Pool(), testMigration, pgfleet.Options{})
	if err := f.RollBack(t.Context(), st.Route.Epoch, "x"); !errors.Is(err, dual.ErrRouteMoved) {
		t.Errorf("emergency rollback: %v", err)
	}
	walk(t, s, nil, fencedRoute, retain)
	if st, err = s.Status(t.Context(), testMigration); err != nil || st.Attempt != "a1" || st.FenceEra != 7 {
		t.Errorf("%+v, %v", st, err)
	}
	var moved *state.MovedError
	if err := s.Intend(t.Context(), testMigration, grace, "a3", agree); !errors.As(err, &moved) {
		t.Errorf("intend elsewhere: %v", err)
	}
}

// The decision that needs an empty journal and the write that fills it never both
// win: either the transition sees the key, or the writer gets the new route.
func TestAJournaledFailureAndAnAdvanceNeverBothWin(t *testing.T) {
	t.Parallel()
	s, _ := open(t)
	walk(t, s, nil, shadowWrite, dualRead)
	f := pgfleet.New(s.Pool(), testMigration, pgfleet.Options{})
	seen, rerouted := 0, 0
	for round := range 60 {
		var wg sync.WaitGroup
		var ruling dual.JournalResult
		var lost, advanced error
		wg.Go(func() {
			ruling, lost = f.Journal(t.Context(), []dual.JournalEntry{{Key: record.Key(fmt.Sprint(round)), Version: record.MakeVersion(0, 0, 9)}})
		})
		wg.Go(func() {
			_, advanced = s.Transition(t.Context(), testMigration, func(e phases.Snapshot) (phases.Move, error) {
				if e.Status.JournalKeys > 0 {
					return phases.Move{}, errors.New("the journal is not empty")
				}
				return phases.Move{From: e.Status.Route, To: cutover5, Cause: phases.CauseAdvance}, nil
			})
		})
		wg.Wait()
		must(t, lost)
		switch {
		case advanced == nil && ruling.Route.Phase == phases.Cutover && ruling.TargetRead:
			rerouted++
			walk(t, s, nil, dualRead)
		case advanced != nil && ruling.Route.Phase == phases.DualRead:
			seen++
		default:
			t.Fatalf("round %d: the advance ended with %v, the writer got %+v", round, advanced, ruling)
		}
		clearJournal(t, s)
	}
	t.Logf("the transition saw the key %d times, the writer the new route %d times", seen, rerouted)
}

// A stream of writers that share the migration's row must not starve the rollback: in an
// outage of the target there is such a stream.
func TestATransitionPassesAStreamOfJournaledWrites(t *testing.T) {
	t.Parallel()
	s, _ := open(t)
	walk(t, s, nil, shadowWrite, dualRead, cutover)
	busy, err := state.Open(t.Context(), s.Pool().Config().ConnString()+"&pool_max_conns=8")
	must(t, err)
	defer busy.Close()
	ctx, stop := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	defer wg.Wait()
	defer stop()
	f := pgfleet.New(busy.Pool(), testMigration, pgfleet.Options{})
	wg.Go(func() {
		for ctx.Err() == nil {
			_, _ = f.Journal(ctx, []dual.JournalEntry{{Key: "1"}})
		}
	})
	// These share the row for longer than a real one, so that some share always overlaps the next.
	for _, ms := range []int{7, 11, 13, 17, 19, 23, 29} {
		wg.Go(func() {
			for ctx.Err() == nil {
				_ = pgx.BeginFunc(ctx, busy.Pool(), func(tx pgx.Tx) error {
					_, err := tx.Exec(ctx, `SELECT pg_advisory_xact_lock_shared(hashtextextended('migrator route products', 0));
						SELECT FROM migrator.migrations WHERE name = 'products' FOR SHARE; SELECT pg_sleep(`+fmt.Sprint(ms)+`/1000.0)`)
					return err
				})
			}
		})
	}
	for _, to := range []phases.Route{dualRead, cutover5, dualRead, cutover5, dualRead} {
		limited, cancel := context.WithTimeout(t.Context(), time.Minute)
		_, err := move(limited, s, to)
		cancel()
		if err != nil {
			t.Fatalf("to %s: %v", to, err)
		}
	}
}

// Whatever a killed process leaves, the next command resumes from it.
func TestATransitionThatDiesLeavesNothing(t *testing.T) {
	t.Parallel()
	server := testenv.Postgres(t)
	s := openAt(t, server.URL())
	other, err := state.Open(t.Context(), server.URL())
	must(t, err)
	defer other.Close()
	decided := make(chan int)
	done := make(chan error)
	go func() {
		_, err := s.Transition(t.Context(), testMigration, func(e phases.Snapshot) (phases.Move, error) {
			decided <- 1
			<-decided
			return phases.Move{From: e.Status.Route, To: shadowWrite}, nil
		})
		done <- err
	}()
	<-decided
	// Its connections end, as they do when its process is killed.
	_, err = other.Pool().Exec(t.Context(), `SELECT pg_terminate_backend(pid, 60000) FROM pg_stat_activity WHERE datname = current_database() AND state = 'idle in transaction'`)
	must(t, err)
	if _, err := move(t.Context(), other, shadowWrite); err != nil {
		t.Fatal(err)
	}
	decided <- 1
	if err := <-done; err == nil {
		t.Error("the dead transition committed")
	}
	must(t, server.Kill())
	must(t, server.Restart(t.Context()))
	testenv.Await(t, "the server", func() bool { _, err := other.Status(t.Context(), testMigration); return err == nil })
	st, err := other.Status(t.Context(), testMigration)
	if err != nil || st.Route.Epoch != 2 {
		t.Errorf("after a crash of the server: %+v, %v", st.Route, err)
	}
	if _, err := other.VerifyHistory(t.Context(), testMigration); err != nil {
		t.Error(err)
	}
}

func TestPauseAndResume(t *testing.T) {
	t.Parallel()
	s, _ := open(t)
	must(t, s.Pause(t.Context(), testMigration, "waiting"))
	must(t, s.Pause(t.Context(), testMigration, "waiting"))
	st, err := s.Status(t.Context(), testMigration)
	if err != nil || st.Paused != "waiting" || st.LastCause != "pause" {
		t.Errorf("%+v, %v", st, err)
	}
	must(t, s.Resume(t.Context(), testMigration, "done"))
	must(t, s.Resume(t.Context(), testMigration, "done"))
	entries, err := s.History(t.Context(), testMigration, 10)
	if err != nil || len(entries) != 3 || entries[0].Cause != phases.CauseCreated || entries[2].Cause != phases.CauseResume || entries[2].Reason != "done" {
		t.Errorf("%+v, %v", entries, err)
	}
	if err := s.Pause(t.Context(), testMigration, " "); err == nil {
		t.Error("a pause without reason")
	}
	if err := s.Pause(t.Context(), "nope", "x"); !errors.Is(err, statedb.ErrUnknownMigration) {
		t.Errorf("unknown: %v", err)
	}
}

func agree(phases.Snapshot) error { return nil }

// TestAnIntentRestsOnWhatItsTransactionReads: an error of decide, on the snapshot read
// under the row's lock, leaves nothing recorded.
func TestAnIntentRestsOnWhatItsTransactionReads(t *testing.T) {
	t.Parallel()
	s, _ := open(t)
	st, err := s.Status(t.Context(), testMigration)
	must(t, err)
	closed := errors.New("a gate is closed")
	err = s.Intend(t.Context(), testMigration, st.Route, "a1", func(e phases.Snapshot) error {
		if e.Status.Route != st.Route {
			t.Errorf("decided on %s", e.Status.Route)
		}
		return closed
	})
	if !errors.Is(err, closed) {
		t.Fatalf("%v, want the objection", err)
	}
	if now, err := s.Status(t.Context(), testMigration); err != nil || now.Attempt != "" {
		t.Errorf("attempt %q is noted, %v", now.Attempt, err)
	}
}

func changeList(done state.Stored) string {
	var list []string
	for _, c := range done.Changes {
		list = append(list, c.String())
	}
	return strings.Join(list, ", ")
}
