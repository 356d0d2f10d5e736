package reconcile

import (
	"context"
	"fmt"
	"math"
	"time"

	"golang.org/x/time/rate"

	"github.com/stranglerfig/migrator/internal/repair"
	"github.com/stranglerfig/migrator/phases"
	"github.com/stranglerfig/migrator/record"
)

// repairer repairs confirmed differences, or plans it. Repairs wait until all is
// compared: only then is it known whether so much differs that nothing must be
// repaired.
type repairer struct {
	stores   *stores
	rules    *rules
	pace     *pace
	recorder *recorder
	rule     repair.Repairer

	repairs   bool                         // the run repairs; set when it begins
	plan      func(Planned)                // see RunOptions.Plan; nil: no plan
	bypass    func(context.Context) string // see Reconciler.Bypass
	onJournal func(cleared, of int64)      // see Options.OnJournal
	// sameTarget checks that the target is the one that it was; see Reconciler.SameTarget.
	sameTarget func(context.Context) error

	batch, limit, rate int // keys at a time, repairs of the run, and repairs per second
	maxDifference      phases.Share
	pause              time.Duration // between two reads of a repaired key, at most

	queue   []*queuedRepair
	foreign []Finding // of a plan: values of other programs, which stay
	refused bool
}

// queuedRepair is a confirmed difference that waits for its repair.
type queuedRepair struct {
	Finding
	place int // see recorder.confirm
}

func newRepairer(c *comparer, r *recorder, o Options, onAhead func(context.Context, record.Version) error, plan func(Planned)) *repairer {
	return &repairer{
		stores: c.stores, rules: c.rules, pace: c.pace, recorder: r, plan: plan,
		rule:  repair.Repairer{Locker: c.stores.locker, Target: c.stores.target, NotAfter: o.NotAfter, OnAhead: onAhead},
		batch: o.Batch, limit: o.MaxRepairs, rate: o.RepairRate, maxDifference: o.MaxDifference, pause: o.Pause, onJournal: o.OnJournal,
	}
}

// active reports whether confirmed differences are queued.
func (p *repairer) active() bool { return p.repairs || p.plan != nil }

// confirm records a confirmed difference, and queues it for repair in a run that
// repairs or plans.
func (p *repairer) confirm(f Finding) {
	queued := p.active()
	if f.Repair == string(repair.Foreign) {
		switch {
		case p.plan != nil:
			f.Repair = planOf(repair.StepForeign)
			p.foreign = append(p.foreign, f)
		case !queued:
			f.Repair = ""
		}
		queued = false
	}
	if queued && len(p.queue) >= p.limit {
		f.Repair = fmt.Sprintf("not repaired: a run makes %d repairs at most (max_repairs)", p.limit)
		queued = false
	}
	place := p.recorder.confirm(f)
	if queued {
		p.queue = append(p.queue, &queuedRepair{Finding: f, place: place})
	}
}

// notYet is the outcome of a repair that a stopped run had not made; a resumed one makes it.
const notYet = "the run stopped before the key was repaired and rechecked"

// restore queues what an interrupted run had still to repair.
func (p *repairer) restore(was Resumed) {
	if !p.repairs || was.Jobs == 0 {
		return
	}
	for i, f := range was.Findings {
		if f.RawKey == "" && (f.Repair == "" || f.Repair == notYet) {
			f.Repair = ""
			p.queue = append(p.queue, &queuedRepair{Finding: f, place: i})
		}
	}
}

// repair repairs what is queued, or plans it, a batch at a time. A repair's own failure
// is in its finding.
func (p *repairer) repair(ctx context.Context) error {
	if !p.active() {
		return nil
	}
	if p.plan != nil {
		if err := p.planJournal(ctx); err != nil {
			return err
		}
	}
	why := p.tooMuchDiffers(ctx)
	p.recorder.refuse(why)
	if p.refused = why != ""; p.refused {
		return nil // release writes it into each finding
	}
	journal, err := journaledVersions(ctx, p.recorder.ledger)
	if err != nil {
		return err
	}
	p.planForeign(journal)
	size := p.batch
	var limiter *rate.Limiter
	if p.rate > 0 {
		size = min(size, p.rate)
		limiter = rate.NewLimiter(rate.Limit(p.rate), size)
	}
	for len(p.queue) > 0 {
		// A repair writes: it waits while the run is paused, and ends when it is cancelled.
		if err := p.pace.waitWhilePaused(ctx); err != nil {
			return err
		}
		batch := p.queue[:min(size, len(p.queue))]
		if limiter != nil && p.plan == nil {
			if err := limiter.WaitN(ctx, len(batch)); err != nil {
				return err
			}
		}
		if p.plan != nil {
			err = p.planBatch(ctx, batch, journal)
		} else {
			err = p.repairBatch(ctx, batch, journal)
		}
		if err != nil {
			return err
		}
		p.recordOutcomes(len(batch))
		if err := p.recorder.save(ctx); err != nil {
			return err
		}
		p.recorder.report()
	}
	return nil
}

// boundFrom is how many records must have been compared for MaxDifference to hold:
// of fewer, so few can be rewritten that MaxRepairs is bound enough.
const boundFrom = 1000

// tooMuchDiffers is why nothing must be repaired: more differs than single records
// that went wrong can explain. "": nothing speaks against it.
func (p *repairer) tooMuchDiffers(ctx context.Context) string {
	run := p.recorder.current()
	n := run.Checked + run.Recent + run.Classes[Extra] + run.Classes[EqualKey]
	if n < boundFrom || run.Forced != "" || p.maxDifference >= phases.Whole {
		return ""
	}
	share := float64(run.Differences) / float64(n)
	if share <= p.maxDifference.Ratio() {
		return ""
	}
	causes := "that suggests a fault in the mapping or an emptied target, not single damaged records"
	if p.bypass != nil {
		if found := p.bypass(ctx); found != "" {
			causes = "programs write legacy past the application (" + found + "); if that does not explain it, it suggests a fault in the mapping or an emptied target"
		}
	}
	return fmt.Sprintf("%s of %s records differ (%s), more than the %s that reconcile.max_difference allows: %s",
		grouped(run.Differences), grouped(n), percent(min(share, 1), 2, math.Round), p.maxDifference, causes)
}

// recordOutcomes takes the first n off the queue, and records their outcomes.
func (p *repairer) recordOutcomes(n int) {
	for _, q := range p.queue[:n] {
		p.recorder.replace(q.place, q.Finding)
	}
	p.queue = p.queue[n:]
}

// release takes off the queue what is not repaired when the run ends.
func (p *repairer) release() {
	why := notYet
	if p.refused {
		why = "not repaired: too much differs"
	}
	for _, q := range p.queue {
		if p.repairs {
			q.Repair = why
		}
	}
	p.recordOutcomes(len(p.queue))
}

// items are the queued keys with the journal's versions.
func items(queued []*queuedRepair, journal map[record.Key]record.Version) []repair.Item {
	list := make([]repair.Item, len(queued))
	for i, q := range queued {
		// [journal-version]: a difference may be a journaled key too.
		list[i] = repair.Item{Key: q.Key, Journaled: journal[q.Key]}
	}
	return list
}
