package bench

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stranglerfig/migrator/internal/test/testenv"
)

func TestMain(m *testing.M) { testenv.Main(m) }

// BenchmarkStores measures on tables of MIGRATOR_BENCH_ROWS rows (several sizes may be given,
// comma-separated), MIGRATOR_BENCH_ROUNDS times in turn. MIGRATOR_BENCH_ONLY is backfill or
// reconcile; empty: both.
func BenchmarkStores(b *testing.B) {
	binary := buildProgram(b)
	for _, rows := range sizes(b) {
		b.Run(fmt.Sprintf("redis/rows=%d", rows), func(b *testing.B) { toRedis(b, binary, rows) })
		b.Run(fmt.Sprintf("postgres/rows=%d", rows), func(b *testing.B) { toPostgres(b, binary, rows) })
	}
}

func sizes(b *testing.B) []int {
	list := os.Getenv("MIGRATOR_BENCH_ROWS")
	if list == "" {
		return []int{100_000}
	}
	var rows []int
	for text := range strings.SplitSeq(list, ",") {
		n, err := strconv.Atoi(strings.ReplaceAll(strings.TrimSpace(text), "_", ""))
		if err != nil || n < 1000 {
			b.Fatalf("MIGRATOR_BENCH_ROWS: %q: want numbers of rows from 1000, such as 100_000,1_000_000", text)
		}
		rows = append(rows, n)
	}
	return rows
}

func rounds(b *testing.B) int {
	text := os.Getenv("MIGRATOR_BENCH_ROUNDS")
	if text == "" {
		return 3
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		b.Fatalf("MIGRATOR_BENCH_ROUNDS: %q: want a number from 1", text)
	}
	return n
}

// sample is one measurement.
type sample struct {
	rows    int64
	seconds float64
	peak    int64   // peak memory in bytes; 0: not a process of its own
	own     float64 // CPU seconds of the process
	servers float64 // CPU seconds of the servers during it
}

// subject is one measured program or operation.
type subject struct {
	name    string
	limit   string // the subject that its rate is compared with; "": none
	measure func(ctx context.Context, tb testing.TB) sample
}

// compare measures all subjects in turn, so that other load on the machine affects them alike,
// and prints the medians.
func compare(b *testing.B, title string, servers *cluster, subjects []subject) {
	if !strings.HasPrefix(title, os.Getenv("MIGRATOR_BENCH_ONLY")) {
		return
	}
	taken := make([][]sample, len(subjects))
	for range rounds(b) {
		for i, s := range subjects {
			before := servers.cpu(b)
			got := s.measure(b.Context(), b)
			got.servers = servers.cpu(b) - before
			taken[i] = append(taken[i], got)
		}
	}
	rates := map[string]float64{}
	for i, s := range subjects {
		rates[s.name] = median(taken[i], rate)
	}
	var t strings.Builder
	fmt.Fprintf(&t, "\n%s\n%-44s %12s %9s %10s %9s %9s %12s\n", title, "", "rows/s", "seconds", "peak MiB", "CPU s", "servers'", "of the limit")
	for i, s := range subjects {
		of := taken[i]
		peak := median(of, func(s sample) float64 { return float64(s.peak) / (1 << 20) })
		own, theirs := median(of, func(s sample) float64 { return s.own }), median(of, func(s sample) float64 { return s.servers })
		seconds := median(of, func(s sample) float64 { return s.seconds })
		ratio := "-"
		if limit := rates[s.limit]; limit > 0 {
			ratio = fmt.Sprintf("%.0f %%", 100*rates[s.name]/limit)
		}
		fmt.Fprintf(&t, "%-44s %12.0f %9.3f %10s %9s %9.2f %12s\n", s.name, rates[s.name], seconds, orDash(peak, "%.1f"), orDash(own, "%.2f"), theirs, ratio)
		name, _, _ := strings.Cut(title, ",") // the operation; the benchmark's name has the stores
		if _, how, found := strings.Cut(title, "Redis "); found {
			name += " " + strings.Fields(how)[0]
		}
		b.Run(strings.NewReplacer(" ", "_", ",", "").Replace(name+" "+s.name), func(b *testing.B) {
			b.ReportMetric(0, "ns/op")
			b.ReportMetric(rates[s.name], "rows/s")
			b.ReportMetric(own+theirs, "cpu-s")
			if peak > 0 {
				b.ReportMetric(peak, "peak-MiB")
			}
		})
	}
	_, _ = os.Stdout.WriteString(t.String() + "\n")
}

func orDash(n float64, form string) string {
	if n == 0 {
		return "-"
	}
	return fmt.Sprintf(form, n)
}

func rate(s sample) float64 { return float64(s.rows) / s.seconds }

func median(of []sample, value func(sample) float64) float64 {
	values := make([]float64, len(of))
	for i := range of {
		values[i] = value(of[i])
	}
	slices.Sort(values)
	return values[len(values)/2]
}
