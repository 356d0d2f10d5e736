package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/stranglerfig/migrator/dual"
	"github.com/stranglerfig/migrator/internal/app"
	"github.com/stranglerfig/migrator/internal/drill"
	"github.com/stranglerfig/migrator/internal/humanize"
	"github.com/stranglerfig/migrator/internal/statedb"
	"github.com/stranglerfig/migrator/phases"
)

func newDrill(c *cli) *cobra.Command {
	return group("drill", "Rehearse the automatic rollback in staging",
		newDrillRollback(c), newDrillLift(c), newDrillList(c), newDrillShow(c), newDrillExport(c), newDrillImport(c), newDrillDaemon(c))
}

// drillFlags are the flags of drill rollback.
type drillFlags struct {
	fault, share, on, load, column, reports string
	delay, healthy, within, after           time.Duration
	rate                                    float64
	keys, daemon                            int
	keepDaemon                              bool
}

// Longest times of a drill: its fault must end by itself within the hour.
const (
	maxHealthy = time.Hour
	maxWithin  = 15 * time.Minute
	maxAfter   = 10 * time.Minute
)

func newDrillRollback(c *cli) *cobra.Command {
	var d drillFlags
	cmd := &cobra.Command{
		Use:   "rollback",
		Short: "Rehearse an automatic rollback in staging",
		Long: `Rehearses an automatic rollback of a migration whose file has environment: staging and
whose route is cutover or grace. It compares the stores, waits for the baseline period,
makes the target fail through the instances' fault injection, kills the leading daemon,
and waits for the rollback. Then it compares every acknowledged write with the store
that answers, removes records from the target to verify that reconcile finds them,
repairs, and compares the stores again.

The load is built in (reads and writes of the migration's own records by one more
instance), or your own: --load PATH or --load http://... names its ledger of
acknowledged writes, one JSON document a line.

It ends in dual-read, latched, as any automatic rollback does; continue with
migrator trigger acknowledge. The report is always written: as JSON, as Markdown and
as one HTML page. A drill that did not complete every check has failed, and exits
with 8.`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			fault, err := d.check()
			if err != nil {
				return err
			}
			return c.drillRollback(cmd.Context(), &d, fault)
		},
	}
	f := cmd.Flags()
	f.StringVar(&d.fault, "fault", string(dual.FaultErrors), "latency, errors, blackhole or corrupt")
	f.StringVar(&d.share, "share", "100", "per cent of operations with the fault")
	f.StringVar(&d.on, "on", "", "reads, writes or both (default reads; corrupt: writes)")
	f.DurationVar(&d.delay, "delay", 0, "delay of the target's answers (latency: 500ms), or of the timeout (blackhole: 5s)")
	f.DurationVar(&d.healthy, "healthy", 30*time.Second, "baseline period before the fault, in which no trigger may fire")
	f.DurationVar(&d.within, "within", 2*time.Minute, "time limit of each: the fault, the verdict, the fleet, the recovery")
	f.DurationVar(&d.after, "after", 5*time.Second, "how long the load continues after the rollback")
	f.StringVar(&d.load, "load", "built-in", "built-in, none, or the ledger of your own load: a file or http://...")
	f.Float64Var(&d.rate, "load-rate", 200, "operations per second of the built-in load, a quarter of them writes")
	f.IntVar(&d.keys, "load-keys", 200, "records that the built-in load reads and writes")
	f.StringVar(&d.column, "load-column", "", "text column that the built-in load writes and restores; empty: its writes change nothing")
	f.IntVar(&d.daemon, "daemon-pid", 0, "kill this leading process on this machine, instead of a daemon that the drill starts")
	f.BoolVar(&d.keepDaemon, "keep-daemon", false, "start and kill no daemon: the present leader continues")
	f.StringVar(&d.reports, "reports", ".", "directory for the report's three files")
	return cmd
}

// check turns the flags into a fault.
func (d *drillFlags) check() (f dual.Fault, err error) {
	f = dual.Fault{Kind: dual.FaultKind(d.fault), Delay: d.delay}
	if !slices.Contains(dual.FaultKinds, f.Kind) {
		return f, usagef("--fault %q: want latency, errors, blackhole or corrupt", d.fault)
	}
	if f.Share, err = phases.ParsePercent(d.share); err != nil {
		return f, usage(err, "--share 100")
	}
	corrupt := f.Kind == dual.FaultCorrupt
	switch {
	case d.on == "" && corrupt, d.on == "writes":
		f.Writes = true
	case d.on == "" || d.on == "reads":
		f.Reads = true
	case d.on == "both":
		f.Reads, f.Writes = true, true
	default:
		return f, usagef("--on %q: want reads, writes or both", d.on)
	}
	switch {
	case corrupt && f.Reads:
		return f, usagef("--on %s: --fault corrupt changes what writes store, so it needs --on writes", d.on)
	case f.Delay != 0 && (f.Kind == dual.FaultErrors || corrupt):
		return f, usagef("--delay needs --fault latency or blackhole")
	case f.Delay < 0 || f.Delay > time.Minute:
		return f, usagef("--delay %s: want up to 1m", f.Delay)
	case d.healthy < time.Second || d.healthy > maxHealthy || d.within < time.Second || d.within > maxWithin || d.after <= 0 || d.after > maxAfter:
		return f, usagef("--healthy and --within are at least 1s, --healthy at most %s, --within at most %s, --after above 0 and at most %s",
			humanize.Span(maxHealthy), humanize.Span(maxWithin), humanize.Span(maxAfter))
	case d.keys < 1 || d.keys > 100_000 || !(d.rate > 0 && d.rate <= 100_000):
		return f, usagef("--load-keys is 1 to 100000, --load-rate above 0 and up to 100000")
	case d.daemon < 0 || d.daemon > 0 && d.keepDaemon:
		return f, usagef("--daemon-pid must be positive, and excludes --keep-daemon")
	}
	if f.Delay == 0 && f.Kind == dual.FaultLatency {
		f.Delay = 500 * time.Millisecond
	}
	if f.Delay == 0 && f.Kind == dual.FaultBlackHole {
		f.Delay = 5 * time.Second
	}
	return f, nil
}

func (c *cli) drillRollback(ctx context.Context, d *drillFlags, fault dual.Fault) error {
	m, err := c.load()
	if err != nil {
		return err
	}
	if m.Environment != statedb.Staging {
		return usageTry(try("a migration file of staging, with --file"), "%s has environment: %s: a drill makes the target fail, and is for environment: staging alone", c.settings.migrationFile(), m.Environment)
	}
	if err := drill.Writable(d.reports); err != nil {
		return usagef("--reports %w", err)
	}
	j, err := c.openJob(ctx, true)
	if err != nil {
		return err
	}
	defer j.Close()
	run := app.Drill{
		Fault: fault, Healthy: d.healthy, Within: d.within, After: d.after, Progress: c.drillStep, Program: version, Log: c.log,
		Load: app.DrillLoad{Source: d.load, Keys: d.keys, Rate: d.rate, Column: d.column},
	}
	if !d.keepDaemon {
		if run.Daemons, err = c.drillDaemons(d.daemon); err != nil {
			return err
		}
	}
	report, err := j.Drill(ctx, run)
	if report == nil {
		return err
	}
	return c.finishDrill(*report, d.reports, err)
}

// drillDaemons are processes of this program. Of the operator's settings they get the
// migration file and the state database alone. named: see --daemon-pid.
func (c *cli) drillDaemons(named int) (*drill.Processes, error) {
	program, err := os.Executable()
	if err != nil {
		return nil, err
	}
	file, err := filepath.Abs(c.settings.migrationFile())
	if err != nil {
		return nil, err
	}
	url, err := c.settings.stateURL()
	if err != nil {
		return nil, err
	}
	env := slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, "MIGRATOR_") })
	return &drill.Processes{
		Program: program, Named: named, Env: append(env, "MIGRATOR_STATE_URL="+url),
		Args: []string{"--settings", os.DevNull, "--file", file, "drill", "daemon", "--listen", "127.0.0.1:0", "--log-format", "json"},
	}, nil
}

// drillStep prints the drill's progress.
func (c *cli) drillStep(s drill.Step) {
	switch {
	case s.Took == 0:
		c.note("%s ...", s.Name)
	case s.OK:
		c.note("  %s %s (%s)", c.paint(c.err, green, "ok"), s.Detail, humanize.Span(time.Duration(s.Took*float64(time.Second))))
	default:
		c.note("  %s %s", c.paint(c.err, red, "FAIL"), s.Detail)
	}
}

// finishDrill writes and prints a report; kept is the error of recording it.
func (c *cli) finishDrill(report drill.Report, dir string, kept error) error {
	files, err := report.WriteFiles(dir)
	if err = errors.Join(err, kept); err != nil {
		return err
	}
	if err := c.show(report, func() {
		c.printf("%s", written(report.Summary()))
		for _, f := range files {
			c.printf("report      %s\n", f)
		}
		if report.Fired != nil && report.Fired.Cause == phases.CauseTrigger {
			c.note("The rollback is latched. To acknowledge it: migrator trigger acknowledge --reason 'drill %d'", report.Drill)
		}
	}); err != nil {
		return err
	}
	if !report.Passed {
		return notYet(fmt.Errorf("drill %d failed: %s", report.Drill, strings.Join(report.Reasons, "; and ")))
	}
	return nil
}
