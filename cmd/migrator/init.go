package main

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/stranglerfig/migrator/internal/failpoint"
	"github.com/stranglerfig/migrator/internal/state"
)

func newInit(c *cli) *cobra.Command {
	var applications, operators []string
	cmd := &cobra.Command{
		Use:   "init",
		Short: "Create or upgrade the state database's schema",
		Long: `Creates the schema "migrator" in the state database (MIGRATOR_STATE_URL), or
brings it to this version. Running it again changes nothing. Roles may be granted
what they need; repeat that after an upgrade.`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			url, err := c.settings.stateURL()
			if err != nil {
				return err
			}
			from, to, err := state.Migrate(cmd.Context(), url)
			if err == nil {
				failpoint.Here("init.migrated")
				err = grant(cmd.Context(), url, applications, operators)
			}
			if err != nil {
				return err
			}
			result := struct {
				From int64 `json:"from"`
				To   int64 `json:"to"`
			}{from, to}
			return c.show(result, func() {
				switch from {
				case to:
					c.printf("the state schema is already at version %d\n", to)
				case 0:
					c.printf("created the state schema at version %d\n", to)
				default:
					c.printf("upgraded the state schema from version %d to %d\n", from, to)
				}
			})
		},
	}
	cmd.Flags().StringSliceVar(&applications, "grant-application", nil, "roles that get what package dual needs, and no more")
	cmd.Flags().StringSliceVar(&operators, "grant-operator", nil, "roles that get what every other command needs")
	return cmd
}

// grant gives roles their rights; it must be repeated after an upgrade.
func grant(ctx context.Context, url string, applications, operators []string) error {
	if len(applications)+len(operators) == 0 {
		return nil
	}
	store, err := state.Open(ctx, url)
	if err != nil {
		return err
	}
	defer store.Close()
	for _, role := range applications {
		if err := store.GrantApplication(ctx, role); err != nil {
			return err
		}
	}
	for _, role := range operators {
		if err := store.GrantOperator(ctx, role); err != nil {
			return err
		}
	}
	return nil
}
