package state_test

import (
	"crypto/rand"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"

	"github.com/stranglerfig/migrator/dual"
	"github.com/stranglerfig/migrator/dual/pgfleet"
	"github.com/stranglerfig/migrator/dual/telemetry"
	"github.com/stranglerfig/migrator/internal/state"
	"github.com/stranglerfig/migrator/internal/stats/sketch"
	"github.com/stranglerfig/migrator/internal/test/statetest"
	"github.com/stranglerfig/migrator/internal/test/testenv"
)

var (
	readOK     = telemetry.Series{Operation: telemetry.Read, Store: telemetry.Target, Role: telemetry.Serving, Outcome: telemetry.OK}
	readFailed = telemetry.Series{Operation: telemetry.Read, Store: telemetry.Target, Role: telemetry.Serving, Outcome: telemetry.Failed}
)

// window is ten seconds of an instance that ended some time ago: n reads, of which
// each took a millisecond.
func window(incarnation string, sequence int64, age time.Duration, n uint64) telemetry.Window {
	sketch := new(sketch.Sketch)
	sketch.Add(time.Millisecond, n)
	return telemetry.Window{
		Incarnation: incarnation, Instance: "web-" + incarnation, Sequence: sequence, Epoch: 1, ConfigHash: "h1",
		Length: 10 * time.Second, Age: age,
		Counts: []telemetry.Count{{Series: readOK, N: n, Latency: sketch}, {Series: readFailed, N: 1}},
	}
}

func observed(t testing.TB, s *state.Store, back time.Duration) []telemetry.Bucket {
	t.Helper()
	buckets, err := s.Observed(t.Context(), testMigration, time.Now().Add(-back))
	must(t, err)
	return buckets
}

// TestAWindowCountsOnce: reported twice, late, out of order, before and after its bucket
// was rolled up, and during another roll-up.
func TestAWindowCountsOnce(t *testing.T) { overEach(t, aWindowCountsOnce) }

func aWindowCountsOnce(t *testing.T, s *state.Store, v over) {
	i := v.join(t, "a", pgfleet.Options{})
	hand := func(windows ...telemetry.Window) {
		t.Helper()
		must(t, i.Observe(t.Context(), i.grant.Lease, windows))
	}
	want := func(when string, n uint64) {
		t.Helper()
		buckets := observed(t, s, 40*24*time.Hour)
		sketch := telemetry.Latency(buckets, readOK)
		if got := telemetry.N(buckets, readOK); got != n || sketch.Count() != n {
			t.Fatalf("%s: %d reads, %d of them timed, want %d", when, got, sketch.Count(), n)
		}
	}
	rollUp := func() {
		t.Helper()
		_, err := s.RollUp(t.Context(), testMigration)
		must(t, err)
	}
	ages := map[int64]time.Duration{1: 0, 2: 3 * time.Hour, 4: 20 * time.Minute, 5: 6 * 24 * time.Hour}
	for range 2 {
		hand(window("x", 1, ages[1], 10), window("x", 2, ages[2], 100), window("y", 1, 0, 1000))
		want("handed in", 1110)
	}
	for range 2 {
		rollUp()
		want("rolled up", 1110)
	}
	hand(window("x", 1, time.Minute, 10), window("x", 2, ages[2], 100), window("x", 4, ages[4], 10000))
	want("again, and a new one", 11110)
	if left := value[int64](t, s, `SELECT count(*) FROM migrator.windows`); left != 3 {
		t.Errorf("%d windows wait to be rolled up", left)
	}
	rollUp()
	want("rolled up again", 11110)
	hand(window("x", 3, time.Hour, 100000), window("x", 5, ages[5], 1000000))
	want("late, and out of order", 1111110)
	var wg sync.WaitGroup
	for range 3 {
		wg.Go(func() {
			for range 5 {
				_, err := s.RollUp(t.Context(), testMigration)
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	for sequence := int64(10); sequence < 60; sequence++ {
		hand(window("z", sequence, 0, 1), window("z", sequence-1, 0, 1))
	}
	wg.Wait()
	want("while others roll up", 1111110+51)
	rollUp()
	want("at the end", 1111110+51)
	if ranges := value[string](t, s, `SELECT string_agg(counted::text, ' ' ORDER BY incarnation) FROM migrator.incarnations`); ranges != "{[1,6)} {[1,2)} {[9,60)}" {
		t.Errorf("what is remembered: %s", ranges)
	}
}

func TestObservedBuckets(t *testing.T) { overEach(t, observedBuckets) }

func observedBuckets(t *testing.T, s *state.Store, v over) {
	i := v.join(t, "a", pgfleet.Options{})
	walk(t, s, nil, shadowWrite)
	second, other := window("x", 4, 2*time.Second, 1), window("x", 5, 2*time.Second, 1)
	second.Epoch, other.ConfigHash = 2, "h2"
	must(t, i.Observe(t.Context(), i.grant.Lease, []telemetry.Window{
		window("x", 1, 2*time.Second, 1), window("y", 1, 2*time.Second, 1), window("x", 2, 90*time.Minute, 1), window("x", 3, 100*time.Hour, 1), second, other,
	}))
	for _, when := range []string{"as handed in", "rolled up", "rolled up twice"} {
		buckets := observed(t, s, 30*24*time.Hour)
		if len(buckets) != 5 {
			t.Fatalf("%s: %d buckets: %+v", when, len(buckets), buckets)
		}
		for n, b := range buckets {
			width := b.Ended.Sub(b.Began)
			if n < 2 && (width != 5*time.Minute || b.Began.Truncate(5*time.Minute) != b.Began) {
				t.Errorf("%s: bucket %d from %s to %s", when, n, b.Began, b.Ended)
			}
			if n >= 2 && (width > 10*time.Second || b.Began.Truncate(10*time.Second) != b.Began || b.Ended.After(time.Now())) {
				t.Errorf("%s: bucket %d from %s to %s", when, n, b.Began, b.Ended)
			}
		}
		if b := buckets[2]; b.Epoch != 1 || b.ConfigHash != "h1" || b.Instances != 2 || telemetry.N(buckets[2:3], readFailed) != 2 {
			t.Errorf("%s: %+v", when, b)
		}
		if buckets[3].ConfigHash != "h2" || buckets[4].Epoch != 2 || buckets[4].Instances != 1 {
			t.Errorf("%s: %+v", when, buckets[3:])
		}
		if got := observed(t, s, time.Hour); len(got) != 3 {
			t.Errorf("%s: since an hour ago: %+v", when, got)
		}
		_, err := s.RollUp(t.Context(), testMigration)
		must(t, err)
	}
	// Fine buckets become coarse with time, and old ones are deleted.
	exec(t, s, `UPDATE migrator.buckets SET began_at = began_at - interval '3 hours' WHERE seconds = 10`)
	if got := observed(t, s, 20*time.Hour); len(got) != 4 || got[2].Ended.Sub(got[2].Began) != 5*time.Minute {
		t.Errorf("after three hours: %+v", got)
	}
	_, err := s.RollUp(t.Context(), testMigration)
	must(t, err)
	if fine := value[int64](t, s, `SELECT count(*) FROM migrator.buckets WHERE seconds = 10`); fine != 0 || telemetry.N(observed(t, s, 30*24*time.Hour), readOK) != 6 {
		t.Errorf("after three hours %d fine buckets are left, and %d reads", fine, telemetry.N(observed(t, s, 30*24*time.Hour), readOK))
	}
	exec(t, s, `UPDATE migrator.buckets SET began_at = began_at - interval '45 days'; UPDATE migrator.incarnations SET last_at = last_at - interval '45 days'`)
	_, err = s.RollUp(t.Context(), testMigration)
	must(t, err)
	if left := value[int64](t, s, `SELECT (SELECT count(*) FROM migrator.buckets) + (SELECT count(*) FROM migrator.incarnations)`); left != 0 {
		t.Errorf("%d rows are left after 45 days", left)
	}
}

func TestObserveRefusesAndPassesOver(t *testing.T) { overEach(t, observeRefusesAndPassesOver) }

func observeRefusesAndPassesOver(t *testing.T, s *state.Store, v over) {
	i := v.join(t, "a", pgfleet.Options{})
	if err := i.Observe(t.Context(), "unknown", []telemetry.Window{window("x", 1, 0, 1)}); !errors.Is(err, dual.ErrLeaseLost) {
		t.Errorf("a lease that is not there: %v", err)
	}
	for name, change := range map[string]func(*telemetry.Window){
		"no incarnation":    func(w *telemetry.Window) { w.Incarnation = "" },
		"no epoch":          func(w *telemetry.Window) { w.Epoch = 0 },
		"a negative length": func(w *telemetry.Window) { w.Length = -1 },
		"a long name":       func(w *telemetry.Window) { w.Instance = strings.Repeat("x", 300) },
		"an invalid outcome": func(w *telemetry.Window) {
			w.Counts[0].Operation = "re ad"
		},
		"too many series": func(w *telemetry.Window) {
			for n := range 65 {
				w.Counts = append(w.Counts, telemetry.Count{Series: telemetry.Series{Operation: "read", Store: "target", Role: "serving", Outcome: telemetry.Outcome(strings.Repeat("x", n%20+1) + strings.Repeat("y", n/20))}})
			}
		},
	} {
		w := window("x", 1, 0, 1)
		change(&w)
		if err := i.Observe(t.Context(), i.grant.Lease, []telemetry.Window{window("y", 1, 0, 1), w}); err == nil {
			t.Errorf("%s was taken", name)
		}
	}
	if buckets := observed(t, s, time.Hour); len(buckets) != 0 {
		t.Errorf("of what was refused something was kept: %+v", buckets)
	}
	unknown, old, future := window("x", 1, 0, 1), window("x", 2, 8*24*time.Hour, 1), window("x", 3, -time.Hour, 1)
	unknown.Epoch = 99
	lapse(t, s, "a") // its lease need not be live
	must(t, i.Observe(t.Context(), i.grant.Lease, []telemetry.Window{unknown, old, future}))
	buckets := observed(t, s, 30*24*time.Hour)
	if len(buckets) != 1 || buckets[0].Epoch != 1 || time.Since(buckets[0].Ended) > time.Minute {
		t.Errorf("%+v", buckets)
	}

	// Counts that another release wrote are left out, and reported by the roll-up.
	exec(t, s, `INSERT INTO migrator.windows SELECT migration, 'new', 1, instance, epoch, config_hash, began_at, ended_at, 0, '\x63' FROM migrator.windows`)
	if buckets := observed(t, s, time.Hour); len(buckets) != 1 {
		t.Errorf("beside a window that can't be read: %+v", buckets)
	}
	if _, err := s.RollUp(t.Context(), testMigration); err == nil || !strings.Contains(err.Error(), "have version 99") {
		t.Errorf("a window that can't be read was rolled up: %v", err)
	}
	st, err := s.Status(t.Context(), testMigration)
	if err != nil || st.UnreadableWindows != 1 || !strings.Contains(st.UnreadableWhy, "have version 99") {
		t.Errorf("%+v, %v", st, err)
	}
	if n, err := s.RollUp(t.Context(), testMigration); err != nil || n != 0 || len(observed(t, s, time.Hour)) != 1 {
		t.Errorf("after it was left out: %d, %v", n, err)
	}
	exec(t, s, `INSERT INTO migrator.windows SELECT of.migration, 'new', n, 'i', 1, 'h1', of.began_at, of.began_at, 0, '\x63' FROM migrator.buckets of, generate_series(2, 3) n LIMIT 2`)
	if _, err := s.RollUp(t.Context(), testMigration); err == nil {
		t.Error("two more were rolled up")
	}
	if st, err := s.Status(t.Context(), testMigration); err != nil || st.UnreadableWindows != 3 {
		t.Errorf("after two more: %d, %v", st.UnreadableWindows, err)
	}
}

// TestARollUpThatDiesLeavesEverything: it has one transaction.
func TestARollUpThatDiesLeavesEverything(t *testing.T) {
	t.Parallel()
	s, dbURL := open(t)
	i := join(t, s, "a", pgfleet.Options{})
	must(t, i.Observe(t.Context(), i.grant.Lease, []telemetry.Window{window("x", 1, 0, 7)}))
	locked, err := pgx.Connect(t.Context(), dbURL)
	must(t, err)
	defer locked.Close(t.Context())
	tx, err := locked.Begin(t.Context())
	must(t, err)
	_, err = tx.Exec(t.Context(), `LOCK TABLE migrator.buckets IN SHARE MODE`)
	must(t, err)
	failed := make(chan error)
	go func() {
		_, err := s.RollUp(t.Context(), testMigration)
		failed <- err
	}()
	testenv.Await(t, "the roll-up to wait", func() bool {
		return value[bool](t, s, `SELECT EXISTS (SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock' AND query LIKE '%migrator.buckets%' AND pid <> pg_backend_pid())`)
	})
	exec(t, s, `SELECT pg_terminate_backend(pid, 60000) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock' AND query LIKE '%migrator.buckets%' AND pid <> pg_backend_pid()`)
	if err := <-failed; err == nil {
		t.Error("it did not fail")
	}
	must(t, tx.Rollback(t.Context()))
	if n := telemetry.N(observed(t, s, time.Hour), readOK); n != 7 {
		t.Errorf("%d reads after it died", n)
	}
	if n, err := s.RollUp(t.Context(), testMigration); err != nil || n != 1 || telemetry.N(observed(t, s, time.Hour), readOK) != 7 {
		t.Errorf("and rolled up again: %d, %v", n, err)
	}
}

func BenchmarkObserve(b *testing.B) {
	s := openPrepared(b, statetest.URL(b))
	f := pgfleet.New(s.Pool(), testMigration, pgfleet.Options{})
	g, err := f.Join(b.Context(), dual.Identity{Instance: "a"})
	must(b, err)
	w := []telemetry.Window{busy(rand.Text())}
	for b.Loop() {
		w[0].Sequence++
		must(b, f.Observe(b.Context(), g.Lease, w))
	}
}

// busy is a window with the largest content that occurs.
func busy(incarnation string) telemetry.Window {
	w := window(incarnation, 0, time.Second, 100)
	for n := range 20 {
		c := telemetry.Count{Series: telemetry.Series{Operation: telemetry.Read, Store: telemetry.Target, Role: telemetry.Serving, Outcome: telemetry.Outcome(string(rune('a' + n)))}, N: 100}
		if n%3 == 0 {
			c.Latency = new(sketch.Sketch)
			for ms := range 80 {
				c.Latency.Add(time.Duration(ms*ms+n)*100*time.Microsecond, uint64(ms+1))
			}
		}
		w.Counts = append(w.Counts, c)
	}
	return w
}

// BenchmarkRollUp adds what 1000 instances report within ten seconds, and reads the last
// five minutes.
func BenchmarkRollUp(b *testing.B) {
	s := openPrepared(b, statetest.URL(b))
	f := pgfleet.New(s.Pool(), testMigration, pgfleet.Options{})
	g, err := f.Join(b.Context(), dual.Identity{Instance: "a"})
	must(b, err)
	all := make([]telemetry.Window, 1000)
	for n := range all {
		all[n] = busy(fmt.Sprint("i", n))
	}
	for b.Loop() {
		b.StopTimer()
		for n := range all {
			all[n].Sequence++
		}
		must(b, f.Observe(b.Context(), g.Lease, all))
		b.StartTimer()
		n, err := s.RollUp(b.Context(), testMigration)
		if err != nil || n != 1000 {
			b.Fatal(n, err)
		}
	}
}

// TestCountsAreObservedWithoutTimes: in no bucket yet, in a fine one, and in a coarse one.
func TestCountsAreObservedWithoutTimes(t *testing.T) {
	t.Parallel()
	s, _ := open(t)
	i := join(t, s, "a", pgfleet.Options{})
	for n, age := range []time.Duration{3 * time.Hour, time.Minute, 0} {
		must(t, i.Observe(t.Context(), i.grant.Lease, []telemetry.Window{window("w", int64(n+1), age, uint64(100*(n+1)))}))
		if age > 0 {
			_, err := s.RollUp(t.Context(), testMigration)
			must(t, err)
		}
	}
	want := observed(t, s, 24*time.Hour)
	got, err := s.Counted(t.Context(), testMigration, time.Now().Add(-24*time.Hour))
	must(t, err)
	timed := 0
	for _, b := range want {
		for n := range b.Counts {
			if b.Counts[n].Latency != nil {
				timed++
			}
			b.Counts[n].Latency = nil
		}
	}
	// The last bucket ends at the moment of the query.
	want[len(want)-1].Ended = got[len(got)-1].Ended
	if diff := cmp.Diff(want, got); diff != "" || timed != 3 {
		t.Errorf("%d timed, %s", timed, diff)
	}
}

// BenchmarkObserved reads up to two weeks of a fleet of 1000, as stored.
func BenchmarkObserved(b *testing.B) {
	s := openPrepared(b, statetest.URL(b))
	f := pgfleet.New(s.Pool(), testMigration, pgfleet.Options{})
	g, err := f.Join(b.Context(), dual.Identity{Instance: "a"})
	must(b, err)
	must(b, f.Observe(b.Context(), g.Lease, []telemetry.Window{busy("a")}))
	_, err = s.RollUp(b.Context(), testMigration)
	must(b, err)
	exec(b, s, `INSERT INTO migrator.buckets SELECT migration, began_at - n * interval '10 seconds', 10, epoch, config_hash, decode(repeat('deadbeef', 1000), 'hex'), counts
		FROM migrator.buckets, generate_series(1, 360) n WHERE seconds = 10`)
	exec(b, s, `INSERT INTO migrator.buckets SELECT migration, date_trunc('hour', now()) - n * interval '5 minutes', 300, epoch, config_hash, decode(repeat('deadbeef', 1000), 'hex'), counts
		FROM migrator.buckets, generate_series(13, 4032) n WHERE began_at = (SELECT max(began_at) FROM migrator.buckets)`)
	for _, back := range []time.Duration{5 * time.Minute, 30 * time.Minute, 72 * time.Hour, 14 * 24 * time.Hour} {
		b.Run(back.String(), func(b *testing.B) {
			n := 0
			for b.Loop() {
				n = len(observed(b, s, back))
			}
			b.ReportMetric(float64(n), "buckets")
		})
		b.Run(back.String()+" counts alone", func(b *testing.B) {
			for b.Loop() {
				_, err := s.Counted(b.Context(), testMigration, time.Now().Add(-back))
				must(b, err)
			}
		})
	}
}
