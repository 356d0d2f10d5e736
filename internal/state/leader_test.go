package state_test

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stranglerfig/migrator/internal/state"
	"github.com/stranglerfig/migrator/internal/test/testenv"
)

// candidate is one process that wants to lead.
type candidate struct {
	began chan context.Context
	ended chan error
	leave context.CancelFunc
}

func stand(t *testing.T, s *state.Store, name string, leading *atomic.Int32) *candidate {
	t.Helper()
	ctx, leave := context.WithCancel(t.Context())
	c := &candidate{began: make(chan context.Context, 10), ended: make(chan error, 1), leave: leave}
	go func() {
		c.ended <- s.Lead(ctx, name, func(ctx context.Context) error {
			if n := leading.Add(1); n > 1 {
				t.Errorf("%d lead at once", n)
			}
			defer leading.Add(-1)
			c.began <- ctx
			<-ctx.Done()
			return nil
		})
	}()
	t.Cleanup(leave)
	return c
}

func (c *candidate) leads(t *testing.T) context.Context {
	t.Helper()
	select {
	case ctx := <-c.began:
		return ctx
	case <-time.After(time.Minute):
		t.Fatal("it does not lead")
		return nil
	}
}

func (c *candidate) waits(t *testing.T) {
	t.Helper()
	select {
	case <-c.began:
		t.Fatal("a second one leads")
	case <-time.After(1500 * time.Millisecond):
	}
}

func TestOneLeadsAndTheNextTakesOver(t *testing.T) {
	t.Parallel()
	s, dbURL := open(t)
	other := openAt(t, dbURL)
	var leading, elsewhere atomic.Int32
	first := stand(t, s, "products", &leading)
	first.leads(t)
	second := stand(t, other, "products", &leading)
	stand(t, other, "customers", &elsewhere).leads(t) // another name has another leader
	second.waits(t)

	first.leave()
	if err := <-first.ended; err != nil {
		t.Errorf("it left with %v", err)
	}
	second.leads(t)

	third, giveUp := context.WithCancel(t.Context())
	time.AfterFunc(200*time.Millisecond, giveUp)
	err := s.Lead(third, "products", func(context.Context) error { t.Error("a second one leads"); return nil })
	if !errors.Is(err, context.Canceled) {
		t.Errorf("a standby that gave up returned %v", err)
	}
}

func TestALeaderWhoseConnectionEndsStops(t *testing.T) {
	t.Parallel()
	s, dbURL := open(t)
	var leading atomic.Int32
	c := stand(t, s, "products", &leading)
	for range 2 { // and leads again
		ctx := c.leads(t)
		exec(t, openAt(t, dbURL), `SELECT pg_terminate_backend(pid, 60000) FROM pg_stat_activity
			WHERE application_name = 'migrator leader' AND datname = current_database()`)
		select {
		case <-ctx.Done():
		case <-time.After(time.Minute):
			t.Fatal("it went on without its lock")
		}
	}
	c.leads(t)
	c.leave()
	if err := <-c.ended; err != nil {
		t.Error(err)
	}
}

func TestALeaderThatIsCutOffStops(t *testing.T) {
	t.Parallel()
	server := testenv.Postgres(t)
	s := openAt(t, server.URL())
	var leading atomic.Int32
	c := stand(t, s, "products", &leading)
	ctx := c.leads(t)
	must(t, server.Pause())
	select {
	case <-ctx.Done():
	case <-time.After(time.Minute):
		t.Error("it continues although the database does not answer")
	}
	must(t, server.Resume())
	c.leads(t)
	c.leave()
	<-c.ended
}

func TestLeadReturnsWhatItsLeaderReturned(t *testing.T) {
	t.Parallel()
	s, _ := open(t)
	want := errors.New("a reason to stop")
	if err := s.Lead(t.Context(), "products", func(context.Context) error { return want }); !errors.Is(err, want) {
		t.Errorf("got %v", err)
	}
	done := false
	if err := s.Lead(t.Context(), "products", func(context.Context) error { done = true; return nil }); err != nil || !done {
		t.Errorf("the lock was not given back: %v", err)
	}
}

// TestAllLeadershipsShareOneSession: those that a process has, and those that it waits for. Its end ends
// them all, and each is led again.
func TestAllLeadershipsShareOneSession(t *testing.T) {
	t.Parallel()
	s, dbURL := open(t)
	other := openAt(t, dbURL)
	const n = 50
	var leading [n]atomic.Int32
	lead := func(s *state.Store) (all []*candidate) {
		for i := range n {
			all = append(all, stand(t, s, fmt.Sprintf("migration-%d", i), &leading[i]))
		}
		return all
	}
	sessions := func() (n int) {
		t.Helper()
		if err := other.Pool().QueryRow(t.Context(), `SELECT count(*) FROM pg_stat_activity
			WHERE application_name = 'migrator leader' AND datname = current_database()`).Scan(&n); err != nil {
			t.Fatal(err)
		}
		return n
	}
	first := lead(s)
	var led []context.Context
	for _, c := range first {
		led = append(led, c.leads(t))
	}
	second := lead(other)
	second[n-1].waits(t)
	twice := stand(t, s, "migration-0", &leading[0]) // of one process
	twice.waits(t)
	if got := sessions(); got != 2 {
		t.Errorf("%d sessions for %d leaderships of two processes", got, n)
	}
	twice.leave()
	<-twice.ended
	first[1].leave() // it alone changes hands
	if err := <-first[1].ended; err != nil {
		t.Error(err)
	}
	second[1].leads(t)
	if led[0].Err() != nil || led[2].Err() != nil {
		t.Error("another leadership has ended with it")
	}
	exec(t, other, `SELECT pg_terminate_backend(l.pid, 60000) FROM pg_locks l, hashtextextended('migrator leader migration-0', 0) h
		WHERE l.locktype = 'advisory' AND l.granted AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
			AND l.classid::bigint = (h >> 32) & 4294967295 AND l.objid::bigint = h & 4294967295`)
	for i, ctx := range led {
		if i == 1 {
			continue
		}
		select {
		case <-ctx.Done():
		case <-time.After(time.Minute):
			t.Fatalf("leadership %d goes on without its lock", i)
		}
	}
	for i := range n {
		if i == 1 {
			continue
		}
		select {
		case <-first[i].began:
		case <-second[i].began:
		case <-time.After(time.Minute):
			t.Fatalf("nothing leads migration %d", i)
		}
	}
}
