package main

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/stranglerfig/migrator/internal/state"
)

// canDryRun gives the command the flag --dry-run: its transactions do all of their work, and are rolled
// back. What else the command changes, it leaves out by itself (state.IsDryRun).
func (c *cli) canDryRun(cmd *cobra.Command) *cobra.Command {
	cmd.Flags().BoolVar(&c.dryRun, "dry-run", false, "refuse what would be refused, report what would be done, and change nothing")
	run := cmd.RunE
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if c.dryRun {
			cmd.SetContext(state.DryRun(cmd.Context()))
		}
		return run(cmd, args)
	}
	return cmd
}

// changed prints the result of a command that has no other output.
func (c *cli) changed(name, what string) error {
	result := struct {
		Migration string `json:"migration"`
		Result    string `json:"result"`
		DryRun    bool   `json:"dry_run,omitempty"`
	}{name, what, c.dryRun}
	return c.show(result, func() {
		if c.dryRun {
			c.printf("%s would be: %s (nothing was changed)\n", name, what)
			return
		}
		c.printf("%s %s\n", what, name)
	})
}

// confirmUnlessDry is confirm for a command that may be a dry run, which needs no confirmation.
func (c *cli) confirmUnlessDry(ctx context.Context, yes bool, question string) error {
	return c.confirm(ctx, yes || c.dryRun, question)
}
