package drill

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/stranglerfig/migrator/dual"
)

// deafSwitch puts a fault in force, and its word is lost on the way.
type deafSwitch struct {
	Switch
	inForce string
}

var errLost = errors.New("the connection was lost")

func (s *deafSwitch) InjectFault(_ context.Context, _ string, f dual.Fault) error {
	s.inForce = f.ID
	return errLost
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
	if _, err := r.inject(ctx); !errors.Is(err, errLost) {
		t.Errorf("%v", err)
	}
	if s.inForce != "" {
		t.Error("the fault is still in force")
	}
}
