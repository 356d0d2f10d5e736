package dual_test

import (
	"errors"
	"fmt"
	"testing"

	"github.com/stranglerfig/migrator/dual"
)

// TestApplicationFindsTheHint: by HintOf, or by an interface of the application's own.
func TestApplicationFindsTheHint(t *testing.T) {
	t.Parallel()
	cause := errors.New("refused")
	err := fmt.Errorf("save the customer: %w", errors.Join(cause, &dual.WaitError{Cause: cause}))
	if h, ok := dual.HintOf(err); !ok || h.Do != "status" {
		t.Errorf("%v %t", h, ok)
	}
	var hinted interface{ Hint() dual.Hint }
	if !errors.As(err, &hinted) || hinted.Hint().Do != "status" {
		t.Errorf("%v", hinted)
	}
	if h, ok := dual.HintOf(cause); ok {
		t.Errorf("%v", h)
	}
}
