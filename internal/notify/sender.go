package notify

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/stranglerfig/migrator/internal/logs"
	"github.com/stranglerfig/migrator/internal/state/outbox"
	"github.com/stranglerfig/migrator/migration"
)

const (
	senderPoll = time.Second
	// Another sender may claim a message after that, if who claimed it has died: longer
	// than sending takes to all webhooks.
	claimFor    = 2 * time.Minute
	senderBatch = 10
)

// Outbox holds messages until they are delivered. outbox.Outbox is the one in PostgreSQL.
type Outbox interface {
	Claim(ctx context.Context, limit int, hold time.Duration) ([]outbox.Message, error)
	Delivered(ctx context.Context, m outbox.Message) error
	Failed(ctx context.Context, m outbox.Message, why string) error
}

// Sender sends the messages that wait in a migration's outbox to its webhooks: each at
// least once, with an id that stays the same.
type Sender struct {
	Outbox   Outbox
	Webhooks func() []migration.Webhook // as the migration file is now
	Log      *slog.Logger               // nil: discarded

	log         *slog.Logger
	deliveredTo map[string][]string // of messages that some webhooks still lack: the URLs that have them
}

// Run sends until ctx ends, and returns nil then. It gives up on nothing that the outbox
// does not.
func (s *Sender) Run(ctx context.Context) error {
	s.log, s.deliveredTo = logs.OrDiscard(s.Log), map[string][]string{}
	var failures logs.Failures
	tick := time.NewTicker(senderPoll)
	defer tick.Stop()
	for {
		err := s.sendPending(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if failures.Note("send", err) == logs.Failed {
			s.log.Warn("messages wait to be sent", "error", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

func (s *Sender) sendPending(ctx context.Context) error {
	hooks := s.Webhooks()
	due, err := s.Outbox.Claim(ctx, senderBatch, claimFor)
	if err != nil {
		return err
	}
	var failures error
	for _, m := range due {
		if err := s.send(ctx, hooks, m); err != nil {
			failures = errors.Join(failures, err, s.Outbox.Failed(ctx, m, err.Error()))
			continue
		}
		delete(s.deliveredTo, m.ID)
		failures = errors.Join(failures, s.Outbox.Delivered(ctx, m))
	}
	return failures
}

// send sends a message to each webhook that wants it and does not have it. A receiver
// that refuses it is asked again too: it, or the description, may be mended.
func (s *Sender) send(ctx context.Context, hooks []migration.Webhook, m outbox.Message) error {
	event := eventOf(m)
	body, err := json.Marshal(struct {
		Event string `json:"event"` // as webhooks' events name it
		Kind  string `json:"kind"`
		outbox.Message
	}{event, string(m.Event), m})
	if err != nil {
		return err
	}
	var failures error
	for _, h := range hooks {
		if !slices.Contains(h.Events, event) || slices.Contains(s.deliveredTo[m.ID], h.URL) {
			continue
		}
		if err := deliver(ctx, h, Message{ID: m.ID, Body: body}); err != nil {
			failures = errors.Join(failures, err)
			continue
		}
		s.deliveredTo[m.ID] = append(s.deliveredTo[m.ID], h.URL)
		s.log.Info("told a webhook", "event", event, "id", m.ID, "attempt", m.Attempts)
	}
	return failures
}

func deliver(ctx context.Context, h migration.Webhook, m Message) error {
	secret, err := os.ReadFile(h.SecretFile)
	if err != nil {
		return fmt.Errorf("a webhook's secret: %w", err)
	}
	w := Webhook{URL: h.URL, Secret: []byte(strings.TrimSpace(string(secret)))}
	_, err = w.Send(ctx, m)
	return err
}

// eventOf is what a description calls it: the cause of a history entry, or what no
// entry tells of.
func eventOf(m outbox.Message) string {
	switch {
	case m.Event == outbox.StepDue:
		return "due"
	case m.Event == outbox.Fired, m.Event == outbox.Acknowledged:
		return "trigger"
	case m.Entry == nil:
		return string(m.Event)
	case m.Entry.Cause == "schedule":
		return "advance"
	}
	return string(m.Entry.Cause)
}
