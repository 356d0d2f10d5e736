package reconcile

import (
	"context"
	"fmt"
	"math"

	"golang.org/x/time/rate"

	"github.com/stranglerfig/migrator/internal/repair"
	"github.com/stranglerfig/migrator/phases"
	"github.com/stranglerfig/migrator/record"
	"github.com/stranglerfig/migrator/store"
)

// Planned is what a repair would do to one key.
type Planned struct {
	Key     record.Key     `json:"key"`
	Class   Class          `json:"class,omitempty"` // of the difference; empty: journalled, and none was found
	Journal bool           `json:"journal"`         // its entry in the journal would be cleared
	Step    repair.Step    `json:"step"`
	Target  store.Presence `json:"target"`                    // what the target holds
	From    record.Version `json:"target_version,omitzero"`   // and at which version
	To      record.Version `json:"repaired_version,omitzero"` // of a write, one a little newer than this
}

// boundFrom is how many records must have been compared for MaxDifference to hold:
// of fewer, so few can be rewritten that MaxRepairs is bound enough.
const boundFrom = 1000

// wait waits while the run is paused.
func (r *work) wait(ctx context.Context) error {
	_, err := r.jobs.WaitWhilePaused(ctx, r.run.ID)
	return err
}

// finish does what is left once all is compared.
func (r *work) finish(ctx context.Context) error {
	if err := r.settle(ctx); err != nil {
		return err
	}
	if err := r.compareRecent(ctx); err != nil {
		return err
	}
	return r.mend(ctx)
}

// held is a difference whose repair waits until all is compared, since only then
// it is known whether so much differs that nothing must be repaired.
type held struct {
	Finding
	kept int // its place among the kept findings; -1: there was no room
}

// hold keeps a confirmed difference, and holds it for repair. It wants the mutex.
func (r *work) hold(f *Finding) {
	mends := r.run.Repair || r.plan != nil
	if mends && len(r.pending) >= r.MaxRepairs {
		f.Repair = fmt.Sprintf("not repaired: a run makes %d repairs at most (max_repairs)", r.MaxRepairs)
		mends = false
	}
	at := r.keep(*f)
	if mends {
		r.pending = append(r.pending, &held{Finding: *f, kept: at})
	}
}

// release says in the kept findings what became of those that were held. It wants
// the mutex.
func (r *work) release(batch []*held) {
	for _, h := range batch {
		if h.Repaired {
			r.run.Repaired++
		}
		if h.kept >= 0 {
			r.findings[h.kept] = h.Finding
			r.unsaved = append(r.unsaved, h.Finding)
		}
	}
	r.pending = r.pending[len(batch):]
}

// refuse tells why nothing must be repaired: more differs than single records that
// went wrong can explain. "": nothing speaks against it.
func (r *work) refuse() string {
	n := r.run.Checked + r.run.Recent + r.run.Classes[Extra]
	if n < boundFrom || r.run.Forced != "" || r.MaxDifference >= phases.Whole {
		return ""
	}
	share := float64(r.run.Differences) / float64(n)
	if share <= r.MaxDifference.Ratio() {
		return ""
	}
	return fmt.Sprintf("%s of %s records differ (%s), more than the %s that reconcile.max_difference allows: so many point at the mapping, or at a target that was emptied, not at single records",
		grouped(r.run.Differences), grouped(n), percent(min(share, 1), 2, math.Round), r.MaxDifference)
}

// mend repairs what was confirmed, or tells the plan.
func (r *work) mend(ctx context.Context) error {
	if !r.run.Repair && r.plan == nil {
		return nil
	}
	if r.plan != nil {
		if err := r.planJournal(ctx); err != nil {
			return err
		}
	}
	if r.run.Refused = r.refuse(); r.run.Refused != "" {
		return nil // drop says so in each finding
	}
	journal, err := r.journalled(ctx)
	if err != nil {
		return err
	}
	size := r.Batch
	var limiter *rate.Limiter
	if r.RepairRate > 0 {
		size = min(size, r.RepairRate)
		limiter = rate.NewLimiter(rate.Limit(r.RepairRate), size)
	}
	for len(r.pending) > 0 {
		// A repair writes: it waits while the run is paused, and ends with it.
		if err := r.wait(ctx); err != nil {
			return err
		}
		batch := r.pending[:min(size, len(r.pending))]
		if limiter != nil && r.plan == nil {
			if err := limiter.WaitN(ctx, len(batch)); err != nil {
				return err
			}
		}
		if r.plan != nil {
			err = r.planBatch(ctx, batch, journal)
		} else {
			err = r.fix(ctx, batch, journal)
		}
		if err != nil {
			return err
		}
		r.mu.Lock()
		r.release(batch)
		r.mu.Unlock()
		if err := r.save(ctx); err != nil {
			return err
		}
		r.report()
	}
	return nil
}

// unmended is said of what a stopped run had not repaired; one that goes on does.
const unmended = "the run was stopped before it was repaired and read again"

// takeUp goes on with what the run had found. Suspects of a repairing run are looked
// at again, as long as any of them waits for its repair: so what had no room among the
// kept findings, and was not repaired, is found and counted again.
func (r *work) takeUp(was Resumed) {
	repairs := r.run.Repair && was.Jobs > 0
	if repairs || was.Jobs == 0 {
		r.run.Differences, r.run.Classes = r.run.Repaired, map[Class]int64{}
	}
	// The target is listed from its beginning: what only it has is found again, but for
	// what is known by its finding. Of that there may have been more than had room.
	listed := was.Jobs > 0 && !repairs && r.run.TwoWay && !r.terms.Spans
	if listed {
		r.run.Differences -= r.run.Classes[Extra]
		delete(r.run.Classes, Extra)
	}
	r.findings = was.Findings
	for i, f := range r.findings {
		if repairs || was.Jobs == 0 || listed && f.Class == Extra {
			r.run.Classes[f.Class]++
			if !f.Repaired {
				r.run.Differences++
			}
		}
		r.kept[f.Class]++
		if f.RawKey != "" {
			r.strays[r.hash(f.RawKey)] = struct{}{}
			continue
		}
		r.confirmed[r.hash(string(f.Key))] = struct{}{}
		if repairs && (f.Repair == "" || f.Repair == unmended) {
			f.Repair = ""
			r.pending = append(r.pending, &held{Finding: f, kept: i})
		}
	}
}

// drop releases what is still held when the run ends.
func (r *work) drop() {
	r.mu.Lock()
	defer r.mu.Unlock()
	why := unmended
	if r.run.Refused != "" {
		why = "not repaired: too much differs"
	}
	for _, h := range r.pending {
		if r.run.Repair {
			h.Repair = why
		}
	}
	r.release(r.pending)
}

func (r *work) planBatch(ctx context.Context, found []*held, journal map[record.Key]record.Version) error {
	items := make([]repair.Item, len(found))
	for i, f := range found {
		items[i] = repair.Item{Key: f.Key, Lost: journal[f.Key]}
	}
	plans, err := r.fixer.Plan(ctx, items)
	if err != nil {
		return fmt.Errorf("plan the repair: %w", err)
	}
	for i, p := range plans {
		if _, known := journal[p.Key]; !known { // else planJournal has told it
			r.plan(planned(p, found[i].Class, false))
		}
		found[i].Repair = "planned: " + string(p.Step)
	}
	return nil
}

// planJournal plans what a repairing run does first.
func (r *work) planJournal(ctx context.Context) error {
	classes := map[record.Key]Class{}
	for _, f := range r.pending {
		classes[f.Key] = f.Class
	}
	for after := record.Key(""); ; {
		page, err := r.Ledger.Journal(ctx, after, journalPage)
		if err != nil {
			return fmt.Errorf("read the journal: %w", err)
		}
		items := make([]repair.Item, len(page))
		for i, j := range page {
			items[i], after = repair.Item{Key: j.Key, Lost: j.Version}, j.Key
		}
		plans, err := r.fixer.Plan(ctx, items)
		if err != nil {
			return fmt.Errorf("plan the journal's repair: %w", err)
		}
		for _, p := range plans {
			r.plan(planned(p, classes[p.Key], true))
		}
		if len(page) < journalPage {
			return nil
		}
	}
}

func planned(p repair.Planned, class Class, journal bool) Planned {
	return Planned{Key: p.Key, Class: class, Journal: journal, Step: p.Step, Target: p.Has, From: p.From, To: p.To}
}
