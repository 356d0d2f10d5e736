package testenv

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

// startStandby starts a standby that streams from s through a replication slot. The slot and the
// standby's application_name have the given name, which must be a slot's.
func (s *PostgresServer) startStandby(ctx context.Context, name string) (*PostgresServer, error) {
	dir, err := newServerDir("pg")
	if err != nil {
		return nil, err
	}
	settings := map[string]string{}
	maps.Copy(settings, s.settings)
	settings["cluster_name"] = name // which a standby's connection takes for its application_name
	b := &PostgresServer{server: server{program: s.program, dir: dir, quit: sigInt}, account: s.account, settings: settings, password: s.password}
	if err := errors.Join(s.backUpTo(ctx, b, name), os.Mkdir(dir.file("run"), 0o700), s.account.give(dir.file("run"))); err != nil {
		return nil, errors.Join(err, dir.remove())
	}
	if err := retryBind(ctx, b.startOn); err != nil {
		return nil, errors.Join(err, b.Stop(ctx))
	}
	return b, nil
}

// backUpTo makes b's data a base backup that streams from s once it starts.
func (s *PostgresServer) backUpTo(ctx context.Context, b *PostgresServer, slot string) error {
	data := b.dir.file("data")
	if err := errors.Join(os.Mkdir(data, 0o700), s.account.give(data)); err != nil {
		return err
	}
	backup := filepath.Join(filepath.Dir(s.program.path), "pg_basebackup")
	cmd := exec.CommandContext(ctx, backup, "-D", data, "-h", s.dir.file("run"), "-p", fmt.Sprint(s.port), "-U", "postgres", //nolint:gosec // the program beside the server's
		"--write-recovery-conf", "--create-slot", "--slot", slot, "--checkpoint", "fast", "--no-sync")
	cmd.Dir, cmd.Env, cmd.SysProcAttr = data, s.program.env(), asAccount(s.account)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w\n%s", backup, err, out)
	}
	return nil
}

// PostgresStandby starts a standby of primary for this test alone, which streams through a
// replication slot. The slot and the standby's application_name have the given name.
func PostgresStandby(t testing.TB, primary *PostgresServer, name string) *PostgresServer {
	t.Helper()
	// The servers of make matrix come without it.
	if _, err := os.Stat(filepath.Join(filepath.Dir(primary.program.path), "pg_basebackup")); err != nil && os.Getenv(EnvServerPath) != "" {
		t.Skip("needs pg_basebackup beside the server")
	}
	s, err := primary.startStandby(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
		defer cancel()
		if err := s.Stop(ctx); err != nil {
			t.Errorf("stop a standby of the test: %v", err)
		}
	})
	return s
}
