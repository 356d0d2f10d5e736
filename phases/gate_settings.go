package phases

import "time"

// Watch are the settings that every measured gate and every trigger has.
type Watch struct {
	Off          string   `yaml:"off" json:"off,omitempty" jsonschema_description:"Why it is not evaluated; a reason turns it off"`
	Interval     Duration `yaml:"interval" json:"interval,omitempty" jsonschema_description:"How often it is evaluated"`
	InitialDelay Duration `yaml:"initial_delay" json:"initial_delay,omitempty" jsonschema_description:"How long after a change of route it is first evaluated"`
	MinSamples   int      `yaml:"min_samples" json:"min_samples,omitempty" jsonschema_description:"With fewer samples there is no verdict"`
}

// GateSettings are the measured gates. Each proves safety: an upper bound is below
// its limit.
type GateSettings struct {
	Off          string           `yaml:"off" json:"off,omitempty" jsonschema_description:"Why no measured gate is evaluated; a reason turns all of them off"`
	Consistency  ConsistencyGate  `yaml:"consistency" json:"consistency,omitzero" jsonschema_description:"Both stores agree, for long enough"`
	ShadowWrites FailureGate      `yaml:"shadow_writes" json:"shadow_writes,omitzero" jsonschema_description:"Writes reach the target"`
	TargetReads  FailureGate      `yaml:"target_reads" json:"target_reads,omitzero" jsonschema_description:"The target answers the reads that are routed to it"`
	AddedLatency AddedLatencyGate `yaml:"added_latency" json:"added_latency,omitzero" jsonschema_description:"The time that a write waits in addition to legacy"`
	Drill        DrillGate        `yaml:"drill" json:"drill,omitzero" jsonschema_description:"A rollback has been rehearsed"`
	Runbook      RunbookGate      `yaml:"runbook" json:"runbook,omitzero" jsonschema_description:"The rollback runbook has been verified"`
	Bypass       BypassGate       `yaml:"bypass,omitempty" json:"bypass,omitzero" jsonschema_description:"No program writes legacy's table past the application"`
	Capture      CaptureGate      `yaml:"capture,omitempty" json:"capture,omitzero" jsonschema_description:"Change capture does not lag, where capture.mode is beside or only"`
	Custom       []CustomGate     `yaml:"custom" json:"custom,omitempty" jsonschema_description:"Gates of your own"`
}

// ConsistencyGate bounds the share of comparisons that end in a mismatch. Before
// cutover it uses the comparisons of the present stay in dual-read. Later it uses those
// of the present step, and requires no longer time than that step lasts.
type ConsistencyGate struct {
	Limit      Share    `yaml:"limit" json:"limit,omitempty" jsonschema_description:"Mismatches among comparisons that are tolerated"`
	For        Duration `yaml:"for" json:"for,omitempty" jsonschema_description:"Time with comparisons for which the limit must have been kept"`
	Confidence Share    `yaml:"confidence" json:"confidence,omitempty" jsonschema_description:"Confidence of the verdict, however often it is evaluated"`
	Coverage   Share    `yaml:"coverage" json:"coverage,omitempty" jsonschema_description:"Share of that time's five-minute intervals that must have comparisons"`
	Watch
}

// FailureGate bounds the share of operations that failed since the epoch began, or
// since the limit was last proved to be exceeded in it.
type FailureGate struct {
	Limit Share    `yaml:"limit" json:"limit,omitempty" jsonschema_description:"Failures among operations that are tolerated"`
	Calm  Duration `yaml:"calm" json:"calm,omitempty" jsonschema_description:"How long ago the limit must last have been proved to be exceeded"`
	Watch
}

// AddedLatencyGate bounds the 95th percentile of what shadow writing adds to a write.
type AddedLatencyGate struct {
	P95 Duration `yaml:"p95" json:"p95,omitempty" jsonschema_description:"The longest time that the 95th percentile of writes may wait after legacy has them"`
	Watch
}

// DrillFaults are the kinds of faults that a drill may rehearse.
var DrillFaults = []string{"latency", "errors", "blackhole", "corrupt"}

// DrillGate requires a passed rollback drill under the present configuration.
type DrillGate struct {
	Within Duration `yaml:"within" json:"within,omitempty" jsonschema_description:"How long ago a drill may have passed; 0: none is required"`
	// Faults are of DrillFaults.
	Faults []string `yaml:"faults" json:"faults,omitempty" jsonschema_description:"The kinds of faults of each of which a drill must have passed: latency, errors, blackhole, corrupt; empty: any one"`
	// PublicKey is Ed25519's, in base64 or PEM.
	PublicKey string `yaml:"public_key" json:"public_key,omitempty" jsonschema_description:"The key, in base64 or PEM, that signs imported drills"`
	Watch
}

// RunbookGate requires a rollback runbook that was verified under the present configuration.
type RunbookGate struct {
	Within Duration `yaml:"within" json:"within,omitempty" jsonschema_description:"How long ago migrator runbook verify may have passed; 0: it is not required"`
	Watch
}

// Question is a query to an external source.
type Question struct {
	Name    string   `yaml:"name" json:"name" jsonschema:"required" jsonschema_description:"Lower-case letters, digits and -; names it everywhere"`
	PromQL  string   `yaml:"promql" json:"promql,omitempty" jsonschema_description:"A query to the Prometheus server of the section prometheus, with one number as its result"`
	Command []string `yaml:"command" json:"command,omitempty" jsonschema_description:"A program and its arguments; exit code 0 is good"`
	Above   *float64 `yaml:"above" json:"above,omitempty" jsonschema_description:"The number that the answer must be above: a gate is open then, a trigger fires"`
	Below   *float64 `yaml:"below" json:"below,omitempty" jsonschema_description:"The number that the answer must be below: a gate is open then, a trigger fires"`
	Timeout Duration `yaml:"timeout" json:"timeout,omitempty" jsonschema_description:"How long an answer may take (default 5s)"`
}

// CustomGate is open while an external source answers that it is.
type CustomGate struct {
	Question
	Before []Phase `yaml:"before" json:"before,omitempty" jsonschema_description:"Phases into which, and within which, a step waits for it (default cutover, grace, retain)"`
	Watch
}

// TriggerSettings are the triggers. Each proves harm: a lower bound is above its
// limit. They act while reads come from the target and legacy follows: in cutover and grace.
type TriggerSettings struct {
	Off        string            `yaml:"off" json:"off,omitempty" jsonschema_description:"Why no trigger is evaluated; a reason turns all of them off"`
	Mismatches FailureTrigger    `yaml:"mismatches" json:"mismatches,omitzero" jsonschema_description:"The stores disagree"`
	Errors     FailureTrigger    `yaml:"errors" json:"errors,omitzero" jsonschema_description:"The target fails the reads or writes that are waited for"`
	Latency    LatencyTrigger    `yaml:"latency" json:"latency,omitzero" jsonschema_description:"The target answers slower than legacy"`
	LostWrites LostWritesTrigger `yaml:"lost_writes" json:"lost_writes,omitzero" jsonschema_description:"An acknowledged write is missing, or an older state is in its place; one is enough"`
	Custom     []CustomTrigger   `yaml:"custom" json:"custom,omitempty" jsonschema_description:"Triggers of your own"`
}

// Trial are the further settings that every trigger has.
type Trial struct {
	DryRun bool `yaml:"dry_run" json:"dry_run,omitempty" jsonschema_description:"Evaluate and report, but never roll back"`
	Watch
}

// FailureTrigger fires when a share is proved to be above its limit.
type FailureTrigger struct {
	Limit Share `yaml:"limit" json:"limit,omitempty" jsonschema_description:"The share above which it fires"`
	Trial
}

// LatencyTrigger fires when the target's 99th percentile of reads is proved to be
// worse than legacy's of the same minutes.
type LatencyTrigger struct {
	Ratio   float64  `yaml:"ratio" json:"ratio,omitempty" jsonschema_description:"How many times legacy's 99th percentile the target's may be"`
	Ceiling Duration `yaml:"ceiling" json:"ceiling,omitempty" jsonschema_description:"The longest 99th percentile of the target, whatever legacy's is; 0: none"`
	Trial
}

// LostWritesTrigger fires at one lost write.
type LostWritesTrigger struct {
	Trial
}

// What a trigger does when its source does not answer.
const (
	HoldOnBlind     = "hold"
	RollbackOnBlind = "rollback"
)

// CustomTrigger fires when an external source answers that it must.
type CustomTrigger struct {
	Question
	Alertmanager Alerts `yaml:"alertmanager" json:"alertmanager,omitzero" jsonschema_description:"Instead of a question: alerts that an Alertmanager sends to the daemon"`
	OnBlind      string `yaml:"on_blind" json:"on_blind,omitempty" jsonschema:"enum=hold,enum=rollback" jsonschema_description:"What no answer means: nothing (hold, default), or the same as a bad one"`
	Consecutive  int    `yaml:"consecutive" json:"consecutive,omitempty" jsonschema_description:"How many evaluations in a row must be bad (default 1)"`
	Trial
}

// Alerts selects the alerts that count.
type Alerts struct {
	Labels map[string]string `yaml:"labels" json:"labels,omitempty" jsonschema_description:"Labels that a firing alert must have, with these values"`
}

// The names of the measured gates and of the triggers.
const (
	GateConsistency    = "consistency"
	GateShadowWrites   = "shadow-writes"
	GateTargetReads    = "target-reads"
	GateAddedLatency   = "added-latency"
	GateDrill          = "drill"
	GateRunbook        = "runbook"
	TriggerMismatches  = "mismatches"
	TriggerErrors      = "errors"
	TriggerLatency     = "latency"
	TriggerLostWrites  = "lost-writes"
	GateAcknowledged   = "rollback-acknowledged"
	defaultAskTimeout  = Duration(5 * time.Second)
	leastWatchInterval = Duration(time.Second)
)

// DefaultGates are the measured gates of a migration file that sets none.
func DefaultGates() GateSettings {
	every := Watch{Interval: Duration(time.Minute)}
	const calm = Duration(30 * time.Minute)
	with := func(samples int) Watch { return Watch{Interval: every.Interval, MinSamples: samples} }
	return GateSettings{
		Consistency:  ConsistencyGate{Limit: 1000, For: Duration(72 * time.Hour), Confidence: 950_000, Coverage: 950_000, Watch: with(3000)},
		ShadowWrites: FailureGate{Limit: 1000, Calm: calm, Watch: with(1000)},
		TargetReads:  FailureGate{Limit: 5000, Calm: calm, Watch: with(500)},
		AddedLatency: AddedLatencyGate{P95: Duration(10 * time.Millisecond), Watch: with(100)},
		Drill:        DrillGate{Watch: every},
		Runbook:      RunbookGate{Watch: every},
	}
}

// DefaultTriggers are the triggers of a migration file that sets none.
func DefaultTriggers() TriggerSettings {
	with := func(samples int) Trial {
		return Trial{Watch: Watch{Interval: Duration(10 * time.Second), MinSamples: samples}}
	}
	return TriggerSettings{
		Mismatches: FailureTrigger{Limit: 10_000, Trial: with(100)},
		Errors:     FailureTrigger{Limit: 5000, Trial: with(20)},
		Latency:    LatencyTrigger{Ratio: 1.2, Trial: with(500)},
		LostWrites: LostWritesTrigger{Trial: with(0)},
	}
}

// FillCustom sets the defaults that the migration file's custom gates and triggers omit.
func (s *Settings) FillCustom() {
	fill := func(q *Question, w *Watch, every time.Duration) {
		if q.Timeout == 0 {
			q.Timeout = defaultAskTimeout
		}
		if w.Interval == 0 {
			w.Interval = Duration(every)
		}
	}
	for i := range s.Gates.Custom {
		g := &s.Gates.Custom[i]
		fill(&g.Question, &g.Watch, time.Minute)
		if g.Before == nil {
			g.Before = []Phase{Cutover, Grace, Retain}
		}
	}
	for i := range s.Triggers.Custom {
		t := &s.Triggers.Custom[i]
		fill(&t.Question, &t.Watch, 10*time.Second)
		if t.OnBlind == "" {
			t.OnBlind = HoldOnBlind
		}
		if t.Consecutive == 0 {
			t.Consecutive = 1
		}
	}
}
