package capture_test

import (
	"encoding/json"
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stranglerfig/migrator/internal/test/pairtest"
)

// rowsEnv is how many rows the transaction has: see the Makefile.
const rowsEnv = "MIGRATOR_CAPTURE_ROWS"

// One transaction of millions of rows, in a process of its own, whose memory is bounded. The long test of this
// package: make capture.
func TestAHugeTransaction(t *testing.T) {
	rows := number(rowsEnv, 0)
	if rows == 0 {
		t.Skip(rowsEnv + " is not set: make capture")
	}
	p := pairtest.New(t, pairtest.Options{DDL: "CREATE TABLE items (id bigint PRIMARY KEY, n int)"})
	l := newLedger(t)
	text, err := json.Marshal(order{Path: l.path, Memory: -1, Pair: pairtest.Pair{Config: p.Config, LegacyURL: p.LegacyURL, TargetURL: p.TargetURL}})
	if err != nil {
		t.Fatal(err)
	}
	r := &running{Pair: p, t: t, ledger: l, done: make(chan error)}
	pid := 0
	stop := startChild(t, string(text), func(started int) { pid = started })
	r.barrier()
	began := time.Now()
	p.Exec(t, "INSERT INTO items SELECT i, i FROM generate_series(1, $1::bigint) i", rows)
	written := time.Now()
	at := r.position()
	if err := p.Legacy.Beat(t.Context()); err != nil {
		t.Fatal(err)
	}
	for {
		got, err := l.load()
		if err != nil {
			t.Fatal(err)
		}
		if got.Resume >= at {
			break
		}
		if time.Since(written) > time.Hour {
			t.Fatalf("not within an hour: %+v", got)
		}
		time.Sleep(100 * time.Millisecond)
	}
	took := time.Since(written)
	peak := peakMemory(t, pid)
	stop()
	size, err := p.Redis.DBSize(t.Context()).Result()
	if err != nil || size < int64(rows) {
		t.Errorf("the target has %d of %d records (%v)", size, rows, err)
	}
	t.Logf("%d rows: written in %s, brought in %s (%.0f rows/s), %d MiB at most", rows, written.Sub(began).Round(time.Millisecond), took.Round(time.Millisecond), float64(rows)/took.Seconds(), peak>>20)
	if peak > 64<<20 {
		t.Errorf("the process took %d MiB, want at most 64", peak>>20)
	}
}

// peakMemory is the most that a process has had in memory.
func peakMemory(t *testing.T, pid int) int64 {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Skip(err)
	}
	for line := range strings.Lines(string(status)) {
		if kb, found := strings.CutPrefix(line, "VmHWM:"); found {
			n, err := strconv.ParseInt(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(kb), "kB")), 10, 64)
			if err != nil {
				t.Fatal(err)
			}
			return n << 10
		}
	}
	t.Fatal("no VmHWM")
	return 0
}
