package clitest

import (
	"crypto/ed25519"
	"crypto/x509"
	"encoding/pem"

	"github.com/stranglerfig/migrator/internal/app"
	"github.com/stranglerfig/migrator/internal/drill"
	"github.com/stranglerfig/migrator/internal/state"
	"github.com/stranglerfig/migrator/internal/state/drills"
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
	r := drill.Report{
		Drill: run.ID, Migration: name, Environment: run.Environment, ConfigHash: run.ConfigHash, Rehearsal: run.Rehearsal,
		Actor: run.Actor, Began: run.Began, Finished: run.Began, Passed: true,
		Reasons: []string{}, Reconciles: []drill.Reconciled{}, Series: []drill.Second{}, Marks: []drill.Mark{},
	}
	if err := drills.New(store.Pool(), name).Finish(ctx, r); err != nil {
		o.T.Fatal(err)
	}
	return r
}
