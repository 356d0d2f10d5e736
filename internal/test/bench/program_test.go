package bench

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

func buildProgram(b *testing.B) string {
	b.Helper()
	binary := filepath.Join(b.TempDir(), "migrator")
	build := exec.CommandContext(b.Context(), "go", "build", "-o", binary, "github.com/stranglerfig/migrator/cmd/migrator")
	if out, err := build.CombinedOutput(); err != nil {
		b.Fatalf("build the program: %v\n%s", err, out)
	}
	return binary
}

// program is the built program with one migration.
type program struct {
	binary string
	dir    string // holds migration.yaml
	env    []string
}

func newProgram(tb testing.TB, binary, migrationFile string, env ...string) *program {
	tb.Helper()
	p := &program{binary: binary, dir: tb.TempDir(), env: append(os.Environ(), env...)}
	if err := os.WriteFile(filepath.Join(p.dir, "migration.yaml"), []byte(migrationFile), 0o600); err != nil {
		tb.Fatal(err)
	}
	return p
}

// run runs a command and decodes its JSON, if into is given. The exit code must be the given
// one.
func (p *program) run(tb testing.TB, code int, into any, args ...string) sample {
	tb.Helper()
	if into != nil {
		args = append(args, "-o", "json")
	}
	cmd := exec.CommandContext(tb.Context(), p.binary, args...)
	cmd.Dir, cmd.Env = p.dir, p.env
	var out, complaints bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &complaints
	s, err := run(cmd)
	var exit *exec.ExitError
	got := 0
	if errors.As(err, &exit) {
		got = exit.ExitCode()
	} else if err != nil {
		tb.Fatal(err)
	}
	if got != code {
		tb.Fatalf("migrator %s exited with %d, want %d\n%s%s", strings.Join(args, " "), got, code, &out, &complaints)
	}
	if into != nil {
		if err := json.Unmarshal(out.Bytes(), into); err != nil {
			tb.Fatalf("migrator %s: %v\n%s", strings.Join(args, " "), err, &out)
		}
	}
	return s
}

// run runs a process and measures it. Its peak memory is the kernel's own counter, read while
// it lives: the result of wait includes the parent's memory, which the child had until exec.
func run(cmd *exec.Cmd) (sample, error) {
	began := time.Now()
	if err := cmd.Start(); err != nil {
		return sample{}, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	peak := make(chan int64)
	go func() { peak <- watchPeak(ctx, cmd.Process.Pid) }()
	err := cmd.Wait()
	s := sample{seconds: time.Since(began).Seconds()}
	cancel()
	s.peak = <-peak
	s.own = (cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()).Seconds()
	return s, err
}

func watchPeak(ctx context.Context, pid int) (peak int64) {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		peak = max(peak, highWater(pid))
		select {
		case <-ctx.Done():
			return peak
		case <-tick.C:
		}
	}
}

// highWater returns a process's peak resident memory in bytes, since its last exec.
func highWater(pid int) int64 {
	status, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "status"))
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(status)) {
		if text, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			kilobytes, _ := strconv.ParseInt(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(text), "kB")), 10, 64)
			return kilobytes << 10
		}
	}
	return 0
}

// idle measures the program without work: this memory and CPU is part of all other
// measurements.
func (p *program) idle(_ context.Context, tb testing.TB) sample {
	s := p.run(tb, 0, nil, "reconcile", "list")
	s.rows = 0
	return s
}

// reconciled is the part of a reconcile run's JSON that is used.
type reconciled struct {
	Checked     int64     `json:"checked"`
	Differences int64     `json:"differences"`
	Began       time.Time `json:"began"`
	Finished    time.Time `json:"finished"`
}

// reconcile measures a run by its own beginning and end; memory and CPU are those of the whole
// process.
func (p *program) reconcile(differences int64, args ...string) func(context.Context, testing.TB) sample {
	return func(_ context.Context, tb testing.TB) sample {
		code := 0
		if differences > 0 {
			code = 8
		}
		var r reconciled
		s := p.run(tb, code, &r, append([]string{"reconcile", "run"}, args...)...)
		if r.Differences != differences || r.Checked == 0 {
			tb.Fatalf("reconcile run %v: %d checked, %d differences, want %d", args, r.Checked, r.Differences, differences)
		}
		s.rows, s.seconds = r.Checked, r.Finished.Sub(r.Began).Seconds()
		return s
	}
}

// backfill measures the copying, without the wait behind the barrier.
func (p *program) backfill(rows int) func(context.Context, testing.TB) sample {
	return func(_ context.Context, tb testing.TB) sample {
		var b struct {
			Rows     int64     `json:"rows"`
			Opens    time.Time `json:"opens"`
			Finished time.Time `json:"finished"`
		}
		s := p.run(tb, 0, &b, "backfill", "run", "--again")
		if b.Rows != int64(rows) {
			tb.Fatalf("the backfill copied %d rows, want %d", b.Rows, rows)
		}
		s.rows, s.seconds = b.Rows, b.Finished.Sub(b.Opens).Seconds()
		return s
	}
}
