package judge

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/stranglerfig/migrator/phases"
)

// sourceKey names a source.
type sourceKey struct {
	kind phases.Kind
	name string
}

// newestAnswer is a source's newest answer.
type newestAnswer struct {
	Answer
	at time.Time // by this process's clock
}

// question is a source with its timing.
type question struct {
	source            Source
	timeout, interval time.Duration
}

// Watch queries each source of a Watched Judge at its interval until ctx is done. An answer
// that is older than three intervals, or missing, counts as no data. Do not call it
// concurrently with itself.
func (j *Judge) Watch(ctx context.Context) error {
	var wait sync.WaitGroup
	for of, q := range j.questions() {
		wait.Go(func() {
			tick := time.NewTicker(q.interval)
			defer tick.Stop()
			for {
				j.ask(ctx, of, q)
				select {
				case <-ctx.Done():
					return
				case <-tick.C:
				}
			}
		})
	}
	wait.Wait()
	return ctx.Err()
}

// sourceReady reports whether the gate or trigger can be evaluated: it needs no source, or
// has one, which under Watch has answered once. A daemon that has just started is not blind.
func (j *Judge) sourceReady(kind phases.Kind, name string) bool {
	if _, has := j.questions()[sourceKey{kind, name}]; has {
		if last, watched := j.newest(sourceKey{kind, name}); watched && last == nil {
			return false
		}
	}
	if kind == phases.GateKind {
		custom := slices.ContainsFunc(j.Settings.Gates.Custom, func(c phases.CustomGate) bool { return c.Name == name })
		return !custom || j.GateSources[name] != nil
	}
	custom := slices.ContainsFunc(j.Settings.Triggers.Custom, func(c phases.CustomTrigger) bool { return c.Name == name })
	return !custom || j.TriggerSources[name] != nil
}

// questions returns those of gates and triggers that are on and have a source.
func (j *Judge) questions() map[sourceKey]question {
	all := map[sourceKey]question{}
	add := func(kind phases.Kind, q phases.Question, w phases.Watch, off string, source Source) {
		if source != nil && off == "" && w.Off == "" {
			all[sourceKey{kind, q.Name}] = question{source, time.Duration(q.Timeout), time.Duration(w.Interval)}
		}
	}
	for _, g := range j.Settings.Gates.Custom {
		add(phases.GateKind, g.Question, g.Watch, j.Settings.Gates.Off, j.GateSources[g.Name])
	}
	for _, t := range j.Settings.Triggers.Custom {
		add(phases.TriggerKind, t.Question, t.Watch, j.Settings.Triggers.Off, j.TriggerSources[t.Name])
	}
	return all
}

// ask queries the source, with its timeout, and remembers the answer.
func (j *Judge) ask(ctx context.Context, of sourceKey, q question) Answer {
	within, cancel := context.WithTimeout(ctx, q.timeout)
	defer cancel()
	reading := q.source.Read(within)
	if within.Err() != nil && ctx.Err() == nil && reading.Verdict != phases.Pass && reading.Verdict != phases.Fail {
		reading.Verdict, reading.Detail = phases.Error, fmt.Sprintf("no answer within %s", q.timeout)
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	answer := Answer{Reading: reading}
	if ctx.Err() != nil {
		return answer // the caller canceled: the answer must not replace the newest one
	}
	if last := j.newestAnswers[of]; last != nil && j.bad(of, last.Answer) {
		answer.Before = last.Before + 1
	}
	if j.newestAnswers == nil {
		j.newestAnswers = map[sourceKey]*newestAnswer{}
	}
	j.newestAnswers[of] = &newestAnswer{Answer: answer, at: time.Now()}
	return answer
}

// bad reports whether the answer counts towards a trigger's firing.
func (j *Judge) bad(of sourceKey, a Answer) bool {
	snapshot := Snapshot{Settings: j.Settings, Answers: map[string]Answer{of.name: a}}
	return of.kind == phases.TriggerKind && snapshot.triggerAnswer(of.name).bad()
}

// answers returns the newest answers if Watch runs; otherwise it queries all sources,
// concurrently.
func (j *Judge) answers(ctx context.Context, kind phases.Kind, questions map[string]question) map[string]Answer {
	all := make(map[string]Answer, len(questions))
	var mu sync.Mutex
	var wait sync.WaitGroup
	for name, q := range questions {
		switch last, watched := j.newest(sourceKey{kind, name}); {
		case watched && last == nil:
			all[name] = Answer{Reading: Reading{Verdict: phases.NoData, Detail: "has not answered yet"}}
		case watched && time.Since(last.at) > 3*q.interval+q.timeout:
			all[name] = Answer{Reading: Reading{Verdict: phases.NoData, Detail: fmt.Sprintf("has not answered for %s", short(time.Since(last.at)))}}
		case watched:
			all[name] = last.Answer
		default:
			wait.Go(func() {
				a := j.ask(ctx, sourceKey{kind, name}, q)
				mu.Lock()
				defer mu.Unlock()
				all[name] = a
			})
		}
	}
	wait.Wait()
	return all
}

func (j *Judge) newest(of sourceKey) (*newestAnswer, bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.newestAnswers[of], j.Watched
}
