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

// unacknowledgedSwitch injects a fault, and loses its reply.
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
	stop() // as a signal does, while the fault is being injected
	r := &rehearsal{Drill: &Drill{Switch: s, Within: time.Minute}}
	if _, err := r.inject(ctx); !errors.Is(err, errConnectionLost) {
		t.Errorf("%v", err)
	}
	if s.inForce != "" {
		t.Error("the fault is still active")
	}
}

// failingPlanter fails in the middle.
type failingPlanter struct{ Planter }

func (failingPlanter) Plant(context.Context) ([]record.Key, error) {
	return []record.Key{"1"}, errConnectionLost
}

type noState struct{ State }

func (noState) Snapshot(context.Context, string) (phases.Snapshot, error) {
	return phases.Snapshot{}, errConnectionLost
}

// TestReportWarnsOfUnrepairedTarget: also after the fault was lifted.
func TestReportWarnsOfUnrepairedTarget(t *testing.T) {
	t.Parallel()
	r := &rehearsal{Drill: &Drill{Plant: failingPlanter{}, State: noState{}}}
	r.r.Fault.Injected, r.r.Fault.Lifted = time.Now(), time.Now()
	if _, err := r.plant(t.Context()); !errors.Is(err, errConnectionLost) {
		t.Errorf("%v", err)
	}
	r.end(t.Context())
	if reasons := strings.Join(r.r.Reasons, "; "); !strings.Contains(reasons, "a full reconcile run with repair is needed") {
		t.Errorf("the reasons are %q", reasons)
	}
}
