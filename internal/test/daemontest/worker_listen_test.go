//go:build unix

package daemontest

import (
	"encoding/json"
	"fmt"
	"net/http"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"github.com/stranglerfig/migrator/internal/daemon"
	"github.com/stranglerfig/migrator/internal/test/clitest"
	"github.com/stranglerfig/migrator/internal/test/testenv"
)

var listening = regexp.MustCompile(`"msg":"listening","address":"([^"]+)"`)

// TestAWorkerAnswersHealthAndMetrics at its --listen address, and reports its work.
func TestAWorkerAnswersHealthAndMetrics(t *testing.T) {
	t.Parallel()
	o, _ := compared(t, 6_000, "rate: 0")
	for _, c := range []struct {
		line string
		code int
		want string
	}{
		{"worker --listen 0.0.0.0:0", clitest.Usage, "--listen-anywhere"},
		{"worker --listen nonsense", clitest.Usage, "nonsense"},
	} {
		if code, _, stderr := o.Try(strings.Fields(c.line)...); code != c.code || !strings.Contains(stderr, c.want) {
			t.Errorf("%s: %d %s", c.line, code, stderr)
		}
	}
	w := o.Start(t, "worker", "--listen", "127.0.0.1:0", "-o", "json")
	testenv.Await(t, "the worker listens", func() bool { return listening.MatchString(w.Log.String()) })
	at := daemonProcess{t: t, url: "http://" + listening.FindStringSubmatch(w.Log.String())[1]}
	if code, body := at.get("/healthz"); code != http.StatusOK || !strings.Contains(body, `"role": "worker"`) {
		t.Errorf("/healthz: %d %s", code, body)
	}
	if code, _ := at.get("/status"); code != http.StatusNotFound {
		t.Errorf("/status: %d", code)
	}
	if code, _, stderr := o.Try("worker", "--listen", strings.TrimPrefix(at.url, "http://")); code != clitest.Error || !strings.Contains(stderr, "in use") {
		t.Errorf("on a port in use: %d %s", code, stderr)
	}
	none := `migrator_worker_jobs_total{migration="items",result="done"} 0`
	if _, body := at.get("/metrics"); !strings.Contains(body, none) {
		t.Errorf("before any run:\n%s", body)
	}
	testenv.Await(t, "it has worked on a run", func() bool {
		o.Does("reconcile run --full")
		_, body := at.get("/metrics")
		return !strings.Contains(body, none)
	})
	_, body := at.get("/metrics")
	w.Signal(syscall.SIGTERM)
	if code := w.Exits(); code != clitest.Done {
		t.Fatalf("%d: %s", code, w.Log.String())
	}
	var result daemon.Worked
	if err := json.Unmarshal([]byte(w.Out.String()), &result); err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{
		fmt.Sprintf(`migrator_worker_jobs_total{migration="items",result="done"} %d`, result.Jobs),
		fmt.Sprintf(`migrator_worker_records_total{migration="items"} %d`, result.Checked),
	} {
		if !strings.Contains(body, line+"\n") || result.Jobs == 0 {
			t.Errorf("its report is %+v, its metrics were:\n%s", result, body)
		}
	}
}
