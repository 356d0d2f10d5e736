package migration

import (
	"reflect"
	"time"

	"github.com/stranglerfig/migrator/phases"
)

// Defaults sets every zero to its default. A Config from Parse or Stored has its
// defaults already, and keeps the zeros that its author wrote: do not call it there.
func (m *Config) Defaults() {
	set(&m.Environment, "production")
	m.defaultParts()

	w, t := &m.Writing, phases.DefaultTiming()
	set(&w.OnTargetFailure, "rollback")
	set(&w.Deadline, duration(t.Deadline))
	set(&w.NotAfter, duration(t.NotAfter))
	set(&w.RollbackBudget, duration(t.RollbackBudget))
	set(&w.FenceBudget, duration(t.FenceBudget))
	set(&w.Queue, 10000)
	set(&w.Tombstones, duration(t.Tombstones))

	set(&m.Fleet.Lease, duration(t.Lease))
	set(&m.Fleet.Renew, duration(t.Renew))

	m.absentJobs()
	r := &m.Reconcile
	set(&r.Pause, duration(200*time.Millisecond))
	set(&r.StatementTimeout, duration(5*time.Minute))
	set(&r.MaxRepairs, 10000)

	p, d := &m.Phases, phases.DefaultSettings()
	set(&p.ShadowWrite.For, d.ShadowWrite.For)
	set(&p.DualRead.Over, d.DualRead.Over)
	set(&p.Cutover.Over, d.Cutover.Over)
	set(&p.Grace.For, d.Grace.For)
	set(&p.Retain.For, d.Retain.For)
	set(&p.Approval.Expires, d.Approval.Expires)
	for _, r := range []*phases.Ramp{&p.DualRead, &p.Cutover.Ramp} {
		if r.Auto == nil {
			yes := true
			r.Auto = &yes
		}
	}
	if p.DualRead.Steps == nil {
		p.DualRead.Steps = d.DualRead.Steps
	}
	if p.Cutover.Steps == nil {
		p.Cutover.Steps = d.Cutover.Steps
	}
	if p.Retain.Reversible == nil {
		p.Retain.Reversible = d.Retain.Reversible
	}
	if p.Approval.For == nil {
		p.Approval.For = d.Approval.For
	}
	if p.Approval.TwoPeople == nil {
		p.Approval.TwoPeople = d.Approval.TwoPeople
	}
	m.defaultGates()
}

// absentJobs sets the defaults of those keys of backfill, capture and reconcile that no file may set to
// zero.
func (m *Config) absentJobs() {
	set(&m.Backfill.ChunkRows, 5000)
	set(&m.Backfill.Workers, 2)
	set(&m.Backfill.LockTimeout, duration(phases.DefaultTiming().LockTimeout))

	c := &m.Capture
	set(&c.Mode, phases.CaptureOff)
	set(&c.Workers, 4)
	set(&c.Beat, duration(10*time.Second))
	set(&c.MaxHeld, 10<<30)
	set(&c.MaxShare, phases.Whole*8/10)

	r := &m.Reconcile
	set(&r.ChunkRows, 5000)
	set(&r.Sample, 100) // 1 %
	set(&r.Rereads, 5)
	set(&r.Findings, 1000)
	set(&r.Workers, 2)
	set(&r.Lease, duration(15*time.Second))
	set(&r.StopOn.Interval, duration(10*time.Second))
	set(&r.MaxDifference, phases.Whole/100)
	set(&r.Window, duration(30*24*time.Hour))
	set(&r.Keep, duration(90*24*time.Hour))
	set(&r.Recent.Within, duration(24*time.Hour))
	set(&r.Recent.Sample, 1000) // 10 %
}

// defaultGates sets every zero in the gates and triggers to its default.
func (m *Config) defaultGates() {
	fill(reflect.ValueOf(&m.Gates).Elem(), reflect.ValueOf(phases.DefaultGates()))
	fill(reflect.ValueOf(&m.Triggers).Elem(), reflect.ValueOf(phases.DefaultTriggers()))
	m.defaultEntries()
}

// defaultEntries sets the defaults of list entries.
func (m *Config) defaultEntries() {
	s := m.Settings()
	s.FillCustom()
	for i := range m.Webhooks {
		if m.Webhooks[i].Events == nil {
			m.Webhooks[i].Events = []string{"rollback", "failure", "loss", "trigger"}
		}
	}
}

// fill sets each zero in a structure to the same field of another.
func fill(v, defaults reflect.Value) {
	for i := range v.NumField() {
		switch field := v.Field(i); {
		case field.Kind() == reflect.Struct:
			fill(field, defaults.Field(i))
		case field.IsZero():
			field.Set(defaults.Field(i))
		}
	}
}

// defaultParts sets every zero in the stores' own parts to its default.
func (m *Config) defaultParts() {
	if m.Legacy.Part != nil {
		m.Legacy.Part.Defaults()
	}
	if m.Target.Part != nil {
		m.Target.Part.Defaults()
	}
}

func set[T comparable](to *T, value T) {
	var zero T
	if *to == zero {
		*to = value
	}
}

func duration(d time.Duration) phases.Duration { return phases.Duration(d) }
