package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/stranglerfig/migrator/internal/app"
	"github.com/stranglerfig/migrator/internal/hint"
	"github.com/stranglerfig/migrator/internal/humanize"
	"github.com/stranglerfig/migrator/store"
)

func newForget(c *cli) *cobra.Command {
	var o app.Forget
	var yes bool
	cmd := &cobra.Command{
		Use:   "forget MIGRATION",
		Short: "End an abandoned or complete migration in all stores",
		Long: `Removes all that a migration has left: in the target its marks, versions and tombstones;
in legacy its row, era, fence and journal tables, and migrator's schema with the last
migration; in the state all but the history, approvals, evaluations and runs of runbooks,
which are kept: history verify goes on to check them. The table, and the target's keys, can
then begin another migration. --dry-run lists what is removed and what stays, with counts.

It is refused while an instance of the application uses the migration: first deploy the
application without dual. It is allowed in legacy, in shadow-write, and when the migration is
complete. From other phases roll back to legacy first.

The target's records stay: in a complete migration they are the data. Those of an
abandoned one are deleted with --delete-records. A record in Redis keeps its version inside
(the field _v): another migration of the same keys takes it over by that.

If it is interrupted, the same command completes it; once more, it changes nothing.`,
		Args: oneName,
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx := cmd.Context()
			m, err := c.load()
			if err != nil {
				return err
			}
			if m.Name != args[0] {
				return usagef("%s describes %s, not %s", c.settings.migrationFile(), m.Name, args[0])
			}
			st, err := c.openState(ctx)
			if err != nil {
				return err
			}
			defer st.Close()
			f, err := app.ForgetMigration(ctx, st, m, c.settings.migrationFile(), o, func(f app.Forgotten) error {
				return c.confirmForget(ctx, yes, f)
			})
			if err != nil {
				return err
			}
			return c.show(f, func() { c.printForgotten(f, o) })
		},
	}
	f := cmd.Flags()
	f.BoolVar(&o.DryRun, "dry-run", false, "list what would be removed, and change nothing")
	f.BoolVarP(&yes, "yes", "y", false, "don't ask; needed without a terminal")
	f.StringVar(&o.Reason, "reason", "", "why, for the history")
	f.BoolVar(&o.Records, "delete-records", false, "of an abandoned migration: delete its records in the target too")
	f.BoolVar(&o.SetAside, "drop-set-aside", false, "drop the records that a rollback has set aside in legacy's database")
	f.BoolVar(&o.Orphan, "orphan", false, "the state database that had the migration no longer exists: remove what is in both stores")
	return cmd
}

// oneName requires a migration's name: it is typed on purpose, though the file has it.
func oneName(cmd *cobra.Command, args []string) error {
	if len(args) != 1 {
		return usageTry(try("%s --help", cmd.CommandPath()), "%q takes the migration's name", cmd.CommandPath())
	}
	return nil
}

// confirmForget asks for the migration's name. Without a terminal it needs yes.
func (c *cli) confirmForget(ctx context.Context, yes bool, f app.Forgotten) error {
	switch {
	case yes:
		return nil
	case !c.interactive():
		return usageTry(hint.Hint{Text: "first with --dry-run, then with --yes"}, "nothing was changed: without a terminal this needs --yes")
	}
	c.printTraces(f)
	answer, err := c.ask(ctx, "Type the migration's name to forget it: ")
	switch {
	case err != nil:
		return fmt.Errorf("nothing was changed: %w", err)
	case answer != f.Migration:
		return usageTry(try("the same command with --yes"), "nothing was changed")
	}
	return nil
}

func (c *cli) printForgotten(f app.Forgotten, o app.Forget) {
	switch {
	case f.Before:
		c.printf("%s: forgotten already\n", f.Migration)
		return
	case o.DryRun:
		c.printTraces(f)
		c.printf("%s: nothing was changed\n", f.Migration)
		return
	}
	c.printTraces(f)
	if o.Records {
		c.printf("%s records of the target were deleted\n", humanize.Count(f.Records))
	}
	c.printf("%s: forgotten\n", f.Migration)
}

func (c *cli) printTraces(f app.Forgotten) {
	rows := [][]string{{"STORE", "", "COUNT", "WHAT"}}
	for _, side := range []struct {
		name string
		list []store.Trace
	}{{"target", f.Target}, {"legacy", f.Legacy}, {"state", f.State}} {
		for _, t := range side.list {
			does := "goes"
			switch {
			case t.Refused != "":
				does = "refused"
			case t.Stays:
				does = "stays"
			}
			rows = append(rows, []string{side.name, does, humanize.Count(t.Count), t.What})
		}
	}
	c.table(rows)
	for _, t := range append(append([]store.Trace{}, f.Target...), f.Legacy...) {
		if t.Refused != "" {
			c.printf("refused: %s\n", t.Refused)
		}
	}
}
