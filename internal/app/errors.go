package app

import (
	"errors"
	"fmt"

	"github.com/stranglerfig/migrator/internal/humanize"
)

// InputError refuses what was asked for: another argument or migration file helps, the
// same one again does not.
type InputError struct{ error }

func (e *InputError) Unwrap() error { return e.error }

func refuse(format string, args ...any) error { return &InputError{fmt.Errorf(format, args...)} }

// NotYetError is of what can't be done now, and may be later.
type NotYetError struct{ error }

func (e *NotYetError) Unwrap() error { return e.error }

func notYet(format string, args ...any) error { return &NotYetError{fmt.Errorf(format, args...)} }

// ErrNoFile tells that there is no migration file where one is needed.
var ErrNoFile = errors.New("no description of a migration is named, and there is no migration.yaml; try: --file products.yaml")

// DriftError tells that a migration file is not the one that is applied: a decision
// would rest on another than the one at hand.
type DriftError struct{ File, Hash, Applied string }

func (e *DriftError) Error() string {
	return fmt.Sprintf("%s differs from what was applied (%s, applied %s); try: migrator apply", e.File, humanize.Short(e.Hash), humanize.Short(e.Applied))
}
