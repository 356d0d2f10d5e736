// Command genschema writes the JSON Schema of migration files, or with -runbook that of
// runbooks, to the file that is its last argument.
package main

import (
	"fmt"
	"os"

	"github.com/stranglerfig/migrator/internal/configschema"
	"github.com/stranglerfig/migrator/internal/openstore"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "genschema:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	schema := func() ([]byte, error) { return configschema.Migration(openstore.Kinds()...) }
	if len(args) == 2 && args[0] == "-runbook" {
		schema, args = configschema.Runbook, args[1:]
	}
	if len(args) != 1 {
		return fmt.Errorf("want one argument, the file to write")
	}
	text, err := schema()
	if err != nil {
		return err
	}
	return os.WriteFile(args[0], text, 0o644) //nolint:gosec // public: it contains no secret
}
