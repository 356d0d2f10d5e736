package judge_test

import (
	"slices"
	"testing"
	"time"

	"github.com/stranglerfig/migrator/internal/judge"
	"github.com/stranglerfig/migrator/phases"
)

// TestReplayOfCustomTriggers: a firing begins with the first firing verdict of an epoch, and
// acts where reads come from the target.
func TestReplayOfCustomTriggers(t *testing.T) {
	t.Parallel()
	at := time.Unix(1000, 0)
	asked := func(epoch int64, verdicts ...phases.Verdict) (all []phases.Evaluation) {
		for _, v := range verdicts {
			all = append(all, phases.Evaluation{Name: "smoke", Epoch: epoch, Verdict: v, Detail: string(v)})
		}
		return all
	}
	evaluations := slices.Concat(
		asked(1, phases.Quiet, phases.Firing, phases.Firing), asked(2, phases.Firing), asked(3, phases.Quiet, phases.Firing, phases.Quiet))
	for i := range evaluations {
		evaluations[i].At = at.Add(time.Duration(i) * time.Second)
	}
	settings := phases.Settings{Triggers: phases.TriggerSettings{
		Errors: phases.FailureTrigger{}, Custom: []phases.CustomTrigger{{Question: phases.Question{Name: "smoke"}}},
	}}
	r := judge.Replay{
		Settings: settings, Since: at, Until: at.Add(time.Minute), Recorded: map[string][]phases.Evaluation{"smoke": evaluations},
		Routes: map[int64]phases.Route{1: {Phase: phases.DualRead}, 2: {Phase: phases.Cutover}, 3: {Phase: phases.Cutover}},
	}
	x := r.Run()
	want := []judge.ReplayedFiring{
		{Trigger: "smoke", At: at.Add(time.Second), Route: r.Routes[1], Detail: "firing"},
		{Trigger: "smoke", At: at.Add(3 * time.Second), Route: r.Routes[2], Acts: true, Detail: "firing"},
		{Trigger: "smoke", At: at.Add(5 * time.Second), Route: r.Routes[3], Acts: true, Detail: "firing"},
	}
	if !slices.Equal(x.Firings, want) {
		t.Errorf("%+v", x.Firings)
	}
	for _, one := range x.Triggers {
		switch {
		case one.Trigger == "smoke" && (one.Evaluations != len(evaluations) || one.Verdict != phases.Quiet):
			t.Errorf("%+v", one)
		case one.Trigger != "smoke" && (one.Evaluations != 0 || one.Verdict != phases.NoData):
			t.Errorf("without telemetry: %+v", one)
		}
	}
}
