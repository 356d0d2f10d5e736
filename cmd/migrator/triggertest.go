package main

import (
	"context"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/stranglerfig/migrator/dual/telemetry"
	"github.com/stranglerfig/migrator/internal/judge"
	"github.com/stranglerfig/migrator/internal/state"
	"github.com/stranglerfig/migrator/phases"
)

// rehearsed is the document of trigger test.
type rehearsed struct {
	Since    time.Time          `json:"since"`
	Until    time.Time          `json:"until"`
	Stretch  int                `json:"stretches"` // of recorded evidence that were looked at
	Firings  []rehearsedFiring  `json:"firings"`
	Triggers []rehearsedTrigger `json:"triggers"`
}

// rehearsedFiring is when a trigger would have begun to fire.
type rehearsedFiring struct {
	Trigger string       `json:"trigger"`
	At      time.Time    `json:"at"`
	Route   phases.Route `json:"route"`
	Acts    bool         `json:"acts"` // it would have taken reads back
	Detail  string       `json:"detail"`
}

// rehearsedTrigger is one trigger with how it would have stood.
type rehearsedTrigger struct {
	Trigger string         `json:"trigger"`
	Off     string         `json:"off,omitempty"`
	Looks   int            `json:"looks"`
	Verdict phases.Verdict `json:"verdict"` // of the last look
	Detail  string         `json:"detail"`
}

func newTriggerTest(c *cli) *cobra.Command {
	var since time.Duration
	cmd := &cobra.Command{
		Use:   "test [MIGRATION]",
		Short: "Replay recorded evidence: when would which trigger have fired?",
		Long: `Looks at what instances have counted in the order of time, as the daemon would have,
and says when each trigger would have begun to fire. With a description at hand its
triggers are used, applied or not: so a limit can be tried before it is applied. What
was asked of others (promql, command, alertmanager) is not kept to be asked again:
those triggers count as they were looked at then. Evidence of the last hour is in
stretches of ten seconds, older in stretches of five minutes: there a firing is
found that much later than the daemon would have. Changes nothing.`,
		Args: maybeName,
		RunE: c.withState(func(ctx context.Context, store *state.Store, name string) error {
			if since <= 0 {
				return usagef("--since %s: want a time above 0, such as 24h", since)
			}
			m, err := appliedSettings(ctx, store, name)
			if err != nil {
				return err
			}
			settings := m.Settings()
			if c.settings.descriptionFile() != "" {
				at, err := c.load()
				if err != nil {
					return err
				}
				if at.Name == name {
					settings = at.Settings()
				}
			}
			result, err := rehearse(ctx, store, name, settings, since)
			if err != nil {
				return err
			}
			return c.show(result, func() { c.printRehearsed(result) })
		}),
	}
	cmd.Flags().DurationVar(&since, "since", 24*time.Hour, "how far back")
	return cmd
}

func rehearse(ctx context.Context, store *state.Store, name string, s phases.Settings, since time.Duration) (*rehearsed, error) {
	e, err := store.Evidence(ctx, name)
	if err != nil {
		return nil, err
	}
	from := e.Now.Add(-since)
	buckets, err := store.Observed(ctx, name, from.Add(-judge.TriggersSince))
	if err != nil {
		return nil, err
	}
	entries, err := store.History(ctx, name, 1_000_000)
	if err != nil {
		return nil, err
	}
	routes := map[int64]phases.Route{}
	for _, one := range entries {
		routes[one.To.Epoch] = one.To
	}
	x := &rehearsed{Since: from, Until: e.Now, Firings: []rehearsedFiring{}, Triggers: []rehearsedTrigger{}}
	for _, t := range s.Triggers.All() {
		one := rehearsedTrigger{Trigger: t.Name, Off: t.Off, Verdict: phases.NoData, Detail: "there is no evidence"}
		custom := slices.ContainsFunc(s.Triggers.Custom, func(c phases.CustomTrigger) bool { return c.Name == t.Name })
		switch {
		case t.Off != "":
			one.Detail = "off"
		case custom:
			err = x.asLooked(ctx, store, name, routes, &one)
		default:
			x.replay(t, s, buckets, routes, &one)
		}
		if err != nil {
			return nil, err
		}
		x.Triggers = append(x.Triggers, one)
	}
	slices.SortStableFunc(x.Firings, func(a, b rehearsedFiring) int { return a.At.Compare(b.At) })
	return x, nil
}

// replay looks at each stretch's end at what was known then.
func (x *rehearsed) replay(t phases.Armed, s phases.Settings, buckets []telemetry.Bucket, routes map[int64]phases.Route, one *rehearsedTrigger) {
	began := map[int64]time.Time{}
	var was phases.Verdict
	var epoch int64
	stretches := 0
	for i, b := range buckets {
		if _, ok := began[b.Epoch]; !ok {
			began[b.Epoch] = b.Began
		}
		last := i+1 == len(buckets) || !buckets[i+1].Began.Equal(b.Began) || buckets[i+1].Epoch != b.Epoch
		if b.Ended.Before(x.Since) || !last {
			continue
		}
		stretches++
		first, _ := slices.BinarySearchFunc(buckets[:i], b.Ended.Add(-judge.TriggersSince), func(b telemetry.Bucket, at time.Time) int { return b.Ended.Compare(at) })
		route := routes[b.Epoch]
		route.Epoch = b.Epoch
		look := judge.Look{Settings: s, Buckets: buckets[first : i+1], Evidence: phases.Evidence{
			Now: b.Ended, Standing: phases.Standing{Route: route, RouteSince: began[b.Epoch], ConfigHash: b.ConfigHash},
		}}
		e := look.Trigger(t)
		one.Looks++
		one.Verdict, one.Detail = e.Verdict, e.Detail
		if e.Verdict == phases.Firing && (was != phases.Firing || epoch != b.Epoch) {
			x.Firings = append(x.Firings, rehearsedFiring{Trigger: t.Name, At: b.Ended, Route: route, Acts: route.Phase.TriggersAct(), Detail: e.Detail})
		}
		was, epoch = e.Verdict, b.Epoch
	}
	x.Stretch = max(x.Stretch, stretches)
}

// asLooked takes a trigger of the description's own as it was looked at then.
func (x *rehearsed) asLooked(ctx context.Context, store *state.Store, name string, routes map[int64]phases.Route, one *rehearsedTrigger) error {
	kept, err := store.Evaluations(ctx, name, state.EvaluationFilter{Kind: phases.TriggerKind, Name: one.Trigger, Since: x.Since, Limit: 100_000})
	if err != nil {
		return err
	}
	slices.Reverse(kept)
	for i, e := range kept {
		one.Looks++
		one.Verdict, one.Detail = e.Verdict, e.Detail
		if e.Verdict == phases.Firing && (i == 0 || kept[i-1].Verdict != phases.Firing || kept[i-1].Epoch != e.Epoch) {
			route := routes[e.Epoch]
			x.Firings = append(x.Firings, rehearsedFiring{Trigger: e.Name, At: e.At, Route: route, Acts: route.Phase.TriggersAct(), Detail: e.Detail})
		}
	}
	return nil
}

func (c *cli) printRehearsed(x *rehearsed) {
	c.printf("looked at %d stretches of evidence since %s\n", x.Stretch, x.Since.UTC().Format(time.RFC3339))
	for _, f := range x.Firings {
		what := "would have fired, with nothing to take back"
		if f.Acts {
			what = "would have fired"
		}
		c.printf("  %s %s at %s, on %s: %s\n", c.paint(c.out, red, f.Trigger), what, f.At.UTC().Format(time.RFC3339), f.Route, f.Detail)
	}
	for _, t := range x.Triggers {
		switch {
		case t.Off != "":
			c.printf("  %-14s off: %s\n", t.Trigger, t.Off)
		case !slices.ContainsFunc(x.Firings, func(f rehearsedFiring) bool { return f.Trigger == t.Trigger }):
			c.printf("  %-14s would not have fired (%d looks; the last: %s, %s)\n", t.Trigger, t.Looks, t.Verdict, t.Detail)
		}
	}
}
