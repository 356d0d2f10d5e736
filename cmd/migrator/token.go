package main

import (
	"errors"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/stranglerfig/migrator/internal/state"
)

func newToken(c *cli) *cobra.Command {
	return group("token", "Manage the tokens of callers that migrator serve answers", newTokenCreate(c), newTokenList(c), newTokenRevoke(c))
}

// changedToken is a token that was made or revoked. The token itself is shown once: the state does not have it.
type changedToken struct {
	state.Token

	Secret string `json:"token,omitempty"` // of one that was made, but for a dry run
	DryRun bool   `json:"dry_run,omitempty"`
}

func newTokenCreate(c *cli) *cobra.Command {
	n := state.NewToken{}
	var days int
	cmd := &cobra.Command{
		Use:   "create",
		Short: "Make a token that has one role's rights",
		Long: `Makes a token and prints it, once: the state database has a hash of it. Who sends it to
migrator serve has the rights of its role there: the role's grants, for their migrations,
and its place in rules of two people. The history names the role, the server's role and
the token. The schema's owner makes tokens for every role but its own; any other role
makes them for itself.

--replaces makes one for the same role as another token, which stays valid for --overlap:
give the new one to its callers meanwhile. Called again, the command makes another token.`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			switch {
			case c.quiet && !c.dryRun:
				return usagef("--quiet would hide the token, which is shown once: leave it out; only the token goes to standard output")
			case n.Role != "" && n.Replaces != 0:
				return usagef("--role and --replaces are both given: a token that replaces another one is of its role")
			case n.Replaces < 0 || cmd.Flags().Changed("replaces") && n.Replaces == 0:
				return usageTry(try("migrator token list"), "--replaces %d: want the number of a token", n.Replaces)
			case cmd.Flags().Changed("overlap") && n.Replaces == 0:
				return usagef("--overlap is for a token that --replaces names")
			case n.Overlap < 0 || n.Overlap > 30*24*time.Hour:
				return usagef("--overlap %s: want a time from 0s to 720h", n.Overlap)
			}
			if err := inRange(numbered{"days", days, 1, 366}); err != nil {
				return err
			}
			n.Lives = time.Duration(days) * 24 * time.Hour
			store, err := c.openState(cmd.Context())
			if err != nil {
				return err
			}
			defer store.Close()
			secret, made, err := store.CreateToken(cmd.Context(), n)
			if err != nil {
				return badToken(err)
			}
			result := changedToken{Token: made, Secret: secret, DryRun: c.dryRun}
			if c.dryRun {
				result.Secret = ""
			}
			return c.show(result, func() {
				if c.dryRun {
					c.printf("nothing was changed; a token of %s would be made, valid until %s\n", made.Role, made.Expires.Format(time.DateTime))
					return
				}
				c.note("token %d of %s, valid until %s; it is not shown again", made.ID, made.Role, made.Expires.Format(time.DateTime))
				c.printf("%s\n", secret)
			})
		},
	}
	cmd.Flags().StringVar(&n.Role, "role", "", "the role in the state database whose rights it has (default: your own)")
	cmd.Flags().StringVar(&n.About, "about", "", "what it is for, for token list")
	cmd.Flags().IntVar(&days, "days", 90, "how long it is valid, 366 at most")
	cmd.Flags().Int64Var(&n.Replaces, "replaces", 0, "number of a token that this one replaces")
	cmd.Flags().DurationVar(&n.Overlap, "overlap", time.Hour, "how long the token that is replaced stays valid, 720h at most")
	return c.canDryRun(cmd)
}

func newTokenList(c *cli) *cobra.Command {
	return &cobra.Command{
		Use:   "list",
		Short: "List tokens: all for the schema's owner, else your role's",
		Args:  noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			store, err := c.openState(cmd.Context())
			if err != nil {
				return err
			}
			defer store.Close()
			all, err := store.Tokens(cmd.Context())
			if err != nil {
				return err
			}
			return c.show(append([]state.Token{}, all...), func() {
				if len(all) == 0 {
					c.printf("there is no token\n")
					return
				}
				rows := [][]string{{"TOKEN", "ROLE", "STATE", "EXPIRES", "MADE BY", "ABOUT"}}
				for _, t := range all {
					is := "valid"
					switch {
					case !t.Revoked.IsZero():
						is = "revoked by " + t.RevokedBy
					case t.Expires.Before(time.Now()):
						is = "expired"
					}
					rows = append(rows, []string{strconv.FormatInt(t.ID, 10), t.Role, is, t.Expires.Format(time.DateTime), t.CreatedBy, t.About})
				}
				c.table(rows)
			})
		},
	}
}

func newTokenRevoke(c *cli) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "revoke TOKEN",
		Short: "End a token at once",
		Long: `Ends a token, by its number in token list. Servers hear of it at once, and look again
each second; a transaction that has begun ends as it began. It may be repeated.`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) != 1 {
				return usageTry(try("migrator token list"), "name one token by its number")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			id, err := strconv.ParseInt(args[0], 10, 64)
			if err != nil || id < 1 {
				return usageTry(try("migrator token list"), "want the number of a token, not the token itself") // which is not repeated
			}
			store, err := c.openState(cmd.Context())
			if err != nil {
				return err
			}
			defer store.Close()
			t, err := store.RevokeToken(cmd.Context(), id)
			if err != nil {
				return badToken(err)
			}
			return c.show(changedToken{Token: t, DryRun: c.dryRun}, func() {
				if c.dryRun {
					c.printf("nothing was changed; token %d of %s would be revoked\n", t.ID, t.Role)
					return
				}
				c.printf("revoked token %d of %s\n", t.ID, t.Role)
			})
		},
	}
	return c.canDryRun(cmd)
}

// badToken gives a refusal about roles and tokens the exit code of bad input.
func badToken(err error) error {
	if _, bad := errors.AsType[*state.BadTokenError](err); bad {
		return codedError{err, exitUsage}
	}
	return err
}
