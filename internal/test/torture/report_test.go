//go:build unix

package torture

import (
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"os"
	"slices"
	"strings"
	"time"
)

// report is the result of a run, over all its rounds.
type report struct {
	Policy  string  `json:"policy"`
	Rounds  []round `json:"rounds"`
	Seconds float64 `json:"seconds"` // of operations among faults; the rest is not counted

	Operations      int            `json:"operations"`
	Stormy          int            `json:"operations_among_faults"` // of these; the rest between two periods of faults
	OperationsBy    map[string]int `json:"operations_by_kind_and_outcome"`
	Faults          int            `json:"faults"`
	FaultsBy        map[string]int `json:"faults_by_kind"`
	Commands        map[string]int `json:"commands_by_exit"`
	Moves           map[string]int `json:"moves_by_cause"`
	Phases          map[string]int `json:"epochs_by_phase"`
	Lost            int            `json:"lost"`
	Stale           int            `json:"stale"`
	NonLinearizable int            `json:"non_linearizable"` // keys

	Keys      int `json:"keys"`      // histories checked
	Undecided int `json:"undecided"` // of these, where the model did not decide in time; the ledger's check counts
	Strictly  int `json:"strictly"`  // linearizable as one register too, unacknowledged writes included

	Exceptions       map[string]int `json:"exceptions"` // writes by the exception that their instance acknowledged
	Counted          map[string]int `json:"counted"`    // the same, and more, from the instances' own counters
	AllowedStale     int            `json:"stale_reads_allowed"`
	AllowedStaleKeys int            `json:"stale_reads_allowed_keys"`
	Longest          float64        `json:"stale_reads_allowed_longest_ms"` // from the write's acknowledgement to the read's end

	Routes  coexistence    `json:"routes"`
	Times   []summary      `json:"times"`
	Missed  map[string]int `json:"times_not_taken"` // another rollback came first, or none came
	samples []sample
}

// round is one world.
type round struct {
	Seed    uint64  `json:"seed"`
	Target  string  `json:"target"`
	Rest    string  `json:"rest"` // the phase in which it ended
	Seconds float64 `json:"seconds"`
	Passed  bool    `json:"passed"`
}

func newReport(policy string) *report {
	return &report{
		Policy: policy, OperationsBy: map[string]int{}, FaultsBy: map[string]int{}, Commands: map[string]int{}, Moves: map[string]int{}, Phases: map[string]int{},
		Exceptions: map[string]int{}, Counted: map[string]int{}, Missed: map[string]int{}, Routes: coexistence{Allowed: map[string]int{}, Violations: []string{}},
	}
}

// The minimum that a run must do for each minute of its length.
const (
	operationsPerMinute = 10_000
	faultsPerMinute     = 20
)

// shortShare is the share of a long run's minimum that a short one must do.
const shortShare = 0.25

// minimum returns what a run of a length must do at least.
func minimum(seconds, share float64) (operations, faults int) {
	minutes := seconds / 60 * share
	return int(math.Ceil(minutes * operationsPerMinute)), int(math.Ceil(minutes * faultsPerMinute))
}

// lacks returns the reasons why the run proves too little; share is the share of a long run's
// minimum.
func (r *report) lacks(share float64) (all []string) {
	var seconds float64 // as planned: a busy machine takes longer
	for _, x := range r.Rounds {
		seconds += x.Seconds
	}
	operations, faults := minimum(seconds, share)
	if r.Operations < operations {
		all = append(all, fmt.Sprintf("%d operations, want %d", r.Operations, operations))
	}
	if r.Faults < faults {
		all = append(all, fmt.Sprintf("%d faults, want %d", r.Faults, faults))
	}
	if n := r.OperationsBy[string(put)+" "+string(done)]; n < r.Operations/10 {
		all = append(all, fmt.Sprintf("only %d writes were acknowledged", n))
	}
	if r.Undecided*20 > r.Keys {
		all = append(all, fmt.Sprintf("of %d histories the model could not decide %d", r.Keys, r.Undecided))
	}
	return all
}

func (r *report) String() string {
	r.Times = summarise(r.samples)
	var b strings.Builder
	line := func(name, format string, args ...any) {
		fmt.Fprintf(&b, "  %-18s %s\n", name, fmt.Sprintf(format, args...))
	}
	var seeds []string
	for _, x := range r.Rounds {
		text := fmt.Sprintf("%d (%s, ends in %s)", x.Seed, x.Target, x.Rest)
		if !x.Passed {
			text += " FAILED"
		}
		seeds = append(seeds, text)
	}
	fmt.Fprintf(&b, "torture, on_target_failure: %s, %d rounds, %s\n", r.Policy, len(r.Rounds), time.Duration(r.Seconds*float64(time.Second)).Round(time.Second))
	line("seeds", "%s", strings.Join(seeds, ", "))
	line("operations", "%d, of which %d ended among faults; the way there and the end included: %s", r.Operations, r.Stormy, counted(r.OperationsBy))
	line("faults", "%d: %s", r.Faults, counted(r.FaultsBy))
	line("commands", "%s", counted(r.Commands))
	line("moves", "%s", counted(r.Moves))
	line("phases", "%s", counted(r.Phases))
	line("lost", "%d", r.Lost)
	line("stale", "%d", r.Stale)
	line("non-linearizable", "%d of %d histories (%d undecided; %d are plainly linearizable, unacknowledged writes included)", r.NonLinearizable, r.Keys, r.Undecided, r.Strictly)
	line("exceptions", "writes: %s; the instances' own counters: %s", orNone(counted(r.Exceptions)), counted(r.Counted))
	line("allowed stale", "%d reads of %d histories, each between such a write of its key and the rollback or repair; the longest ended %.0f ms after the acknowledgement", r.AllowedStale, r.AllowedStaleKeys, r.Longest)
	line("routes", "%d operations, of which %d were cut by a kill and %d began without a lease; %d began beside one of another epoch, never of more than %d classes; %d incompatible",
		r.Routes.Operations, r.Routes.Cut, r.Routes.Lapsed, r.Routes.Mixed, r.Routes.Classes, len(r.Routes.Violations))
	for _, reason := range slices.Sorted(maps.Keys(r.Routes.Allowed)) {
		line("  apart", "%d pairs: %s", r.Routes.Allowed[reason], reason)
	}
	fmt.Fprintf(&b, "  %-54s %-12s %5s %9s %9s %9s\n", "times, in milliseconds", "", "n", "p50", "p99", "worst")
	for _, s := range r.Times {
		where := "quiet"
		if s.Faults {
			where = "among faults"
		}
		fmt.Fprintf(&b, "  %-54s %-12s %5d %9.1f %9.1f %9.1f\n", s.What, where, s.N, s.P50, s.P99, s.Worst)
	}
	if len(r.Missed) > 0 {
		line("not taken", "%s (another rollback came first, or none)", counted(r.Missed))
	}
	return b.String()
}

func orNone(text string) string {
	if text == "" {
		return "nothing"
	}
	return text
}

// write writes the report to a file as JSON.
func (r *report) write(path string) error {
	r.Times = summarise(r.samples)
	text, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(path, append(text, '\n'), 0o600)
}
