package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/stranglerfig/migrator/internal/app"
	"github.com/stranglerfig/migrator/internal/state"
	"github.com/stranglerfig/migrator/phases"
	"github.com/stranglerfig/migrator/store"
)

// stores implements Stores. The state stays open when they are closed.
type stores struct {
	*app.Job
	log  *slog.Logger
	mark store.Mark // as the last beat left it
}

// openStores opens the stores of the migration file that is applied, at the URLs of the file on
// this machine as it is now.
func openStores(ctx context.Context, st *state.Store, m *Migration, log *slog.Logger) (Stores, error) {
	now, err := app.LoadInForce(ctx, st, m.File, m.Config.Name)
	if err != nil {
		return nil, err
	}
	job, err := app.OpenJob(ctx, st, now)
	if err != nil {
		return nil, err
	}
	return &stores{Job: job, log: log}, nil
}

// targetTimeout is how long the target may take to answer a first request.
const targetTimeout = 5 * time.Second

// RepairJournal first checks that the target answers: without that, a repair of a target
// that is down would try every key.
func (s *stores) RepairJournal(ctx context.Context) (int64, error) {
	limited, cancel := context.WithTimeout(ctx, targetTimeout)
	_, err := s.Target.Now(limited)
	cancel()
	if err != nil {
		return 0, fmt.Errorf("reach the target: %w", err)
	}
	return s.Job.RepairJournal(ctx)
}

func (s *stores) Resume(ctx context.Context) error {
	st, err := s.State.Status(ctx, s.Config.Name)
	if err != nil {
		return err
	}
	if st.Route.Phase == phases.Returning { // [mark-checked]: the replay reads the target and writes it
		if err := s.CheckTarget(ctx); err != nil {
			return err
		}
	}
	return s.Controller(s.Config, func(text string) { s.log.Info(text) }).Resume(ctx)
}

func (s *stores) RestoreFence(ctx context.Context) (string, error) {
	return s.Controller(s.Config, nil).RestoreFence(ctx)
}

func (s *stores) WatchTarget(ctx context.Context) (err error) {
	var restarted string
	s.mark, restarted, err = s.Job.WatchTarget(ctx, s.mark)
	if restarted != "" {
		s.log.Error(restarted, "migration", s.Config.Name, "recorded", err == nil)
	}
	return err
}

func (s *stores) WatchParts(ctx context.Context) (string, bool, error) {
	return s.Controller(s.Config, nil).WatchParts(ctx)
}

func (s *stores) WatchBypass(ctx context.Context) (string, error) {
	look, err := s.Job.WatchBypass(ctx)
	if err != nil || !look.New || s.Config.Capture.Mode == phases.CaptureOnly { // that the application's own are brought by capture is no news
		return "", err
	}
	return look.Describe(), nil
}

func (s *stores) WatchColumns(ctx context.Context) ([]string, bool, error) { return s.SeeColumns(ctx) }

func (s *stores) Purge(ctx context.Context) (int64, error) {
	if p, ok := s.Target.(store.Purger); ok {
		return p.Purge(ctx)
	}
	return 0, errors.ErrUnsupported
}

// Close leaves the state open.
func (s *stores) Close() { s.CloseStores() }
