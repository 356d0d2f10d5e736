package spec

import (
	"time"

	"github.com/stranglerfig/migrator/phases"
)

// Defaults sets what is zero to its default. A description that Parse returned has
// its defaults, with the zeros that its author wrote; so has one from Public.
func (m *Migration) Defaults() {
	set(&m.Environment, "production")
	m.Target.defaults()

	w := &m.Writing
	set(&w.OnTargetFailure, "rollback")
	set(&w.Deadline, duration(time.Second))
	set(&w.NotAfter, duration(10*time.Second))
	set(&w.RollbackBudget, duration(time.Second))
	set(&w.FenceBudget, duration(2*time.Second))
	set(&w.Queue, 10000)
	set(&w.Tombstones, duration(24*time.Hour))

	set(&m.Fleet.Lease, duration(15*time.Second))
	set(&m.Fleet.Renew, duration(5*time.Second))

	set(&m.Backfill.ChunkRows, 5000)
	set(&m.Backfill.Workers, 2)
	set(&m.Backfill.LockTimeout, duration(5*time.Second))

	r := &m.Reconcile
	set(&r.ChunkRows, 5000)
	set(&r.Sample, 100) // 1 %
	set(&r.Pause, duration(200*time.Millisecond))
	set(&r.Rereads, 5)
	set(&r.Findings, 1000)
	set(&r.Workers, 2)
	set(&r.MaxRepairs, 10000)

	p, d := &m.Phases, phases.DefaultSettings()
	set(&p.ShadowWrite.For, d.ShadowWrite.For)
	set(&p.DualRead.Over, d.DualRead.Over)
	set(&p.Cutover.Over, d.Cutover.Over)
	set(&p.Grace.For, d.Grace.For)
	set(&p.Retain.For, d.Retain.For)
	set(&p.Approval.Expires, d.Approval.Expires)
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
}

// defaults sets what only one kind of store has.
func (t *Target) defaults() {
	if t.Store == "redis" {
		set(&t.Format, "hash")
		set(&t.VersionField, "_v")
	}
}

func set[T comparable](to *T, value T) {
	var zero T
	if *to == zero {
		*to = value
	}
}

func duration(d time.Duration) phases.Duration { return phases.Duration(d) }
