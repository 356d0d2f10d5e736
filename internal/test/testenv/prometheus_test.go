package testenv

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"
)

func TestPrometheusAnswersFromItsSamples(t *testing.T) {
	t.Parallel()
	s := Prometheus(t, PrometheusOptions{
		OpenMetrics: fmt.Sprintf("# TYPE lamps gauge\nlamps 4 %d\n# EOF\n", time.Now().Add(-10*time.Second).Unix()),
	})
	resp, err := http.Get(s.URL() + "/api/v1/query?query=" + url.QueryEscape("lamps * 2"))
	must(t, err)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	must(t, err)
	if !strings.Contains(string(body), `,"8"]`) {
		t.Errorf("it answers %s", body)
	}
	dir := s.dir.path
	must(t, s.Stop(t.Context()))
	if left := processesIn(dir); len(left) > 0 || healthy(context.Background(), s.URL()) {
		t.Errorf("files remain: %v", left)
	}
}

func TestPrometheusReportsInvalidConfiguration(t *testing.T) {
	t.Parallel()
	Promtool(t, "--version") // skips where there is none
	if _, err := StartPrometheus(t.Context(), PrometheusOptions{Config: "scrape: yes\n"}); err == nil || !strings.Contains(err.Error(), "scrape") {
		t.Errorf("error: %v", err)
	}
	if out, err := Promtool(t, "check", "rules", "/nonexistent.yml"); err == nil {
		t.Errorf("promtool reports no error: %s", out)
	}
}

func TestMissingPrometheusGivesHint(t *testing.T) {
	t.Setenv(EnvServerPath, t.TempDir())
	_, err := StartPrometheus(t.Context(), PrometheusOptions{})
	if err == nil || !strings.Contains(err.Error(), "Try: make deps") {
		t.Errorf("error: %v", err)
	}
}
