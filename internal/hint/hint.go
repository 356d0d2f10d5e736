// Package hint parts errors from the remedies that their texts end in.
package hint

import "strings"

// Split parts an error's text into what happened and what to do; hint is "" if it says
// only what happened.
func Split(err error) (what, hint string) {
	what, hint, _ = strings.Cut(err.Error(), "; try: ")
	return what, hint
}
