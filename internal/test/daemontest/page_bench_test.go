package daemontest

import (
	"bufio"
	"fmt"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stranglerfig/migrator/dual"
	"github.com/stranglerfig/migrator/dual/pgfleet"
	"github.com/stranglerfig/migrator/internal/openstore"
	"github.com/stranglerfig/migrator/internal/state"
	"github.com/stranglerfig/migrator/internal/test/clitest"
	"github.com/stranglerfig/migrator/phases"
)

const (
	manyMigrations = 50
	manyPages      = 100
	oneInterval    = 5 * time.Second
)

// processCost is what Linux says of a process: seconds of CPU, and bytes that are resident.
func processCost(b *testing.B, pid int) (cpu, resident float64) {
	b.Helper()
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		b.Skip("a process's cost is read from /proc: ", err)
	}
	_, rest, _ := strings.Cut(string(stat), ") ")
	fields := strings.Fields(rest)
	for _, at := range []int{11, 12} { // utime and stime, in hundredths of a second
		ticks, _ := strconv.ParseFloat(fields[at], 64)
		cpu += ticks / 100
	}
	pages, _ := strconv.ParseFloat(fields[21], 64)
	return cpu, pages * float64(os.Getpagesize())
}

// BenchmarkThePage is the cost of one daemon that shows 50 migrations on 100 open pages, each of one migration: of a CPU
// core and of memory, with the bytes that it sends. Without a page is what the same daemon needs otherwise.
func BenchmarkThePage(b *testing.B) {
	o := newOperator(b, "items", "  table: items\n", "  key: item:{id}\n", clitest.Served)
	o.SQL(o.Legacy, `CREATE TABLE items (id bigint PRIMARY KEY, name text)`)
	o.Write("settings.yaml", "file: "+o.Path("migration.yaml")+"\nstate_url: "+o.State+"\npage: true\n")
	o.Does("init", "apply")
	store, err := state.Open(b.Context(), o.State)
	if err != nil {
		b.Fatal(err)
	}
	defer store.Close()
	m, err := openstore.Load(o.Path("migration.yaml"))
	if err != nil {
		b.Fatal(err)
	}
	names := []string{"items"}
	for i := range manyMigrations - 1 {
		m.Name = fmt.Sprintf("items-%d", i)
		names = append(names, m.Name)
		public, err := m.Public()
		if err != nil {
			b.Fatal(err)
		}
		if _, _, err := store.Apply(b.Context(), state.Applied{
			Migration: m.Name, Environment: "test", Config: public, ConfigHash: m.Hash(), Schema: []byte(`{"fields":[],"key":[]}`), Reversible: true,
		}); err != nil {
			b.Fatal(err)
		}
	}
	for _, name := range names {
		if _, err := store.Transition(b.Context(), name, func(e phases.Snapshot) (phases.Move, error) {
			return phases.Move{From: e.Status.Route, To: phases.Route{Phase: phases.ShadowWrite}, Cause: phases.CauseAdvance}, nil
		}); err != nil {
			b.Fatal(err)
		}
		st, err := store.Status(b.Context(), name)
		if err != nil {
			b.Fatal(err)
		}
		for i := range 3 {
			if _, err := pgfleet.New(store.Pool(), name, pgfleet.Options{}).Join(b.Context(), dual.Identity{Instance: fmt.Sprintf("shop-%d", i), Moves: st.Moves}); err != nil {
				b.Fatal(err)
			}
		}
	}
	d := o.serve(b)
	d.awaits("the page", func() bool { code, _ := d.get("/page"); return code == http.StatusOK })
	for _, pages := range []int{0, manyPages} {
		b.Run(fmt.Sprintf("pages=%d", pages), func(b *testing.B) {
			var sent atomic.Int64
			client := &http.Client{Transport: &http.Transport{MaxConnsPerHost: 2 * manyPages}}
			defer client.CloseIdleConnections()
			for i := range pages {
				r, err := http.NewRequestWithContext(b.Context(), http.MethodGet, d.url+"/page/events?migration="+names[i%len(names)], nil)
				if err != nil {
					b.Fatal(err)
				}
				answer, err := client.Do(r)
				if err != nil {
					b.Fatal(err)
				}
				defer func() { _ = answer.Body.Close() }()
				lines := bufio.NewReader(answer.Body)
				for n := 0; n < 5; n++ { // until it shows something
					if _, err := lines.ReadString('\n'); err != nil {
						b.Fatal(err)
					}
				}
				go func() {
					buffer := make([]byte, 64<<10)
					for {
						n, err := lines.Read(buffer)
						sent.Add(int64(n))
						if err != nil {
							return
						}
					}
				}()
			}
			var cpu, memory, took float64
			for b.Loop() {
				before, _ := processCost(b, d.cmd.Process.Pid)
				began := time.Now()
				time.Sleep(oneInterval) // what is measured is a rate
				after, resident := processCost(b, d.cmd.Process.Pid)
				seconds := time.Since(began).Seconds()
				cpu, memory, took = cpu+after-before, max(memory, resident), took+seconds
			}
			b.ReportMetric(100*cpu/took, "%-of-a-core")
			b.ReportMetric(memory/(1<<20), "MiB-resident")
			b.ReportMetric(float64(sent.Load())/took/1024, "KiB/s-sent")
			b.ReportMetric(0, "ns/op")
		})
	}
}
