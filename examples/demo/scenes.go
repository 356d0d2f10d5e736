package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/stranglerfig/migrator/internal/state"
	"github.com/stranglerfig/migrator/phases"
	"github.com/stranglerfig/migrator/store"
)

// midCutover is the share of keys that are read from Redis when it fails.
const midCutover phases.Percent = 2500

func (d *demo) describe(ctx context.Context) error {
	d.title("The migration file is checked and applied")
	d.say("the migration file is %s; waiting times are seconds instead of days", d.file)
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
	d.say("the next step is refused until its gates are open (exit code 8):")
	return d.migrator(ctx, exitNotYet, "phase", "advance")
}

func (d *demo) fill(ctx context.Context) error {
	d.title("The existing products are copied, beside live writes")
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

// outage freezes Redis. The first write that fails rolls reads back. If a trigger or a
// slow write rolls back first, outage starts again.
func (d *demo) outage(ctx context.Context) error {
	d.title("Redis freezes")
	for range attempts {
		before, err := d.awaitMidCutover(ctx, "")
		if err != nil {
			return err
		}
		d.customers(ctx)
		d.mark = d.traffic.Mark()
		d.say("SIGSTOP to Redis: connections stay open, without answers")
		if err := d.redis.Pause(); err != nil {
			return err
		}
		frozen := time.Now()
		back, err := d.awaitRollback(ctx, before)
		if err != nil {
			return err
		}
		if back.Cause == phases.CauseFailure && back.At.After(frozen) {
			return d.withoutRedis(ctx, frozen, back)
		}
		d.say("another rollback came first; trying again")
		if err := d.recovery(ctx); err != nil {
			return err
		}
	}
	return errors.New("no failed write has rolled back")
}

// withoutRedis prints the times of the rollback, and shows that the shop continues.
func (d *demo) withoutRedis(ctx context.Context, frozen time.Time, back state.Change) error {
	d.say("the first write that failed in Redis has rolled the fleet back to dual-read: committed after %s, acknowledged by both after %s",
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
	d.title("Redis recovers, and the writes that it missed are repaired")
	if err := d.redis.Resume(); err != nil {
		return err
	}
	d.say("SIGCONT to Redis: it now executes the commands sent before, and refuses all as too late or stale")
	d.mark = d.traffic.Mark()
	if err := d.awaitReconnect(ctx); err != nil {
		return err
	}
	code, err := d.migratorCode(ctx, "reconcile", "run", "--full", "--repair")
	if err == nil && code != exitDone && code != exitNotYet { // 8: it found what it repaired
		err = fmt.Errorf("the repair exited with %d", code)
	}
	if err != nil {
		return err
	}
	d.say("only a later clean run proves the repair")
	return d.migrator(ctx, exitDone, "reconcile", "run", "--full")
}

// awaitReconnect waits until the shop has reconnected to Redis: the journal no longer
// grows while writes are acknowledged.
func (d *demo) awaitReconnect(ctx context.Context) error {
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

func (d *demo) fenceLegacy(ctx context.Context) error {
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

// forgottenJob writes to legacy, as a forgotten cron job would.
func (d *demo) forgottenJob(ctx context.Context) error {
	const statement = "UPDATE products SET discontinued = true WHERE id = 1"
	fmt.Fprintf(d.Out, "  %s\n", d.paint("1", `$ psql -c "`+statement+`"    # a forgotten cron job`))
	conn, err := pgx.Connect(ctx, d.legacy)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(ctx) }()
	_, err = conn.Exec(ctx, statement)
	if !store.IsFenced(err) {
		return errors.Join(errors.New("legacy took a write though it is fenced"), err)
	}
	fmt.Fprintf(&indented{to: d.Out}, "%s\n", err)
	return nil
}
