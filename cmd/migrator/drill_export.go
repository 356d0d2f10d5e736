package main

import (
	"context"
	"crypto/ed25519"
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/stranglerfig/migrator/internal/app"
	"github.com/stranglerfig/migrator/internal/drill"
	"github.com/stranglerfig/migrator/internal/state"
	"github.com/stranglerfig/migrator/internal/state/drills"
)

func newDrillExport(c *cli) *cobra.Command {
	var migration, keyFile, out string
	cmd := &cobra.Command{
		Use:   "export DRILL",
		Short: "Write a drill that passed as a signed file, for another environment's state",
		Long: `Writes a drill that passed as one file, signed with an Ed25519 key in PEM. The other
environment's description names the public key under gates.drill.public_key, and takes
the file by migrator drill import.`,
		Args: oneDrill,
		RunE: func(cmd *cobra.Command, args []string) error {
			if keyFile == "" || out == "" {
				return usagef("--key and --out are needed; try: openssl genpkey -algorithm ed25519 -out drill.key")
			}
			text, err := os.ReadFile(keyFile)
			if err != nil {
				return usagef("--key: %w", err)
			}
			key, err := drill.ParsePrivateKey(text)
			if err != nil {
				return usage(fmt.Errorf("--key %s: %w", keyFile, err), "openssl genpkey -algorithm ed25519 -out drill.key")
			}
			return c.ofDrill(&migration, func(ctx context.Context, drills *drills.Runs, id int64) error {
				return c.exportDrill(ctx, drills, id, key, out)
			})(cmd, args)
		},
	}
	f := cmd.Flags()
	f.StringVarP(&migration, "migration", "m", "", "the migration, if there are several")
	f.StringVar(&keyFile, "key", "", "file with the private key")
	f.StringVar(&out, "out", "", "file to write")
	return cmd
}

func (c *cli) exportDrill(ctx context.Context, drills *drills.Runs, id int64, key ed25519.PrivateKey, out string) error {
	e, file, err := app.ExportDrill(ctx, drills, id, key)
	if err != nil {
		return err
	}
	if err := os.WriteFile(out, file, 0o644); err != nil { //nolint:gosec // it is signed, not secret
		return err
	}
	e.File = out
	return c.show(e, func() {
		c.printf("wrote %s, signed with the private key of\n  %s\n", e.File, e.PublicKey)
		c.note("The other environment names that key under gates.drill.public_key.")
	})
}

func newDrillImport(c *cli) *cobra.Command {
	var migration, keyFile string
	cmd := &cobra.Command{
		Use:   "import FILE",
		Short: "Take a drill that passed elsewhere, from its signed file",
		Long: `Takes a signed drill into the state, if the key that the applied description names
under gates.drill.public_key has signed it. It counts for the gate drill as one made
here, from the time at which it was finished, as long as both descriptions say the
same of what a drill rehearses: what is moved and where to, how it is compared,
written, and what triggers say.`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 {
				return usagef("name one file; try: migrator drill export DRILL --key drill.key --out drill.json")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			text, err := os.ReadFile(args[0])
			if err != nil {
				return usagef("%w", err)
			}
			var named []string
			if migration != "" {
				named = []string{migration}
			}
			return c.withState(func(ctx context.Context, store *state.Store, name string) error {
				return c.importDrill(ctx, store, name, args[0], text, keyFile)
			})(cmd, named)
		},
	}
	f := cmd.Flags()
	f.StringVarP(&migration, "migration", "m", "", "the migration, if there are several")
	f.StringVar(&keyFile, "public-key", "", "file with the public key, where the description names none")
	return cmd
}

func (c *cli) importDrill(ctx context.Context, store *state.Store, name, path string, text []byte, keyFile string) error {
	given, err := publicKey(keyFile)
	if err != nil {
		return err
	}
	i, err := app.ImportDrill(ctx, store, name, path, text, given)
	if i.ID == 0 {
		return err
	}
	if showErr := c.show(i, func() {
		word := "taken"
		if !i.Added {
			word = "already there"
		}
		c.printf("drill %d, finished at %s in %s: %s\n", i.ID, i.Finished.Format(time.DateTime), i.Environment, word)
	}); showErr != nil {
		return showErr
	}
	return err
}

// publicKey is nil where no file is named.
func publicKey(file string) (ed25519.PublicKey, error) {
	if file == "" {
		return nil, nil
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, usagef("--public-key: %w", err)
	}
	key, err := drill.ParsePublicKey(string(text))
	if err != nil {
		return nil, usagef("--public-key %s: %w", file, err)
	}
	return key, nil
}
