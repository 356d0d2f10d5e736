package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/stranglerfig/migrator/internal/state"
	"github.com/stranglerfig/migrator/phases"
	"github.com/stranglerfig/migrator/store/postgres"
)

// percent of keys that are read from Redis when it fails.
const midCutover phases.Percent = 2500

func (d *demo) describe(ctx context.Context) error {
	d.title("The migration is described, checked and applied")
	d.say("the description is %s; clocks run in seconds where a real one takes days", d.file)
	for _, args := range [][]string{{"init"}, {"plan"}, {"apply"}} {
		if err := d.migrator(ctx, exitDone, args...); err != nil {
			return err
		}
	}
	return nil
}

func (d *demo) shadowWrite(ctx context.Context) error {
	d.title("shadow-write: writes follow to Redis in the background")
	if err := d.advanceTo(ctx, phases.ShadowWrite, 0); err != nil {
		return err
	}
	d.say("the next step is refused until the evidence supports it (exit code 8):")
	return d.migrator(ctx, exitNotYet, "phase", "advance")
}

func (d *demo) fill(ctx context.Context) error {
	d.title("The products that were there before are copied, beside live writes")
	if _, err := d.settled(ctx); err != nil {
		return err
	}
	return d.migrator(ctx, exitDone, "backfill", "run")
}

func (d *demo) dualRead(ctx context.Context) error {
	d.title("dual-read: a write is acknowledged when both have it; reads are compared")
	return d.advanceTo(ctx, phases.DualRead, phases.All)
}

func (d *demo) cutover(ctx context.Context) error {
	d.title("cutover: Redis answers for a growing share of products")
	if err := d.advanceTo(ctx, phases.Cutover, midCutover); err != nil {
		return err
	}
	return d.acknowledged(ctx, 100)
}

// outage freezes Redis. The first write that it refuses takes reads back; should the
// trigger be faster, or a write that was merely slow, it is done once more.
func (d *demo) outage(ctx context.Context) error {
	d.title("Redis freezes")
	for range attempts {
		before, err := d.inMidCutover(ctx, "")
		if err != nil {
			return err
		}
		d.customers(ctx)
		d.mark = d.traffic.Mark()
		d.say("SIGSTOP to Redis: connections stay open, nobody answers")
		if err := d.redis.Pause(); err != nil {
			return err
		}
		frozen := time.Now()
		back, err := d.takenBack(ctx, before)
		if err != nil {
			return err
		}
		if back.Cause == phases.CauseFailure && back.At.After(frozen) {
			return d.withoutRedis(ctx, frozen, back)
		}
		d.say("another was faster; once more")
		if err := d.recovery(ctx); err != nil {
			return err
		}
	}
	return errors.New("no write has taken reads back")
}

// withoutRedis tells how the write did, and that the shop goes on.
func (d *demo) withoutRedis(ctx context.Context, frozen time.Time, back state.Change) error {
	d.say("the first write that Redis refused has taken the fleet back to dual-read: committed after %s, acknowledged by both after %s",
		back.At.Sub(frozen).Round(time.Millisecond), back.Settled.Sub(frozen).Round(time.Millisecond))
	if err := d.acknowledged(ctx, 120); err != nil {
		return err
	}
	d.customers(ctx)
	for _, args := range [][]string{{"status"}, {"phase", "history", "--limit", "4"}} {
		if err := d.migrator(ctx, exitDone, args...); err != nil {
			return err
		}
	}
	return nil
}

func (d *demo) recovery(ctx context.Context) error {
	d.title("Redis comes back, and what it missed is repaired")
	if err := d.redis.Resume(); err != nil {
		return err
	}
	d.say("SIGCONT to Redis: it now carries out what had been sent before, all of it refused as too late or too old")
	d.mark = d.traffic.Mark()
	if err := d.caughtOn(ctx); err != nil {
		return err
	}
	code, err := d.migratorCode(ctx, "reconcile", "run", "--full", "--repair")
	if err == nil && code != exitDone && code != exitNotYet { // 8: it found what it repaired
		err = fmt.Errorf("the repair exited with %d", code)
	}
	if err != nil {
		return err
	}
	d.say("a repair is no proof: only a later clean run is")
	return d.migrator(ctx, exitDone, "reconcile", "run", "--full")
}

// caughtOn waits until the shop has found out that Redis is back: the journal does
// not grow any more while writes are acknowledged.
func (d *demo) caughtOn(ctx context.Context) error {
	for {
		before, err := d.state.Status(ctx, migrationName)
		if err != nil {
			return err
		}
		if err := d.acknowledged(ctx, 100); err != nil {
			return err
		}
		after, err := d.state.Status(ctx, migrationName)
		if err != nil || after.JournalKeys <= before.JournalKeys {
			return err
		}
	}
}

func (d *demo) cutoverAgain(ctx context.Context) error {
	d.title("cutover again")
	return d.advanceTo(ctx, phases.Cutover, midCutover)
}

func (d *demo) cutoverToTheEnd(ctx context.Context) error {
	d.title("cutover once more, to the end, and grace")
	return d.advanceTo(ctx, phases.Grace, 0)
}

func (d *demo) giveUpLegacy(ctx context.Context) error {
	d.title("Legacy is fenced: from here on Redis alone has the products")
	before, err := d.answers(ctx)
	if err != nil {
		return err
	}
	if err := d.acknowledged(ctx, 50); err != nil {
		return err
	}
	after, err := d.answers(ctx)
	if err != nil {
		return err
	}
	// Legacy answers in Redis's place where it has to; here it must not have to.
	if s := (answered{after.legacy - before.legacy, after.target - before.target}); s.share() < 0.9 {
		return fmt.Errorf("in grace Redis answers only %.0f %% of the reads", 100*s.share())
	}
	if err := d.advanceTo(ctx, phases.Retain, 0); err != nil {
		return err
	}
	if err := d.forgottenJob(ctx); err != nil {
		return err
	}
	if err := d.acknowledged(ctx, 200); err != nil {
		return err
	}
	d.customers(ctx)
	for _, args := range [][]string{{"status"}, {"phase", "history", "--verify"}} {
		if err := d.migrator(ctx, exitDone, args...); err != nil {
			return err
		}
	}
	return nil
}

// forgottenJob writes to legacy as a cron job would that nobody has thought of.
func (d *demo) forgottenJob(ctx context.Context) error {
	const statement = "UPDATE products SET discontinued = true WHERE id = 1"
	fmt.Fprintf(d.Out, "  %s\n", d.paint("1", `$ psql -c "`+statement+`"    # a forgotten cron job`))
	conn, err := pgx.Connect(ctx, d.legacy)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(ctx) }()
	_, err = conn.Exec(ctx, statement)
	if !postgres.IsFenced(err) {
		return errors.Join(errors.New("legacy took a write though it is fenced"), err)
	}
	fmt.Fprintf(&indented{to: d.Out}, "%s\n", err)
	return nil
}
