package main

import (
	"context"
	"io"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/stranglerfig/migrator/internal/app"
	"github.com/stranglerfig/migrator/internal/daemon"
)

const defaultListen = "127.0.0.1:7070"

// addServeFlags declares the flags of settings that only serve has.
func addServeFlags(f *pflag.FlagSet) {
	f.String("listen", defaultListen, "address of health checks, status and metrics, on loopback")
	f.Bool("listen-anywhere", false, "allow addresses off loopback: any client can then read the migrations' status")
	f.Bool("api", false, "serve the HTTP API for callers with a token: leases of instances in any language, and an operator's steps")
	f.Bool("page", false, "serve the page for browsers at /page: every migration, what blocks it, and its buttons")
	f.Bool("flags", false, "answer OpenFeature's remote evaluation (OFREP) for callers with a token")
}

func newServe(c *cli) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "serve [FILE]...",
		Short: "Run the migration daemon",
		Long: `Runs until SIGINT or SIGTERM, for each of the migration files. Of all daemons that
share the state database, one leads each migration; the others are standby and take
over. The leader

  repairs journaled keys as soon as the target accepts writes again;
  completes a move of authority whose command was interrupted: lifts the fence, or
  finishes the rollback from retain;
  removes old tombstones from a target that does not expire them itself;
  aggregates the instances' telemetry and deletes old windows;
  repeats plan's checks of the servers every minute: settings, privileges, room;
  evaluates gates and triggers, in every phase, paused or not;
  rolls reads back to legacy, at once, when a trigger fires;
  takes a ramp's next step when it is due and its gates are open (phases.*.auto);
  starts reconcile runs at the times of reconcile.schedule and full_schedule;
  sends events to the webhooks of the migration file.

It never moves a migration into another phase. Every daemon answers GET /healthz,
/status (the document of migrator status -o json) and /metrics (for Prometheus). These
change nothing and need no password, so it listens on loopback unless
--listen-anywhere is given. With a token (MIGRATOR_ALERTS_TOKEN, or the setting
alerts_token_file) it accepts an Alertmanager's webhooks by POST /alerts/MIGRATION.
With --flags it answers the OpenFeature Remote Evaluation Protocol below /ofrep/v1 for
callers that have a token (migrator token create), and with --api the HTTP API below
/api/v1 (docs/api.md): an application in any language is an instance by it. Both need a
role with migrator init --grant-server. With --page it serves a page for browsers at
/page, which shows without a password what /status does, and has buttons for who signs in
with a token.`,
		Annotations: map[string]string{defaultLogLevel: "info"},
		Args:        cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, paths []string) error {
			return c.serve(cmd.Context(), paths)
		},
	}
	addServeFlags(cmd.Flags())
	return cmd
}

func (c *cli) serve(ctx context.Context, paths []string) error {
	if err := c.checkListenAddress(c.settings.Listen); err != nil {
		return err
	}
	token, err := c.settings.alertsToken()
	if err != nil {
		return err
	}
	flags, err := c.settings.flags()
	if err != nil {
		return err
	}
	api, err := c.api()
	if err != nil {
		return err
	}
	page, err := c.settings.page(c.given)
	if err != nil {
		return err
	}
	http, err := c.settings.http(c.log)
	if err != nil {
		return err
	}
	all, err := c.readMigrations(paths)
	if err != nil {
		return err
	}
	store, err := c.openState(ctx)
	if err != nil {
		return err
	}
	defer store.Close()
	listener, err := c.listen(ctx, "serve", c.settings.Listen)
	if err != nil {
		return err
	}
	d := &daemon.Daemon{State: store, Migrations: all, AlertsToken: token, Flags: flags, API: api, Page: page, HTTP: http, Log: c.log}
	return d.Run(ctx, listener)
}

// readMigrations reads the migration files. Each must be of another migration.
func (c *cli) readMigrations(paths []string) ([]*daemon.Migration, error) {
	if len(paths) == 0 {
		path := c.settings.migrationFile()
		if path == "" {
			return nil, app.ErrNoFile
		}
		paths = []string{path}
	}
	var all []*daemon.Migration
	by := map[string]string{}
	for _, path := range paths {
		m, err := loadFrom(path, "migrator serve products.yaml, where products.yaml is the applied migration file")
		if err != nil {
			return nil, err
		}
		if other, taken := by[m.Name]; taken {
			return nil, usagef("%s and %s are both migration files of %s: name one of them", other, path, m.Name)
		}
		by[m.Name] = path
		all = append(all, &daemon.Migration{File: path, Config: m})
	}
	return all, nil
}

// newDrillDaemon is serve, but it ends at the end of its input: a killed drill or demo
// cannot stop the processes that it started, but the kernel closes its end of the pipe.
func newDrillDaemon(c *cli) *cobra.Command {
	cmd := newServe(c)
	cmd.Use, cmd.Hidden = "daemon", true
	cmd.RunE = func(cmd *cobra.Command, paths []string) error {
		ctx, stop := context.WithCancel(cmd.Context())
		defer stop()
		go func() {
			_, _ = io.Copy(io.Discard, c.in)
			stop()
		}()
		return c.serve(ctx, paths)
	}
	return cmd
}
