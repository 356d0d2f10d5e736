// Command genschema writes the JSON Schema of migrations' descriptions to the file
// that is its argument.
package main

import (
	"fmt"
	"os"

	"github.com/stranglerfig/migrator/spec"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "genschema:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) != 1 {
		return fmt.Errorf("want one argument, the file to write")
	}
	text, err := spec.Schema()
	if err != nil {
		return err
	}
	return os.WriteFile(args[0], text, 0o644) //nolint:gosec // everybody may read a schema
}
