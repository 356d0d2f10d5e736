package phases

import (
	"fmt"
	"time"
)

// Route is what an application must do: the phase, how far its ramp is, and the
// epoch, which goes up with every change of route.
type Route struct {
	Phase   Phase   `json:"phase"`
	Percent Percent `json:"percent"` // in dual-read: of reads; in cutover: of keys; 0 elsewhere
	Epoch   int64   `json:"epoch"`
	// Shadow is the share of reads that are compared in cutover and grace, as the migration file
	// sets it: the state gives it, as it gives Epoch. In dual-read Percent is that share.
	Shadow Shadow `json:"shadow,omitzero"`
}

// String reads "cutover 25 %".
func (r Route) String() string {
	if r.Phase.Ramped() {
		return fmt.Sprintf("%s %s %%", r.Phase, r.Percent)
	}
	return string(r.Phase)
}

// Reads names the store that serves a read.
type Reads uint8

// Where reads are served.
const (
	ReadsLegacy Reads = iota
	ReadsSplit        // the target for Percent of keys, else legacy
	ReadsTarget
)

// Writes names the stores that a write goes to and when it is acknowledged.
type Writes uint8

// Where writes go.
const (
	WritesLegacy     Writes = iota // legacy alone
	WritesBackground               // legacy has it: acknowledged; the target follows
	WritesBoth                     // legacy, then the target, then acknowledged
	WritesTarget                   // the target alone, by compare-and-set
	WritesWait                     // nowhere until the next epoch
)

// Behaviour is what a route means for one operation.
type Behaviour struct {
	Reads    Reads
	Shadow   bool // a sample of reads is also made on the other store and compared
	Fallback bool // a failed target read is answered by legacy
	Writes   Writes
}

// behaviours is the table of phases in docs/protocol.md.
//
// [fenced-no-fallback]: no phase from fenced on has a fallback.
var behaviours = map[Phase]Behaviour{
	Legacy:      {Reads: ReadsLegacy, Writes: WritesLegacy},
	ShadowWrite: {Reads: ReadsLegacy, Writes: WritesBackground},
	DualRead:    {Reads: ReadsLegacy, Shadow: true, Writes: WritesBoth},
	Cutover:     {Reads: ReadsSplit, Shadow: true, Fallback: true, Writes: WritesBoth},
	Grace:       {Reads: ReadsTarget, Shadow: true, Fallback: true, Writes: WritesBoth},
	Fenced:      {Reads: ReadsTarget, Writes: WritesWait},
	Lifting:     {Reads: ReadsTarget, Writes: WritesWait},
	Returning:   {Reads: ReadsTarget, Writes: WritesWait},
	Retain:      {Reads: ReadsTarget, Writes: WritesTarget},
	Complete:    {Reads: ReadsTarget, Writes: WritesTarget},
}

// Behaviour returns what the route means for an operation.
func (r Route) Behaviour() Behaviour { return behaviours[r.Phase] }

// ReadsTarget reports whether an instance on this route may answer a read from the target.
func (r Route) ReadsTarget() bool { return behaviours[r.Phase].Reads != ReadsLegacy }

// CompareShare is the share of reads that are made on the other store too, and compared. It is not set where the
// applications' own counts.
func (r Route) CompareShare() (share Percent, set bool) {
	switch b := r.Behaviour(); {
	case !b.Shadow:
		return 0, true
	case r.Phase == DualRead:
		return r.Percent, true
	}
	return r.Shadow.Percent()
}

var (
	readsNames  = map[Reads]string{ReadsLegacy: "legacy", ReadsSplit: "split", ReadsTarget: "target"}
	writesNames = map[Writes]string{WritesLegacy: "legacy", WritesBackground: "background", WritesBoth: "both", WritesTarget: "target", WritesWait: "wait"}
	// acknowledged names the stores that have a write before it is acknowledged.
	acknowledged = map[Writes]string{WritesLegacy: "legacy", WritesBackground: "legacy", WritesBoth: "both", WritesTarget: "target", WritesWait: "none"}
)

// Routing is the route as the value of a flag: its row of the table of phases, and how long a lease lasts.
func (r Route) Routing(lease time.Duration) map[string]any {
	b := r.Behaviour()
	v := map[string]any{
		"phase": string(r.Phase), "epoch": r.Epoch, "leaseSeconds": lease.Seconds(), "fallback": b.Fallback,
		"read": readsNames[b.Reads], "writes": writesNames[b.Writes], "acknowledgement": acknowledged[b.Writes],
	}
	if b.Reads == ReadsSplit {
		v["percent"] = float64(r.Percent) / 100
	}
	if share, set := r.CompareShare(); set {
		v["shadowRead"] = float64(share) / 100
	}
	return v
}

// class groups phases whose instances treat the stores alike.
type class uint8

const (
	classLegacy class = iota
	classShadow
	classBoth // dual-read, cutover at any percentage, grace: they write alike
	classWait
	classTarget
)

var classes = map[Phase]class{
	Legacy: classLegacy, ShadowWrite: classShadow,
	DualRead: classBoth, Cutover: classBoth, Grace: classBoth,
	Fenced: classWait, Lifting: classWait, Returning: classWait,
	Retain: classTarget, Complete: classTarget,
}

// Compatible reports whether instances on either route may run side by side
// without a lost write or a stale read. It is the only place that decides this;
// a test compares it with a table written by hand.
//
// dual-read, cutover and grace write both stores before they acknowledge, so a read
// of either store is right. Beside legacy or shadow-write, only routes whose reads
// all come from legacy are safe. While authority moves, only grace (whose writes
// legacy itself refuses) or retain may be live, never both.
//
// [held-routes].
func Compatible(a, b Route) bool {
	if classes[a.Phase] > classes[b.Phase] {
		a, b = b, a
	}
	low, high := classes[a.Phase], classes[b.Phase]
	if low == high {
		return true
	}
	switch low {
	case classLegacy:
		return high == classShadow
	case classShadow:
		return b.Phase == DualRead
	case classBoth:
		return a.Phase == Grace && high == classWait
	default: // a passing phase beside retain or complete
		return b.Phase == Retain && (a.Phase == Fenced || a.Phase == Returning)
	}
}
