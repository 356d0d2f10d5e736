package dual

import "github.com/stranglerfig/migrator/internal/hint"

// Hint is what helps against an error, apart from its text: Do is the code of one of
// migrator's actions ("fleet-evict") on the subjects Of, Text is for a person.
type Hint = hint.Hint

// HintOf finds the hint of an error of this module, also of one that is wrapped or
// joined: the outermost. An error without one is for the application to judge alone.
func HintOf(err error) (Hint, bool) { return hint.Of(err) }
