package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/stranglerfig/migrator/internal/app"
	"github.com/stranglerfig/migrator/internal/drill"
	"github.com/stranglerfig/migrator/internal/humanize"
	"github.com/stranglerfig/migrator/internal/infile"
	"github.com/stranglerfig/migrator/internal/state"
)

func newHistoryGroup(c *cli) *cobra.Command {
	return group("history", "Check the migration's history", newVerify(c), newAnchor(c))
}

func newVerify(c *cli) *cobra.Command {
	var a anchored
	cmd := &cobra.Command{
		Use:   "verify [MIGRATION]",
		Short: "Verify the history's hash chain",
		Long: `Recomputes the hash of every entry of the history, here and not in the database,
and compares its end with the migration's status. Detects entries that were changed,
removed, cut off at the end or reordered, and those that the rules of authority did not
allow: steps that there are not, configurations and approvals that never were. Reports
the first wrong one, and exits with 1 then.

The owner of the schema can write the whole chain again. With --anchor the history is
compared with a file of migrator history anchor too, which finds that.`,
		Args: optionalName,
		RunE: c.withState(func(ctx context.Context, store *state.Store, name string) error { return c.verify(ctx, store, name, a) }),
	}
	a.register(cmd.Flags())
	return cmd
}

// anchored is the flags of a check against anchors.
type anchored struct{ file, key string }

func (a *anchored) register(flags *pflag.FlagSet) {
	flags.StringVar(&a.file, "anchor", "", "file with lines of migrator history anchor to compare with")
	flags.StringVar(&a.key, "public-key", "", "file with the public key that signed them")
}

// read returns the anchors of the migration; nil if no file is named.
func (a *anchored) read(name string) ([]state.Anchor, error) {
	if a.file == "" && a.key == "" {
		return nil, nil
	}
	if a.file == "" || a.key == "" {
		return nil, usagef("--anchor and --public-key go together: a line proves nothing but by its signature")
	}
	key, err := publicKey(a.key)
	if err != nil {
		return nil, err
	}
	text, err := infile.Read(a.file, infile.Large)
	if err != nil {
		return nil, usagef("--anchor: %w", err)
	}
	anchors, err := app.ReadAnchors(text, key, name)
	if err != nil {
		return nil, usagef("--anchor %s: %w", a.file, err)
	}
	return anchors, nil
}

func newAnchor(c *cli) *cobra.Command {
	var keyFile, out, webhook string
	cmd := &cobra.Command{
		Use:   "anchor [MIGRATION]",
		Short: "Write the end of the history, signed, to a place outside of the database",
		Long: `Signs the number and the hash of the history's newest entry, with the migration and the
time, and adds the line to a file, sends it to a webhook, or prints it. Keep it where
the state database's owner can't write. migrator history verify --anchor finds a history
that was written again since.`,
		Args: optionalName,
		RunE: func(cmd *cobra.Command, args []string) error {
			if keyFile == "" {
				return usageTry(try("openssl genpkey -algorithm ed25519 -out anchor.key"), "--key is required")
			}
			text, err := infile.Read(keyFile, infile.Small)
			if err != nil {
				return usagef("--key: %w", err)
			}
			key, err := drill.ParsePrivateKey(text)
			if err != nil {
				return usage(fmt.Errorf("--key %s: %w", keyFile, err), "openssl genpkey -algorithm ed25519 -out anchor.key")
			}
			if webhook != "" && !app.IsWebhook(webhook) {
				return usagef("--webhook: want https://HOST/..., or http:// on this machine")
			}
			return c.withState(func(ctx context.Context, store *state.Store, name string) error {
				a, line, err := app.AnchorHistory(ctx, store, name, key)
				if err != nil {
					return err
				}
				if out != "" {
					if err := app.AppendLine(out, line); err != nil {
						return err
					}
				}
				if webhook != "" {
					if err := app.SendLine(ctx, webhook, line); err != nil {
						return err
					}
				}
				return c.show(a, func() {
					if out == "" && webhook == "" {
						c.printf("%s\n", line)
						return
					}
					c.printf("anchored %s at entry %d\n", a.Migration, a.Seq)
				})
			})(cmd, args)
		},
	}
	f := cmd.Flags()
	f.StringVar(&keyFile, "key", "", "file with the private key, Ed25519 in PEM")
	f.StringVar(&out, "out", "", "file to add the line to")
	f.StringVar(&webhook, "webhook", "", "URL to post the line to")
	return cmd
}

// verified is what a check of the history found.
type verified struct {
	Verified int64   `json:"verified"`
	Anchors  int     `json:"anchors"`
	Broken   *broken `json:"broken,omitempty"`
}

type broken struct {
	Seq  int64  `json:"seq"`
	What string `json:"what"`
}

func (c *cli) verify(ctx context.Context, store *state.Store, name string, a anchored) error {
	anchors, err := a.read(name)
	if err != nil {
		return err
	}
	n, err := store.VerifyHistory(ctx, name, anchors...)
	v := verified{Verified: n, Anchors: len(anchors)}
	var at *state.BrokenHistoryError
	if errors.As(err, &at) {
		v.Broken = &broken{at.Seq, at.What}
	} else if err != nil {
		return err
	}
	if printErr := c.show(v, func() {
		if v.Broken == nil {
			c.printf("%d entries, the chain is whole\n", n)
			if v.Anchors > 0 {
				c.printf("%d anchors agree with it\n", v.Anchors)
			}
			return
		}
		c.printf("%d entries are whole\nentry %d: %s\n", n, v.Broken.Seq, v.Broken.What)
	}); printErr != nil {
		return printErr
	}
	return err
}

// printHistory prints the newest entry last, as in a log.
func (c *cli) printHistory(entries []state.Entry) {
	rows := [][]string{{"AT", "WHO", "WHAT", "FROM", "TO", "EPOCH", "WHY"}}
	for _, e := range entries {
		who := e.Actor
		if server, token := e.Via(); token != 0 {
			who = fmt.Sprintf("%s, token %d by %s", e.Actor, token, server)
		}
		rows = append(rows, []string{
			e.At.UTC().Format(time.RFC3339), who, string(e.Cause),
			e.From.String(), e.To.String(), humanize.Count(e.To.Epoch), cmp.Or(e.Reason, "-"),
		})
	}
	c.table(rows)
}
