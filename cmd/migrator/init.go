package main

import (
	"github.com/spf13/cobra"

	"github.com/stranglerfig/migrator/state"
)

func newInit(c *cli) *cobra.Command {
	return &cobra.Command{
		Use:   "init",
		Short: "Create or upgrade the state database's schema",
		Long: `Creates the schema "migrator" in the state database (MIGRATOR_STATE_URL), or
brings it to this version. Running it again changes nothing.`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			url, err := c.settings.stateURL()
			if err != nil {
				return err
			}
			from, to, err := state.Migrate(cmd.Context(), url)
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
}
