package main

import (
	"time"

	"github.com/spf13/cobra"

	"github.com/stranglerfig/migrator/internal/app"
	"github.com/stranglerfig/migrator/internal/humanize"
)

func newBackfill(c *cli) *cobra.Command {
	return group("backfill", "Copy existing records to the target", newBackfillRun(c))
}

func newBackfillRun(c *cli) *cobra.Command {
	var rate, workers int
	var again bool
	cmd := &cobra.Command{
		Use:   "run",
		Short: "Run the backfill, or resume an interrupted one",
		Long: `Copies every record of legacy to the target, beside live writes: behind a barrier
that waits for open writers once, never over a newer version. If it is interrupted or
killed, the next run resumes where it stopped. At the end it removes from the target
what an earlier era of the migration left there.

Needs phase shadow-write or dual-read, and no instance left in phase legacy.`,
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
			defer j.Close()
			bar := c.progress("backfill")
			o := app.Backfill{Workers: workers, Again: again, Progress: bar.set, Throttled: func(why string) {
				if why != "" {
					c.note("throttled by %s", why)
				}
			}}
			if cmd.Flags().Changed("rate") {
				o.Rate = &rate
			}
			began := time.Now()
			p, err := j.Backfill(ctx, o)
			bar.close()
			switch {
			case err != nil:
				return jobError(err)
			case p.Dry:
				return c.show(p.Progress, func() {
					if len(p.Chunks) == 0 {
						c.printf("a backfill would begin (nothing was changed)\n")
						return
					}
					c.printf("the backfill of epoch %d would be resumed: %s of %s are done (nothing was changed)\n", p.Epoch, humanize.Count(int64(p.Done)), humanize.Counted(len(p.Chunks), "chunk"))
				})
			case p.Before:
				return c.show(p.Progress, func() {
					c.printf("the backfill was finished %s ago: %s rows read (--again runs another)\n", humanize.Span(p.Ago), humanize.Count(p.Rows))
				})
			}
			return c.show(p.Progress, func() {
				c.printf("backfill done in %s: %s rows read, %s written, %s newer in the target already, %s swept\n",
					humanize.Span(time.Since(began)), humanize.Count(p.Rows), humanize.Count(p.Applied), humanize.Count(p.Newer), humanize.Count(p.Swept))
				if p.Foreign > 0 {
					c.printf("%s of other programs under keys that legacy lacks: they stay, reconcile lists them\n", humanize.Counted(p.Foreign, "value"))
				}
			})
		},
	}
	cmd.Flags().IntVar(&rate, "rate", 0, "rows per second at most (default: the migration file's)")
	cmd.Flags().IntVar(&workers, "workers", 0, "concurrent chunks, at most 64 (default: the migration file's)")
	cmd.Flags().BoolVar(&again, "again", false, "run another one although one is finished; its gate is closed until it is done")
	return c.canDryRun(cmd)
}
