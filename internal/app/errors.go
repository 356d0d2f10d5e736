package app

import (
	"errors"
	"fmt"

	"github.com/stranglerfig/migrator/internal/control"
	"github.com/stranglerfig/migrator/internal/hint"
	"github.com/stranglerfig/migrator/internal/humanize"
	"github.com/stranglerfig/migrator/internal/state"
	"github.com/stranglerfig/migrator/internal/statedb"
	"github.com/stranglerfig/migrator/migration"
	"github.com/stranglerfig/migrator/record"
	"github.com/stranglerfig/migrator/store"
)

// InputError refuses a request: it needs another argument or another migration file, and
// repeating it does not help.
type InputError struct{ error }

func (e *InputError) Unwrap() error { return e.error }

func refuse(format string, args ...any) error { return &InputError{fmt.Errorf(format, args...)} }

func refuseHint(h hint.Hint, format string, args ...any) error {
	return &InputError{hint.Errorf(h, format, args...)}
}

// NotYetError refuses a request that may succeed later.
type NotYetError struct{ error }

func (e *NotYetError) Unwrap() error { return e.error }

func notYet(format string, args ...any) error { return &NotYetError{fmt.Errorf(format, args...)} }

func notYetHint(h hint.Hint, format string, args ...any) error {
	return &NotYetError{hint.Errorf(h, format, args...)}
}

// ErrNoFile means that a migration file is needed and none was named.
var ErrNoFile = hint.Errorf(hint.Hint{Do: hint.SetMigrationFile}, "no migration file is named, and there is no migration.yaml")

// DriftError refuses a migration file that is not the applied one: decisions would use
// other settings than the file's.
type DriftError struct{ File, Hash, Applied string }

func (e *DriftError) Error() string {
	return fmt.Sprintf("%s differs from what was applied (%s, applied %s)", e.File, humanize.Short(e.Hash), humanize.Short(e.Applied))
}

// Hint implements hint.Hinter.
func (e *DriftError) Hint() hint.Hint { return hint.Hint{Do: hint.Apply} }

// IsNotYet reports whether an error refuses what may succeed later.
func IsNotYet(err error) bool {
	var closed *control.GatesClosedError
	var unsettled *control.UnsettledError
	var missing *control.MissingError
	var refusedRows *control.RefusedError
	var fenceLost *control.FenceLostError
	var targetLost *TargetLostError
	var moved *state.MovedError
	var later *NotYetError
	return errors.As(err, &closed) || errors.As(err, &unsettled) || errors.As(err, &missing) || errors.As(err, &refusedRows) || errors.As(err, &fenceLost) ||
		errors.As(err, &targetLost) || errors.As(err, &moved) || errors.As(err, &later) || errors.Is(err, store.ErrBusy)
}

// IsInput reports whether an error refuses what was asked, in whatever state: to repeat it does not help.
func IsInput(err error) bool {
	var bad *migration.Error
	var input *control.InputError
	var unchanged *state.ChangeRefusedError
	var url record.URLError
	var refused *InputError
	var drift *DriftError
	if errors.As(err, &bad) || errors.As(err, &input) || errors.As(err, &url) || errors.As(err, &refused) || errors.As(err, &drift) || errors.As(err, &unchanged) {
		return true
	}
	for _, known := range []error{
		ErrNoFile, statedb.ErrNoSchema, state.ErrNewer, state.ErrOlder, statedb.ErrUnknownMigration, statedb.ErrURL, statedb.ErrWrongURL, store.ErrOwned,
	} {
		if errors.Is(err, known) {
			return true
		}
	}
	f, ok := hint.FailureOf(err)
	return ok && f.Input
}
