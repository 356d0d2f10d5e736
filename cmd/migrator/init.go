package main

import (
	"maps"
	"slices"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/stranglerfig/migrator/internal/app"
	"github.com/stranglerfig/migrator/internal/state"
	"github.com/stranglerfig/migrator/migration"
)

// granted is the flags of init that grant.
type granted struct {
	roles      map[state.Kind]*[]string
	migrations []string
}

func (g *granted) register(flags *pflag.FlagSet) {
	g.roles = map[state.Kind]*[]string{}
	for _, k := range []struct {
		kind  state.Kind
		usage string
	}{
		{state.Application, "roles that get the privileges of package dual, and no more"},
		{state.Operator, "roles that get the privileges of every other command: the daemon's, the workers', those of persons who operate"},
		{state.Decider, "roles that read, approve, acknowledge, pause and resume, and no more"},
		{state.Viewer, "roles that read status, history and reports, and no more"},
		{state.Server, "roles that answer HTTP for the roles of callers' tokens: serve's"},
	} {
		g.roles[k.kind] = flags.StringSlice("grant-"+string(k.kind), nil, k.usage)
	}
	flags.StringSliceVar(&g.migrations, "migration", nil, "what the grants are for; all migrations if absent, also those to come")
}

func (g *granted) grants() (all []state.Grant, err error) {
	for _, name := range g.migrations {
		if !migration.IsName(name) {
			return nil, usagef("--migration %q: want the name of a migration: lower-case letters, digits, - and _, a letter first, 63 at most", name)
		}
	}
	for _, kind := range slices.Sorted(maps.Keys(g.roles)) {
		for _, role := range *g.roles[kind] {
			if role == "" {
				return nil, usagef("--grant-%s: want the name of a role", kind)
			}
			all = append(all, state.Grant{Kind: kind, Role: role, Migrations: g.migrations})
		}
	}
	if len(g.migrations) > 0 && len(*g.roles[state.Server]) > 0 {
		return nil, usagef("--grant-server is for all migrations: leave --migration out, and grant the others by another call")
	}
	if len(g.migrations) > 0 && len(all) == 0 {
		return nil, usagef("--migration says what a grant is for; it needs --grant-application or another --grant flag")
	}
	return all, nil
}

func newInit(c *cli) *cobra.Command {
	var g granted
	cmd := &cobra.Command{
		Use:   "init",
		Short: "Create or upgrade the state database's schema",
		Long: `Creates the schema "migrator" in the state database (MIGRATOR_STATE_URL), or
upgrades it to this version. Running it again changes nothing. The flags grant roles
the privileges that they need, for the migrations that --migration names or for all;
repeat that after an upgrade.`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			grants, err := g.grants()
			if err != nil {
				return err
			}
			url, err := c.settings.stateURL()
			if err != nil {
				return err
			}
			from, to, err := app.Init(cmd.Context(), url, grants)
			if err != nil {
				return err
			}
			result := struct {
				From   int64 `json:"from"`
				To     int64 `json:"to"`
				DryRun bool  `json:"dry_run,omitempty"`
			}{from, to, c.dryRun}
			return c.show(result, func() {
				switch {
				case from == to:
					c.printf("the state schema is already at version %d\n", to)
				case c.dryRun:
					c.printf("nothing was changed; the state schema would go from version %d to %d\n", from, to)
				case from == 0:
					c.printf("created the state schema at version %d\n", to)
				default:
					c.printf("upgraded the state schema from version %d to %d\n", from, to)
				}
			})
		},
	}
	g.register(cmd.Flags())
	return c.canDryRun(cmd)
}
