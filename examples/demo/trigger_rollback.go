package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/stranglerfig/migrator/internal/state"
	"github.com/stranglerfig/migrator/phases"
)

// refusal makes Redis refuse every read. Customers notice nothing, since legacy answers
// instead; the trigger on errors fires. If a slow write or another trigger rolls back
// first, refusal starts again.
func (d *demo) refusal(ctx context.Context) error {
	d.title("Redis refuses reads, without an operator")
	for range attempts {
		before, err := d.awaitMidCutover(ctx, phases.TriggerErrors)
		if err != nil {
			return err
		}
		d.customers(ctx)
		d.mark = d.traffic.Mark()
		if err := d.acl(ctx, "-hmget"); err != nil {
			return err
		}
		fault := time.Now()
		back, err := d.awaitRollback(ctx, before)
		if err != nil {
			return err
		}
		fired, err := d.state.Fired(ctx, migrationName)
		if back.Cause == phases.CauseTrigger && err == nil && fired.Name == phases.TriggerErrors && fired.At.After(fault) {
			return d.printRollback(ctx, &Automatic{Trigger: fired.Name, Why: fired.Detail, Fault: fault, Fired: fired.At, Committed: back.At, Settled: back.Settled})
		}
		d.say("another rollback came first; trying again")
		if err := d.acl(ctx, "+hmget"); err != nil {
			return err
		}
	}
	return errors.New("no trigger has rolled back")
}

// awaitMidCutover waits until reads of some keys come from Redis, and, if a trigger is
// named, until it was evaluated as quiet in this epoch. It returns the number of route
// changes so far.
func (d *demo) awaitMidCutover(ctx context.Context, trigger string) (changes int, err error) {
	err = d.await(ctx, "mid-cutover, quiet", func() (bool, error) {
		all, err := d.state.Changes(ctx, migrationName)
		if err != nil {
			return false, err
		}
		changes = len(all)
		e, err := d.state.Snapshot(ctx, migrationName)
		if err != nil {
			return false, err
		}
		at := e.Status.Route
		if at.Phase != phases.Cutover {
			return false, d.advanceTo(ctx, phases.Cutover, midCutover)
		}
		if trigger == "" || !e.Fleet.Settled() {
			return e.Fleet.Settled(), nil
		}
		newest, err := d.state.Evaluations(ctx, migrationName, state.EvaluationFilter{Kind: phases.TriggerKind, Name: trigger, Newest: true})
		return err == nil && len(newest) == 1 && newest[0].Epoch == at.Epoch && newest[0].Verdict == phases.Quiet, err
	})
	return changes, err
}

// awaitRollback waits for a settled rollback to legacy reads, and returns its route
// change. before is the number of route changes before it.
func (d *demo) awaitRollback(ctx context.Context, before int) (back state.Change, err error) {
	err = d.await(ctx, "a rollback", func() (bool, error) {
		all, err := d.state.Changes(ctx, migrationName)
		if err != nil || len(all) <= before {
			return false, err
		}
		back = all[len(all)-1]
		return back.To == phases.DualRead && !back.Settled.IsZero(), nil
	})
	return back, err
}

// acl changes the shop's permissions in Redis.
func (d *demo) acl(ctx context.Context, rule string) error {
	fmt.Fprintf(d.Out, "  %s\n", d.paint("1", "$ redis-cli ACL SETUSER default "+rule))
	o, err := redis.ParseURL(d.redis.URL())
	if err != nil {
		return err
	}
	client := redis.NewClient(o)
	defer func() { _ = client.Close() }()
	return client.Do(ctx, "ACL", "SETUSER", "default", rule).Err()
}

// printRollback prints the trigger's rollback, with times since the fault.
func (d *demo) printRollback(ctx context.Context, a *Automatic) error {
	d.automatic = a
	after := func(t time.Time) string { return fmt.Sprintf("%.3f s", t.Sub(a.Fault).Seconds()) }
	d.say("by itself, after the fault at %s:", a.Fault.UTC().Format("15:04:05.000"))
	d.say("  fired      %s  %s: %s", after(a.Fired), a.Trigger, a.Why)
	d.say("  committed  %s", after(a.Committed))
	d.say("  settled    %s  every instance reads legacy", after(a.Settled))
	r := d.traffic.Report()
	d.say("  reads without an answer since: %d; stale %d, wrong %d so far", d.traffic.Since(d.mark).Failed, r.Stale, r.Wrong)
	d.customers(ctx)
	for _, args := range [][]string{{"trigger", "list"}, {"phase", "history", "--limit", "1"}} {
		if err := d.migrator(ctx, exitDone, args...); err != nil {
			return err
		}
	}
	d.say("no advance is possible until an operator acknowledges the rollback:")
	return d.migrator(ctx, exitNotYet, "phase", "advance")
}

func (d *demo) permission(ctx context.Context) error {
	d.title("The permission is restored, and an operator acknowledges the rollback")
	if err := d.acl(ctx, "+hmget"); err != nil {
		return err
	}
	d.mark = d.traffic.Mark()
	return d.migrator(ctx, exitDone, "trigger", "acknowledge", "--reason", "Redis permits reads again")
}
