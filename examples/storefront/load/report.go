package load

import (
	"fmt"
	"io"
	"time"
)

// Report is the result of a load.
type Report struct {
	Acknowledged int64    `json:"acknowledged_writes"`
	Failed       int64    `json:"failed_writes"`   // not acknowledged: outcome unknown
	Rejected     int64    `json:"rejected_writes"` // certainly not made
	Reads        int64    `json:"reads"`
	FailedReads  int64    `json:"failed_reads"`
	Verified     int64    `json:"verified"`   // products read once more at the end
	Unverified   int64    `json:"unverified"` // of those, the ones that could not be read
	Lost         int64    `json:"lost"`       // acknowledged writes that are missing at the end
	Stale        int64    `json:"stale"`      // reads older than a write that was acknowledged before they began
	Wrong        int64    `json:"wrong"`      // reads of an acknowledged revision with another content
	ReadP50      Millis   `json:"read_p50_ms"`
	ReadP99      Millis   `json:"read_p99_ms"`
	WriteP50     Millis   `json:"write_p50_ms"`
	WriteP99     Millis   `json:"write_p99_ms"`
	Violations   []string `json:"violations,omitempty"` // the first ones
	Failures     []string `json:"failures,omitempty"`   // the first failed requests, with the reason
}

// Millis is a duration in JSON as milliseconds.
type Millis time.Duration

// MarshalJSON writes a number with three decimals.
func (m Millis) MarshalJSON() ([]byte, error) {
	return fmt.Appendf(nil, "%.3f", time.Duration(m).Seconds()*1000), nil
}

func (m Millis) String() string {
	ms := time.Duration(m).Seconds() * 1000
	if ms < 10 {
		return fmt.Sprintf("%.1f ms", ms)
	}
	return fmt.Sprintf("%.0f ms", ms)
}

// OK reports whether nothing was lost, stale, wrong or left unverified.
func (r Report) OK() bool { return r.Lost == 0 && r.Stale == 0 && r.Wrong == 0 && r.Unverified == 0 }

// Report returns the results so far.
func (g *Generator) Report() Report {
	reads, writes := g.readTimes.counts(), g.writeTimes.counts()
	acknowledged, failed := g.ledger.Counts()
	g.mu.Lock()
	defer g.mu.Unlock()
	return Report{
		Acknowledged: acknowledged, Failed: failed, Rejected: g.rejected.Load(),
		Reads: int64(reads.total()), FailedReads: g.failedReads.Load(),
		Verified: g.verified.Load(), Unverified: g.unverified.Load(),
		Lost: g.lost.Load(), Stale: g.stale.Load(), Wrong: g.wrong.Load(),
		ReadP50: Millis(reads.quantile(0.5)), ReadP99: Millis(reads.quantile(0.99)),
		WriteP50: Millis(writes.quantile(0.5)), WriteP99: Millis(writes.quantile(0.99)),
		Violations: append([]string(nil), g.violations...), Failures: append([]string(nil), g.failures...),
	}
}

// Write prints the report as text.
func (r Report) Write(w io.Writer) {
	fmt.Fprintf(w, "acknowledged writes  %s (p50 %s, p99 %s)\n", Count(r.Acknowledged), r.WriteP50, r.WriteP99)
	fmt.Fprintf(w, "failed writes        %s (outcome unknown), %s rejected\n", Count(r.Failed), Count(r.Rejected))
	fmt.Fprintf(w, "checked reads        %s (p50 %s, p99 %s), %s failed\n", Count(r.Reads), r.ReadP50, r.ReadP99, Count(r.FailedReads))
	fmt.Fprintf(w, "verified at the end  %s products, %s unreadable\n", Count(r.Verified), Count(r.Unverified))
	fmt.Fprintf(w, "lost                 %d\n", r.Lost)
	fmt.Fprintf(w, "stale                %d\n", r.Stale)
	fmt.Fprintf(w, "wrong                %d\n", r.Wrong)
	for _, v := range r.Violations {
		fmt.Fprintf(w, "  %s\n", v)
	}
	const examples = 3
	for _, f := range r.Failures[:min(examples, len(r.Failures))] {
		fmt.Fprintf(w, "failure: %s\n", f)
	}
}

// Count formats a number as 1,234,567.
func Count(n int64) string {
	s := fmt.Sprint(n)
	for i := len(s) - 3; i > 0 && s[i-1] != '-'; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// Mark is a moment of a load, the start of a measurement.
type Mark struct {
	at            time.Time
	reads, writes counts
	failed        int64
}

// Mark returns the present moment.
func (g *Generator) Mark() Mark {
	_, unknown := g.ledger.Counts()
	return Mark{at: time.Now(), reads: g.readTimes.counts(), writes: g.writeTimes.counts(), failed: unknown + g.failedReads.Load()}
}

// Rates are what clients observed over some time.
type Rates struct {
	Reads, Writes     float64 // per second
	ReadP99, WriteP99 Millis
	Failed            int64 // requests without success
	Over              time.Duration
}

// Since measures from a mark until now.
func (g *Generator) Since(m Mark) Rates {
	now := g.Mark()
	reads, writes := now.reads.since(m.reads), now.writes.since(m.writes)
	over := now.at.Sub(m.at)
	return Rates{
		Reads: float64(reads.total()) / over.Seconds(), Writes: float64(writes.total()) / over.Seconds(),
		ReadP99: Millis(reads.quantile(0.99)), WriteP99: Millis(writes.quantile(0.99)),
		Failed: now.failed - m.failed, Over: over,
	}
}

func (r Rates) String() string {
	s := fmt.Sprintf("reads %s/s p99 %s, writes %s/s p99 %s", Count(int64(r.Reads)), r.ReadP99, Count(int64(r.Writes)), r.WriteP99)
	if r.Failed > 0 {
		s += fmt.Sprintf(", %d failed", r.Failed)
	}
	return s
}
