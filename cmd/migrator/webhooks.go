package main

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

	"github.com/stranglerfig/migrator/internal/daemon"
	"github.com/stranglerfig/migrator/internal/notify"
	"github.com/stranglerfig/migrator/internal/state"
	"github.com/stranglerfig/migrator/internal/state/outbox"
	"github.com/stranglerfig/migrator/migration"
)

const (
	courierPoll = time.Second
	// A message is another's again after that, if who claimed it has died: longer than
	// sending takes to all webhooks.
	courierHold  = 2 * time.Minute
	courierBatch = 10
)

// courier sends the messages that wait in a migration's outbox to the webhooks of its
// description: each at least once, with an id that stays the same.
type courier struct {
	outbox *outbox.Outbox
	hooks  func() []migration.Webhook // as the description is now
	log    *slog.Logger
	took   map[string][]string // of messages that some webhooks still lack: the URLs that have them
	failed string              // the last failure, so that it is told once
}

// run sends until ctx ends. It gives up on nothing that the outbox does not.
func (k *courier) run(ctx context.Context) error {
	k.took = map[string][]string{}
	tick := time.NewTicker(courierPoll)
	defer tick.Stop()
	for {
		err := k.round(ctx)
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil && err.Error() != k.failed:
			k.log.Warn("messages wait to be sent", "error", err)
			k.failed = err.Error()
		case err == nil:
			k.failed = ""
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

func (k *courier) round(ctx context.Context) error {
	hooks := k.hooks()
	due, err := k.outbox.Claim(ctx, courierBatch, courierHold)
	if err != nil {
		return err
	}
	var failures error
	for _, m := range due {
		if err := k.send(ctx, hooks, m); err != nil {
			failures = errors.Join(failures, err, k.outbox.Failed(ctx, m, err.Error()))
			continue
		}
		delete(k.took, m.ID)
		failures = errors.Join(failures, k.outbox.Delivered(ctx, m))
	}
	return failures
}

// send sends a message to each webhook that wants it and does not have it. A receiver
// that refuses it is asked again too: it, or the description, may be mended.
func (k *courier) send(ctx context.Context, hooks []migration.Webhook, m outbox.Message) error {
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
		if !slices.Contains(h.Events, event) || slices.Contains(k.took[m.ID], h.URL) {
			continue
		}
		if err := deliver(ctx, h, notify.Message{ID: m.ID, Body: body}); err != nil {
			failures = errors.Join(failures, err)
			continue
		}
		k.took[m.ID] = append(k.took[m.ID], h.URL)
		k.log.Info("told a webhook", "event", event, "id", m.ID, "attempt", m.Attempts)
	}
	return failures
}

func deliver(ctx context.Context, h migration.Webhook, m notify.Message) error {
	secret, err := os.ReadFile(h.SecretFile)
	if err != nil {
		return fmt.Errorf("a webhook's secret: %w", err)
	}
	w := notify.Webhook{URL: h.URL, Secret: []byte(strings.TrimSpace(string(secret)))}
	_, err = w.Send(ctx, m)
	return err
}

// eventOf is what a description calls it: the cause of a history entry, or what no
// entry tells of.
func eventOf(m outbox.Message) string {
	switch {
	case m.Event == outbox.Held:
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

// announces tells what no entry of the history does.
func announces(store *state.Store, migration string) func(context.Context, daemon.Event, string, any) error {
	pending := outbox.New(store.Pool(), migration)
	return func(ctx context.Context, event daemon.Event, topic string, detail any) error {
		return pending.Announce(ctx, outbox.Event(event), topic, detail)
	}
}
