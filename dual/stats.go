package dual

import (
	"sync/atomic"

	"github.com/stranglerfig/migrator/phases"
)

// Stats are an instance's counts since it joined. They are read while operations run:
// each is exact, but they are not of exactly the same moment.
type Stats struct {
	Epoch        int64 `json:"epoch"`        // of the present route
	Acknowledged int64 `json:"acknowledged"` // as the fleet last received it
	Lapsed       bool  `json:"lapsed"`
	MarkLost     bool  `json:"mark_lost"` // the target lacks the migration's mark, and is not used
	InFlight     int64 `json:"in_flight"` // operations, shadow reads and background writes

	LegacyReads  uint64 `json:"legacy_reads"` // answered by legacy (or refused by it)
	TargetReads  uint64 `json:"target_reads"`
	Fallbacks    uint64 `json:"fallbacks"`     // target failed, legacy answered
	LapsedReads  uint64 `json:"lapsed_reads"`  // the lease had expired, legacy answered
	DegradedRead uint64 `json:"degraded_read"` // the target's copy is known to be behind, legacy answered
	Misses       uint64 `json:"misses"`        // the target had neither the record nor a version of it, legacy was asked
	Lost         uint64 `json:"lost"`          // of those and of shadow reads, confirmed: the target has lost the record

	Shadows                 uint64 `json:"shadows"`                    // shadow reads made
	ShadowsDropped          uint64 `json:"shadows_dropped"`            // too many at once
	ShadowsFailed           uint64 `json:"shadows_failed"`             // error, timeout or panic
	ShadowsStopped          uint64 `json:"shadows_stopped"`            // the route was replaced
	ShadowsAgreed           uint64 `json:"shadows_agreed"`             // at the first comparison
	ShadowsLagged           uint64 `json:"shadows_lagged"`             // at a recheck, or the target was still changing
	Mismatches              uint64 `json:"mismatches"`                 // confirmed
	Writes                  uint64 `json:"writes"`                     // begun
	TargetFailures          uint64 `json:"target_failures"`            // changes that the target did not take
	Settled                 uint64 `json:"settled"`                    // changes settled by legacy's locked row: refused as older, or at fault themselves
	Journaled               uint64 `json:"journaled"`                  // of those, in the journal
	Degraded                uint64 `json:"degraded"`                   // writes acknowledged under Degrade
	EmergencyRollbacks      uint64 `json:"emergency_rollbacks"`        // writes that rolled back to legacy
	Unsettled               uint64 `json:"unsettled"`                  // of those, acknowledged after the budget, before the rollback settled
	Failed                  uint64 `json:"failed"`                     // writes that returned a TargetError
	FenceWaits              uint64 `json:"fence_waits"`                // writes that waited for authority to move
	Queue                   int    `json:"queue"`                      // background writes waiting
	Overflowed              uint64 `json:"overflowed"`                 // background writes that found the queue full
	Pending                 int    `json:"pending"`                    // changes still to be journaled
	Abandoned               uint64 `json:"abandoned"`                  // changes that could be neither applied nor journaled
	Renewals                uint64 `json:"renewals"`                   //
	RenewalFailures         uint64 `json:"renewal_failures"`           //
	Rejoins                 uint64 `json:"rejoins"`                    // the lease had expired
	RefusedRoutes           uint64 `json:"refused_routes"`             // of a lower epoch than the present one, or of an unknown phase
	NotificationFailures    uint64 `json:"notification_failures"`      //
	StateLossReportFailures uint64 `json:"state_loss_report_failures"` // reports that the state has lost transactions
	ObserveFailures         uint64 `json:"observe_failures"`           // telemetry reports that failed and were repeated
	Discarded               uint64 `json:"discarded"`                  // windows discarded while the state was unreachable
	OutsideKeys             uint64 `json:"outside_keys"`               // changes of records that their write's Keys lack
	MissingKeys             uint64 `json:"missing_keys"`               // Keys that their write returned no change of
	ReadBacks               uint64 `json:"read_backs"`                 // writes compared with legacy's row (staging)
	ReadBackDifferences     uint64 `json:"read_back_differences"`      // of those, the row was another
	ReadBacksUndecided      uint64 `json:"read_backs_undecided"`       // written again meanwhile, or a store gave no answer
}

// counters are the counts that change too rarely to need shards.
type counters struct {
	fallbacks, lapsedReads, degradedReads, misses                                                                                atomic.Uint64
	shadows, shadowsFailed, shadowsStopped                                                                                       atomic.Uint64
	targetFailures, settled, journaled, degraded, emergencyRollbacks, unsettled, failed                                          atomic.Uint64
	fenceWaits, overflowed, abandoned                                                                                            atomic.Uint64
	outsideKeys, missingKeys, readBacks, readBackDifferences, readBacksUndecided                                                 atomic.Uint64
	renewals, renewalFailures, rejoins, refusedRoutes, notificationFailures, stateLossReportFailures, observeFailures, discarded atomic.Uint64
}

// tally sums the counters of routes.
type tally struct {
	legacy, target, writes uint64
	inFlight               uint64
	comparisons            [len(verdicts)]uint64
	lost                   uint64
}

func (t *tally) add(h *pinnedRoute) {
	var reads, fromTarget, fromLegacy uint64
	for i := range h.shards {
		s := &h.shards[i]
		reads += s.reads.Load()
		fromTarget += s.over[slotTargetOK].Load()
		t.writes += s.writes.Load()
	}
	reads -= h.abortedReads.Load()
	t.writes -= h.abortedWrites.Load()
	for k := readFallback; k <= readMissed; k++ {
		for o := range outcomes {
			fromLegacy += h.observed.counts[index(k, outcomeOf(o))].Load()
		}
	}
	if h.reads != phases.ReadsTarget {
		fromLegacy = reads - min(fromTarget, reads)
	}
	fromLegacy = min(fromLegacy, reads)
	t.legacy += fromLegacy
	t.target += reads - fromLegacy
	t.inFlight += h.inFlight()
	for v := range verdicts {
		t.comparisons[v] += h.observed.counts[comparisons+v].Load()
	}
	t.lost += h.observed.counts[comparisons+int(lostWriteConfirmed)].Load() + h.observed.counts[missedComparisons+int(lostWriteConfirmed)].Load()
}

// Stats returns the counts.
func (i *Instance) Stats() Stats {
	c := &i.count
	i.mu.Lock()
	h := i.pinned.Load()
	sum := i.past
	for _, old := range i.retired {
		sum.add(old)
	}
	acknowledged := i.acknowledged
	i.mu.Unlock()
	sum.add(h)
	return Stats{
		Epoch: h.route.Epoch, Acknowledged: acknowledged, Lapsed: !h.lease.valid(), MarkLost: i.marks.err() != nil, InFlight: int64(sum.inFlight),
		LegacyReads: sum.legacy, TargetReads: sum.target,
		Fallbacks: c.fallbacks.Load(), LapsedReads: c.lapsedReads.Load(), DegradedRead: c.degradedReads.Load(),
		Misses: c.misses.Load(), Lost: sum.lost,
		Shadows: c.shadows.Load(), ShadowsDropped: sum.comparisons[dropped], ShadowsFailed: c.shadowsFailed.Load(),
		ShadowsStopped: c.shadowsStopped.Load(), ShadowsAgreed: sum.comparisons[agreed], ShadowsLagged: sum.comparisons[lagged],
		Mismatches: sum.comparisons[mismatched] + sum.comparisons[lostWriteConfirmed], Writes: sum.writes, TargetFailures: c.targetFailures.Load(), Settled: c.settled.Load(),
		Journaled: c.journaled.Load(), Degraded: c.degraded.Load(), EmergencyRollbacks: c.emergencyRollbacks.Load(),
		Unsettled: c.unsettled.Load(), Failed: c.failed.Load(), FenceWaits: c.fenceWaits.Load(),
		Queue: i.queue.len(), Overflowed: c.overflowed.Load(), Pending: i.pending.len(), Abandoned: c.abandoned.Load(),
		Renewals: c.renewals.Load(), RenewalFailures: c.renewalFailures.Load(), Rejoins: c.rejoins.Load(),
		RefusedRoutes: c.refusedRoutes.Load(), NotificationFailures: c.notificationFailures.Load(),
		StateLossReportFailures: c.stateLossReportFailures.Load(), ObserveFailures: c.observeFailures.Load(), Discarded: c.discarded.Load(),
		OutsideKeys: c.outsideKeys.Load(), MissingKeys: c.missingKeys.Load(),
		ReadBacks: c.readBacks.Load(), ReadBackDifferences: c.readBackDifferences.Load(), ReadBacksUndecided: c.readBacksUndecided.Load(),
	}
}
