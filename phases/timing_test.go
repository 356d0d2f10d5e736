package phases_test

import (
	"os"
	"strings"
	"testing"
	"time"

	. "github.com/stranglerfig/migrator/phases"
)

// TestTimesKeepTheirRelations checks the relations between the constants. docs/protocol.md
// lists each relation, in the same words, with what breaks if it does not hold.
func TestTimesKeepTheirRelations(t *testing.T) {
	t.Parallel()
	doc, err := os.ReadFile("../docs/protocol.md")
	if err != nil {
		t.Fatal(err)
	}
	for relation, holds := range map[string]bool{
		"lease ≥ 3 × renew":                                    LeaseTTL >= RenewShare*LeaseRenew,
		"lease > 3 × clock slack":                              LeaseTTL > RenewShare*ClockSlack,
		"request ≤ lease / 3":                                  RequestMost <= LeaseTTL/RenewShare,
		"not-after ≥ write deadline":                           NotAfter >= WriteDeadline,
		"tombstones ≥ 10 × not-after":                          Tombstones >= TombstoneShare*NotAfter,
		"rescue patience ≥ rollback budget":                    EmergencyPatience >= RollbackBudget,
		"rescue patience < lease":                              EmergencyPatience < LeaseTTL,
		"transition patience + statement > connect":            TransitionPatience+StatementWithin > ConnectWithin,
		"statement > request":                                  StatementWithin > RequestMost,
		"settle > lease":                                       Settle > LeaseTTL,
		"settle > lease + connect":                             Settle > LeaseTTL+ConnectWithin,
		"undo > lock timeout + fence budget":                   UndoWithin > LockTimeout+FenceBudget,
		"daemon's wait = fence budget + lock timeout + margin": DefaultTiming().MaintenanceBudget()+MaintenanceMargin == FenceBudget+LockTimeout+MaintenanceMargin && MaintenanceMargin >= time.Second,
	} {
		if !holds {
			t.Errorf("%s: does not hold", relation)
		}
		if !strings.Contains(string(doc), "| "+relation+" |") {
			t.Errorf("docs/protocol.md has no line for %q", relation)
		}
	}
	if err := DefaultTiming().Validate(); err != nil {
		t.Error(err)
	}
}

func TestTimingValidateNamesInvalidTimes(t *testing.T) {
	t.Parallel()
	for path, spoil := range map[string]func(*Timing){
		"fleet.lease":             func(d *Timing) { d.Lease, d.Renew = 30*time.Millisecond, time.Millisecond },
		"fleet.renew":             func(d *Timing) { d.Renew = 6 * time.Second },
		"writing.deadline":        func(d *Timing) { d.Deadline = 0 },
		"writing.not_after":       func(d *Timing) { d.NotAfter = 999 * time.Millisecond },
		"writing.rollback_budget": func(d *Timing) { d.RollbackBudget = -1 },
		"writing.fence_budget":    func(d *Timing) { d.FenceBudget = 0 },
		"writing.tombstones":      func(d *Timing) { d.Tombstones = 99 * time.Second },
		"backfill.lock_timeout":   func(d *Timing) { d.LockTimeout = -time.Second },
	} {
		timing := DefaultTiming()
		spoil(&timing)
		if err := timing.Validate(); err == nil || !strings.HasPrefix(err.Error(), path+": ") {
			t.Errorf("%s: %v", path, err)
		}
	}
}
