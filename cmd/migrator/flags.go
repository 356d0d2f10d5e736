package main

import (
	"github.com/spf13/cobra"

	"github.com/stranglerfig/migrator/migration"
)

// numbered is a flag's number, and the range that it must be in.
type numbered struct {
	flag         string
	n, low, high int
}

// inRange refuses the first number that is out of its range. A flag that replaces a
// setting of the migration file has that setting's range.
func inRange(all ...numbered) error {
	for _, one := range all {
		if one.n < one.low || one.n > one.high {
			return usagef("--%s %d: want a number from %d to %d", one.flag, one.n, one.low, one.high)
		}
	}
	return nil
}

// Ranges of flags that several commands have. 0 workers: the migration file's number.
func inRate(flag string, n int) numbered    { return numbered{flag, n, 0, migration.MaxRate} }
func inWorkers(flag string, n int) numbered { return numbered{flag, n, 0, migration.MaxWorkers} }

// limitAboveZero is a PreRunE that checks the --limit of a list: what the arguments alone
// show to be wrong is refused with exit code 2 before any server is dialed.
func limitAboveZero(limit *int) func(*cobra.Command, []string) error {
	return func(*cobra.Command, []string) error {
		if *limit < 1 {
			return usagef("--limit %d: want a number above 0", *limit)
		}
		return nil
	}
}
