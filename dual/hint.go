package dual

import "github.com/stranglerfig/migrator/internal/hint"

// Hint is the remedy of an error, apart from its text: Do is the code of one of
// migrator's actions ("fleet-evict") on the subjects Of, Text is for a person.
type Hint = hint.Hint

// HintOf finds the outermost hint of an error of this module, also of one that is wrapped
// or joined. It returns false if the error has none.
func HintOf(err error) (Hint, bool) { return hint.Of(err) }
