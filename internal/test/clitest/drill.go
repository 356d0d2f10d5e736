package clitest

import (
	"crypto/ed25519"
	"crypto/x509"
	"encoding/pem"
	"time"

	"github.com/stranglerfig/migrator/dual"
	"github.com/stranglerfig/migrator/internal/app"
	"github.com/stranglerfig/migrator/internal/drill"
	"github.com/stranglerfig/migrator/internal/state"
	"github.com/stranglerfig/migrator/internal/state/drills"
	"github.com/stranglerfig/migrator/phases"
	"github.com/stranglerfig/migrator/record"
)

// Served is the rest of a migration file without waiting times, for a test without load.
const Served = `
phases:
  shadow_write: {for: 0s}
  dual_read: {steps: [100], over: 0s}
  cutover: {steps: [100], over: 0s}
  grace: {for: 0s}
  retain: {for: 0s}
  approval: {for: []}
gates: {off: a test without traffic}
writing: {not_after: 1s, deadline: 500ms, fence_budget: 1s}
backfill: {lock_timeout: 500ms}
`

// Staged is the rest of a migration file of staging, where drills are allowed.
const Staged = `
environment: staging
phases:
  shadow_write: {for: 0s}
  dual_read: {steps: [100], over: 0s}
  cutover: {steps: [50, 100], over: 0s, auto: false}
  approval: {for: []}
writing: {not_after: 2s, deadline: 2s}
fleet: {lease: 3s, renew: 500ms}
gates: {off: a test of drills}
reconcile: {pause: 100ms}
`

// Keys writes a private key and its public key.
func (o *Operator) Keys(name string) {
	o.T.Helper()
	public, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		o.T.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		o.T.Fatal(err)
	}
	o.Write(name+".key", string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})))
	o.Write(name+".pub", drill.EncodeKey(public))
}

// Passed records a passed drill without running it.
func (o *Operator) Passed(name string) drill.Report {
	o.T.Helper()
	ctx := o.T.Context()
	store, err := state.Open(ctx, o.State)
	if err != nil {
		o.T.Fatal(err)
	}
	defer store.Close()
	m, err := app.Applied(ctx, store, name)
	if err != nil {
		o.T.Fatal(err)
	}
	run, release, err := drills.New(store.Pool(), name).Begin(ctx, m.DrillHash())
	if err != nil {
		o.T.Fatal(err)
	}
	defer release()
	r := PassedReport()
	r.Drill, r.Migration, r.Environment, r.ConfigHash, r.Rehearsal, r.Actor = run.ID, name, run.Environment, run.ConfigHash, run.Rehearsal, run.Actor
	// It ended when it was recorded, so that it is not in the future.
	moved := run.Began.Sub(r.Finished)
	for _, at := range []*time.Time{&r.Began, &r.Finished, &r.Fault.Injected, &r.Fault.Lifted, &r.Steps[0].Began} {
		*at = at.Add(moved)
	}
	if err := drills.New(store.Pool(), name).Finish(ctx, r); err != nil {
		o.T.Fatal(err)
	}
	return r
}

// PassedReport is a report of a drill that passed, of no migration yet.
func PassedReport() drill.Report {
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	return drill.Report{
		Environment: "staging", Began: at, Finished: at.Add(time.Minute), Passed: true,
		Fault:        drill.Fault{Kind: dual.FaultErrors, Share: phases.All, Reads: true, Injected: at.Add(time.Second), Lifted: at.Add(2 * time.Second), Executed: 9},
		FaultTargets: []drill.FaultTarget{{Instance: "shop", Armed: true, Executed: 9, First: at.Add(time.Second)}},
		Steps:        []drill.Step{{Name: "check the migration's status", Began: at, OK: true}},
		Healthy:      &drill.Healthy{From: at, Until: at.Add(time.Second)}, Fired: &drill.Fired{Cause: phases.CauseTrigger, Trigger: "errors"},
		Times: &drill.Times{Detect: 1, Total: 2}, Load: &drill.Totals{Kind: "builtin", Reads: 10, Writes: 10}, Ledger: &drill.Checked{Records: 10},
		Controls: &drill.Controls{QuietWithoutFault: true, Planted: []record.Key{"1"}, PlantedFound: 1, NegativeControlFound: true},
		Reasons:  []string{}, Reconciles: []drill.Reconciled{{When: "before"}, {When: "after", Checked: 10}}, Series: []drill.Second{}, Marks: []drill.Mark{},
	}
}
