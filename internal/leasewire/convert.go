package leasewire

import (
	"fmt"
	"time"

	"github.com/stranglerfig/migrator/dual"
	"github.com/stranglerfig/migrator/dual/telemetry"
	"github.com/stranglerfig/migrator/internal/stats/sketch"
	"github.com/stranglerfig/migrator/phases"
	"github.com/stranglerfig/migrator/record"
	"github.com/stranglerfig/migrator/store"
)

func ms(n int64) time.Duration { return time.Duration(n) * time.Millisecond }

// lengthMS keeps a negative duration negative: it is refused.
func lengthMS(d time.Duration) int64 {
	if d < 0 {
		return -1
	}
	return d.Milliseconds()
}

// GrantOf is the document of a grant.
func GrantOf(g dual.Grant) Grant {
	d := Grant{
		Lease: g.Lease, Instance: g.Instance, Route: g.Route, LeaseMS: g.TTL.Milliseconds(), RenewMS: g.Renew.Milliseconds(),
		FenceEra: g.FenceEra, Reversible: g.Reversible, ConfigHash: g.ConfigHash, OtherMoves: g.OtherMoves,
	}
	if g.Mark.Incarnation != "" {
		d.Mark = &Mark{g.Mark.Owner, g.Mark.Incarnation, g.Mark.Beat}
	}
	return d
}

// Dual is the grant of a document.
func (d Grant) Dual() dual.Grant {
	g := dual.Grant{
		Lease: d.Lease, Instance: d.Instance, Route: d.Route, TTL: ms(d.LeaseMS), Renew: ms(d.RenewMS),
		FenceEra: d.FenceEra, Reversible: d.Reversible, ConfigHash: d.ConfigHash, OtherMoves: d.OtherMoves,
	}
	if d.Mark != nil {
		g.Mark = store.Mark{Owner: d.Mark.Owner, Incarnation: d.Mark.Incarnation, Beat: d.Mark.Beat}
	}
	return g
}

// WindowsOf are the documents of windows.
func WindowsOf(windows []telemetry.Window) []Window {
	all := make([]Window, len(windows))
	for i, w := range windows {
		all[i] = Window{
			Incarnation: w.Incarnation, Instance: w.Instance, Sequence: w.Sequence, Epoch: w.Epoch, ConfigHash: w.ConfigHash,
			LengthMS: lengthMS(w.Length), AgeMS: max(w.Age, 0).Milliseconds(), Discarded: w.Discarded, Counts: make([]Count, len(w.Counts)),
		}
		for j, c := range w.Counts {
			to := &all[i].Counts[j]
			*to = Count{Operation: string(c.Operation), Store: string(c.Store), Role: string(c.Role), Outcome: string(c.Outcome), N: c.N}
			if c.Latency == nil {
				continue
			}
			for bucket, n := range c.Latency.Buckets() {
				to.Latency = append(to.Latency, Latency{bucket, n})
			}
		}
	}
	return all
}

// Telemetry are the windows of documents; an error names the member that can't be.
func (r WindowsRequest) Telemetry() ([]telemetry.Window, error) {
	all := make([]telemetry.Window, len(r.Windows))
	for i, w := range r.Windows {
		if w.LengthMS < 0 || w.LengthMS > maxMS || w.AgeMS < 0 || w.AgeMS > maxMS {
			return nil, fmt.Errorf("/windows/%d: its length or age is out of range", i)
		}
		to := &all[i]
		*to = telemetry.Window{
			Incarnation: w.Incarnation, Instance: w.Instance, Sequence: w.Sequence, Epoch: w.Epoch, ConfigHash: w.ConfigHash,
			Length: ms(w.LengthMS), Age: ms(w.AgeMS), Discarded: w.Discarded, Counts: make([]telemetry.Count, len(w.Counts)),
		}
		seen := map[telemetry.Series]bool{}
		for j, c := range w.Counts {
			series := telemetry.Series{
				Operation: telemetry.Operation(c.Operation), Store: telemetry.Store(c.Store), Role: telemetry.Role(c.Role), Outcome: telemetry.Outcome(c.Outcome),
			}
			if seen[series] {
				return nil, fmt.Errorf("/windows/%d/counts/%d: its series is given twice", i, j)
			}
			seen[series] = true
			to.Counts[j] = telemetry.Count{Series: series, N: c.N}
			for k, l := range c.Latency {
				if to.Counts[j].Latency == nil {
					to.Counts[j].Latency = new(sketch.Sketch)
				}
				if err := to.Counts[j].Latency.AddBucket(l.Bucket, l.N); err != nil {
					return nil, fmt.Errorf("/windows/%d/counts/%d/latency/%d: %w", i, j, k, err)
				}
			}
		}
	}
	return all, nil
}

// maxMS keeps a duration from overflowing: 100 years.
const maxMS = 100 * 365 * 24 * 3600 * 1000

// EntriesOf are the documents of entries.
func EntriesOf(entries []dual.JournalEntry) []JournalEntry {
	all := make([]JournalEntry, len(entries))
	for i, e := range entries {
		all[i] = JournalEntry{Key(e.Key), Version{e.Version}, e.Reason}
	}
	return all
}

// Dual are the entries of a request.
func (r JournalRequest) Dual() []dual.JournalEntry {
	all := make([]dual.JournalEntry, len(r.Entries))
	for i, e := range r.Entries {
		all[i] = dual.JournalEntry{Key: record.Key(e.Key), Version: e.Version.Version, Reason: e.Reason}
	}
	return all
}

// KeysOf are the documents of keys.
func KeysOf(keys []record.Key) []Key {
	all := make([]Key, len(keys))
	for i, k := range keys {
		all[i] = Key(k)
	}
	return all
}

// Records are the keys of a request.
func (r ReturnRequest) Records() []record.Key {
	all := make([]record.Key, len(r.Keys))
	for i, k := range r.Keys {
		all[i] = record.Key(k)
	}
	return all
}

// Dual is the report of a request.
func (r FaultRequest) Dual() dual.FaultReport {
	return dual.FaultReport{ID: r.ID, Executed: r.Executed, FirstAge: ms(min(max(r.FirstAgeMS, 0), maxMS)), Over: r.Over}
}

// FaultOf is the document of a fault.
func FaultOf(f dual.Fault) Fault {
	return Fault{f.ID, string(f.Kind), f.Share, f.Delay.Milliseconds(), f.Reads, f.Writes, f.For.Milliseconds()}
}

// Dual is the fault of a document.
func (f Fault) Dual() dual.Fault {
	return dual.Fault{ID: f.ID, Kind: dual.FaultKind(f.Kind), Share: f.Share, Delay: ms(f.DelayMS), Reads: f.Reads, Writes: f.Writes, For: ms(f.ForMS)}
}

// LiveOf are the documents of live routes.
func LiveOf(live []phases.Route) []LiveRoute {
	all := make([]LiveRoute, len(live))
	for i, r := range live {
		all[i] = LiveRoute{r.Phase, r.Percent}
	}
	return all
}
