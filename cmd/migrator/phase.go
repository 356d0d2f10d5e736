package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/stranglerfig/migrator/internal/app"
	"github.com/stranglerfig/migrator/internal/control"
	"github.com/stranglerfig/migrator/internal/hint"
	"github.com/stranglerfig/migrator/internal/humanize"
	"github.com/stranglerfig/migrator/internal/state"
	"github.com/stranglerfig/migrator/migration"
	"github.com/stranglerfig/migrator/phases"
)

func newPhase(c *cli) *cobra.Command {
	return group("phase", "Move a migration through its phases",
		newPhaseStatus(c), newAdvance(c), newRollback(c), newReclaim(c), newPause(c), newResume(c), newAcknowledge(c), newApprove(c), newHistory(c))
}

func newPhaseStatus(c *cli) *cobra.Command {
	cmd := newStatus(c)
	cmd.Short = "Same as migrator status"
	return cmd
}

// openMoves opens the state, and the stores where the move needs them. The caller closes
// what it returns, and the state.
func (c *cli) openMoves(ctx context.Context, args []string, forward bool) (*app.Moves, func(), error) {
	open := state.OpenToRollBack
	if forward {
		open = state.Open
	}
	store, err := c.openStateBy(ctx, open)
	if err != nil {
		return nil, nil, err
	}
	var m *app.Moves
	name, err := c.name(ctx, store, args)
	if err == nil {
		m, err = c.openMovesOf(ctx, store, name, forward)
	}
	if err != nil {
		store.Close()
		return nil, nil, err
	}
	return m, func() { m.Close(); store.Close() }, nil
}

func (c *cli) openMovesOf(ctx context.Context, store *state.Store, name string, forward bool) (*app.Moves, error) {
	path := c.settings.migrationFile()
	var file *migration.Config
	var unread error
	if path != "" {
		if file, unread = c.load(); unread != nil && forward {
			return nil, unread
		}
	}
	m, err := app.OpenMoves(ctx, store, name, file, path, forward, func(s string) { c.note("%s", s) })
	if err != nil && unread != nil { // a rollback does without the file, where it needs no store
		return nil, unread
	}
	return m, err
}

func newAdvance(c *cli) *cobra.Command {
	var to, percent, reason string
	var overrides []string
	var dryRun bool
	var settle time.Duration
	cmd := &cobra.Command{
		Use:   "advance [MIGRATION]",
		Short: "Take the next step, if its gates are open",
		Long: `Takes the next step: the next percentage of a ramp, or the next phase. Prints each
gate's verdict and exits with 8 while one is closed. A gate may be overridden with a
reason, which goes into the history; interlocks may not. A gate that measures operations
may be overridden only where it lacks data, and beside a full reconcile that is clean.

The step from grace to retain fences legacy: it refuses writes from then on.`,
		Args: optionalName,
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx := cmd.Context()
			a := control.Advance{Reason: reason, DryRun: dryRun, Overrides: map[string]string{}}
			if err := parseStep(cmd.CommandPath(), to, percent, &a.To, &a.Percent); err != nil {
				return err
			}
			for _, o := range overrides {
				gate, why, _ := strings.Cut(o, "=")
				if strings.TrimSpace(why) == "" {
					return usageTry(try("--override %s='why it is safe'", gate), "override %q gives no reason", o)
				}
				a.Overrides[gate] = why
			}
			ctl, done, err := c.openMoves(ctx, args, true)
			if err != nil {
				return err
			}
			defer done()
			step, err := app.Advance(ctx, ctl, a, settle)
			if printErr := c.printStep(step, dryRun); printErr != nil {
				return printErr
			}
			return err
		},
	}
	f := cmd.Flags()
	f.StringVar(&to, "to", "", "the phase to enter; must be the next one")
	f.StringVar(&percent, "percent", "", "percentage to step to, instead of the ramp's next")
	f.StringVar(&reason, "reason", "", "why, for the history")
	f.StringArrayVar(&overrides, "override", nil, "override a closed gate, as `GATE=reason`")
	f.BoolVar(&dryRun, "dry-run", false, "evaluate the gates, change nothing")
	f.DurationVar(&settle, "settle", phases.Settle, "how long to wait for the fleet to acknowledge the step")
	return cmd
}

func parseStep(command, to, percent string, phase *phases.Phase, p *phases.Percent) (err error) {
	if to != "" {
		if *phase, err = phases.ParsePhase(to); err != nil {
			return usage(err, command+", without --to")
		}
	}
	if percent != "" {
		if *p, err = phases.ParsePercent(percent); err != nil {
			return usage(err, command+" --percent 25")
		}
	}
	return nil
}

func (c *cli) printStep(step control.Step, dryRun bool) error {
	return c.show(step, func() {
		switch {
		case step.Already():
			c.printf("it is at %s (epoch %d): nothing was changed\n", step.To, step.To.Epoch)
		case step.Done:
			c.printf("%s → %s (epoch %d)\n", step.From, step.To, step.To.Epoch)
		case dryRun:
			c.printf("%s → %s would be the next step\n", step.From, step.To)
		case step.From.Phase == phases.Lifting || step.From.Phase == phases.Returning:
			c.printf("completed the interrupted rollback to grace\n")
		}
		c.printGates(step.Gates, time.Now(), "  ")
	})
}

func newRollback(c *cli) *cobra.Command {
	var to, percent, reason string
	var settle time.Duration
	var missing string
	var yes, rehearse, aside bool
	cmd := &cobra.Command{
		Use:   "rollback [MIGRATION]",
		Short: "Roll back at once; no gate can block it",
		Long: `Rolls back to where both stores are written: from cutover and grace to dual-read,
whose reads come from legacy, from retain to grace; or to the phase named by
--to, one move after the other. Where the migration is there already, and without --to where
reads come from legacy, nothing is changed: it may be repeated. Needs no gate and no approval, overtakes an advance that has not settled, and never
waits for an instance whose lease expired. From retain, the keys written since
the fence are first replayed to legacy. While writes go on, all of them are rehearsed, in
a transaction of legacy that is rolled back, and then copied; writes wait only for the
last ones. A signal leads back to retain. If legacy refuses some (a unique or foreign key,
a trigger), nothing is rolled back; --rehearse only rehearses, and lists them. With
--set-aside they are left in the table migrator_legacy.set_aside, and legacy's states of
them count. If the target has lost some of them, nothing is rolled back until
--accept-missing names their number: legacy then keeps its older states of these, and the
rollback leads on to dual-read. There is no rollback from complete.`,
		Args: optionalName,
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx := cmd.Context()
			r := control.Rollback{Reason: reason, Settle: settle, SetAside: aside}
			if cmd.Flags().Changed("accept-missing") {
				n, err := strconv.ParseInt(missing, 10, 64)
				if err != nil || n < 1 {
					return usageTry(hint.Hint{Do: hint.Rollback, Text: "which reports the number"}, "--accept-missing %q: want the number of lost records", missing)
				}
				r.AcceptMissing = n
			}
			if rehearse && (aside || r.AcceptMissing > 0) {
				return usageTry(try("%s --rehearse", cmd.CommandPath()), "--rehearse changes nothing: it takes neither --accept-missing nor --set-aside")
			}
			if err := parseStep(cmd.CommandPath(), to, percent, &r.To, &r.Percent); err != nil {
				return err
			}
			ctl, done, err := c.openMoves(ctx, args, false)
			if err != nil {
				return err
			}
			defer done()
			if rehearse {
				return c.rehearse(ctx, ctl)
			}
			ctl.DryRun = c.dryRun
			if err := c.confirmRollback(ctx, ctl, r, yes || c.dryRun); err != nil {
				return err
			}
			began := time.Now()
			moves, err := ctl.Rollback(ctx, r)
			if c.dryRun {
				return errors.Join(c.showMoves(moves, began, 0, false, ""), err)
			}
			setAside := c.setAsideSince(ctx, ctl)
			and := ""
			if setAside > 0 {
				and = "; " + humanize.Counted(setAside, "record") + " set aside"
			}
			if printErr := c.showMoves(moves, began, setAside, err == nil, and); printErr != nil {
				return printErr
			}
			if err == nil && len(moves) == 0 && c.settings.Output != outputJSON {
				c.printf("%s is at %s: nothing was changed\n", ctl.Migration, ctl.Snapshot.Status.Route)
			}
			return err
		},
	}
	f := cmd.Flags()
	f.StringVar(&to, "to", "", "the phase to roll back to")
	f.StringVar(&percent, "percent", "", "percentage of cutover or dual-read")
	f.StringVar(&reason, "reason", "", "why, for the history")
	f.DurationVar(&settle, "settle", phases.Settle, "how long to wait for the fleet after each move")
	f.StringVar(&missing, "accept-missing", "", "how many `records` the target may have lost")
	f.BoolVar(&rehearse, "rehearse", false, "from retain: list what legacy would refuse, change nothing")
	f.BoolVar(&aside, "set-aside", false, "from retain: leave what legacy refuses in a table of its database")
	f.BoolVarP(&yes, "yes", "y", false, "don't ask; needed without a terminal")
	return c.canDryRun(cmd)
}

// confirmRollback asks, with what the rollback costs, unless there is nothing to do.
func (c *cli) confirmRollback(ctx context.Context, ctl *app.Moves, r control.Rollback, yes bool) error {
	st := ctl.Snapshot.Status
	path, err := control.RollbackPath(st.Route, r)
	if err != nil || len(path) == 0 && st.Attempt == "" {
		return nil // the rollback itself says why
	}
	to := st.Route
	if len(path) > 0 {
		to = path[len(path)-1]
	}
	question := fmt.Sprintf("Roll %s back from %s to %s (%s)?", ctl.Migration, st.Route, to, phases.ClassOf(st).Class)
	if text := stopText(st); text != "" {
		question += " Writes will wait for " + text + "."
	}
	return c.confirm(ctx, yes, question)
}

// showMoves prints the moves made since began. whole reports whether the last one has
// settled; and is appended to the line then.
func (c *cli) showMoves(moves []phases.Route, began time.Time, setAside int64, whole bool, and string) error {
	took := time.Since(began)
	result := struct {
		Moves    []phases.Route `json:"moves"`
		Seconds  float64        `json:"seconds"`
		SetAside int64          `json:"set_aside,omitempty"`
		DryRun   bool           `json:"dry_run,omitempty"`
	}{append([]phases.Route{}, moves...), took.Seconds(), setAside, c.dryRun}
	return c.show(result, func() {
		for _, move := range moves {
			if c.dryRun {
				c.printf("%s would be moved to\n", move)
			}
		}
		if c.dryRun {
			c.printf("nothing was changed\n")
		}
		if whole && len(moves) > 0 {
			last := moves[len(moves)-1]
			c.printf("%s (epoch %d), settled after %s%s\n", last, last.Epoch, humanize.Span(took), and)
		}
	})
}

// stopText describes for how long writes would wait in a rollback; "" if they would not.
func stopText(st phases.Status) string {
	cost := phases.ClassOf(st)
	if cost.Stop == 0 {
		return ""
	}
	text := "about " + humanize.Span(seconds(cost.Stop))
	if cost.Copy > 0 {
		text += ", once " + humanize.Count(st.ReturnRest) + " keys are copied in about " + humanize.Span(seconds(cost.Copy))
	}
	return text
}

func seconds(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }

// setAsideSince counts what was set aside since the controller was opened; 0 also if that can't be
// read any more.
func (c *cli) setAsideSince(ctx context.Context, ctl *app.Moves) int64 {
	e, err := ctl.State.Snapshot(context.WithoutCancel(ctx), ctl.Migration)
	if err != nil {
		return 0
	}
	return e.Status.SetAside - ctl.Snapshot.Status.SetAside
}

func newPause(c *cli) *cobra.Command {
	var reason string
	cmd := &cobra.Command{
		Use:   "pause [MIGRATION]",
		Short: "Block every advance until resume; rollbacks stay possible",
		Args:  optionalName,
		RunE: c.withState(func(ctx context.Context, store *state.Store, name string) error {
			if strings.TrimSpace(reason) == "" {
				return usageTry(try("--reason 'waiting for ...'"), "a pause needs a reason")
			}
			if err := store.Pause(ctx, name, reason); err != nil {
				return err
			}
			return c.changed(name, "paused")
		}),
	}
	cmd.Flags().StringVar(&reason, "reason", "", "why, for the history and for the next operator")
	return c.canDryRun(cmd)
}

func newResume(c *cli) *cobra.Command {
	var reason string
	cmd := &cobra.Command{
		Use:   "resume [MIGRATION]",
		Short: "End a pause",
		Args:  optionalName,
		RunE: c.withState(func(ctx context.Context, store *state.Store, name string) error {
			if err := store.Resume(ctx, name, reason); err != nil {
				return err
			}
			return c.changed(name, "resumed")
		}),
	}
	cmd.Flags().StringVar(&reason, "reason", "", "for the history")
	return c.canDryRun(cmd)
}

func newAcknowledge(c *cli) *cobra.Command {
	var reason string
	cmd := &cobra.Command{
		Use:   "acknowledge [MIGRATION]",
		Short: "Acknowledge an automatic rollback, so advances can continue",
		Args:  optionalName,
		RunE: c.withState(func(ctx context.Context, store *state.Store, name string) error {
			if strings.TrimSpace(reason) == "" {
				return usageTry(try("--reason 'what was found and done'"), "an acknowledgment needs a reason")
			}
			if err := store.Acknowledge(ctx, name, reason); err != nil {
				return err
			}
			return c.changed(name, "acknowledged")
		}),
	}
	cmd.Flags().StringVar(&reason, "reason", "", "what was found and done, for the history")
	return c.canDryRun(cmd)
}

func newApprove(c *cli) *cobra.Command {
	var to, reason string
	var phase phases.Phase
	cmd := &cobra.Command{
		Use:   "approve [MIGRATION]",
		Short: "Approve the step into the next phase",
		Long: `Approves the next step into a phase, as the role that connects to the state
database. That role must be a member of phases.approval.role. The approval is valid
for the present epoch and config hash, until it expires.`,
		Args: optionalName,
		PreRunE: func(cmd *cobra.Command, _ []string) error {
			return parseStep(cmd.CommandPath(), to, "", &phase, nil)
		},
		RunE: c.withState(func(ctx context.Context, store *state.Store, name string) error {
			if _, err := store.Status(ctx, name); err != nil {
				return err
			}
			if err := c.checkApplied(ctx, store, name); err != nil {
				return err
			}
			approval, err := app.Approve(ctx, store, name, phase, reason)
			if err != nil {
				return err
			}
			return c.show(approval, func() {
				if c.dryRun {
					c.printf("nothing was changed; it would be:\n")
				}
				c.printf("%s approves %s of %s in epoch %d, until %s\n", approval.Actor, approval.To, name, approval.Epoch, approval.Expires.Format(time.RFC3339))
			})
		}),
	}
	cmd.Flags().StringVar(&to, "to", "", "the phase whose entry is approved: the next one, or what a reclaim enters")
	cmd.Flags().StringVar(&reason, "reason", "", "for the history")
	return c.canDryRun(cmd)
}

func newHistory(c *cli) *cobra.Command {
	var limit int
	var verify bool
	var a anchored
	cmd := &cobra.Command{
		Use:     "history [MIGRATION]",
		Short:   "List the migration's moves: when, by whom, and why",
		Args:    optionalName,
		PreRunE: limitAboveZero(&limit),
		RunE: c.withState(func(ctx context.Context, store *state.Store, name string) error {
			if verify {
				return c.verify(ctx, store, name, a)
			}
			if a != (anchored{}) {
				return usagef("--anchor and --public-key are of --verify")
			}
			entries, err := store.History(ctx, name, limit)
			if err != nil {
				return err
			}
			return c.show(entries, func() { c.printHistory(entries) })
		}),
	}
	cmd.Flags().IntVarP(&limit, "limit", "n", 50, "newest entries to show")
	cmd.Flags().BoolVar(&verify, "verify", false, "same as migrator history verify")
	a.register(cmd.Flags())
	return cmd
}
