package daemontest

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	goredis "github.com/redis/go-redis/v9"

	"github.com/stranglerfig/migrator/dual"
	"github.com/stranglerfig/migrator/dual/pgfleet"
	"github.com/stranglerfig/migrator/internal/app"
	"github.com/stranglerfig/migrator/internal/state"
	"github.com/stranglerfig/migrator/internal/test/clitest"
	"github.com/stranglerfig/migrator/internal/test/testenv"
	"github.com/stranglerfig/migrator/phases"
	"github.com/stranglerfig/migrator/record"
)

// served is an operator with the migration items applied, and a target of its own.
func served(t *testing.T) (*operator, *testenv.RedisServer) {
	t.Helper()
	o := newOperator(t, "items", "  table: items\n", "  key: item:{id}\n", clitest.Served)
	target := testenv.Redis(t)
	o.Target = target.URL()
	o.Write("target.url", o.Target)
	o.SQL(o.Legacy, `CREATE TABLE items (id bigint PRIMARY KEY, name text);
		INSERT INTO items SELECT i, 'item ' || i FROM generate_series(1, 20) i`)
	o.Does("init", "apply")
	return o, target
}

// daemonProcess is migrator serve in a separate process.
type daemonProcess struct {
	t    testing.TB
	cmd  *exec.Cmd
	url  string
	mu   sync.Mutex
	log  bytes.Buffer
	done chan struct{} // its log has ended
}

func (o *operator) serve(t testing.TB) *daemonProcess {
	t.Helper()
	d := &daemonProcess{t: t, done: make(chan struct{})}
	d.cmd = exec.CommandContext(t.Context(), "migrator", "--settings", o.Path("settings.yaml"), "serve", "--listen", "127.0.0.1:0", "--log-format", "json")
	d.cmd.Env = os.Environ()
	out, err := d.cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := testenv.Start(d.cmd); err != nil {
		t.Fatal(err)
	}
	address := make(chan string, 1)
	go func() {
		defer close(d.done)
		lines := bufio.NewScanner(out)
		for lines.Scan() {
			var entry struct {
				Msg     string `json:"msg"`
				Address string `json:"address"`
			}
			_ = json.Unmarshal(lines.Bytes(), &entry)
			if entry.Msg == "listening" {
				address <- entry.Address
			}
			d.mu.Lock()
			d.log.Write(append(lines.Bytes(), '\n'))
			d.mu.Unlock()
		}
	}()
	t.Cleanup(func() { d.end(syscall.SIGKILL) })
	select {
	case a := <-address:
		d.url = "http://" + a
	case <-d.done:
		t.Fatalf("it ended: %s", d.logText())
	case <-time.After(2 * time.Minute):
		t.Fatalf("it does not listen: %s", d.logText())
	}
	return d
}

func (d *daemonProcess) logText() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.log.String()
}

// end stops the daemon, if it still runs, and returns its exit code.
func (d *daemonProcess) end(signal os.Signal) int {
	if d.cmd.ProcessState == nil {
		_ = d.cmd.Process.Signal(signal)
		<-d.done
		_ = d.cmd.Wait()
	}
	return d.cmd.ProcessState.ExitCode()
}

func (d *daemonProcess) get(path string) (code int, body string) {
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: time.Minute}
	r, err := client.Get(d.url + path)
	if err != nil {
		return 0, err.Error()
	}
	defer func() { _ = r.Body.Close() }()
	text, err := io.ReadAll(r.Body)
	if err != nil {
		return 0, err.Error()
	}
	return r.StatusCode, string(text)
}

// awaits waits until the condition is true. Its limit matters only where it never is.
func (d *daemonProcess) awaits(what string, holds func() bool) {
	d.t.Helper()
	if !testenv.Reached(d.t.Context(), holds) {
		d.t.Fatalf("in vain for %s\n%s", what, d.logText())
	}
}

func (d *daemonProcess) leads() bool {
	code, body := d.get("/healthz")
	return code == http.StatusOK && strings.Contains(body, `"leader"`)
}

// status is its status of its only migration, which must equal the command's.
func (d *daemonProcess) status() (s app.Status) {
	_, body := d.get("/status")
	var all []app.Status
	if err := json.Unmarshal([]byte(body), &all); err == nil && len(all) == 1 {
		s = all[0]
	}
	return s
}

// lose changes records in legacy and journals them, as an instance does if the target
// refuses its writes.
func (o *operator) lose(keys ...record.Key) {
	o.T.Helper()
	ctx := o.T.Context()
	o.SQL(o.Legacy, `UPDATE items SET name = 'changed'`)
	store, err := state.Open(ctx, o.State)
	if err != nil {
		o.T.Fatal(err)
	}
	defer store.Close()
	var lost []dual.JournalEntry
	for _, k := range keys {
		lost = append(lost, dual.JournalEntry{Key: k, Reason: "a test"})
	}
	if _, err := pgfleet.New(store.Pool(), "items", pgfleet.Options{}).Journal(ctx, lost); err != nil {
		o.T.Fatal(err)
	}
}

// inTarget is an item's name in the target.
func (o *operator) inTarget(id int) string {
	o.T.Helper()
	options, err := goredis.ParseURL(o.Target)
	if err != nil {
		o.T.Fatal(err)
	}
	client := goredis.NewClient(options)
	defer func() { _ = client.Close() }()
	name, err := client.HGet(o.T.Context(), fmt.Sprintf("item:%d", id), "name").Result()
	if err != nil {
		o.T.Fatal(err)
	}
	return name
}

// TestServeRepairsOnceTheTargetIsBack: the target is down when the daemon starts. A second
// daemon continues after the first is killed.
func TestServeRepairsOnceTheTargetIsBack(t *testing.T) {
	t.Parallel()
	o, target := served(t)
	o.Does("phase advance", "backfill run", "phase advance")
	if err := target.Kill(); err != nil {
		t.Fatal(err)
	}
	o.lose("1", "2", "3")
	first := o.serve(t)
	first.awaits("the lead", first.leads)
	second := o.serve(t)
	first.awaits("a failed repair", func() bool { return strings.Contains(first.logText(), `"msg":"failed"`) })
	if code, body := second.get("/healthz"); code != http.StatusOK || !strings.Contains(body, `"standby"`) {
		t.Errorf("the second daemon: %d %s", code, body)
	}
	if s := first.status(); s.Status.JournalKeys != 3 {
		t.Errorf("%d keys in the journal", s.Status.JournalKeys)
	}
	o.scrapes(first, map[string]float64{"migrator_journal_keys": 3, "migrator_leader": 1, "migrator_state_up": 1, "migrator_phase_epoch": 3})
	o.scrapes(second, map[string]float64{"migrator_journal_keys": 3, "migrator_leader": 0, "migrator_read_percent": 0})
	if err := target.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	// It has restarted without its data: nothing is written to it before an operator has looked.
	first.awaits("a lost target", func() bool { return strings.Contains(first.status().Status.TargetLost, "has no mark") })
	if n := first.status().Status.JournalKeys; n != 3 {
		t.Errorf("%d keys are left in the journal", n)
	}
	o.Does("target claim --yes")
	first.awaits("an empty journal", func() bool { return first.status().Status.JournalKeys == 0 })
	if got := o.inTarget(2); got != "changed" {
		t.Errorf("the target has %q", got)
	}

	if code := first.end(syscall.SIGKILL); code != -1 {
		t.Fatalf("it was not killed: %d", code)
	}
	o.lose("4")
	second.awaits("the lead", second.leads)
	second.awaits("an empty journal", func() bool {
		s := second.status()
		return s.Status.Migration != "" && s.Status.JournalKeys == 0
	})
	if code := second.end(syscall.SIGTERM); code != clitest.Done {
		t.Errorf("on SIGTERM it exited with %d:\n%s", code, second.logText())
	}
}

// scrapes checks single series of the metrics.
func (o *operator) scrapes(d *daemonProcess, want map[string]float64) {
	o.T.Helper()
	code, body := d.get("/metrics")
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(strings.NewReader(body))
	if err != nil || code != http.StatusOK {
		o.T.Fatalf("%d: %v", code, err)
	}
	for name, value := range want {
		f := families[name]
		if f == nil || len(f.GetMetric()) != 1 || f.GetMetric()[0].GetGauge().GetValue() != value {
			o.T.Errorf("%s: %v, want %v", name, f, value)
		}
	}
}

// TestServeUndoesAnAbandonedFence: a phase advance is killed while legacy is fenced and an
// instance has not acknowledged; then one that has only recorded its attempt.
func TestServeUndoesAnAbandonedFence(t *testing.T) {
	t.Parallel()
	o, _ := served(t)
	o.Does("phase advance", "backfill run", "phase advance", "reconcile run --full", "phase advance",
		"reconcile run --full", "phase advance", "reconcile run --full")
	ctx := t.Context()
	store, err := state.Open(ctx, o.State)
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	current := func() phases.Status {
		st, err := store.Status(ctx, "items")
		if err != nil {
			t.Fatal(err)
		}
		return st
	}
	// An instance that does not answer keeps the command waiting for its second.
	fleet := pgfleet.New(store.Pool(), "items", pgfleet.Options{Lease: time.Minute})
	if _, err := fleet.Join(ctx, dual.Identity{Instance: "shop-1", Moves: current().Moves}); err != nil {
		t.Fatal(err)
	}
	d := o.serve(t)
	d.awaits("the lead", d.leads)
	o.scrapes(d, map[string]float64{"migrator_reconcile_coverage_ratio": 1})
	undone := func() bool {
		st := current()
		return st.Route.Phase == phases.Grace && st.Attempt == ""
	}
	fenced := current()
	for fenced.Route.Phase != phases.Fenced { // on a busy machine the command may undo its fence first
		advance := exec.CommandContext(ctx, "migrator", "--settings", o.Path("settings.yaml"), "phase", "advance")
		from := fenced.Route.Epoch
		if err := advance.Start(); err != nil {
			t.Fatal(err)
		}
		d.awaits("the fence", func() bool { return current().Route.Epoch > from })
		_ = advance.Process.Kill()
		_ = advance.Wait()
		if fenced = current(); fenced.Route.Phase != phases.Fenced {
			d.awaits("the command's own end of the fence", undone)
			fenced = current()
		}
	}
	d.awaits("the rollback to grace", undone)
	if st := current(); st.RouteSince.Sub(fenced.RouteSince) < 6500*time.Millisecond {
		t.Errorf("it was undone after %s, within the command's budget", st.RouteSince.Sub(fenced.RouteSince))
	}
	o.SQL(o.Legacy, `UPDATE items SET name = 'written again' WHERE id = 1`)

	if err := store.Intend(ctx, "items", current().Route, "abandoned", func(phases.Snapshot) error { return nil }); err != nil {
		t.Fatal(err)
	}
	d.awaits("the end of the attempt", undone)
	o.SQL(o.Legacy, `UPDATE items SET name = 'and again' WHERE id = 1`)
	if code := d.end(os.Interrupt); code != clitest.Done {
		t.Errorf("interrupted, it exited with %d:\n%s", code, d.logText())
	}
}

// TestServeRefuses invalid input and unsafe addresses.
func TestServeRefuses(t *testing.T) {
	t.Parallel()
	o := newOperator(t, "items", "  table: items\n", "  key: item:{id}\n", "")
	o.State = testenv.PostgresURL(t) // without the schema
	o.Write("settings.yaml", "file: "+o.Path("migration.yaml")+"\nstate_url: "+o.State+"\n")
	for line, want := range map[string]string{
		"serve --listen 0.0.0.0:0":                                 "--listen-anywhere",
		"serve --listen :7070":                                     "not on loopback",
		"serve --listen nonsense":                                  "nonsense",
		"serve no-such-file.yaml":                                  "no-such-file.yaml",
		"serve --listen 127.0.0.1:0":                               "migrator init",
		"serve " + strings.Repeat(o.Path("migration.yaml")+" ", 2): "are both migration files of items",
	} {
		code, _, stderr := o.Try(strings.Fields(line)...)
		if code != clitest.Usage || !strings.Contains(stderr, want) {
			t.Errorf("%s: %d %s", line, code, stderr)
		}
	}
	o.Does("init")
	taken := o.serve(t) // before anything is applied
	if code, body := taken.get("/status"); code != http.StatusOK || strings.TrimSpace(body) != "[]" {
		t.Errorf("before apply: %d %s", code, body)
	}
	code, _, stderr := o.Try("serve", "--listen", strings.TrimPrefix(taken.url, "http://"))
	if code != clitest.Error || !strings.Contains(stderr, "in use") {
		t.Errorf("on a port in use: %d %s", code, stderr)
	}
}

// TestServeOutlivesItsStateDatabase: it reports that it is unhealthy, and leads again later.
func TestServeOutlivesItsStateDatabase(t *testing.T) {
	t.Parallel()
	o := newOperator(t, "items", "  table: items\n", "  key: item:{id}\n", clitest.Served)
	server := testenv.Postgres(t)
	o.State = server.URL()
	o.Write("settings.yaml", "file: "+o.Path("migration.yaml")+"\nstate_url: "+o.State+"\n")
	o.SQL(o.Legacy, `CREATE TABLE items (id bigint PRIMARY KEY, name text)`)
	o.Does("init", "apply")
	d := o.serve(t)
	d.awaits("the lead", d.leads)
	if err := server.Kill(); err != nil {
		t.Fatal(err)
	}
	d.awaits("the end of the lead", func() bool {
		return strings.Contains(d.logText(), `"msg":"no longer leading"`)
	})
	if code, body := d.get("/healthz"); code != http.StatusServiceUnavailable {
		t.Errorf("/healthz without the state: %d %s", code, body)
	}
	if code, body := d.get("/status"); code != http.StatusServiceUnavailable {
		t.Errorf("/status without the state: %d %s", code, body)
	}
	o.scrapes(d, map[string]float64{"migrator_state_up": 0, "migrator_leader": 0})
	if err := server.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	d.awaits("the lead again", d.leads)
	if code := d.end(syscall.SIGTERM); code != clitest.Done {
		t.Errorf("on SIGTERM it exited with %d:\n%s", code, d.logText())
	}
}
