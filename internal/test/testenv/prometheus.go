package testenv

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// PrometheusOptions changes a private Prometheus. The zero value scrapes nothing and has no
// samples.
type PrometheusOptions struct {
	Config      string // prometheus.yml; empty: an empty one
	OpenMetrics string // samples with timestamps, there from the beginning; ends in "# EOF\n"
	WebConfig   string // the file of --web.config.file; empty: plain HTTP, open to all
}

// PrometheusServer is a private Prometheus. It has the samples of its options and of its
// scrapes.
type PrometheusServer struct {
	server
	options PrometheusOptions
}

// StartPrometheus starts a server and returns when it answers queries. The error is a
// [MissingError] when there is no Prometheus on this machine.
func StartPrometheus(ctx context.Context, o PrometheusOptions) (*PrometheusServer, error) {
	p, err := findWatcher(ctx, "prometheus")
	if err != nil {
		return nil, err
	}
	dir, err := newServerDir("prometheus")
	if err != nil {
		return nil, err
	}
	s := &PrometheusServer{server: server{program: p, dir: dir, quit: sigTerm}, options: o}
	if err := errors.Join(os.Mkdir(dir.file("data"), 0o700), os.WriteFile(dir.file("prometheus.yml"), []byte(o.Config), 0o600)); err != nil {
		return nil, errors.Join(err, dir.remove())
	}
	if err := s.backfill(ctx); err != nil {
		return nil, errors.Join(err, dir.remove())
	}
	if err := retryBind(ctx, s.startOn); err != nil {
		return nil, errors.Join(err, s.Stop(ctx))
	}
	return s, nil
}

func (s *PrometheusServer) backfill(ctx context.Context) error {
	if s.options.OpenMetrics == "" {
		return nil
	}
	file := s.dir.file("samples.txt")
	if err := os.WriteFile(file, []byte(s.options.OpenMetrics), 0o600); err != nil {
		return err
	}
	out, err := promtool(ctx, "tsdb", "create-blocks-from", "openmetrics", file, s.dir.file("data"))
	if err != nil {
		return fmt.Errorf("make blocks of the samples: %w: %s", err, out)
	}
	return nil
}

func (s *PrometheusServer) startOn(ctx context.Context) (err error) {
	releasePort(s.port) // of the attempt before
	if s.port, err = freePort(); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.proc, err = launch(launchSpec{
		dir: s.dir, workDir: s.dir.file("data"), program: s.program, onDeath: sigKill,
		args: []string{
			"--config.file=" + s.dir.file("prometheus.yml"), "--storage.tsdb.path=" + s.dir.file("data"),
			"--web.listen-address=" + s.Addr(), "--web.config.file=" + s.options.WebConfig, "--log.level=warn",
			"--enable-feature=native-histograms,exemplar-storage",
		},
	})
	if err != nil {
		return err
	}
	proc := s.proc
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	err = await(ctx, 10*time.Millisecond, "Prometheus to answer", func() (bool, error) {
		if proc.ended() {
			return false, errors.New("it ended while starting")
		}
		if s.options.WebConfig != "" { // the test knows how to query it
			return answers(s.Addr()), nil
		}
		return healthy(ctx, s.URL()+"/-/ready"), nil
	})
	if err != nil {
		// In the form of PostgreSQL and Redis, so that another port is tried.
		text := strings.ReplaceAll(s.dir.tail(), "address already in use", "Address already in use")
		return fmt.Errorf("%w; its log:\n%s", errors.Join(err, proc.kill()), text)
	}
	return nil
}

func healthy(ctx context.Context, url string) bool {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return false
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 5 * time.Second}
	resp, err := client.Do(req)
	if err != nil {
		return false
	}
	_, _ = io.Copy(io.Discard, resp.Body)
	_ = resp.Body.Close()
	return resp.StatusCode == http.StatusOK
}

// URL returns the server's URL, without a path.
func (s *PrometheusServer) URL() string { return "http://" + s.Addr() }

// findWatcher finds a program of Prometheus or Alertmanager, by the first of its names that is there.
func findWatcher(ctx context.Context, names ...string) (program, error) {
	missing := &MissingError{What: "Prometheus (" + names[0] + ")"}
	for _, name := range names {
		for _, dir := range candidates(missing, name,
			"/usr/bin", "/usr/local/bin", "/opt/homebrew/bin", unpacked("prometheus", "usr/bin"), unpacked("alertmanager", "usr/bin")) {
			p, err := probe(ctx, filepath.Join(dir, name), account{})
			if err == nil {
				return p, nil
			}
			missing.note(dir, err)
		}
	}
	return program{}, missing
}

func promtool(ctx context.Context, args ...string) (string, error) {
	return runWatcher(ctx, "promtool", args...)
}

func runWatcher(ctx context.Context, name string, args ...string) (string, error) {
	p, err := findWatcher(ctx, name)
	if err != nil {
		return "", err
	}
	cmd := exec.CommandContext(ctx, p.path, args...) //nolint:gosec // a program that was searched for
	cmd.Env = p.env()
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err = cmd.Run()
	return out.String(), err
}

// Prometheus starts a server for this test alone. Without the program the test skips; with
// CI=true it fails.
func Prometheus(t testing.TB, o ...PrometheusOptions) *PrometheusServer {
	t.Helper()
	if _, err := findWatcher(t.Context(), "prometheus"); err != nil {
		skipUnlessCI(t, err)
	}
	return own(t, StartPrometheus, o)
}

// Promtool runs promtool and returns what it prints, with the error of its exit code. Without
// the program the test skips, as in [Prometheus].
func Promtool(t testing.TB, args ...string) (string, error) {
	t.Helper()
	out, err := promtool(t.Context(), args...)
	if missing := new(*MissingError); errors.As(err, missing) {
		skipUnlessCI(t, err)
	}
	return out, err
}

// Amtool runs amtool as [Promtool] runs promtool.
func Amtool(t testing.TB, args ...string) (string, error) {
	t.Helper()
	out, err := runWatcher(t.Context(), "amtool", args...)
	if missing := new(*MissingError); errors.As(err, missing) {
		skipUnlessCI(t, err)
	}
	return out, err
}

func skipUnlessCI(t testing.TB, err error) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatal(err)
	}
	t.Skip(err)
}
