package store

import (
	"context"
	"errors"
	"strings"

	"github.com/stranglerfig/migrator/internal/hint"
)

// Check is one finding about a store's fitness, for plan and doctor.
type Check struct {
	Name   string      `json:"name"`
	Result CheckResult `json:"result"`
	Detail string      `json:"detail"`
	Hint   hint.Hint   `json:"hint,omitzero"` // what to do about it
}

// ContentsCheck names the checks of what a target has before the migration writes it: what a backfill would
// replace or delete. Apply shows them, too.
const ContentsCheck = "target-contents"

// CheckResult is a Check's result.
type CheckResult string

// Results of a check. Refused makes plan exit with 2. Unchecked is no result: what a check needs could not be
// had, and nothing is known.
const (
	Good      CheckResult = "ok"
	Warned    CheckResult = "warning"
	Refused   CheckResult = "refused"
	Unchecked CheckResult = "not checked"
)

// WorseThan orders results from ok to refused.
func (r CheckResult) WorseThan(other CheckResult) bool {
	rank := map[CheckResult]int{Unchecked: 1, Warned: 2, Refused: 3}
	return rank[r] > rank[other]
}

// OfSide names the checks of a side of the migration: "legacy: durability".
func OfSide(side string, checks []Check) []Check {
	named := make([]Check, len(checks))
	for i, c := range checks {
		c.Name = side + ": " + strings.TrimPrefix(c.Name, side+"-")
		named[i] = c
	}
	return named
}

// ByName joins checks of one name: the worst result, with all details of that.
func ByName(checks []Check) []Check {
	var all []Check
	at := map[string]int{}
	for _, c := range checks {
		i, there := at[c.Name]
		switch {
		case !there:
			at[c.Name] = len(all)
			all = append(all, c)
		case c.Result.WorseThan(all[i].Result):
			all[i] = c
		case c.Result == all[i].Result:
			all[i].Detail += "; " + c.Detail
		}
	}
	return all
}

// Checker examines a store before a migration is applied.
type Checker interface {
	Check(ctx context.Context) ([]Check, error)
}

// ServerChecker is a store that can tell apart what changes on its servers while a migration runs: settings,
// privileges, sessions, room. It changes no record, and what it tries it removes. It takes less than a second.
//
// Without it: the daemon repeats no check of the store; plan and doctor make all.
type ServerChecker interface {
	CheckServer(ctx context.Context) ([]Check, error)
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
