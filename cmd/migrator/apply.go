package main

import (
	"github.com/spf13/cobra"

	"github.com/stranglerfig/migrator/internal/app"
	"github.com/stranglerfig/migrator/internal/hint"
	"github.com/stranglerfig/migrator/internal/humanize"
	"github.com/stranglerfig/migrator/internal/oneline"
)

func newApply(c *cli) *cobra.Command {
	var liftFence string
	var takeOver bool
	var columns app.ColumnFlags
	cmd := &cobra.Command{
		Use:   "apply",
		Short: "Record the migration file and prepare both stores",
		Long: `Runs the checks of plan, prepares legacy (schema migrator_legacy: the era and the
version function) and the target, and records the migration file in the state
database. A new migration starts in phase legacy: nothing changes for the
application. Of a changed migration file it stores every key that differs, and lists them;
running processes follow, without a restart. A key that says what is moved changes in
phase legacy only; elsewhere nothing is stored. docs/configuration.md says for each key
in which phases it changes and whether older evidence stays.

The table is resolved to its columns, and these are moved from then on, whatever columns the
table gets. In legacy apply takes the columns that the table has. In shadow-write and dual-read
--add-field and --drop-field change what is moved; both with one name take a column as another
type. They begin a new epoch, which instances acknowledge once they move the new columns, and
another backfill is needed. In later phases roll back to dual-read first.`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx := cmd.Context()
			m, err := c.load()
			if err != nil {
				return err
			}
			store, err := c.openState(ctx)
			if err != nil {
				return err
			}
			defer store.Close()
			if liftFence != "" && c.dryRun {
				c.note("the fence of attempt %s would be lifted first", liftFence)
			} else if liftFence != "" {
				if err := app.LiftOrphan(ctx, store, m, liftFence); err != nil {
					return err
				}
			}
			if err := app.CheckColumns(ctx, store, m, columns); err != nil {
				return err
			}
			pre := c.preflight(m)
			pre.TakeOver, pre.Applying = takeOver, true
			p := pre.Check(ctx)
			if p.Refused > 0 {
				if err := c.show(p, func() { c.printChecks(p.Checks) }); err != nil {
					return err
				}
				return verdict(p)
			}
			a, err := app.Apply(ctx, store, m, takeOver, columns)
			if err != nil {
				return err
			}
			for _, check := range p.Contents() {
				c.note("warning: %s", check.Detail)
				c.note("         try: %s", c.given.text(check.Hint))
			}
			return c.show(a, func() {
				verb := "applied"
				if a.Created {
					verb = "created"
				}
				if c.dryRun {
					verb = "nothing was changed; would be " + verb + ":"
				}
				c.printf("%s %s: %s (epoch %d), config hash %s\n", verb, m.Name, a.Status.Route, a.Status.Route.Epoch, humanize.Short(a.Status.ConfigHash))
				c.printApplied(a)
				if a.Status.FieldsOpen {
					c.printf("  instances that move the columns of before may still join until a backfill begins\n")
					c.printf("             try: %s\n", c.given.text(hint.Hint{Do: hint.BackfillRun, Text: "once every instance moves the new columns"}))
				}
			})
		},
	}
	cmd.Flags().StringVar(&liftFence, "lift-fence", "", "first lift the fence of this attempt, whose state database no longer exists; writes since then are in the target alone")
	cmd.Flags().StringArrayVar(&columns.Add, "add-field", nil, "move this column of legacy too, from now on; may be repeated")
	cmd.Flags().StringArrayVar(&columns.Drop, "drop-field", nil, "do not move this column any more, which the migration file excludes or the table has lost; may be repeated")
	cmd.Flags().BoolVar(&takeOver, "take-over", false, "take the target's keys from the migration that has them, which then stops to use the target: only if it is over, or its state database no longer exists")
	return c.canDryRun(cmd)
}

// printApplied prints what was stored of a changed migration file.
func (c *cli) printApplied(a app.ApplyResult) {
	switch {
	case a.Created:
		return
	case a.Nothing():
		c.printf("Nothing changed: the file is as it was last applied. %s\n", unstoredKeys)
		return
	}
	for _, one := range a.Changes {
		c.printf("  stored %s\n", oneline.Of(one.String()))
	}
	if a.Columns {
		c.printf("  stored legacy's columns, which have changed\n")
	}
	if a.Parts {
		c.printf("  accepted the parts of legacy's table, which had changed\n")
	}
	switch {
	case a.NewEpoch && !a.EvidenceVoid:
		c.printf("Epoch %d began: instances compare the new share of reads from their next renewal on. Gates count from here, and before the next phase a full reconcile and approvals are due again.\n", a.Status.Route.Epoch)
	case a.EvidenceVoid:
		c.printf("Older evidence is void: a full reconcile and approvals are due again.\n")
	case len(a.Changes) > 0:
		c.printf("Older evidence stays.\n")
	}
}

const unstoredKeys = "URLs, legacy.standbys, prometheus, webhooks and runbook are not stored: each process reads them from its own file."
