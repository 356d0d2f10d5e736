package store

import (
	"context"
	"errors"

	"github.com/stranglerfig/migrator/internal/hint"
)

// Check is one finding about a store's fitness, for plan and doctor.
type Check struct {
	Name   string      `json:"name"`
	Result CheckResult `json:"result"`
	Detail string      `json:"detail"`
	Hint   hint.Hint   `json:"hint,omitzero"` // what to do about it
}

// CheckResult is a Check's result.
type CheckResult string

// Results of a check. Refused makes plan exit with 2.
const (
	Good    CheckResult = "ok"
	Warned  CheckResult = "warning"
	Refused CheckResult = "refused"
)

// Checker examines a store before a migration is applied.
type Checker interface {
	Check(ctx context.Context) ([]Check, error)
}

// Errors of stores.
var (
	// ErrMoved: the rows of a chunk have been moved to other storage. The caller must cut
	// legacy into chunks again.
	ErrMoved = errors.New("the table's rows have been rewritten since its chunks were cut")
	// ErrBusy: open transactions kept a lock on the records until the timeout.
	ErrBusy = errors.New("open transactions hold the table")
	// ErrFenced: legacy refused a write because the migration has retired it.
	ErrFenced = errors.New("legacy is fenced: the migration has retired it")
	// ErrRecentColumn refuses a column that does not record when records changed.
	ErrRecentColumn = errors.New("reconcile.recent.column")
)
