package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/pflag"

	"github.com/stranglerfig/migrator/metrics"
	"github.com/stranglerfig/migrator/reconcile"
)

// reportFlags are how a run tells a scheduler of its result.
type reportFlags struct {
	summary  bool
	textfile string
}

func (r *reportFlags) add(f *pflag.FlagSet) {
	f.BoolVar(&r.summary, "summary", false, "print one line instead of the report")
	f.StringVar(&r.textfile, "textfile", "", "write the result to this file too, for node exporter's textfile collector (name it *.prom)")
}

// check refuses a text file that could not be written once the run is done.
func (r *reportFlags) check() error {
	if r.textfile == "" {
		return nil
	}
	dir := filepath.Dir(r.textfile)
	probe, err := os.CreateTemp(dir, ".reconcile-")
	if err != nil {
		return usagef("--textfile %s: nothing can be written to %s: %w", r.textfile, dir, errors.Unwrap(err))
	}
	_ = probe.Close()
	return os.Remove(probe.Name())
}

// write writes the text file, if one is asked for.
func (r *reportFlags) write(ctx context.Context, j *job, run reconcile.Run) error {
	if r.textfile == "" {
		return nil
	}
	clean, err := j.state.LastClean(ctx, j.m.Name)
	if err != nil {
		return err
	}
	covered, err := coverageNow(ctx, j)
	if err != nil {
		return err
	}
	if err := metrics.WriteReconcile(r.textfile, metrics.Reconcile{
		Migration: j.m.Name, LastClean: clean, Checked: run.Checked, Different: run.Differences, Coverage: covered.Clean,
	}); err != nil {
		return fmt.Errorf("the run is done and kept, but its text file can't be written: %w", err)
	}
	return nil
}

// summary is a run in one line.
func summary(migration string, run reconcile.Run) string {
	kind := "full"
	if !run.Full {
		kind = fmt.Sprintf("slice %d of %d", run.Slice+1, run.Slices)
	}
	return fmt.Sprintf("reconcile %s: run %d, %s, %s: %s checked, %s different, %s repaired, in %s",
		migration, run.ID, kind, run.Status, count(run.Checked), count(run.Differences), count(run.Repaired),
		span(run.Finished.Sub(run.Began).Round(time.Millisecond)))
}
