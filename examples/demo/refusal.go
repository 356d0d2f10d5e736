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

// refusal has Redis refuse every read. No customer notices, since legacy answers
// instead; the trigger on errors does. Should a write that was merely slow take reads
// back before it, or another trigger, it is done once more.
func (d *demo) refusal(ctx context.Context) error {
	d.title("Redis refuses reads, and nobody is there")
	for range attempts {
		before, err := d.inMidCutover(ctx, phases.TriggerErrors)
		if err != nil {
			return err
		}
		d.customers(ctx)
		d.mark = d.traffic.Mark()
		if err := d.acl(ctx, "-hmget"); err != nil {
			return err
		}
		fault := time.Now()
		back, err := d.takenBack(ctx, before)
		if err != nil {
			return err
		}
		fired, err := d.state.Fired(ctx, migrationName)
		if back.Cause == phases.CauseTrigger && err == nil && fired.Name == phases.TriggerErrors && fired.At.After(fault) {
			return d.told(ctx, &Automatic{Trigger: fired.Name, Why: fired.Detail, Fault: fault, Fired: fired.At, Committed: back.At, Settled: back.Settled})
		}
		d.say("another was faster; once more")
		if err := d.acl(ctx, "+hmget"); err != nil {
			return err
		}
	}
	return errors.New("no trigger has taken reads back")
}

// inMidCutover makes sure that reads of some keys come from Redis, and, if a trigger is
// named, that it was looked at since and had enough to say that it is quiet. It returns
// the number of changes of route that there were until then.
func (d *demo) inMidCutover(ctx context.Context, trigger string) (changes int, err error) {
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

// takenBack waits until every instance reads legacy again, and returns the change that
// did so. before is how many there were before it.
func (d *demo) takenBack(ctx context.Context, before int) (back state.Change, err error) {
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

// acl changes what Redis permits to the shop.
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

// told prints what the trigger has done since the fault.
func (d *demo) told(ctx context.Context, a *Automatic) error {
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
	d.say("it goes no further until somebody has looked at the cause:")
	return d.migrator(ctx, exitNotYet, "phase", "advance")
}

func (d *demo) permission(ctx context.Context) error {
	d.title("The permission is given back, and somebody says so")
	if err := d.acl(ctx, "+hmget"); err != nil {
		return err
	}
	d.mark = d.traffic.Mark()
	return d.migrator(ctx, exitDone, "trigger", "acknowledge", "--reason", "Redis permits reads again")
}
