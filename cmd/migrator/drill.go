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
	return group("drill", "Rehearse the rollback, where that is safe",
		newDrillRollback(c), newDrillList(c), newDrillShow(c), newDrillExport(c), newDrillImport(c), newServeWhileFed(c))
}

// drilling are the flags of drill rollback.
type drilling struct {
	fault, share, on, load, column, reports string
	delay, healthy, within, after           time.Duration
	rate                                    float64
	keys, daemon                            int
	keepDaemon                              bool
}

// Longest times of a drill: its fault must end by itself within the hour.
const (
	mostHealthy = time.Hour
	mostWithin  = 15 * time.Minute
	mostAfter   = 10 * time.Minute
)

func newDrillRollback(c *cli) *cobra.Command {
	var d drilling
	cmd := &cobra.Command{
		Use:   "rollback",
		Short: "Have the target fail in staging, and prove that reads are taken back; exit with 8 if not",
		Long: `Rehearses an automatic rollback of a migration whose description says
environment: staging, and whose route is cutover or grace. It compares the stores,
waits while nothing may fire, has the instances' own fault switch make the target
fail, kills the daemon that leads, and waits for reads to be taken back. Then it holds
every acknowledged write against the store that answers, takes records out of the
target to see that reconcile finds them, repairs, and compares the stores again.

The load is built in (reads and writes of the migration's own records by one more
instance), or the operator's own: --load PATH or --load http://... names its ledger
of acknowledged writes, one JSON document a line.

It ends in dual-read, latched, as any automatic rollback does; go on with
migrator trigger acknowledge. The report is always written: as JSON, as Markdown and
as one HTML page. A drill that has not seen all of it has failed, and exits with 8.`,
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
	f.StringVar(&d.share, "share", "100", "per cent of operations that meet the fault")
	f.StringVar(&d.on, "on", "", "reads, writes or both (default reads; corrupt: writes)")
	f.DurationVar(&d.delay, "delay", 0, "how late the target answers (latency: 500ms), or not at all (blackhole: 5s)")
	f.DurationVar(&d.healthy, "healthy", 30*time.Second, "how long nothing may fire before the fault")
	f.DurationVar(&d.within, "within", 2*time.Minute, "how long the fault, the verdict, the fleet and the recovery may each take")
	f.DurationVar(&d.after, "after", 5*time.Second, "how long the load goes on once reads are back")
	f.StringVar(&d.load, "load", "built-in", "built-in, none, or the ledger of your own load: a file or http://...")
	f.Float64Var(&d.rate, "load-rate", 200, "operations per second of the built-in load, a quarter of them writes")
	f.IntVar(&d.keys, "load-keys", 200, "records that the built-in load reads and writes")
	f.StringVar(&d.column, "load-column", "", "text column that the built-in load writes, and restores; empty: its writes change nothing")
	f.IntVar(&d.daemon, "daemon-pid", 0, "the process on this machine that leads, to be killed instead of a daemon of the drill's own")
	f.BoolVar(&d.keepDaemon, "keep-daemon", false, "start and kill no daemon: whoever leads goes on")
	f.StringVar(&d.reports, "reports", ".", "directory of the report's three files")
	return cmd
}

// check turns the flags into a fault.
func (d *drilling) check() (f dual.Fault, err error) {
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
		return f, usagef("--on %s: what is corrupted is what writes store; leave --on out", d.on)
	case f.Delay != 0 && (f.Kind == dual.FaultErrors || corrupt):
		return f, usagef("--delay goes with --fault latency or blackhole")
	case f.Delay < 0 || f.Delay > time.Minute:
		return f, usagef("--delay %s: want up to 1m", f.Delay)
	case d.healthy < time.Second || d.healthy > mostHealthy || d.within < time.Second || d.within > mostWithin || d.after <= 0 || d.after > mostAfter:
		return f, usagef("--healthy and --within are at least 1s, --healthy at most %s, --within at most %s, --after above 0 and at most %s",
			humanize.Span(mostHealthy), humanize.Span(mostWithin), humanize.Span(mostAfter))
	case d.keys < 1 || d.keys > 100_000 || !(d.rate > 0 && d.rate <= 100_000):
		return f, usagef("--load-keys is 1 to 100000, --load-rate above 0 and up to 100000")
	case d.daemon < 0 || d.daemon > 0 && d.keepDaemon:
		return f, usagef("--daemon-pid names a process, and goes without --keep-daemon")
	}
	if f.Delay == 0 && f.Kind == dual.FaultLatency {
		f.Delay = 500 * time.Millisecond
	}
	if f.Delay == 0 && f.Kind == dual.FaultBlackHole {
		f.Delay = 5 * time.Second
	}
	return f, nil
}

func (c *cli) drillRollback(ctx context.Context, d *drilling, fault dual.Fault) error {
	m, err := c.load()
	if err != nil {
		return err
	}
	if m.Environment != statedb.Staging {
		return usagef("%s says environment: %s: a drill has the target fail, and is for environment: staging alone; try: a description of staging, with --file", c.settings.descriptionFile(), m.Environment)
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
		Fault: fault, Healthy: d.healthy, Within: d.within, After: d.after, Tell: c.drillStep, Program: version, Log: c.log,
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
	return c.drilled(*report, d.reports, err)
}

// drillDaemons are processes of this program, with nothing of the operator's settings but
// the migration file and the state database. named: see --daemon-pid.
func (c *cli) drillDaemons(named int) (*drill.Processes, error) {
	program, err := os.Executable()
	if err != nil {
		return nil, err
	}
	file, err := filepath.Abs(c.settings.descriptionFile())
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

// drillStep tells a person how the drill comes on.
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

// drilled writes and shows a report; kept is why it could not be recorded.
func (c *cli) drilled(report drill.Report, dir string, kept error) error {
	files, err := report.WriteFiles(dir)
	if err = errors.Join(err, kept); err != nil {
		return err
	}
	if err := c.show(report, func() {
		c.printf("%s", report.Summary())
		for _, f := range files {
			c.printf("report      %s\n", f)
		}
		if report.Fired != nil && report.Fired.Cause == phases.CauseTrigger {
			c.note("The rollback is latched; try: migrator trigger acknowledge --reason 'drill %d'", report.Drill)
		}
	}); err != nil {
		return err
	}
	if !report.Passed {
		return notYet(fmt.Errorf("drill %d has failed: %s", report.Drill, strings.Join(report.Reasons, "; and ")))
	}
	return nil
}
