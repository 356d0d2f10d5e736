package daemontest

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"github.com/stranglerfig/migrator/internal/app"
	"github.com/stranglerfig/migrator/internal/judge"
	"github.com/stranglerfig/migrator/internal/notify"
	"github.com/stranglerfig/migrator/internal/state"
	"github.com/stranglerfig/migrator/internal/test/clitest"
	"github.com/stranglerfig/migrator/phases"
)

// list is what trigger list prints, read without a process for each poll.
func (w *watched) list() app.Triggers {
	w.t.Helper()
	if w.state == nil {
		store, err := state.Open(w.t.Context(), w.State)
		if err != nil {
			w.t.Fatal(err)
		}
		w.t.Cleanup(store.Close)
		w.state = store
	}
	l, _, err := app.ReadTriggers(w.t.Context(), w.state, "items")
	if err != nil {
		w.t.Fatal(err)
	}
	return l
}

// evaluated waits until each trigger has an evaluation with the verdict quiet.
func (w *watched) evaluated(d *daemonProcess, names ...string) {
	w.t.Helper()
	d.awaits("an evaluation of "+strings.Join(names, ", "), func() bool {
		quiet := map[string]bool{}
		for _, v := range w.list().Triggers {
			quiet[v.Trigger] = v.Evaluation != nil && v.Evaluation.Verdict == phases.Quiet
		}
		for _, n := range names {
			if !quiet[n] {
				return false
			}
		}
		return true
	})
}

// only are the triggers' settings with one of them on: on a busy machine another one may
// fire first, above all the latency.
func only(trigger string) string {
	lines := []string{}
	for line := range strings.Lines(watchedTriggers) {
		name, _, _ := strings.Cut(strings.TrimSpace(line), ":")
		if name != "triggers" && name != "" && name != strings.ReplaceAll(trigger, "-", "_") {
			line = strings.Replace(line, "interval: 1s", "off: another test's", 1)
		}
		lines = append(lines, line)
	}
	return strings.Join(lines, "")
}

// TestFaultRollsBack: after a fault the fleet reads legacy again, without an operator.
func TestFaultRollsBack(t *testing.T) {
	t.Parallel()
	for _, f := range []fault{
		{"Redis is killed", phases.TriggerErrors, 0, false, func(w *watched) {
			if err := w.redis.Kill(); err != nil {
				w.t.Fatal(err)
			}
		}},
		// What a busy machine adds is added to both: the half stands out until that is several
		// seconds, in the replay of the recorded telemetry too.
		{"p99 is worse by half", phases.TriggerLatency, 2 * time.Second, true, func(w *watched) {
			w.app.target.slow.Store(int64(3 * time.Second))
		}},
		{"two reads in a hundred fail", phases.TriggerErrors, 0, true, func(w *watched) {
			w.app.target.one.Store(50)
		}},
		{"one write is lost", phases.TriggerLostWrites, 0, false, func(w *watched) {
			id := routedToTarget(5000)
			w.app.spared.Store(id)
			w.operator.Redis("DEL", fmt.Sprintf("item:%d", id))
		}},
	} {
		t.Run(f.name, func(t *testing.T) {
			t.Parallel()
			if f.long {
				onlyLong(t)
			}
			f.takesBack(t)
		})
	}
}

// fault is a fault in mid-cutover, and the trigger that must fire.
type fault struct {
	name, trigger string
	delay         time.Duration // of both stores, before
	long          bool          // for make torture alone: internal/judge tests its verdict
	make          func(w *watched)
}

func (f fault) takesBack(t *testing.T) {
	t.Helper()
	w := newWatched(t, watchedRest+only(f.trigger), f.delay)
	d := w.serve(t)
	w.evaluated(d, f.trigger)
	if s := d.status(); s.Status.Route.Phase != phases.Cutover {
		t.Fatalf("before the fault it is on %s: %s", s.Status.Route, d.logText())
	}
	began := time.Now()
	f.make(w)
	var l app.Triggers
	t.Cleanup(func() {
		for _, v := range l.Triggers {
			if t.Failed() && v.Evaluation != nil {
				t.Logf("%s: %s, %s", v.Trigger, v.Evaluation.Verdict, v.Evaluation.Detail)
			}
		}
	})
	d.awaits("a settled rollback", func() bool {
		l = w.list()
		return l.Rollback != nil && !l.Rollback.Settled.IsZero()
	})
	r := l.Rollback
	t.Logf("%s: %s fired %s after the fault, committed %s after it, settled %s after it",
		f.name, r.Trigger, r.Fired.Sub(began).Round(time.Millisecond), r.Committed.Sub(began).Round(time.Millisecond), r.Settled.Sub(began).Round(time.Millisecond))
	if r.Trigger != f.trigger || r.Fired.Before(began) || r.Committed.Before(r.Fired) || r.Settled.Before(r.Committed) {
		t.Errorf("%+v", r)
	}
	s := d.status()
	if s.Status.Route.Phase != phases.DualRead || l.Latch == nil || s.Status.LastCause != string(phases.CauseTrigger) || l.Latch.Trigger != f.trigger {
		t.Errorf("it is on %s by %s, latched %+v", s.Status.Route, s.Status.LastCause, l.Latch)
	}
	if code, _, stderr := w.Try("phase", "advance"); code != clitest.NotYet || !strings.Contains(stderr, phases.GateAcknowledged) {
		t.Errorf("it advances beside a latch: %d %s", code, stderr)
	}
	w.Does("trigger acknowledge --reason fixed")
	if w.list().Latch != nil {
		t.Error("it is latched after the acknowledgment")
	}
	if out := w.rehearsed(); !out[f.trigger] {
		t.Errorf("the recorded telemetry would not have fired %s, but: %v", f.trigger, out)
	}
}

// rehearsed are the triggers that the recorded telemetry would have fired.
func (w *watched) rehearsed() map[string]bool {
	w.t.Helper()
	code, stdout, stderr := w.Try("trigger", "test", "--since", "1h", "-o", "json")
	var r judge.Replayed
	if err := json.Unmarshal([]byte(stdout), &r); code != clitest.Done || err != nil {
		w.t.Fatalf("trigger test: %d %s%s", code, stdout, stderr)
	}
	fired := map[string]bool{}
	for _, f := range r.Firings {
		fired[f.Trigger] = fired[f.Trigger] || f.Acts
	}
	return fired
}

// TestNoTriggerFiresWithoutAFault: the only disturbances are a spike of five errors, a
// Prometheus that does not answer, and a killed daemon beside a standby.
func TestNoTriggerFiresWithoutAFault(t *testing.T) {
	t.Parallel()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	unused := listener.Addr().String()
	_ = listener.Close()
	w := newWatched(t, watchedRest+watchedTriggers+"  custom: [{name: burn, promql: up, above: 1, interval: 1s}]\nprometheus: {url: \"http://"+unused+"\"}\n", 0)
	first := w.serve(t)
	first.awaits("the lead", first.leads)
	second := w.serve(t)
	w.evaluated(second, phases.TriggerErrors, phases.TriggerMismatches, phases.TriggerLatency)
	w.app.target.left.Store(5)
	first.end(syscall.SIGKILL)
	second.awaits("the lead", second.leads)
	spell := 4 * time.Second
	if long() {
		spell = 5 * time.Minute
	}
	from := time.Now()
	var l app.Triggers
	second.awaits("evaluations by the second daemon", func() bool {
		l = w.list()
		for _, v := range l.Triggers {
			if v.Evaluation == nil || v.Evaluation.At.Before(from.Add(spell)) {
				return false
			}
		}
		return true
	})
	s := second.status()
	if l.Rollback != nil || l.Latch != nil || s.Status.Route.Phase != phases.Cutover {
		t.Errorf("it is on %s, rolled back: %+v", s.Status.Route, l.Rollback)
	}
	for _, v := range l.Triggers {
		want := phases.Quiet
		if v.Trigger == "burn" {
			want = phases.Error
		}
		if v.Evaluation.Verdict != want {
			t.Errorf("%s: %s (%s)", v.Trigger, v.Evaluation.Verdict, v.Evaluation.Detail)
		}
		t.Logf("%s: %s, %s", v.Trigger, v.Evaluation.Verdict, v.Evaluation.Detail)
	}
	if fired := w.rehearsed(); len(fired) > 0 {
		t.Errorf("replayed, the same telemetry fires %v", fired)
	}
}

// receiver is a receiver of webhooks.
type receiver struct {
	mu       sync.Mutex
	secret   string
	refuse   int // number of attempts to refuse first
	attempts int
	received map[string][]string // ids by event
	bad      []string
}

func (r *receiver) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	body, _ := io.ReadAll(req.Body)
	r.mu.Lock()
	defer r.mu.Unlock()
	hook, err := standardwebhooks.NewWebhook(r.secret)
	if err == nil {
		err = hook.Verify(body, req.Header)
	}
	if err != nil {
		r.bad = append(r.bad, err.Error())
	}
	if r.attempts++; r.attempts <= r.refuse {
		w.WriteHeader(http.StatusServiceUnavailable)
		return
	}
	var m notify.Payload
	if json.Unmarshal(body, &m) != nil || m.Data.ID != req.Header.Get(standardwebhooks.HeaderWebhookID) || m.Type != "migrator."+m.Data.Name || m.Timestamp.IsZero() {
		r.bad = append(r.bad, string(body))
	}
	r.received[m.Data.Name] = append(r.received[m.Data.Name], m.Data.ID)
}

// TestAlertRollsBackOnce, however often and by however many senders it is repeated, and
// not when it is resolved. Webhooks arrive in spite of a receiver's failure and a daemon's
// death.
func TestAlertRollsBackOnce(t *testing.T) {
	t.Parallel()
	const token, secret = "a token of some length", "whsec_YSBzZWNyZXQgb2Ygc29tZSBsZW5ndGg="
	recv := &receiver{secret: secret, refuse: 1, received: map[string][]string{}}
	hook := httptest.NewServer(recv)
	t.Cleanup(hook.Close)
	o := newOperator(t, "items", "  table: items\n", "  key: item:{id}\n", watchedRest+`
triggers:
  custom:
    - {name: pager, interval: 1s, alertmanager: {labels: {severity: page, service: items}}}
    - {name: tried, alertmanager: {labels: {severity: try}}, dry_run: true}
webhooks:
  - {url: "`+hook.URL+`/secret-path", secret_file: secret, events: [trigger, advance]}
`)
	o.Write("secret", secret+"\n")
	o.Write("token", token+"\n")
	o.Write("settings.yaml", "file: "+o.Path("migration.yaml")+"\nstate_url: "+o.State+"\nalerts_token_file: "+o.Path("token")+"\n")
	o.SQL(o.Legacy, `CREATE TABLE items (id bigint PRIMARY KEY, name text)`)
	w := &watched{operator: o, t: t}
	o.Does("init", "apply", "phase advance", "backfill run", "phase advance")
	d := o.serve(t)
	d.awaits("the lead", d.leads)
	starts := time.Now().UTC().Format(time.RFC3339Nano)
	name, source := "ItemsBurn", "items"
	send := func(bearer, status, severity, path string) (int, string) {
		body := `{"version":"4","status":"` + status + `","alerts":[{"status":"` + status + `","labels":{"alertname":"` + name + `","source":"` + source + `","severity":"` + severity +
			`","service":"items"},"annotations":{"summary":"items burn"},"startsAt":"` + starts + `","fingerprint":"f1"}]}`
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, d.url+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Authorization", "Bearer "+bearer)
		answer, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = answer.Body.Close() }()
		text, _ := io.ReadAll(answer.Body)
		return answer.StatusCode, string(text)
	}
	phase := func(want phases.Phase, why string) {
		t.Helper()
		if s := d.status(); s.Status.Route.Phase != want {
			t.Fatalf("%s: it is on %s, want %s\n%s", why, s.Status.Route, want, d.logText())
		}
	}
	for _, c := range []struct {
		bearer, status, severity, path string
		code                           int
	}{
		{"wrong", "firing", "page", "/alerts/items", 401},
		{token, "firing", "page", "/alerts/others", 404},
		{token, "resolved", "page", "/alerts/items", 200},
		{token, "firing", "warning", "/alerts/items", 200},
	} {
		if code, body := send(c.bearer, c.status, c.severity, c.path); code != c.code {
			t.Errorf("%+v: %d %s", c, code, body)
		}
	}
	pager := func(want phases.Verdict, says string) {
		t.Helper()
		d.awaits("the trigger's state "+string(want)+" ("+says+")", func() bool {
			for _, v := range w.list().Triggers {
				if v.Trigger == "pager" && v.Evaluation != nil && v.Evaluation.Verdict == want && strings.Contains(v.Evaluation.Detail, says) {
					return true
				}
			}
			return false
		})
	}
	pager(phases.NoData, "nothing received yet")
	name = "Watchdog"
	send(token, "firing", "none", "/alerts/items")
	pager(phases.Quiet, "Watchdog was received")
	// What is about migrator proves no harm.
	name, source = "TriggerBlind", "migrator"
	if code, body := send(token, "firing", "page", "/alerts/items"); code != 200 || strings.Contains(body, "pager") {
		t.Errorf("migrator's own alert: %d %s", code, body)
	}
	name, source = "ItemsBurn", "items"
	// In dual-read reads come from legacy: the alert is only sent to webhooks. The same
	// alert sent again in cutover is not a new one.
	if code, body := send(token, "firing", "page", "/alerts/items"); code != 200 || !strings.Contains(body, "pager") {
		t.Errorf("%d %s", code, body)
	}
	phase(phases.DualRead, "an alert in dual-read")
	pager(phases.Firing, "items burn")
	o.Does("reconcile run --full", "phase advance")
	send(token, "firing", "page", "/alerts/items")
	send(token, "firing", "try", "/alerts/items")
	phase(phases.Cutover, "a repeated alert, and one that is only tried")
	// A fire that began before reads came from the target is not about them, and one whose date is no
	// clock's is refused. Many others in between evict nothing, and U+0000 stops nothing.
	first := starts
	for at, code := range map[string]int{"1999-12-31T23:59:59Z": 200, "2999-01-01T00:00:00Z": 400} {
		starts = at
		if got, body := send(token, "firing", "page", "/alerts/items"); got != code || strings.Contains(body, "pager") {
			t.Errorf("an alert of %s: %d %s", at, got, body)
		}
	}
	starts = first
	var many strings.Builder
	for i := range 1200 {
		fmt.Fprintf(&many, `{"status":"firing","labels":{"alertname":"\u0000","severity":"try"},"startsAt":%q,"fingerprint":"m%d"},`, time.Now().UTC().Format(time.RFC3339), i)
	}
	outbreak, err := http.NewRequestWithContext(t.Context(), http.MethodPost, d.url+"/alerts/items", strings.NewReader(`{"version":"4","alerts":[`+strings.TrimSuffix(many.String(), ",")+`]}`))
	if err != nil {
		t.Fatal(err)
	}
	outbreak.Header.Set("Authorization", "Bearer "+token)
	if answer, err := http.DefaultClient.Do(outbreak); err != nil || answer.StatusCode != 200 {
		t.Errorf("an outbreak: %+v %v", answer, err)
	} else {
		_ = answer.Body.Close()
	}
	send(token, "firing", "page", "/alerts/items")
	phase(phases.Cutover, "a repeated alert, after many others")
	began := time.Now()
	starts = began.UTC().Format(time.RFC3339Nano)
	send(token, "firing", "page", "/alerts/items")
	phase(phases.DualRead, "a new alert")
	send(token, "resolved", "page", "/alerts/items")
	pager(phases.Quiet, "Watchdog was received")
	r := w.list().Rollback
	if r == nil || r.Trigger != "pager" {
		t.Fatalf("%+v", r)
	}
	t.Logf("alert: committed %s after it was sent", r.Committed.Sub(began).Round(time.Millisecond))
	o.Does("trigger acknowledge --reason fixed", "reconcile run --full", "phase advance")
	d.end(syscall.SIGKILL) // its memory of alerts is gone, except for the state database
	d = o.serve(t)
	d.awaits("the lead", d.leads)
	send(token, "firing", "page", "/alerts/items")
	phase(phases.Cutover, "an alert that was acted on, after a restart")
	d.awaits("the webhooks", func() bool {
		recv.mu.Lock()
		defer recv.mu.Unlock()
		return len(recv.received["trigger"]) >= 3 && len(recv.received["advance"]) >= 4
	})
	recv.mu.Lock()
	defer recv.mu.Unlock()
	if len(recv.bad) > 0 || recv.attempts <= recv.refuse {
		t.Errorf("%d attempts: %q", recv.attempts, recv.bad)
	}
	if strings.Contains(d.logText(), "secret") || strings.Contains(d.logText(), token) {
		t.Errorf("a secret is in the log: %s", d.logText())
	}
}

// TestRampAdvancesOnSchedule: when a step is due, not while paused, not with a closed
// gate, and never into another phase.
func TestRampAdvancesOnSchedule(t *testing.T) {
	t.Parallel()
	o := newOperator(t, "items", "  table: items\n", "  key: item:{id}\n", `
phases:
  shadow_write: {for: 0s}
  dual_read: {steps: [10, 50, 100], over: 3s}
  cutover: {steps: [50, 100], over: 0s}
  approval: {for: []}
writing: {not_after: 1s, deadline: 500ms}
gates: {off: a test}
triggers: {errors: {interval: 1s}}
`)
	o.SQL(o.Legacy, `CREATE TABLE items (id bigint PRIMARY KEY, name text)`)
	// Paused before a daemon is there: its first step is due 1.5 s after the
	// advance, however long the machine needs to start the next command.
	o.Does("init", "apply", "phase advance", "backfill run", "phase advance", "phase pause --reason lunch")
	d := o.serve(t)
	d.awaits("the lead", d.leads)
	began := time.Now()
	d.awaits("evaluations during the pause", func() bool { return time.Since(began) > 2500*time.Millisecond && d.leads() })
	s := d.status()
	if s.Status.Route.Percent != 1000 || s.Next == nil || s.Next.By != "schedule" || s.Next.To.Percent != 5000 || strconv.Quote(strings.Join(s.Next.WaitsFor, ", ")) != `"not-paused"` {
		t.Errorf("paused, it is on %s, next %+v", s.Status.Route, s.Next)
	}
	o.Does("phase resume")
	d.awaits("the ramp's end", func() bool { return d.status().Status.Route.Percent == phases.All })
	if s := d.status(); s.Status.LastCause != string(phases.CauseSchedule) || s.Status.Route.Phase != phases.DualRead || s.Next.By != "person" {
		t.Errorf("%+v, next %+v", s.Status, s.Next)
	}
	if code, stdout, _ := o.Try("gate", "list"); code != clitest.NotYet || !strings.Contains(stdout, "reconcile-clean") {
		t.Errorf("gate list: %d %s", code, stdout)
	}
	d.awaits("word that it waits", func() bool { return strings.Contains(d.logText(), `"step due"`) })
	if code, stdout, stderr := o.Try("history", "verify"); code != clitest.Done {
		t.Errorf("%s%s", stdout, stderr)
	}
}
