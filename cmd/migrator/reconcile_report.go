package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/pflag"

	"github.com/stranglerfig/migrator/internal/app"
	"github.com/stranglerfig/migrator/metrics"
	"github.com/stranglerfig/migrator/reconcile"
)

// reportFlags are the flags that choose how a run reports its result to a scheduler.
type reportFlags struct {
	summary  bool
	textfile string
}

func (r *reportFlags) add(f *pflag.FlagSet) {
	f.BoolVar(&r.summary, "summary", false, "print one line instead of the report")
	f.StringVar(&r.textfile, "textfile", "", "also write the result to this file, for node exporter's textfile collector (name it *.prom)")
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
func (r *reportFlags) write(ctx context.Context, j *app.Job, run reconcile.Run) error {
	if r.textfile == "" {
		return nil
	}
	clean, err := j.State.LastClean(ctx, j.Config.Name)
	if err != nil {
		return err
	}
	covered, err := app.Coverage(ctx, j.State, j.Config)
	if err != nil {
		return err
	}
	if err := metrics.WriteReconcile(r.textfile, metrics.Reconcile{
		Migration: j.Config.Name, LastClean: clean, Checked: run.Checked, Different: run.Differences, Coverage: covered.Clean,
	}); err != nil {
		return fmt.Errorf("the run is done and recorded, but its text file can't be written: %w", err)
	}
	return nil
}
