package notify

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"github.com/stranglerfig/migrator/internal/logs"
	"github.com/stranglerfig/migrator/internal/state"
	"github.com/stranglerfig/migrator/internal/state/outbox"
	"github.com/stranglerfig/migrator/migration"
	"github.com/stranglerfig/migrator/phases"
)

// stubOutbox returns the same messages until they are delivered.
type stubOutbox struct {
	mu                sync.Mutex
	waiting           []outbox.Message
	wakes             chan struct{}
	delivered, failed []string
}

func (o *stubOutbox) Claim(_ context.Context, limit int, _ time.Duration) ([]outbox.Message, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return slices.Clone(o.waiting[:min(limit, len(o.waiting))]), nil
}

func (o *stubOutbox) Delivered(_ context.Context, m outbox.Message) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.delivered = append(o.delivered, m.ID)
	o.waiting = slices.DeleteFunc(o.waiting, func(w outbox.Message) bool { return w.ID == m.ID })
	return nil
}

func (o *stubOutbox) Failed(_ context.Context, m outbox.Message, _ string) error {
	o.failed = append(o.failed, m.ID)
	return nil
}

func (o *stubOutbox) Wakeups(ctx context.Context, _ *slog.Logger, wake func()) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-o.wakes:
			wake()
		}
	}
}

// TestSenderSendsAllWhenWoken, and looks by itself in case a wake-up is lost.
func TestSenderSendsAllWhenWoken(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		box := &stubOutbox{wakes: make(chan struct{})}
		s := &Sender{Outbox: box, Webhooks: func() []migration.Webhook { return []migration.Webhook{{URL: "http://127.0.0.1:1"}} }}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() { ended <- s.Run(ctx) }()
		write := func(n int) {
			synctest.Wait() // the sender sleeps
			box.mu.Lock()
			defer box.mu.Unlock()
			box.waiting, box.delivered = make([]outbox.Message, n), nil
			for i := range box.waiting {
				box.waiting[i].ID = strconv.Itoa(i)
			}
		}
		delivered := func(want int, why string) {
			t.Helper()
			synctest.Wait()
			box.mu.Lock()
			defer box.mu.Unlock()
			if len(box.delivered) != want {
				t.Errorf("%s: %d delivered, want %d", why, len(box.delivered), want)
			}
		}
		write(25)
		box.wakes <- struct{}{}
		delivered(25, "woken")
		write(1)
		<-time.After(senderPoll - 1)
		delivered(0, "not woken")
		<-time.After(1)
		delivered(1, "after the poll")
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

// TestSenderRetriesOnlyFailedWebhooks: a webhook that failed is sent the message again, and
// one that has it is not.
func TestSenderRetriesOnlyFailedWebhooks(t *testing.T) {
	t.Parallel()
	var good, bad []string
	var broken atomic.Bool
	broken.Store(true)
	listen := func(got *[]string, fails func() bool) string {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			body, _ := io.ReadAll(r.Body)
			*got = append(*got, r.Header.Get(standardwebhooks.HeaderWebhookID)+" "+string(body))
			if fails() {
				w.WriteHeader(http.StatusServiceUnavailable)
			}
		}))
		t.Cleanup(s.Close)
		return s.URL
	}
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte("0123456789abcdef\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	hooks := []migration.Webhook{
		{URL: listen(&bad, broken.Load), SecretFile: secret, Events: []string{"due", "advance"}}, // first: it keeps the message from no other
		{URL: listen(&good, func() bool { return false }), SecretFile: secret, Events: []string{"due"}},
	}
	box := &stubOutbox{waiting: []outbox.Message{{ID: "one", Event: outbox.StepDue}, {ID: "two", Event: "rollback"}}}
	s := &Sender{Outbox: box, Webhooks: func() []migration.Webhook { return hooks }, log: logs.OrDiscard(nil), deliveredTo: map[string][]string{}}
	if _, err := s.sendPending(t.Context()); err == nil {
		t.Error("a webhook that answers 503 has the message")
	}
	if len(good) != 1 || !strings.HasPrefix(good[0], `one {"type":"migrator.due","timestamp":"0001-01-01T00:00:00Z","data":{"event":"due","kind":"held","id":"one"`) || len(bad) != 1 || !slices.Equal(box.failed, []string{"one"}) || !slices.Equal(box.delivered, []string{"two"}) {
		t.Errorf("%q and %q; failed %q, delivered %q", good, bad, box.failed, box.delivered)
	}
	broken.Store(false)
	if _, err := s.sendPending(t.Context()); err != nil || len(good) != 1 || len(bad) != 2 || len(box.waiting) > 0 || len(s.deliveredTo) > 0 {
		t.Errorf("%v; %q and %q; waiting %+v, taken %v", err, good, bad, box.waiting, s.deliveredTo)
	}
}

func TestEventNames(t *testing.T) {
	t.Parallel()
	entry := func(cause phases.Cause) *state.Entry { return &state.Entry{Cause: cause} }
	for _, c := range []struct {
		m    outbox.Message
		want string
	}{
		{outbox.Message{Event: outbox.StepDue}, "due"},
		{outbox.Message{Event: outbox.Fired}, "trigger"},
		{outbox.Message{Event: outbox.Acknowledged, Entry: entry(phases.CauseAcknowledge)}, "trigger"},
		{outbox.Message{Entry: entry(phases.CauseSchedule)}, "advance"},
		{outbox.Message{Entry: entry(phases.CauseRollback)}, "rollback"},
	} {
		if got := eventOf(c.m); got != c.want {
			t.Errorf("%+v: %s, want %s", c.m, got, c.want)
		}
	}
}
