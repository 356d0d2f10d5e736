package main

import (
	"github.com/spf13/cobra"

	"github.com/stranglerfig/migrator/internal/app"
)

func newInit(c *cli) *cobra.Command {
	var applications, operators []string
	cmd := &cobra.Command{
		Use:   "init",
		Short: "Create or upgrade the state database's schema",
		Long: `Creates the schema "migrator" in the state database (MIGRATOR_STATE_URL), or
upgrades it to this version. Running it again changes nothing. The flags grant roles
the privileges that they need; repeat that after an upgrade.`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			url, err := c.settings.stateURL()
			if err != nil {
				return err
			}
			from, to, err := app.Init(cmd.Context(), url, applications, operators)
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
	cmd.Flags().StringSliceVar(&applications, "grant-application", nil, "roles that get the privileges of package dual, and no more")
	cmd.Flags().StringSliceVar(&operators, "grant-operator", nil, "roles that get the privileges of every other command")
	return cmd
}
