package main

import (
	"cmp"
	"context"
	"errors"
	"time"

	"github.com/spf13/cobra"

	"github.com/stranglerfig/migrator/internal/humanize"
	"github.com/stranglerfig/migrator/internal/state"
)

func newHistoryGroup(c *cli) *cobra.Command {
	return group("history", "Check the migration's history", newVerify(c))
}

func newVerify(c *cli) *cobra.Command {
	return &cobra.Command{
		Use:   "verify [MIGRATION]",
		Short: "Verify the history's hash chain",
		Long: `Recomputes the hash of every entry of the history, here and not in the database,
and compares its end with the migration's status. Detects entries that were changed,
removed, cut off at the end or reordered, reports the first wrong one, and exits
with 1 then.`,
		Args: optionalName,
		RunE: c.withState(c.verify),
	}
}

// verified is what a check of the history found.
type verified struct {
	Verified int64   `json:"verified"`
	Broken   *broken `json:"broken,omitempty"`
}

type broken struct {
	Seq  int64  `json:"seq"`
	What string `json:"what"`
}

func (c *cli) verify(ctx context.Context, store *state.Store, name string) error {
	n, err := store.VerifyHistory(ctx, name)
	v := verified{Verified: n}
	var at *state.BrokenHistoryError
	if errors.As(err, &at) {
		v.Broken = &broken{at.Seq, at.What}
	} else if err != nil {
		return err
	}
	if printErr := c.show(v, func() {
		if v.Broken == nil {
			c.printf("%d entries, the chain is whole\n", n)
			return
		}
		c.printf("%d entries are whole\nentry %d: %s\n", n, v.Broken.Seq, v.Broken.What)
	}); printErr != nil {
		return printErr
	}
	return err
}

// printHistory prints the newest entry last, as in a log.
func (c *cli) printHistory(entries []state.Entry) {
	rows := [][]string{{"AT", "WHO", "WHAT", "FROM", "TO", "EPOCH", "WHY"}}
	for _, e := range entries {
		rows = append(rows, []string{
			e.At.UTC().Format(time.RFC3339), e.Actor, string(e.Cause),
			e.From.String(), e.To.String(), humanize.Count(e.To.Epoch), cmp.Or(e.Reason, "-"),
		})
	}
	c.table(rows)
}
