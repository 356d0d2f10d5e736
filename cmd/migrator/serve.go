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

// addServeFlags declares the settings that serve alone has flags for.
func addServeFlags(f *pflag.FlagSet) {
	f.String("listen", defaultListen, "where serve answers health checks, status and metrics, on loopback")
	f.Bool("listen-anywhere", false, "let other machines reach it too: whoever does reads the migrations' status")
}

func newServe(c *cli) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "serve [DESCRIPTION]...",
		Short: "Run the daemon, which repairs, ends what was interrupted, and answers monitoring",
		Long: `Runs until it is told to stop. For each migration described, one daemon of all
that share the state database leads; the others stand by and take over. The leader

  repairs the keys whose copy in the target is known to be behind, as soon as the
  target takes writes again;
  ends a move of authority whose command died: lifts an interrupted fence, finishes
  a way back from retain;
  removes old tombstones from a target that does not let them expire by itself;
  sums up what instances have counted, and forgets what is old;
  evaluates gates and triggers, in every phase, paused or not;
  takes reads back to legacy, at once, when a trigger fires;
  takes a ramp's next step when it is due and its gates are open (phases.*.auto);
  makes reconcile runs at the times that reconcile.schedule and full_schedule set;
  tells the description's webhooks.

It never takes a migration into another phase. Every daemon answers GET /healthz,
/status (the document of migrator status -o json) and /metrics (for Prometheus); none
of them changes anything or asks for a password, so it listens on loopback unless
--listen-anywhere says otherwise. With a token (MIGRATOR_ALERTS_TOKEN, or the setting
alerts_token_file) it takes an Alertmanager's webhooks by POST /alerts/MIGRATION.`,
		Annotations: map[string]string{logLevelOf: "info"},
		Args:        cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, paths []string) error {
			return c.serve(cmd.Context(), paths)
		},
	}
	addServeFlags(cmd.Flags())
	return cmd
}

func (c *cli) serve(ctx context.Context, paths []string) error {
	if err := c.mayListen(c.settings.Listen); err != nil {
		return err
	}
	token, err := c.settings.alertsToken()
	if err != nil {
		return err
	}
	all, err := c.described(paths)
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
	d := &daemon.Daemon{State: store, Migrations: all, AlertsToken: token, Log: c.log}
	return d.Run(ctx, listener)
}

// described reads the descriptions, each of another migration.
func (c *cli) described(paths []string) ([]*daemon.Migration, error) {
	if len(paths) == 0 {
		path := c.settings.descriptionFile()
		if path == "" {
			return nil, app.ErrNoFile
		}
		paths = []string{path}
	}
	var all []*daemon.Migration
	by := map[string]string{}
	for _, path := range paths {
		m, err := loadFrom(path, "migrator serve products.yaml, where products.yaml is the description that is applied")
		if err != nil {
			return nil, err
		}
		if other, taken := by[m.Name]; taken {
			return nil, usagef("%s and %s both describe %s: name one of them", other, path, m.Name)
		}
		by[m.Name] = path
		all = append(all, &daemon.Migration{File: path, Config: m})
	}
	return all, nil
}

// newServeWhileFed is serve, but it ends when its input does: a drill or a demo that was
// killed can't end what it has started, but its end of the pipe closes.
func newServeWhileFed(c *cli) *cobra.Command {
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
