package main

import (
	"time"

	"github.com/spf13/cobra"

	"github.com/stranglerfig/migrator/internal/backfill"
	"github.com/stranglerfig/migrator/internal/state/backfills"
)

func newBackfill(c *cli) *cobra.Command {
	return group("backfill", "Copy the records that legacy already has", newBackfillRun(c))
}

func newBackfillRun(c *cli) *cobra.Command {
	var rate, workers int
	var again bool
	cmd := &cobra.Command{
		Use:   "run",
		Short: "Run the backfill, or go on with an interrupted one",
		Long: `Copies every record of legacy to the target, beside live writes: behind a barrier
that waits for open writers once, never over a newer version. Interrupted, even
killed, it goes on where it stopped when the command is run again. At the end it
sweeps what an earlier stay beyond legacy left in the target.

Needs phase shadow-write or dual-read, and every instance out of legacy.`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx := cmd.Context()
			if err := inRange(inRate("rate", rate), inWorkers("workers", workers)); err != nil {
				return err
			}
			j, err := c.openJob(ctx, true)
			if err != nil {
				return err
			}
			defer j.close()
			if err := j.reachTarget(ctx); err != nil {
				return err
			}
			e, err := j.state.Evidence(ctx, j.m.Name)
			if err != nil {
				return err
			}
			if b := e.Backfill; b != nil && !b.Finished.IsZero() && b.Epoch > e.Standing.LegacyEpoch && !again {
				done, err := backfills.New(j.state.Pool(), j.m.Name).Latest(ctx)
				if err != nil {
					return err
				}
				return c.show(done, func() {
					c.printf("the backfill was finished %s: %s rows read (--again makes another)\n", ago(e.Now, b.Finished), count(done.Rows))
				})
			}
			bar := c.progress("backfill")
			b := backfill.Backfill{
				Legacy: j.legacy, Barrier: j.legacy, Locker: j.legacy, Target: j.target,
				Ledger:    backfills.New(j.state.Pool(), j.m.Name),
				ChunkRows: j.m.Backfill.ChunkRows, Rate: j.m.Backfill.Rate, Workers: j.m.Backfill.Workers,
				NotAfter: time.Duration(j.m.Writing.NotAfter), LockTimeout: lockTimeout(j.m),
				Report: func(p backfill.Progress) { bar.set(p.Rows, estimate(p)) },
			}
			if cmd.Flags().Changed("rate") {
				b.Rate = rate
			}
			if workers > 0 {
				b.Workers = workers
			}
			began := time.Now()
			p, err := b.Run(ctx)
			bar.close()
			if err != nil {
				return jobError(err)
			}
			return c.show(p, func() {
				c.printf("backfill done in %s: %s rows read, %s written, %s newer in the target already, %s swept\n",
					span(time.Since(began)), count(p.Rows), count(p.Applied), count(p.Newer), count(p.Swept))
			})
		},
	}
	cmd.Flags().IntVar(&rate, "rate", 0, "rows per second at most, instead of the description's")
	cmd.Flags().IntVar(&workers, "workers", 0, "chunks at a time, 64 at most, instead of the description's")
	cmd.Flags().BoolVar(&again, "again", false, "make another one although one is finished; until it is done, the gate is closed")
	return cmd
}

func estimate(p backfill.Progress) (rows int64) {
	for _, chunk := range p.Chunks {
		rows += chunk.Rows
	}
	return rows
}
