package main

import (
	"cmp"
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/stranglerfig/migrator/internal/app"
	"github.com/stranglerfig/migrator/internal/hint"
	"github.com/stranglerfig/migrator/internal/humanize"
	"github.com/stranglerfig/migrator/internal/state"
	"github.com/stranglerfig/migrator/phases"
	"github.com/stranglerfig/migrator/store"
)

func newStatus(c *cli) *cobra.Command {
	var watch bool
	cmd := &cobra.Command{
		Use:   "status [MIGRATION]",
		Short: "Show status, gates of the next step, and rollback cost",
		Args:  optionalName,
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx := cmd.Context()
			store, err := c.openState(ctx)
			if err != nil {
				return err
			}
			defer store.Close()
			if watch {
				return c.watch(ctx, store, args)
			}
			found, err := c.readStatus(ctx, store, args, map[string]trends{})
			if err != nil {
				return err
			}
			return c.onScreen(func() error { return c.showStatus(found) })
		},
	}
	cmd.Flags().BoolVarP(&watch, "watch", "w", false, "keep it on the terminal until interrupted, read again each second; into a pipe: print it whenever it has changed")
	return cmd
}

// migrationStatus is what status shows of a migration.
type migrationStatus struct {
	app.Status
	trends trends
}

// readStatus reads the migrations that status shows. kept has the trends that were read before, by migration.
func (c *cli) readStatus(ctx context.Context, store *state.Store, args []string, kept map[string]trends) (found []migrationStatus, err error) {
	var names []string
	if len(args) > 0 || c.settings.migrationFile() != "" {
		name, err := c.name(ctx, store, args)
		if err != nil {
			return nil, err
		}
		names = []string{name}
	} else {
		all, err := store.List(ctx)
		if err != nil {
			return nil, err
		}
		for _, st := range all {
			names = append(names, st.Migration)
		}
	}
	columns, _ := size(c.out)
	for _, name := range names {
		s, m, err := app.ReadStatusApplied(ctx, store, name)
		if err != nil {
			return nil, err
		}
		one := migrationStatus{Status: s}
		if columns > 0 && len(names) == 1 && c.settings.Output != outputJSON {
			if one.trends, err = readTrends(ctx, store, m, s, kept[name]); err != nil {
				return nil, err
			}
			kept[name] = one.trends
		}
		found = append(found, one)
	}
	return found, nil
}

func (c *cli) showStatus(found []migrationStatus) error {
	document := []app.Status{}
	for _, s := range found {
		document = append(document, s.Status)
	}
	return c.show(document, func() {
		columns, _ := size(c.out)
		if len(found) == 0 {
			c.printf("no migration has been applied\n")
		}
		for i, s := range found {
			if i > 0 && columns == 0 {
				c.printf("\n")
			}
			if columns > 0 && len(found) > 1 {
				c.printHead(s.Status)
				continue
			}
			c.printStatus(s)
		}
		if columns > 0 && len(found) > 1 {
			c.printf("\nall of one: migrator status %s\n", found[0].Status.Status.Migration)
		}
	})
}

// printHead prints what matters first: where the migration is, what a rollback costs, and what holds the
// next step.
func (c *cli) printHead(s app.Status) {
	st, now := s.Status, s.Snapshot.Now
	head := fmt.Sprintf("%s: %s", st.Migration, st.Route)
	c.printf("%s (epoch %d, for %s)\n", c.paint(c.out, bold, head), st.Route.Epoch, humanize.Span(now.Sub(st.RouteSince)))
	c.warnStateLoss(st)
	c.warnTarget(st, now)
	if st.Attempt != "" && (st.Route.Phase == phases.Grace || st.Route.Phase.Passing()) {
		c.printf("  %s\n", c.paint(c.out, red, "fence      legacy may refuse writes, and writes may fail: a command moves authority, or was interrupted"))
		c.printf("             try: migrator phase advance, which resumes it, or migrator phase rollback --to grace --yes, which undoes it\n")
	}
	if l := s.Snapshot.Latch; l != nil {
		c.printf("  %s\n", c.paint(c.out, red, fmt.Sprintf("latched    trigger %s rolled back %s: %s", l.Trigger, humanize.Ago(now, l.At), l.Reason)))
		c.printf("             try: migrator trigger acknowledge --reason '...', once its cause is fixed\n")
	}
	if f := s.Snapshot.Fault; f != nil {
		c.printf("  %s\n", c.paint(c.out, yellow, fmt.Sprintf("fault      injected for a drill until %s (%s left): %s; migrator drill lift ends it", f.Until.UTC().Format(time.TimeOnly), humanize.Span(f.Until.Sub(now)), f)))
	}
	if s.Capture.On() && st.Route.Phase.Captured() {
		c.printCapture(s.Snapshot.Capture, s.Reentry, now)
	}
	if st.Paused != "" {
		c.printf("  paused     %s\n", st.Paused)
	}
	c.printf("  rollback   %s (%s)\n", s.Rollback, s.Rollback.Reason)
	if text := stopText(st); text != "" {
		c.printf("             writes would wait for %s\n", text)
	}
	if s.Next == nil {
		return
	}
	c.printf("  next       %s\n", nextText(s.Next, now))
	for _, job := range s.Jobs {
		c.printf("  %-10s %s%s\n", job.Job, c.jobBar(job.Share), job.Text(now))
	}
}

func (c *cli) printStatus(shown migrationStatus) {
	s := shown.Status
	st, now := s.Status, s.Snapshot.Now
	c.printHead(s)
	if s.Next != nil {
		c.printGatesOf(s, now)
	}
	c.printTrends(s, shown.trends)
	fleet := written(humanize.Counted(s.Fleet.Live, "instance") + ", settled")
	if !s.Settled {
		text := fmt.Sprintf("%s, %d behind, %d lapsed", humanize.Counted(s.Fleet.Live, "instance"), s.Fleet.Behind, len(s.Fleet.Lapsed))
		if n := len(s.Fleet.Other); n > 0 {
			text += fmt.Sprintf(", %d of another version of what is applied (%s)", n, join(s.Fleet.Other[:min(n, 3)]))
		}
		fleet = c.paint(c.out, yellow, text)
	} else if s.SettledAt.IsZero() {
		fleet = written(humanize.Counted(s.Fleet.Live, "instance") + ", none behind; this epoch is not recorded as settled yet")
	}
	c.printf("  fleet      %s\n", fleet)
	if st.LastCause != "" {
		c.printf("  last       %s by %s%s\n", st.LastCause, st.LastActor, reasonSuffix(st.LastReason))
	}
	if share, set := st.Route.Shadow.Percent(); set {
		c.printf("  compared   %s %% of reads, by the migration file\n", share)
	}
	c.printf("  journal    %s behind in the target\n", humanize.Counted(st.JournalKeys, "key"))
	if b := s.Snapshot.Backfill; b != nil {
		word := "finished " + humanize.Ago(now, b.Finished)
		if b.Finished.IsZero() {
			word = "unfinished, begun " + humanize.Ago(now, b.Began)
		}
		c.printf("  backfill   %s\n", word)
	}
	if r := s.Snapshot.Reconcile; r != nil {
		kind := "sampled"
		if r.Full {
			kind = "full"
		}
		c.printf("  reconcile  run %d (%s) %s: %s checked, %s\n", r.Run, kind, humanize.Ago(now, r.Finished), humanize.Count(r.Checked), humanize.Counted(r.Differences, "difference"))
	}
	if !st.Dirty.IsZero() {
		counts := "a full reconcile counts if it begins after that"
		if st.Unclean != "" && st.Route.Phase.Fenced() {
			counts = "no reconcile counts until legacy takes writes again"
		}
		c.printf("  unclean    %s; writes may have been applied until %s: %s\n", cmp.Or(st.Unclean, "an instance ended without leaving, or journaled keys are unknown"), st.Dirty.UTC().Format(time.RFC3339), counts)
	}
	for _, column := range st.Columns {
		style := yellow
		if column.Broken {
			style = red
		}
		c.printf("  %s\n", c.paint(c.out, style, "columns    "+column.Side+": "+column.Detail))
		c.printf("             try: %s\n", c.given.text(phases.ColumnHint(column)))
	}
	if st.LegacyChanged != "" {
		c.printf("  %s\n", c.paint(c.out, yellow, "table      changed since it was applied: "+st.LegacyChanged))
		c.printf("             try: migrator reconcile run --full, and settle what differs; then migrator apply accepts the table as it is\n")
	}
	c.printBypass(st, s.Snapshot.Bypass, now)
	if st.SetAside > 0 {
		c.printf("  set aside  %s that legacy refused, in its table migrator_legacy.set_aside\n", humanize.Counted(st.SetAside, "record"))
	}
	if st.UnreadableWindows > 0 {
		c.printf("  %s\n", c.paint(c.out, yellow, fmt.Sprintf("telemetry  %s could not be added up, and were left out: %s", humanize.Counted(st.UnreadableWindows, "window"), st.UnreadableWhy)))
	}
}

// printGatesOf prints the closed gates, then those that pass: on a terminal in one line.
func (c *cli) printGatesOf(s app.Status, now time.Time) {
	columns, _ := size(c.out)
	if columns == 0 {
		c.printGates(s.Gates, now, "    ")
		return
	}
	var passed []string
	var rest []phases.GateResult
	for _, g := range s.Gates {
		if g.Open() && g.Overridden == "" {
			passed = append(passed, g.Gate)
		} else {
			rest = append(rest, g)
		}
	}
	c.printGates(rest, now, "    ")
	if len(passed) > 0 {
		c.printf("%s\n", cutTo(fmt.Sprintf("  passed     %s: %s", humanize.Counted(len(passed), "gate"), join(passed)), columns))
	}
}

// unseenFrom is the age of the last beat from which status says that no daemon looks at the target.
const unseenFrom = time.Minute

func (c *cli) warnTarget(st phases.Status, now time.Time) {
	switch {
	case st.TargetLost != "":
		c.printf("  %s\n", c.paint(c.out, red, "target     "+st.TargetLost))
		c.printf("             try: %s\n", c.given.text(store.MarkHint(st.Migration, st.TargetLost)))
	case !st.TargetSeen.IsZero() && now.Sub(st.TargetSeen) > unseenFrom && st.Route.ReadsTarget():
		c.printf("  %s\n", c.paint(c.out, yellow, "target     last looked at "+humanize.Ago(now, st.TargetSeen)+": without a daemon a target that loses data is found by its instances alone"))
	}
}

// bypassShown is how long a finding is shown.
const bypassShown = 7 * 24 * time.Hour

// printBypass says what legacy's counters show of writes past the application, or why they can't.
func (c *cli) printBypass(st phases.Status, b *phases.Bypass, now time.Time) {
	switch {
	case b == nil || !st.Route.Phase.Compared():
		return
	case b.Found() && now.Sub(b.Last) < bypassShown:
		c.printf("  %s\n", c.paint(c.out, red, "bypass     "+b.Describe()+"; the last were found "+humanize.Ago(now, b.Last)))
		c.printf("             try: %s\n", c.given.text(phases.BypassHint()))
	}
	if b.Why != "" {
		c.printf("  %s\n", c.paint(c.out, yellow, "bypass     writes past the application can't be seen: "+b.Why))
	}
}

// printCapture says how far change capture is, what would remove its slot and when, and why it does not run.
func (c *cli) printCapture(of *phases.Capture, again *app.ReentryCost, now time.Time) {
	if again != nil {
		defer func() { c.printf("             if changes are lost: %s\n", again.Text()) }()
	}
	switch {
	case of == nil:
		c.printf("  %s\n", c.paint(c.out, yellow, "capture    no process has captured changes yet"))
		c.printf("             try: %s\n", c.given.text(hint.Hint{Do: hint.Serve}))
		return
	case of.Lost != "":
		c.printf("  %s\n", c.paint(c.out, red, "capture    lost "+humanize.Ago(now, of.LostAt)+": "+of.Lost))
		c.printf("             try: %s\n", c.given.text(of.LostHint()))
		return
	case !of.Runs(now):
		text := "capture    does not run"
		if !of.Reported.IsZero() {
			text += ", last seen " + humanize.Ago(now, of.Reported)
		}
		if of.Error != "" {
			text += ": " + of.Error
		}
		c.printf("  %s\n", c.paint(c.out, red, text))
	}
	if of.Slot == "" {
		return
	}
	behind := "nothing behind"
	if of.LagBytes > 0 || of.Behind(now) > time.Second || of.Waiting > 0 {
		behind = fmt.Sprintf("%s, %s, %s behind", humanize.Bytes(of.LagBytes), humanize.Span(of.Behind(now)), humanize.Counted(of.Waiting, "row"))
	}
	if of.Barrier == "" {
		behind = "brings changes from the next backfill on"
	}
	switch {
	case of.Runs(now):
		c.printf("  capture    %s, %.0f rows/s, at %s\n", behind, of.Rate, of.Position)
	case of.Committed.IsZero() || of.Barrier == "":
		c.printf("             at %s\n", of.Position)
	default: // legacy's log was not read since: only a bound is known
		c.printf("             up to %s behind, at %s\n", humanize.Span(of.Behind(now)), of.Position)
	}
	held := "holds " + humanize.Bytes(of.HeldBytes) + " of WAL"
	if of.LimitBytes > 0 {
		held += ", given up at " + humanize.Bytes(of.LimitBytes)
		if of.Full > 0 {
			held += " in about " + humanize.Span(time.Duration(of.Full))
		}
		held += " (" + of.LimitBy + ")"
	}
	c.printf("             %s\n", held)
	if of.Throttled != "" && of.Runs(now) {
		c.printf("  %s\n", c.paint(c.out, yellow, "           throttled by "+of.Throttled))
	}
	if of.Error != "" && of.Runs(now) {
		key := ""
		if of.ErrorKey != "" {
			key = " (key " + of.ErrorKey + ")"
		}
		c.printf("  %s\n", c.paint(c.out, red, "           fails for "+humanize.Span(now.Sub(of.ErrorSince))+key+": "+of.Error))
	}
}

func nextText(n *app.NextStep, now time.Time) string {
	text := n.To.String() + ", by a person"
	if n.By == "schedule" {
		text = n.To.String() + ", by the daemon"
	}
	if n.Due.After(now) {
		text += ", due in " + humanize.Span(n.Due.Sub(now))
	}
	if len(n.WaitsFor) > 0 {
		text += "; waits for " + join(n.WaitsFor)
	}
	if !n.Since.IsZero() {
		text += ", held since " + n.Since.UTC().Format(time.TimeOnly) + " UTC (" + humanize.Span(now.Sub(n.Since)) + ")"
	}
	return text
}

func reasonSuffix(reason string) string {
	if reason == "" {
		return ""
	}
	return ": " + reason
}

// printGates prints a line for each gate, and for a closed one its hint.
func (c *cli) printGates(gates []phases.GateResult, now time.Time, indent string) {
	for _, g := range gates {
		verdict, style := string(g.Verdict), yellow
		switch {
		case g.Overridden != "":
			verdict = "overridden"
		case g.Verdict == phases.Pass:
			style = green
		case g.Verdict == phases.Fail:
			style = red
		}
		c.printf("%s%s %-21s %s", indent, c.paint(c.out, style, fmt.Sprintf("%-12s", verdict)), g.Gate, g.Detail)
		if !g.Due.IsZero() {
			c.printf(" (in %s)", humanize.Span(g.Due.Sub(now)))
		}
		c.printf("\n")
		if !g.Hint.IsZero() && !g.Open() {
			c.printf("%s%s try: %s\n", indent, strings.Repeat(" ", 12), c.given.text(g.Hint))
		}
	}
}

func join(list []string) string { return strings.Join(list, ", ") }
