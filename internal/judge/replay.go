package judge

import (
	"slices"
	"time"

	"github.com/stranglerfig/migrator/dual/telemetry"
	"github.com/stranglerfig/migrator/phases"
)

// Replay evaluates triggers over recorded telemetry in the order of time, as the daemon
// would have.
type Replay struct {
	Settings     phases.Settings
	Since, Until time.Time
	Buckets      []telemetry.Bucket             // from TriggersSince before Since on, in the order of time
	Routes       map[int64]phases.Route         // by epoch
	Recorded     map[string][]phases.Evaluation // of custom triggers, oldest first: their sources can't be queried for a past time
}

// Replayed is the result of a Replay.
type Replayed struct {
	Since    time.Time         `json:"since"`
	Until    time.Time         `json:"until"`
	Buckets  int               `json:"stretches"` // of recorded telemetry that were evaluated
	Firings  []ReplayedFiring  `json:"firings"`
	Triggers []ReplayedTrigger `json:"triggers"`
}

// ReplayedFiring is when a trigger would have begun to fire.
type ReplayedFiring struct {
	Trigger string       `json:"trigger"`
	At      time.Time    `json:"at"`
	Route   phases.Route `json:"route"`
	Acts    bool         `json:"acts"` // it would have rolled back
	Detail  string       `json:"detail"`
}

// ReplayedTrigger is one trigger with its last evaluation.
type ReplayedTrigger struct {
	Trigger     string         `json:"trigger"`
	Off         string         `json:"off,omitempty"`
	Evaluations int            `json:"evaluations"`
	Verdict     phases.Verdict `json:"verdict"` // of the last evaluation
	Detail      string         `json:"detail"`
}

// Run evaluates every trigger of the settings.
func (r *Replay) Run() *Replayed {
	x := &Replayed{Since: r.Since, Until: r.Until, Firings: []ReplayedFiring{}, Triggers: []ReplayedTrigger{}}
	for _, t := range r.Settings.Triggers.All() {
		one := ReplayedTrigger{Trigger: t.Name, Off: t.Off, Verdict: phases.NoData, Detail: "no telemetry"}
		custom := slices.ContainsFunc(r.Settings.Triggers.Custom, func(c phases.CustomTrigger) bool { return c.Name == t.Name })
		switch {
		case t.Off != "":
			one.Detail = "off"
		case custom:
			r.replayRecorded(x, &one)
		default:
			r.replayMeasured(x, t, &one)
		}
		x.Triggers = append(x.Triggers, one)
	}
	slices.SortStableFunc(x.Firings, func(a, b ReplayedFiring) int { return a.At.Compare(b.At) })
	return x
}

// replayMeasured evaluates a trigger at the end of each bucket, with the telemetry until then.
func (r *Replay) replayMeasured(x *Replayed, t phases.Armed, one *ReplayedTrigger) {
	began := map[int64]time.Time{}
	var was phases.Verdict
	var epoch int64
	count, buckets := 0, r.Buckets
	for i, b := range buckets {
		if _, ok := began[b.Epoch]; !ok {
			began[b.Epoch] = b.Began
		}
		last := i+1 == len(buckets) || !buckets[i+1].Began.Equal(b.Began) || buckets[i+1].Epoch != b.Epoch
		if b.Ended.Before(x.Since) || !last {
			continue
		}
		count++
		first, _ := slices.BinarySearchFunc(buckets[:i], b.Ended.Add(-TriggersSince), func(b telemetry.Bucket, at time.Time) int { return b.Ended.Compare(at) })
		route := r.Routes[b.Epoch]
		route.Epoch = b.Epoch
		snapshot := Snapshot{Settings: r.Settings, Buckets: buckets[first : i+1], State: phases.Snapshot{
			Now: b.Ended, Status: phases.Status{Route: route, RouteSince: began[b.Epoch], ConfigHash: b.ConfigHash},
		}}
		e := snapshot.Trigger(t)
		one.Evaluations++
		one.Verdict, one.Detail = e.Verdict, e.Detail
		if e.Verdict == phases.Firing && (was != phases.Firing || epoch != b.Epoch) {
			x.fires(t.Name, b.Ended, route, e.Detail)
		}
		was, epoch = e.Verdict, b.Epoch
	}
	x.Buckets = max(x.Buckets, count)
}

// replayRecorded takes the recorded evaluations of a custom trigger.
func (r *Replay) replayRecorded(x *Replayed, one *ReplayedTrigger) {
	recorded := r.Recorded[one.Trigger]
	for i, e := range recorded {
		one.Evaluations++
		one.Verdict, one.Detail = e.Verdict, e.Detail
		if e.Verdict == phases.Firing && (i == 0 || recorded[i-1].Verdict != phases.Firing || recorded[i-1].Epoch != e.Epoch) {
			x.fires(e.Name, e.At, r.Routes[e.Epoch], e.Detail)
		}
	}
}

func (x *Replayed) fires(trigger string, at time.Time, route phases.Route, detail string) {
	x.Firings = append(x.Firings, ReplayedFiring{Trigger: trigger, At: at, Route: route, Acts: route.Phase.TriggersAct(), Detail: detail})
}
