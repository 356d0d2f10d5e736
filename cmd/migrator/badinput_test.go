//go:build unix

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/stranglerfig/migrator/internal/test/badinput"
	"github.com/stranglerfig/migrator/internal/test/clitest"
	"github.com/stranglerfig/migrator/internal/test/testenv"
)

const (
	badInputs    = 100             // MIGRATOR_BADINPUTS: another number, with limits of time
	badInputHang = 3 * time.Minute // a command that has not ended by then never does
	badInputCPU  = 2 * time.Second // of a case, in the long form
	badInputHeap = 256 << 20       // bytes that a case may allocate in sum
	alertsToken  = "0123456789abcdef0123456789abcdef"
)

// TestBadInputs: every generated bad input is refused with what is wrong, where, and what to try; in
// bounded output, memory and time; and without a trace of the stack or a password. It runs the
// commands in this process, and alone: it changes the environment.
func TestBadInputs(t *testing.T) {
	want, seed, long := badInputs, uint64(1), false
	if text := os.Getenv("MIGRATOR_BADINPUTS"); text != "" {
		var err error
		if want, err = strconv.Atoi(text); err != nil {
			t.Fatal(err)
		}
		long = true
		if text := os.Getenv("MIGRATOR_BADINPUTS_SEED"); text != "" {
			if seed, err = strconv.ParseUint(text, 10, 64); err != nil {
				t.Fatal(err)
			}
		}
	}
	o := clitest.New(t, "loans", "  table: loans\n", "  key: loan:{id}\n", clitest.Staged+`
triggers:
  custom: [{name: pager, alertmanager: {labels: {severity: page}}}]
`)
	o.SQL(o.Legacy, `CREATE TABLE loans (id bigint PRIMARY KEY, note text); INSERT INTO loans VALUES (1, 'a')`)
	o.Does("init", "apply")
	o.Keys("drill")
	o.Passed("loans")
	o.Does("drill export 1 --key " + o.Path("drill.key") + " --out " + o.Path("drill.json"))
	o.Write("token", alertsToken)
	o.Write("settings.yaml", "file: "+o.Path("migration.yaml")+"\nstate_url: "+o.State+"\nalerts_token_file: "+o.Path("token")+"\n")
	daemon := o.Start(t, "serve", "--listen", "127.0.0.1:0")
	alerts := listens(t, daemon) + "/alerts/loans"

	w := badinput.World{
		Configs: readAll(t, "../../configs/*.yaml", "../../examples/storefront/products.yaml"), Runbooks: readAll(t, "../../configs/runbooks/*.md"),
		Drill: read(t, o.Path("drill.json")), Key: read(t, o.Path("drill.pub")), State: o.State, Token: alertsToken,
		Migration: strings.NewReplacer("legacy.url", o.Path("legacy.url"), "target.url", o.Path("target.url")).Replace(read(t, o.Path("migration.yaml"))),
	}
	delete(w.Configs, "../../configs/migrator.yaml") // settings
	commandTree(newRoot(&cli{}), func(c *cobra.Command) {
		b := badinput.Command{Words: strings.Fields(c.CommandPath())[1:], Runs: !c.HasSubCommands()}
		c.InitDefaultHelpFlag()
		for _, all := range []*pflag.FlagSet{c.LocalFlags(), c.InheritedFlags()} {
			all.VisitAll(func(f *pflag.Flag) { b.Flags = append(b.Flags, badinput.Flag{Name: f.Name, Type: f.Value.Type()}) })
		}
		w.Commands = append(w.Commands, b)
	})
	g := badinput.New(seed, w)
	refused, kinds := 0, map[string]int{}
	for n := 0; refused < want && n < 3*want; n++ {
		dir := filepath.Join(t.TempDir(), "c"+strconv.Itoa(n))
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		c, err := g.Next().Place(dir)
		if err != nil {
			t.Fatal(err)
		}
		var r badinput.Result
		cost := measured(func() {
			if c.Body != "" {
				r = sent(t, alerts, c)
				return
			}
			r = ranHere(t, c)
		})
		faults := c.Judge(r)
		if cost.bytes > badInputHeap {
			faults = append(faults, "it allocates "+strconv.FormatUint(cost.bytes>>20, 10)+" MiB")
		}
		if long && cost.cpu > badInputCPU {
			faults = append(faults, "it takes "+cost.cpu.String())
		}
		for _, fault := range faults {
			t.Errorf("%s (seed %d, case %d): %s: %.300s\n%d: %.700q", c.Kind, seed, n, fault, c.Name, r.Code, r.Stdout+r.Stderr)
		}
		if log := daemon.Log.String(); c.Body != "" && len(faults) > 0 {
			t.Logf("the daemon's log ends with %.2000s", log[max(0, len(log)-2000):])
		}
		if c.Refused(r) {
			refused++
			kinds[c.Kind]++
		}
		if err := os.RemoveAll(dir); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("%d refused: %v", refused, kinds)
	if refused < want || len(kinds) < 13 {
		t.Errorf("only %d inputs of %d kinds were refused", refused, len(kinds))
	}
}

// commandTree visits every command, with the hidden ones.
func commandTree(c *cobra.Command, visit func(*cobra.Command)) {
	for _, sub := range c.Commands() {
		visit(sub)
		commandTree(sub, visit)
	}
}

type cost struct {
	cpu   time.Duration
	bytes uint64
}

// measured is what f costs this process.
func measured(f func()) cost {
	var before, after runtime.MemStats
	var began, ended syscall.Rusage
	runtime.ReadMemStats(&before)
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &began)
	f()
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &ended)
	runtime.ReadMemStats(&after)
	spent := func(r syscall.Rusage) time.Duration { return time.Duration(r.Utime.Nano() + r.Stime.Nano()) }
	return cost{spent(ended) - spent(began), after.TotalAlloc - before.TotalAlloc}
}

// ranHere runs a command line in this process.
func ranHere(t *testing.T, c badinput.Case) (r badinput.Result) {
	t.Helper()
	for name, value := range c.Env {
		old, was := os.LookupEnv(name)
		if err := os.Setenv(name, value); err != nil {
			t.Fatal(err)
		}
		defer func() {
			if was {
				_ = os.Setenv(name, old)
			} else {
				_ = os.Unsetenv(name)
			}
		}()
	}
	var out, errs bytes.Buffer
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	done := make(chan struct{})
	go func() {
		defer close(done)
		r.Code = run(ctx, c.Args, streams{in: strings.NewReader(""), out: &out, err: &errs})
	}()
	select {
	case <-done:
	case <-time.After(badInputHang):
		t.Fatalf("it does not end: %s: %q, with %q", c.Kind, c.Args, c.Env)
	}
	r.Stdout, r.Stderr = out.String(), errs.String()
	return r
}

// sent sends the body of a webhook.
func sent(t *testing.T, url string, c badinput.Case) badinput.Result {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), badInputHang)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, url, strings.NewReader(c.Body))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+c.Token)
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatalf("%s: %v", c.Name, err)
	}
	defer func() { _ = answer.Body.Close() }()
	body, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	return badinput.Result{Code: answer.StatusCode, Stdout: string(body)}
}

// listens returns the URL of a daemon.
func listens(t *testing.T, p *clitest.Process) string {
	t.Helper()
	var at struct{ Address string }
	testenv.Await(t, "the daemon listens", func() bool {
		for line := range strings.Lines(p.Log.String()) {
			if json.Unmarshal([]byte(line), &at) == nil && at.Address != "" {
				return true
			}
		}
		return false
	})
	return "http://" + at.Address
}

func read(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func readAll(t *testing.T, patterns ...string) map[string]string {
	t.Helper()
	all := map[string]string{}
	for _, pattern := range patterns {
		paths, err := filepath.Glob(pattern)
		if err != nil || len(paths) == 0 {
			t.Fatalf("%s: %v", pattern, err)
		}
		for _, path := range paths {
			all[path] = read(t, path)
		}
	}
	return all
}
