package drill

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/stranglerfig/migrator/dual"
	"github.com/stranglerfig/migrator/phases"
	"github.com/stranglerfig/migrator/record"
)

// deafSwitch puts a fault in force, and its word is lost on the way.
type deafSwitch struct {
	Switch
	inForce string
}

var errLedgerLost = errors.New("the connection was lost")

func (s *deafSwitch) InjectFault(_ context.Context, _ string, f dual.Fault) error {
	s.inForce = f.ID
	return errLedgerLost
}

func (s *deafSwitch) LiftFault(ctx context.Context, _, id string) error {
	if id == s.inForce && ctx.Err() == nil {
		s.inForce = ""
	}
	return nil
}

func TestAFaultOfWhichNobodyKnowsIsLifted(t *testing.T) {
	t.Parallel()
	s := &deafSwitch{}
	ctx, stop := context.WithCancel(t.Context())
	stop() // as a signal does, while the fault is injected
	r := &rehearsal{Drill: &Drill{Switch: s, Within: time.Minute}}
	if _, err := r.inject(ctx); !errors.Is(err, errLedgerLost) {
		t.Errorf("%v", err)
	}
	if s.inForce != "" {
		t.Error("the fault is still in force")
	}
}

// halfPlanter ends in the middle.
type halfPlanter struct{ Planter }

func (halfPlanter) Plant(context.Context) ([]record.Key, error) {
	return []record.Key{"1"}, errLedgerLost
}

type noState struct{ State }

func (noState) Snapshot(context.Context, string) (phases.Snapshot, error) {
	return phases.Snapshot{}, errLedgerLost
}

// TestWhatADrillLeavesInTheTargetIsSaid, also once the fault was lifted.
func TestWhatADrillLeavesInTheTargetIsSaid(t *testing.T) {
	t.Parallel()
	r := &rehearsal{Drill: &Drill{Plant: halfPlanter{}, State: noState{}}}
	r.r.Fault.Injected, r.r.Fault.Lifted = time.Now(), time.Now()
	if _, err := r.plant(t.Context()); !errors.Is(err, errLedgerLost) {
		t.Errorf("%v", err)
	}
	r.end(t.Context())
	if said := strings.Join(r.r.Reasons, "; "); !strings.Contains(said, "a full reconcile with repair is needed") {
		t.Errorf("it says %q", said)
	}
}
