package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/stranglerfig/migrator/dual"
	"github.com/stranglerfig/migrator/phases"
)

// conditionTimeout bounds the wait for one condition.
const conditionTimeout = time.Minute

func (d *demo) paint(style, s string) string {
	if !d.Colour {
		return s
	}
	return "\x1b[" + style + "m" + s + "\x1b[0m"
}

func (d *demo) title(format string, args ...any) {
	d.scene++
	head := fmt.Sprintf("%2d. %s", d.scene, fmt.Sprintf(format, args...))
	fmt.Fprintf(d.Out, "\n%s %s\n", d.paint("1;36", head), d.paint("2", fmt.Sprintf("[%.1fs]", time.Since(d.began).Seconds())))
}

func (d *demo) say(format string, args ...any) {
	fmt.Fprintf(d.Out, "  %s\n", d.paint("2", fmt.Sprintf(format, args...)))
}

// await waits until the condition is true.
func (d *demo) await(ctx context.Context, what string, condition func() (bool, error)) error {
	ctx, cancel := context.WithTimeoutCause(ctx, conditionTimeout, fmt.Errorf("%s: not within %s", what, conditionTimeout))
	defer cancel()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		if ok, err := condition(); err != nil || ok {
			return err
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-tick.C:
		}
	}
}

// acknowledged waits for that many more acknowledged writes.
func (d *demo) acknowledged(ctx context.Context, more int64) error {
	from := d.traffic.Report().Acknowledged
	return d.await(ctx, fmt.Sprintf("%d acknowledged writes", more), func() (bool, error) {
		return d.traffic.Report().Acknowledged >= from+more, nil
	})
}

// settled waits until every instance has acknowledged the present epoch, and returns the
// snapshot.
func (d *demo) settled(ctx context.Context) (e phases.Snapshot, err error) {
	err = d.await(ctx, "an acknowledgement by every instance", func() (bool, error) {
		e, err = d.state.Snapshot(ctx, migrationName)
		return err == nil && e.Fleet.Settled(), err
	})
	return e, err
}

// timely are the gates that open after some time of load.
var timely = []string{
	"fleet-settled", "routes-compatible", "soak-time",
	phases.GateConsistency, phases.GateShadowWrites, phases.GateTargetReads, phases.GateAddedLatency,
}

// ripe waits until the timely gates before the next step are open, and returns the gates
// that are still closed.
func (d *demo) ripe(ctx context.Context) (next phases.Route, closed []phases.GateResult, err error) {
	err = d.await(ctx, "the soak time and a settled fleet", func() (bool, error) {
		e, err := d.state.Snapshot(ctx, migrationName)
		if err != nil {
			return false, err
		}
		if next, err = d.settings.Next(e.Status.Route); err != nil {
			return false, err
		}
		closed = phases.Closed(phases.Gates(next, d.settings, e))
		return !slices.ContainsFunc(closed, func(g phases.GateResult) bool { return slices.Contains(timely, g.Gate) }), nil
	})
	return next, closed, err
}

// remedies are the commands by which an operator opens a closed gate.
var remedies = map[string][]string{
	"backfill-done":         {"backfill", "run"},
	"journal-empty":         {"reconcile", "run", "--full", "--repair"},
	"no-lost-queue":         {"reconcile", "run", "--full"},
	"reconcile-clean":       {"reconcile", "run", "--full"},
	"approved":              {"phase", "approve", "--reason", "seen it work"},
	phases.GateAcknowledged: {"trigger", "acknowledge", "--reason", "its cause is fixed"},
}

// attempts bounds how often a step is repeated. On a busy machine a write to Redis can be
// too slow, and then the shop rolls back here too.
const attempts = 8

// advance takes the next step, after the commands that its closed gates need.
func (d *demo) advance(ctx context.Context) (phases.Route, error) {
	for range attempts {
		next, closed, err := d.ripe(ctx)
		if err != nil {
			return next, err
		}
		if len(closed) > 0 {
			if err := d.remedy(ctx, next, closed); err != nil {
				return next, err
			}
			continue
		}
		d.customers(ctx)
		code, err := d.migratorCode(ctx, "phase", "advance")
		if err != nil || code == exitDone {
			d.mark = d.traffic.Mark()
			return next, err
		}
		if code != exitNotYet {
			return next, fmt.Errorf("migrator phase advance exited with %d", code)
		}
	}
	return phases.Route{}, fmt.Errorf("the gates stay closed")
}

// remedy runs each command that a closed gate needs, once.
func (d *demo) remedy(ctx context.Context, next phases.Route, closed []phases.GateResult) error {
	done := map[string]bool{}
	for _, g := range closed {
		args, ok := remedies[g.Gate]
		if !ok {
			return fmt.Errorf("%s is blocked by the gate %s: %s", next, g.Gate, g.Detail)
		}
		if done[args[0]] {
			continue
		}
		done[args[0]] = true
		code, err := d.migratorCode(ctx, args...)
		if err == nil && code != exitDone && code != exitNotYet { // 8: the gates are evaluated again
			err = fmt.Errorf("migrator %s exited with %d", quoted(args), code)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// advanceTo takes steps until the route is reached.
func (d *demo) advanceTo(ctx context.Context, to phases.Phase, percent phases.Percent) error {
	for {
		at, err := d.advance(ctx)
		if err != nil {
			return err
		}
		if at.Phase == to && at.Percent >= percent {
			return nil
		}
		if at.Phase.Position() > to.Position() {
			return fmt.Errorf("the migration went to %s, past %s", at, to)
		}
	}
}

// customers prints the results of the shop's clients since the last step.
func (d *demo) customers(ctx context.Context) {
	e, err := d.state.Snapshot(ctx, migrationName)
	if err != nil {
		return // the next step reports the error
	}
	share := ""
	if s, err := d.answers(ctx); err == nil {
		now := s
		s.target -= d.answered.target
		s.legacy -= d.answered.legacy
		if d.answered = now; s.target > 0 {
			share = fmt.Sprintf("; Redis answers %.0f %%", 100*s.share())
		}
	}
	fmt.Fprintf(d.Out, "  %s\n", d.paint("32", fmt.Sprintf("customers, on %s: %s%s", e.Status.Route, d.traffic.Since(d.mark), share)))
}

// answered counts reads by the store that answered them.
type answered struct{ legacy, target float64 }

func (a answered) share() float64 { return a.target / max(a.target+a.legacy, 1) }

// answers sums the instances' counts, from GET /stats.
func (d *demo) answers(ctx context.Context) (sum answered, err error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	for _, s := range d.shops {
		var stats dual.Stats
		r, err := http.NewRequestWithContext(ctx, http.MethodGet, s.url+"/stats", nil)
		if err != nil {
			return sum, err
		}
		answer, err := http.DefaultClient.Do(r)
		if err != nil {
			return sum, err
		}
		err = json.NewDecoder(answer.Body).Decode(&stats)
		_ = answer.Body.Close()
		if err != nil {
			return sum, err
		}
		sum.legacy += float64(stats.LegacyReads)
		sum.target += float64(stats.TargetReads)
	}
	return sum, nil
}
