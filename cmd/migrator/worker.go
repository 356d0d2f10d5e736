package main

import (
	"context"
	"net"

	"github.com/spf13/cobra"

	"github.com/stranglerfig/migrator/internal/daemon"
	"github.com/stranglerfig/migrator/internal/humanize"
	"github.com/stranglerfig/migrator/migration"
)

func newWorker(c *cli) *cobra.Command {
	var workers int
	var at string
	cmd := &cobra.Command{
		Use:   "worker",
		Short: "Take a share of reconcile runs, on this machine as on others",
		Long: `Waits for reconcile runs of the migration, wherever they were started, and takes
jobs of them: some ten thousand records each. Start as many on as many machines as the
stores bear; the runs' rate is shared among them.

Told to stop, it gives back what it is at. Where it is killed or frozen, its jobs go to
others when it has shown no sign of life for reconcile.lease: each job counts once,
whoever finishes it. It needs the description that is applied, and both stores.

With --listen it answers GET /healthz and /metrics (for Prometheus), on loopback unless
--listen-anywhere says otherwise. The setting listen is serve's alone: both may share
a machine.`,
		Args:        noArgs,
		Annotations: map[string]string{logLevelOf: "info"},
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := inRange(inWorkers("workers", workers)); err != nil {
				return err
			}
			if at != "" {
				if err := c.mayListen(at); err != nil {
					return err
				}
			}
			j, err := c.openJobWith(cmd.Context(), true, (*migration.Config).LimitLoad)
			if err != nil {
				return err
			}
			defer j.Close()
			if workers == 0 {
				workers = j.Config.Reconcile.Workers
			}
			w := &daemon.Worker{Job: j, Workers: workers, Log: c.log}
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
	cmd.Flags().IntVar(&workers, "workers", 0, "jobs at a time, 64 at most, instead of the description's reconcile.workers")
	cmd.Flags().StringVar(&at, "listen", "", "where it answers health checks and metrics, on loopback; without, nowhere")
	cmd.Flags().Bool("listen-anywhere", false, "let other machines reach it too")
	return cmd
}
