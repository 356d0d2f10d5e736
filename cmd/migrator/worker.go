package main

import (
	"context"
	"net"

	"github.com/spf13/cobra"

	"github.com/stranglerfig/migrator/internal/app"
	"github.com/stranglerfig/migrator/internal/daemon"
	"github.com/stranglerfig/migrator/internal/humanize"
	"github.com/stranglerfig/migrator/migration"
)

func newWorker(c *cli) *cobra.Command {
	var workers int
	var at string
	cmd := &cobra.Command{
		Use:   "worker",
		Short: "Run a reconcile worker",
		Long: `Waits for reconcile runs of the migration, on whatever machine they were started, and
works on their jobs of some ten thousand records each. Start as many workers on as many
machines as the stores can serve; they share the run's rate.

On SIGINT or SIGTERM it returns its unfinished jobs to the queue. If it is killed or
frozen, other workers take its jobs when its heartbeat is older than reconcile.lease.
Each job counts once, whichever worker finishes it. A worker needs the applied migration
file and both stores. It follows another file that is applied, without a restart.

With --listen it answers GET /healthz and /metrics (for Prometheus), on loopback unless
--listen-anywhere is given. The setting listen applies to serve alone, so that both can
run on one machine.`,
		Args:        noArgs,
		Annotations: map[string]string{defaultLogLevel: "info"},
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := inRange(inWorkers("workers", workers)); err != nil {
				return err
			}
			if at != "" {
				if err := c.checkListenAddress(at); err != nil {
					return err
				}
			}
			w := &daemon.Worker{Workers: workers, Log: c.log}
			w.Open = func(ctx context.Context) (*app.Job, error) {
				return c.openJobWith(ctx, true, (*migration.Config).LimitLoad)
			}
			if at != "" {
				w.Listen = func(ctx context.Context) (net.Listener, error) { return c.listen(ctx, "worker", at) }
			}
			done, err := w.Run(cmd.Context())
			if err != nil {
				return err
			}
			return c.show(done, func() {
				c.printf("Stopped after %s of %s.\n", humanize.Counted(done.Jobs, "job"), humanize.Counted(done.Checked, "record"))
			})
		},
	}
	cmd.Flags().IntVar(&workers, "workers", 0, "concurrent jobs, at most 64 (default: reconcile.workers of the applied migration file)")
	cmd.Flags().StringVar(&at, "listen", "", "address of health checks and metrics, on loopback (default: none)")
	cmd.Flags().Bool("listen-anywhere", false, "allow addresses off loopback")
	return cmd
}
