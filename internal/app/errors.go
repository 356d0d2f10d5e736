package app

import (
	"fmt"

	"github.com/stranglerfig/migrator/internal/hint"
	"github.com/stranglerfig/migrator/internal/humanize"
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
