package testenv

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"
)

// AlertmanagerOptions changes a private Alertmanager.
type AlertmanagerOptions struct {
	Config string // alertmanager.yml
}

// AlertmanagerServer is a private Alertmanager, of no cluster.
type AlertmanagerServer struct{ server }

// StartAlertmanager starts a server and returns when it is ready. The error is a [MissingError] when there is no
// Alertmanager on this machine.
func StartAlertmanager(ctx context.Context, o AlertmanagerOptions) (*AlertmanagerServer, error) {
	p, err := findWatcher(ctx, "alertmanager", "prometheus-alertmanager") // Debian's name is the second
	if err != nil {
		return nil, err
	}
	dir, err := newServerDir("alertmanager")
	if err != nil {
		return nil, err
	}
	s := &AlertmanagerServer{server{program: p, dir: dir, quit: sigTerm}}
	if err := errors.Join(os.Mkdir(dir.file("data"), 0o700), os.WriteFile(dir.file("alertmanager.yml"), []byte(o.Config), 0o600)); err != nil {
		return nil, errors.Join(err, dir.remove())
	}
	if err := retryBind(ctx, s.startOn); err != nil {
		return nil, errors.Join(err, s.Stop(ctx))
	}
	return s, nil
}

func (s *AlertmanagerServer) startOn(ctx context.Context) (err error) {
	releasePort(s.port) // of the attempt before
	if s.port, err = freePort(); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	workDir := s.dir.file("data")
	if templates := unpacked("alertmanager", "usr/share/prometheus/alertmanager"); strings.HasPrefix(s.program.path, unpacked("alertmanager", "usr/bin")) {
		workDir = templates // see relocate of scripts/deps.sh
	}
	s.proc, err = launch(launchSpec{
		dir: s.dir, workDir: workDir, program: s.program, onDeath: sigKill,
		args: []string{
			"--config.file=" + s.dir.file("alertmanager.yml"), "--storage.path=" + s.dir.file("data"),
			"--web.listen-address=" + s.Addr(), "--cluster.listen-address=", "--log.level=warn",
		},
	})
	if err != nil {
		return err
	}
	proc := s.proc
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	err = await(ctx, 10*time.Millisecond, "Alertmanager to answer", func() (bool, error) {
		if proc.ended() {
			return false, errors.New("it ended while starting")
		}
		return healthy(ctx, s.URL()+"/-/ready"), nil
	})
	if err != nil {
		text := strings.ReplaceAll(s.dir.tail(), "address already in use", "Address already in use")
		return fmt.Errorf("%w; its log:\n%s", errors.Join(err, proc.kill()), text)
	}
	return nil
}

// URL returns the server's URL, without a path.
func (s *AlertmanagerServer) URL() string { return "http://" + s.Addr() }

// Alertmanager starts a server for this test alone, or skips, as in [Prometheus].
func Alertmanager(t testing.TB, o ...AlertmanagerOptions) *AlertmanagerServer {
	t.Helper()
	if _, err := findWatcher(t.Context(), "alertmanager", "prometheus-alertmanager"); err != nil {
		skipUnlessCI(t, err)
	}
	return own(t, StartAlertmanager, o)
}
