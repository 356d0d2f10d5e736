package main

import (
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

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

// swallowed refuses a value that is one of the command's own flags: --force --full has left out the reason,
// and would do without --full.
func swallowed(cmd *cobra.Command) (err error) {
	cmd.Flags().Visit(func(f *pflag.Flag) {
		name, _, _ := strings.Cut(f.Value.String(), "=")
		long, isLong := strings.CutPrefix(name, "--")
		if isLong && cmd.Flags().Lookup(long) != nil {
			err = usageTry(try("--%s='...' %s", f.Name, name), "--%s has taken %s as its value, which is another flag", f.Name, name)
		}
	})
	return err
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
