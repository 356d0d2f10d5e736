// Package notify sends a migration's events to webhooks, signed.
package notify

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/stranglerfig/migrator/internal/hint"
	"github.com/stranglerfig/migrator/internal/logs"
	"github.com/stranglerfig/migrator/internal/notify/secrets"
	"github.com/stranglerfig/migrator/internal/sleep"
	"github.com/stranglerfig/migrator/internal/state/outbox"
	"github.com/stranglerfig/migrator/migration"
)

const (
	// senderPoll is for messages whose wake-up was lost, or whose sender died with its claim.
	senderPoll = 30 * time.Second
	// A claim lasts longer than sending to all webhooks takes. After that another sender may
	// claim the message, because the first one has died.
	claimFor    = 2 * time.Minute
	senderBatch = 10
	listenRetry = 5 * time.Second
)

// Payload is the body of a webhook, in the form that Standard Webhooks recommends.
type Payload struct {
	Type      string    `json:"type"`      // migrator. and the event
	Timestamp time.Time `json:"timestamp"` // of the event
	Data      Event     `json:"data"`
}

// Event is what has happened.
type Event struct {
	Name string       `json:"event"` // as in the migration file's webhooks
	Kind outbox.Event `json:"kind"`
	outbox.Message
}

// Outbox holds messages until they are delivered. outbox.Outbox is the one in PostgreSQL.
type Outbox interface {
	Claim(ctx context.Context, limit int, hold time.Duration) ([]outbox.Message, error)
	Delivered(ctx context.Context, m outbox.Message) error
	Failed(ctx context.Context, m outbox.Message, why string) error
	Wakeups(ctx context.Context, log *slog.Logger, wake func()) error
}

// Sender sends the pending messages of a migration's outbox to its webhooks: each at least
// once, with an id that stays the same.
type Sender struct {
	Outbox   Outbox
	Webhooks func() []migration.Webhook // as the migration file is now
	Log      *slog.Logger               // nil: discarded

	log         *slog.Logger
	deliveredTo map[string][]string // by message that is not delivered to all webhooks yet: the URLs that have it
}

// Run sends until ctx ends, and then returns nil. It retries each message until the outbox
// gives it up.
func (s *Sender) Run(ctx context.Context) error {
	s.log, s.deliveredTo = logs.OrDiscard(s.Log), map[string][]string{}
	woken := make(chan struct{}, 1)
	wake := func() {
		select {
		case woken <- struct{}{}:
		default: // it looks again anyway
		}
	}
	var group sync.WaitGroup
	defer group.Wait()
	group.Go(func() { s.listen(ctx, wake) })
	var failures logs.Failures
	tick := time.NewTicker(senderPoll)
	defer tick.Stop()
	for {
		more, err := s.sendPending(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if failures.Note("send", err) == logs.Failed {
			s.log.Warn("sending webhooks failed", "error", err, hint.Attr(err))
		}
		if more {
			wake()
		}
		select {
		case <-ctx.Done():
			return nil
		case <-woken:
		case <-tick.C:
		}
	}
}

// listen calls wake at the outbox's wake-ups until ctx ends. Without them messages wait for the poll. It
// needs a session of the state database, and takes it only where there are webhooks.
func (s *Sender) listen(ctx context.Context, wake func()) {
	var failures logs.Failures
	for ctx.Err() == nil {
		if len(s.Webhooks()) == 0 {
			_ = sleep.For(ctx, senderPoll)
			continue
		}
		err := s.Outbox.Wakeups(ctx, s.log, wake)
		if failures.Note("wake-ups", err) == logs.Failed {
			s.log.Warn("waiting for messages failed", "error", err, hint.Attr(err))
		}
		if err != nil && sleep.For(ctx, listenRetry) != nil {
			return
		}
	}
}

// sendPending sends the messages that are due, and returns whether there may be more.
func (s *Sender) sendPending(ctx context.Context) (more bool, err error) {
	hooks := s.Webhooks()
	due, err := s.Outbox.Claim(ctx, senderBatch, claimFor)
	if err != nil {
		return false, err
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
	return len(due) == senderBatch, failures
}

// send sends a message to each webhook that wants it and does not have it. It retries a
// refusal too: the receiver, or the migration file, may be fixed.
func (s *Sender) send(ctx context.Context, hooks []migration.Webhook, m outbox.Message) error {
	event := eventOf(m)
	body, err := json.Marshal(Payload{"migrator." + event, m.At, Event{event, m.Event, m}})
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
		s.log.Info("webhook delivered", "event", event, "id", m.ID, "attempt", m.Attempts)
	}
	return failures
}

func deliver(ctx context.Context, h migration.Webhook, m Message) error {
	keys, err := secrets.Read(h.SecretFile)
	if err != nil {
		return fmt.Errorf("read a webhook's secret: %w", err)
	}
	w := Webhook{URL: h.URL, Secrets: keys}
	_, err = w.Send(ctx, m)
	return err
}

// eventOf returns the event's name in a migration file: the cause of a history entry, or
// the kind of an event without an entry.
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
