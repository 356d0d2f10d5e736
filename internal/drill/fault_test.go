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
type unacknowledgedSwitch struct {
	Switch
	inForce string
}

var errConnectionLost = errors.New("the connection was lost")

func (s *unacknowledgedSwitch) InjectFault(_ context.Context, _ string, f dual.Fault) error {
	s.inForce = f.ID
	return errConnectionLost
}

func (s *unacknowledgedSwitch) LiftFault(ctx context.Context, _, id string) error {
	if id == s.inForce && ctx.Err() == nil {
		s.inForce = ""
	}
	return nil
}

func TestInjectErrorLiftsTheFault(t *testing.T) {
	t.Parallel()
	s := &unacknowledgedSwitch{}
	ctx, stop := context.WithCancel(t.Context())
	stop() // as a signal does, while the fault is injected
	r := &rehearsal{Drill: &Drill{Switch: s, Within: time.Minute}}
	if _, err := r.inject(ctx); !errors.Is(err, errConnectionLost) {
		t.Errorf("%v", err)
	}
	if s.inForce != "" {
		t.Error("the fault is still in force")
	}
}

// halfPlanter ends in the middle.
type failingPlanter struct{ Planter }

func (failingPlanter) Plant(context.Context) ([]record.Key, error) {
	return []record.Key{"1"}, errConnectionLost
}

type noState struct{ State }

func (noState) Snapshot(context.Context, string) (phases.Snapshot, error) {
	return phases.Snapshot{}, errConnectionLost
}

// TestWhatADrillLeavesInTheTargetIsSaid, also once the fault was lifted.
func TestReportWarnsOfUnrepairedTarget(t *testing.T) {
	t.Parallel()
	r := &rehearsal{Drill: &Drill{Plant: failingPlanter{}, State: noState{}}}
	r.r.Fault.Injected, r.r.Fault.Lifted = time.Now(), time.Now()
	if _, err := r.plant(t.Context()); !errors.Is(err, errConnectionLost) {
		t.Errorf("%v", err)
	}
	r.end(t.Context())
	if said := strings.Join(r.r.Reasons, "; "); !strings.Contains(said, "a full reconcile with repair is needed") {
		t.Errorf("it says %q", said)
	}
}
