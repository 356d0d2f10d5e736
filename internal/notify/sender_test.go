package notify

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stranglerfig/migrator/internal/logs"
	"github.com/stranglerfig/migrator/internal/state"
	"github.com/stranglerfig/migrator/migration"
	"github.com/stranglerfig/migrator/phases"
)

// outbox gives the same messages until they are delivered.
type outbox struct {
	waiting           []state.Message
	delivered, failed []string
}

func (o *outbox) Claim(_ context.Context, limit int, _ time.Duration) ([]state.Message, error) {
	return slices.Clone(o.waiting[:min(limit, len(o.waiting))]), nil
}

func (o *outbox) Delivered(_ context.Context, m state.Message) error {
	o.delivered = append(o.delivered, m.ID)
	o.waiting = slices.DeleteFunc(o.waiting, func(w state.Message) bool { return w.ID == m.ID })
	return nil
}

func (o *outbox) Failed(_ context.Context, m state.Message, _ string) error {
	o.failed = append(o.failed, m.ID)
	return nil
}

// TestAMessageGoesToThoseWhoLackIt: a webhook that failed is tried again, and one that
// has the message is not.
func TestAMessageGoesToThoseWhoLackIt(t *testing.T) {
	t.Parallel()
	var good, bad []string
	var broken atomic.Bool
	broken.Store(true)
	listen := func(got *[]string, fails func() bool) string {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			body, _ := io.ReadAll(r.Body)
			*got = append(*got, r.Header.Get(IdempotencyHeader)+" "+string(body))
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
		{URL: listen(&good, func() bool { return false }), SecretFile: secret, Events: []string{"due"}},
		{URL: listen(&bad, broken.Load), SecretFile: secret, Events: []string{"due", "advance"}},
	}
	box := &outbox{waiting: []state.Message{{ID: "one", Event: state.Held}, {ID: "two", Event: "rollback"}}}
	s := &Sender{Outbox: box, Webhooks: func() []migration.Webhook { return hooks }, log: logs.OrDiscard(nil), took: map[string][]string{}}
	if err := s.round(t.Context()); err == nil {
		t.Error("a webhook that answers 503 has the message")
	}
	if len(good) != 1 || !strings.HasPrefix(good[0], `one {"event":"due"`) || len(bad) != 1 || !slices.Equal(box.failed, []string{"one"}) || !slices.Equal(box.delivered, []string{"two"}) {
		t.Errorf("%q and %q; failed %q, delivered %q", good, bad, box.failed, box.delivered)
	}
	broken.Store(false)
	if err := s.round(t.Context()); err != nil || len(good) != 1 || len(bad) != 2 || len(box.waiting) > 0 || len(s.took) > 0 {
		t.Errorf("%v; %q and %q; waiting %+v, taken %v", err, good, bad, box.waiting, s.took)
	}
}

func TestEventsAreNamedAsWebhooksNameThem(t *testing.T) {
	t.Parallel()
	entry := func(cause phases.Cause) *state.Entry { return &state.Entry{Cause: cause} }
	for _, c := range []struct {
		m    state.Message
		want string
	}{
		{state.Message{Event: state.Held}, "due"},
		{state.Message{Event: state.Fired}, "trigger"},
		{state.Message{Event: state.Acknowledged, Entry: entry(phases.CauseAcknowledge)}, "trigger"},
		{state.Message{Entry: entry(phases.CauseSchedule)}, "advance"},
		{state.Message{Entry: entry(phases.CauseRollback)}, "rollback"},
	} {
		if got := eventOf(c.m); got != c.want {
			t.Errorf("%+v: %s, want %s", c.m, got, c.want)
		}
	}
}
