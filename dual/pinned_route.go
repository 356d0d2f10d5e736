package dual

import (
	"context"
	"math/rand/v2"
	"sync/atomic"
	"unsafe"

	"github.com/stranglerfig/migrator/dual/telemetry"
	"github.com/stranglerfig/migrator/phases"
)

// Reads and writes of a closed instance, in addition to those of phases.
const (
	readsNowhere  phases.Reads  = 255
	writesNowhere phases.Writes = 255
)

// pinnedRoute is one route of an instance, immutable except for its counters. Each
// operation pins the one that it began under and keeps to it.
type pinnedRoute struct {
	route    phases.Route
	reads    phases.Reads
	writes   phases.Writes
	shadow   bool
	fallback bool // also: the phases in which a lapsed lease sends reads to legacy
	// missAsksLegacy: legacy is fenced, and a miss of the target asks it for the reason. Not in
	// complete: legacy may be gone.
	missAsksLegacy bool
	lease          *lease
	fenceEra       uint32
	reversible     bool

	over   context.Context // ends when another route has replaced it
	cancel context.CancelFunc

	instance    *Instance
	onOperation hook // Config.OnOperation; nil: none
	mask        uintptr
	shards      []shard
	// Operations that began while the route was being replaced and then began again under the
	// next one, or that were refused.
	abortedReads, abortedWrites atomic.Uint64

	// Change capture does not write the target, or not alone: see Reader.awaitCapture. The mode changes to and from
	// "only" in phase legacy alone.
	uncaptured atomic.Bool

	configHash string
	writing    Writing // as applied with configHash, but for what the application set itself
	seed       uint64  // of the choice of reads to shadow
	observed   observed

	// Counts in windows so far; guarded by the windows' lock.
	reported                  [seriesCount]uint64
	windowReads, windowWrites uint64
	seen                      bool         // had drained when its counts were last collected; guarded by the instance's lock
	rolledBack                func(Result) // of a rollback from this route, once it has drained; guarded by the instance's lock
}

// shard is a part of a route's counters. Its own cache lines keep goroutines on
// different processors from waiting for each other. An operation adds to reads or
// writes (or extra, for work that outlives it) and, when it ends, to one of over, by
// its outcome.
type shard struct {
	reads, writes, extra atomic.Uint64
	_                    uint64
	over                 [slots]atomic.Uint64
}

// slot is the outcome of an operation, as far as shards count it.
type slot uint8

const (
	slotSlowPath slot = iota // counted in detail by observed
	slotReadOK               // answered by the route's usual store (legacy, in cutover)
	slotTargetOK             // read in cutover, and the target answered
	slotWriteOK              // one record was written, and every store that the route names has it
	slots
)

func newPinnedRoute(i *Instance, g Grant, l *lease, w Writing) *pinnedRoute {
	behaviour := g.Route.Behaviour()
	h := &pinnedRoute{
		route: g.Route, reads: behaviour.Reads, writes: behaviour.Writes, shadow: behaviour.Shadow, fallback: behaviour.Fallback,
		missAsksLegacy: !behaviour.Fallback && behaviour.Reads == phases.ReadsTarget && g.Route.Phase != phases.Complete,
		lease:          l, fenceEra: g.FenceEra, reversible: g.Reversible,
		configHash: g.ConfigHash, writing: w, seed: rand.Uint64(),
		instance: i, onOperation: i.set.OnOperation, mask: uintptr(i.shards - 1), shards: make([]shard, i.shards),
	}
	h.over, h.cancel = context.WithCancel(context.Background())
	return h
}

// drained reports whether every operation that pinned h has ended. The result true is
// final once h has been replaced: done is read first, so each operation counted there was
// counted as begun too, and one that begins later finds h replaced and releases it.
func (h *pinnedRoute) drained() bool { return h.inFlight() == 0 }

func (h *pinnedRoute) inFlight() uint64 {
	var done, begun uint64
	for i := range h.shards {
		s := &h.shards[i]
		for n := range s.over {
			done += s.over[n].Load()
		}
	}
	for i := range h.shards {
		s := &h.shards[i]
		// [drain-reads], [drain-writes], [drain-queue]: all three keep the epoch from being
		// acknowledged; extra counts work that outlives its operation: queued writes, changes to be
		// journaled, shadow reads.
		begun += s.reads.Load() + s.writes.Load() + s.extra.Load()
	}
	return begun - done
}

// pin keeps an operation's route pinned until release.
type pin struct {
	h         *pinnedRoute
	s         *shard
	nth       uint64     // of its shard's reads or writes
	announced *announced // nil: without OnOperation
	slot      slot       // where release counts it
	// timed is decided before the operation does anything.
	timed   bool
	watched bool // timed or announced: it takes the long way
}

// shardOf chooses a shard by the goroutine's stack: the same goroutine mostly gets the
// same one, others mostly another.
func (h *pinnedRoute) shardOf() *shard {
	var here byte
	at := uint64(uintptr(unsafe.Pointer(&here))>>10) * 0x9E3779B97F4A7C15 //nolint:gosec // only the address is used, as a number
	return &h.shards[uintptr(at>>40)&h.mask]
}

// pinRead fills p, which is zero, in place: to return a struct of this size would cost more than the
// rest of the function. The caller calls start if the operation is watched: timed, or announced.
func (i *Instance) pinRead(p *pin) (watched bool) {
	for {
		// [pinned-route], [drain-reads]: counted first, then compared. If the route was replaced in
		// between, its epoch may be acknowledged already: the read begins again under the new one.
		h := i.pinned.Load()
		s := h.shardOf()
		p.nth = s.reads.Add(1)
		if i.pinned.Load() == h { // else it may have been found drained before this read was counted
			p.h, p.s = h, s
			return p.nth&i.reads.skip.Load() == 0 || h.onOperation != nil
		}
		h.abortedReads.Add(1)
		s.over[slotSlowPath].Add(1)
		i.wakeUp()
	}
}

func (i *Instance) pinWrite(p *pin) (watched bool) {
	for {
		// [pinned-route], [drain-writes]: as in pinRead.
		h := i.pinned.Load()
		s := h.shardOf()
		p.nth = s.writes.Add(1)
		if i.pinned.Load() == h {
			p.h, p.s = h, s
			return p.nth&i.writes.skip.Load() == 0 || h.onOperation != nil
		}
		h.abortedWrites.Add(1)
		s.over[slotSlowPath].Add(1)
		i.wakeUp()
	}
}

// extend returns a second pin for work that outlives the operation. The caller must not
// have released its own pin.
func (p *pin) extend() pin {
	// [drain-queue]: counted while the caller's own pin still keeps the route: in a gap between the
	// two, the epoch could be acknowledged.
	p.s.extra.Add(1)
	return pin{h: p.h, s: p.s, slot: slotSlowPath}
}

// outlive is extend for work on the application's stores, of which OnOperation is notified. It
// returns that work's context. ctx must not end with the caller's.
func (p *pin) outlive(ctx context.Context, kind telemetry.Operation, role telemetry.Role) (pin, context.Context) {
	own := p.extend()
	if own.h.onOperation == nil {
		return own, ctx
	}
	announced := false
	defer func() {
		if !announced { // it has panicked: no other code has the pin yet
			own.release()
		}
	}()
	own.watched = true
	ctx = own.announce(ctx, Operation{Kind: kind, Role: role, Background: true})
	announced = true
	return own, ctx
}

// release ends work whose result was set by resolve, or that has none; releasing twice does
// nothing.
func (p *pin) release() { p.finish(nil) }

// finish ends the operation with the error that its caller gets.
func (p *pin) finish(err *error) {
	if p.s == nil {
		return
	}
	if p.announced != nil {
		p.conclude(err)
		return
	}
	// Last: from here on the epoch may be acknowledged without this operation.
	p.s.over[p.slot%slots].Add(1)
	p.s = nil
	if i := p.h.instance; i.pinned.Load() != p.h {
		i.wakeUp()
	}
}

// sampled decides before anything is read, so that the outcome of a read does not affect
// the choice. It costs a fifth of a random number.
func (p *pin) sampled(share phases.Percent) bool {
	if share == 0 {
		return false
	}
	x := (p.nth + p.h.seed) * 0x9E3779B97F4A7C15
	x = (x ^ x>>30) * 0xBF58476D1CE4E5B9
	x = (x ^ x>>27) * 0x94D049BB133111EB
	return share.Takes(x ^ x>>31)
}
