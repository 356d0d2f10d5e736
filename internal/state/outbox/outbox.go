// Package outbox stores the messages to deliver to webhooks.
package outbox

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river"

	"github.com/stranglerfig/migrator/internal/state"
	"github.com/stranglerfig/migrator/internal/state/queue"
	"github.com/stranglerfig/migrator/internal/statedb"
)

// Event is the kind of event that a message reports.
type Event string

// Events. One entry of the history makes one message at most; an advance over a gate
// is Overridden, an automatic rollback RolledBack, whatever else they are.
const (
	Moved        Event = "moved"        // to another phase or percentage
	RolledBack   Event = "rolled-back"  // by a trigger, or by a write that the target refused
	Overridden   Event = "overridden"   // moved over a gate that was closed
	Acknowledged Event = "acknowledged" // a latch is cleared
	Paused       Event = "paused"
	Resumed      Event = "resumed"
	StepDue      Event = "held"  // an advance that was due waits for a gate, or for an approval
	Fired        Event = "fired" // a trigger fires where it rolls nothing back
)

// Message is a notification to be sent. A receiver may receive it again, with the same ID.
type Message struct {
	ID        string          `json:"id"` // a UUID
	Migration string          `json:"migration"`
	Event     Event           `json:"event"`
	At        time.Time       `json:"at"`              // of the event
	Entry     *state.Entry    `json:"entry,omitempty"` // of the history; nil if the event has no entry
	Detail    json.RawMessage `json:"detail,omitempty"`
	Attempts  int             `json:"attempts"` // this one included
}

// Outbox has the notifications of one migration. Those of the history are written in
// the transaction that writes the entry; Announce adds others. Each wakes the sender
// (Wakeups). Several daemons may deliver at once.
type Outbox struct {
	pool      *pgxpool.Pool
	migration string
}

// New returns the migration's outbox.
func New(pool *pgxpool.Pool, migration string) *Outbox { return &Outbox{pool, migration} }

// Announce adds a message about an event without a history entry, such as StepDue. topic
// identifies the event among those of its kind: the same topic is announced once while the
// message is stored (Prune), so Announce may be called at every evaluation.
func (o *Outbox) Announce(ctx context.Context, event Event, topic string, detail any) error {
	if topic == "" {
		return errors.New("an announcement needs a topic")
	}
	doc, err := json.Marshal(detail)
	if err != nil {
		return err
	}
	_, err = o.pool.Exec(ctx, `INSERT INTO migrator.outbox (migration, event, topic, detail) VALUES ($1, $2, $3, $4::jsonb)
		ON CONFLICT DO NOTHING`, o.migration, string(event), statedb.CleanText(topic), string(doc))
	return statedb.Explain(err)
}

// Claim takes up to limit messages that are due, oldest first. For the time of hold no
// other Claim gets them; then, unless they were delivered, they are due again: hold
// must be longer than sending takes.
func (o *Outbox) Claim(ctx context.Context, limit int, hold time.Duration) ([]Message, error) {
	// SKIP LOCKED: two senders never claim one message at a time. next_at is the end of the claim:
	// a sender that dies leaves the message due again.
	rows, err := o.pool.Query(ctx, `WITH due AS (SELECT id FROM migrator.outbox
			WHERE migration = $1 AND delivered_at IS NULL AND next_at <= clock_timestamp() ORDER BY at LIMIT $2 FOR UPDATE SKIP LOCKED),
		claimed AS (UPDATE migrator.outbox o SET attempts = attempts + 1, next_at = clock_timestamp() + $3::bigint * interval '1 microsecond'
			FROM due WHERE o.id = due.id RETURNING o.*)
		SELECT id::text, event, at, detail::text, attempts, coalesce(seq, 0) FROM claimed ORDER BY at, seq`,
		o.migration, limit, hold.Microseconds())
	if err != nil {
		return nil, statedb.Explain(err)
	}
	var seqs []int64
	all, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (Message, error) {
		m := Message{Migration: o.migration}
		var detail string
		var seq int64
		err := row.Scan(&m.ID, &m.Event, &m.At, &detail, &m.Attempts, &seq)
		m.Detail, seqs = json.RawMessage(detail), append(seqs, seq)
		return m, err
	})
	if err != nil {
		return nil, statedb.Explain(err)
	}
	return all, o.withEntries(ctx, all, seqs)
}

// withEntries adds the messages' history entries.
func (o *Outbox) withEntries(ctx context.Context, all []Message, seqs []int64) error {
	rows, err := o.pool.Query(ctx, `SELECT `+state.EntryColumns+` FROM migrator.history WHERE migration = $1 AND seq = ANY($2)`, o.migration, seqs)
	if err != nil {
		return statedb.Explain(err)
	}
	entries, err := pgx.CollectRows(rows, state.ScanEntry)
	for i := range all {
		if at := slices.IndexFunc(entries, func(e state.Entry) bool { return e.Seq == seqs[i] }); at >= 0 {
			all[i].Entry = &entries[at]
		}
	}
	return statedb.Explain(err)
}

// Delivered marks a message as delivered, also if another sender has claimed it meanwhile.
func (o *Outbox) Delivered(ctx context.Context, m Message) error {
	_, err := o.pool.Exec(ctx, `UPDATE migrator.outbox SET delivered_at = clock_timestamp(), failure = ''
		WHERE id = $1 AND delivered_at IS NULL`, m.ID)
	return statedb.Explain(err)
}

// Pauses between attempts: 5 s, doubled up to an hour.
const (
	firstPause = 5 * time.Second
	maxPause   = time.Hour
)

// Failed postpones a message, for longer after each attempt, and schedules a wake-up for then. It
// does nothing if another sender has claimed the message since. why is for operators and must
// contain no secrets.
func (o *Outbox) Failed(ctx context.Context, m Message, why string) error {
	pause := maxPause
	if doubled := m.Attempts - 1; doubled < 10 {
		pause = min(firstPause<<max(doubled, 0), maxPause)
	}
	return statedb.Explain(pgx.BeginTxFunc(ctx, o.pool, statedb.ReadCommitted, func(tx pgx.Tx) error {
		var next time.Time
		// Compare-and-set on the number of attempts: a sender that resumes late must not postpone a
		// message that another has claimed since.
		err := tx.QueryRow(ctx, `UPDATE migrator.outbox SET next_at = clock_timestamp() + $3::bigint * interval '1 microsecond', failure = $4
			WHERE id = $1 AND attempts = $2 AND delivered_at IS NULL RETURNING next_at`, m.ID, m.Attempts, pause.Microseconds(), statedb.CleanText(why)).Scan(&next)
		if errors.Is(err, pgx.ErrNoRows) {
			return nil
		}
		if err != nil {
			return err
		}
		_, err = queue.Insert(ctx, tx, river.InsertManyParams{
			Args: wakeup{o.migration}, InsertOpts: &river.InsertOpts{Queue: o.queue(), ScheduledAt: next},
		})
		return err
	}))
}

// wakeup is a job of the queue that wakes the migration's sender. migrator.wake_sender inserts one
// for each message.
type wakeup struct {
	Migration string `json:"migration"`
}

// Kind implements river.JobArgs.
func (wakeup) Kind() string { return "webhooks" }

func (o *Outbox) queue() string { return queue.Name("webhooks", o.migration) }

// Wakeups calls wake when a message was written, some milliseconds after the commit, and when a
// message is due again, until ctx ends; it then returns nil. wake must return at once, and Claim
// tells what is due: a wake-up may be lost, or be for nothing.
func (o *Outbox) Wakeups(ctx context.Context, log *slog.Logger, wake func()) error {
	err := queue.Serve(ctx, o.pool, queue.Served{Name: o.queue(), Workers: 1, Poll: wakeupPoll, Log: log},
		func(context.Context, *river.Job[wakeup]) error {
			wake()
			return nil
		})
	if ctx.Err() != nil {
		return nil
	}
	return statedb.Explain(err)
}

// wakeupPoll is for wake-ups whose notification was lost.
const wakeupPoll = 5 * time.Second
