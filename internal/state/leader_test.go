package state_test

import (
	"context"
	"errors"
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
		exec(t, openAt(t, dbURL), `SELECT pg_terminate_backend(pid) FROM pg_stat_activity
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
