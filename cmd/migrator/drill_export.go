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
	"github.com/stranglerfig/migrator/internal/infile"
	"github.com/stranglerfig/migrator/internal/state"
	"github.com/stranglerfig/migrator/internal/state/drills"
)

func newDrillExport(c *cli) *cobra.Command {
	var migration, keyFile, out string
	cmd := &cobra.Command{
		Use:   "export DRILL",
		Short: "Export a passed drill as a signed file",
		Long: `Writes a passed drill to a file, signed with an Ed25519 key in PEM. The other
environment's migration file has the public key under gates.drill.public_key;
migrator drill import reads the file there.`,
		Args: oneDrill,
		RunE: func(cmd *cobra.Command, args []string) error {
			if keyFile == "" || out == "" {
				return usageTry(try("openssl genpkey -algorithm ed25519 -out drill.key"), "--key and --out are required")
			}
			text, err := infile.Read(keyFile, infile.Small)
			if err != nil {
				return usagef("--key: %w", err)
			}
			key, err := drill.ParsePrivateKey(text)
			if err != nil {
				return usage(fmt.Errorf("--key %s: %w", keyFile, err), "openssl genpkey -algorithm ed25519 -out drill.key")
			}
			return c.withDrill(&migration, func(ctx context.Context, drills *drills.Runs, id int64) error {
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
		c.note("Set gates.drill.public_key of the other environment to that key.")
	})
}

func newDrillImport(c *cli) *cobra.Command {
	var migration, keyFile string
	cmd := &cobra.Command{
		Use:   "import FILE",
		Short: "Import a passed drill from its signed file",
		Long: `Records a drill that is signed by the key under gates.drill.public_key of the applied
migration file. It counts for the gate drill like a local one, from the time at which it
finished, as long as both migration files agree on what a drill rehearses: what is moved
and where to, how it is compared and written, and the triggers.`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 {
				return usageTry(try("migrator drill export DRILL --key drill.key --out drill.json"), "name one file")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			text, err := infile.Read(args[0], infile.Large)
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
	f.StringVar(&keyFile, "public-key", "", "file with the public key, if the migration file names none")
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
		word := "imported"
		if !i.Added {
			word = "already there"
		}
		c.printf("drill %d, finished at %s in %s: %s\n", i.ID, i.Finished.Format(time.DateTime), i.Environment, word)
	}); showErr != nil {
		return showErr
	}
	return err
}

// publicKey is nil if no file is named.
func publicKey(file string) (ed25519.PublicKey, error) {
	if file == "" {
		return nil, nil
	}
	text, err := infile.Read(file, infile.Small)
	if err != nil {
		return nil, usagef("--public-key: %w", err)
	}
	key, err := drill.ParsePublicKey(string(text))
	if err != nil {
		return nil, usagef("--public-key %s: %w", file, err)
	}
	return key, nil
}
