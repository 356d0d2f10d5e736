package reconcile

import (
	"context"
	"fmt"

	"github.com/stranglerfig/migrator/internal/repair"
	"github.com/stranglerfig/migrator/record"
	"github.com/stranglerfig/migrator/store"
)

// Planned is what a repair would do to one key.
type Planned struct {
	Key     record.Key     `json:"key"`
	Class   Class          `json:"class,omitempty"` // of the difference; empty: the key is journaled, and no difference was found
	Journal bool           `json:"journal"`         // its entry in the journal would be cleared
	Step    repair.Step    `json:"step"`
	Target  store.Presence `json:"target"`                    // what the target holds
	From    record.Version `json:"target_version,omitzero"`   // and at which version
	To      record.Version `json:"repaired_version,omitzero"` // of a write, one a little newer than this
}

func planned(p repair.Planned, class Class, journal bool) Planned {
	return Planned{Key: p.Key, Class: class, Journal: journal, Step: p.Step, Target: p.Has, From: p.From, To: p.To}
}

// planBatch plans the repair of queued differences. What is journaled, too, is in
// planJournal's part.
func (p *repairer) planBatch(ctx context.Context, queued []*queuedRepair, journal map[record.Key]record.Version) error {
	plans, err := p.rule.Plan(ctx, items(queued, journal))
	if err != nil {
		return fmt.Errorf("plan the repair: %w", err)
	}
	for i, one := range plans {
		if _, known := journal[one.Key]; !known {
			p.plan(planned(one, queued[i].Class, false))
		}
		queued[i].Repair = planOf(one.Step)
	}
	return nil
}

// planOf is a finding's outcome in a plan.
func planOf(s repair.Step) string { return "planned: " + string(s) }

// planForeign lists values of other programs that no repair would remove.
func (p *repairer) planForeign(journal map[record.Key]record.Version) {
	for _, f := range p.foreign {
		has := store.Unowned
		if f.Class == Type {
			has = store.WrongType
		}
		if _, known := journal[f.Key]; !known {
			p.plan(Planned{Key: f.Key, Class: f.Class, Step: repair.StepForeign, Target: has, From: f.Version, To: f.Version})
		}
	}
}

// planJournal plans what a repairing run does first.
func (p *repairer) planJournal(ctx context.Context) error {
	classes := map[record.Key]Class{}
	for _, q := range p.queue {
		classes[q.Key] = q.Class
	}
	for _, f := range p.foreign {
		classes[f.Key] = f.Class
	}
	for after := record.Key(""); ; {
		page, err := readJournal(ctx, p.recorder.ledger, after)
		if err != nil {
			return err
		}
		list := make([]repair.Item, len(page))
		for i, j := range page {
			list[i], after = repair.Item{Key: j.Key, Journaled: j.Version}, j.Key
		}
		plans, err := p.rule.Plan(ctx, list)
		if err != nil {
			return fmt.Errorf("plan the journal's repair: %w", err)
		}
		for _, one := range plans {
			p.plan(planned(one, classes[one.Key], true))
		}
		if len(page) < journalPage {
			return nil
		}
	}
}
