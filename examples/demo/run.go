package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/stranglerfig/migrator/examples/storefront/load"
)

// options are the demo's. Products, Rate, Out and Log must be set.
type options struct {
	Products int
	Rate     float64 // requests per second
	Capture  bool    // an application that knows nothing of the migration, whose changes are captured
	Keep     bool    // wait for ctx before everything is removed
	Out      io.Writer
	Log      io.Writer // for output that matters only after a failure
	Colour   bool
	Migrator string // path of the program; "": it is built
}

// Report is the result of the load, and the automatic rollback.
type Report struct {
	load.Report
	Automatic *Automatic `json:"automatic_rollback,omitempty"`
}

// Automatic is an automatic rollback, with its times from the fault on.
type Automatic struct {
	Trigger   string    `json:"trigger"`
	Why       string    `json:"why"`
	Fault     time.Time `json:"fault"`     // when it was made
	Fired     time.Time `json:"fired"`     // when the trigger was evaluated as firing
	Committed time.Time `json:"committed"` // when the rollback was committed
	Settled   time.Time `json:"settled"`   // when every instance had acknowledged it
}

// ErrBroken is the error if the ledger contains a lost write, or a stale or wrong read.
var ErrBroken = errors.New("the ledger is not clean: see lost, stale and wrong above")

// runDemo runs the demo and removes everything again, also when ctx ends. The report is
// nil if the demo failed before its end.
func runDemo(user context.Context, o options) (report *Report, err error) {
	ctx, fail := context.WithCancelCause(user)
	defer fail(nil)
	d := &demo{options: o, fail: fail, interrupted: func() bool { return user.Err() != nil }, began: time.Now()}
	defer func() {
		// Errors after an interruption are its consequence.
		if ended := d.end(); !d.interrupted() {
			err = errors.Join(err, ended)
		}
	}()
	story, finish := d.story, d.finish
	if o.Capture {
		story, finish = d.capturedStory, d.finishCaptured
	}
	if err := story(ctx); err != nil {
		// The cause of ctx's end, such as a shop that died, is the cause of all other errors.
		if cause := context.Cause(ctx); cause != nil && !errors.Is(err, cause) {
			err = cause
		}
		if !d.interrupted() {
			d.printLogs()
		}
		return nil, err
	}
	if report, err = finish(ctx); err != nil {
		return nil, err
	}
	d.title("The ledger")
	report.Write(&indented{to: o.Out})
	if !report.OK() {
		d.printLogs()
		return report, ErrBroken
	}
	if o.Keep {
		d.keep()
		<-ctx.Done()
		if !d.interrupted() {
			return report, context.Cause(ctx)
		}
	}
	return report, nil
}

// story runs one scene after the other.
func (d *demo) story(ctx context.Context) error {
	for _, scene := range []func(context.Context) error{
		d.open, d.describe, d.deploy,
		d.shadowWrite, d.fill, d.dualRead,
		d.cutover, d.outage, d.recovery,
		d.cutoverAgain, d.refusal, d.permission,
		d.cutoverToTheEnd, d.fenceLegacy,
	} {
		if err := scene(ctx); err != nil {
			return err
		}
	}
	return nil
}

// finish stops the load and reads every product once more.
func (d *demo) finish(ctx context.Context) (*Report, error) {
	d.title("Every product once more")
	if err := d.stopLoad(); err != nil {
		return nil, err
	}
	if err := d.traffic.Verify(ctx); err != nil {
		return nil, err
	}
	return &Report{Report: d.traffic.Report(), Automatic: d.automatic}, nil
}

// printLogs prints the customers' failures and the logs of the instances and the daemon.
func (d *demo) printLogs() {
	if d.traffic != nil {
		r := d.traffic.Report()
		for _, text := range append(r.Violations, r.Failures...) {
			fmt.Fprintf(d.Log, "a customer: %s\n", text)
		}
	}
	for _, s := range append(d.shops, d.daemon) {
		if s == nil {
			continue
		}
		fmt.Fprintf(d.Log, "the log of %s:\n%s", s.name, s.log())
	}
}

// startLoad starts the requests, which continue until stopLoad.
func (d *demo) startLoad(ctx context.Context) {
	urls := make([]string, len(d.shops))
	for i, s := range d.shops {
		urls[i] = s.url
	}
	d.traffic = load.New(load.Config{URLs: urls, Products: d.Products, Rate: d.Rate})
	ctx, stop := context.WithCancel(ctx)
	var group errgroup.Group
	group.Go(func() error { return d.traffic.Run(ctx) })
	d.stopLoad = func() error {
		stop()
		return group.Wait()
	}
	d.mark = d.traffic.Mark()
}

func (d *demo) keep() {
	d.title("Left running until Ctrl-C")
	d.say("In another terminal:")
	for _, v := range d.exports() {
		fmt.Fprintf(d.Out, "    export %s='%s'\n", v.name, v.value)
	}
	fmt.Fprintf(d.Out, "    alias migrator='%s' storefront='%s storefront'\n\n", d.program, d.self)
	if d.unaware != nil {
		fmt.Fprintf(d.Out, "    migrator status\n    migrator phase history\n    migrator phase rollback --to grace\n")
		return
	}
	for _, line := range []string{
		"migrator status", "migrator phase history", "migrator reconcile run --full", "migrator phase rollback --to grace",
		fmt.Sprintf("curl %s/products/1", d.shops[0].url), fmt.Sprintf("curl %s/stats", d.shops[1].url),
		fmt.Sprintf("storefront load --url %s --url %s --products 0", d.shops[0].url, d.shops[1].url),
	} {
		fmt.Fprintf(d.Out, "    %s\n", line)
	}
}
