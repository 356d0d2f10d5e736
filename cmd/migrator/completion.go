package main

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/stranglerfig/migrator/internal/app"
	"github.com/stranglerfig/migrator/internal/state"
	"github.com/stranglerfig/migrator/internal/state/drills"
	"github.com/stranglerfig/migrator/internal/state/reconciles"
	"github.com/stranglerfig/migrator/internal/state/runbooks"
	"github.com/stranglerfig/migrator/phases"
)

const (
	completeWithin = 5 * time.Second // of a state database that does not answer; a shell waits for it
	completedRuns  = 20
)

// lister lists the words that may stand for an argument or a flag's value.
type lister func(ctx context.Context, c *cli, store *state.Store) ([]string, error)

// arguments are the words of a command's Use, and the flags, whose values the state has.
var arguments = map[string]lister{
	"MIGRATION":   migrationNames,
	"INSTANCE":    instanceNames,
	"GATE":        gateNames,
	"RUN":         runNumbers,
	"DRILL":       drillNumbers,
	"--migration": migrationNames,
	"--override":  gateNames,
	"--to":        phaseNames,
}

// addCompletions completes the arguments of every command by the words in its Use, and its flags.
func (c *cli) addCompletions(cmd *cobra.Command) {
	for _, sub := range cmd.Commands() {
		c.addCompletions(sub)
	}
	for flag, list := range arguments {
		if name, ok := strings.CutPrefix(flag, "--"); ok && cmd.LocalFlags().Lookup(name) != nil && cmd.Runnable() {
			_ = cmd.RegisterFlagCompletionFunc(name, c.complete(list))
		}
	}
	words := strings.Fields(cmd.Use)[1:]
	if len(words) == 0 || cmd.ValidArgsFunction != nil {
		return
	}
	cmd.ValidArgsFunction = func(cmd *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
		if len(args) >= len(words) {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		word, _, _ := strings.Cut(strings.Trim(words[len(args)], "[]."), "|")
		if word == "FILE" {
			return nil, cobra.ShellCompDirectiveDefault
		}
		list := arguments[word]
		if list == nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return c.complete(list)(cmd, args, typed)
	}
}

// complete lists in silence: what can't be read completes to nothing.
func (c *cli) complete(list lister) cobra.CompletionFunc {
	return func(cmd *cobra.Command, _ []string, typed string) ([]string, cobra.ShellCompDirective) {
		ctx, cancel := context.WithTimeout(cmd.Context(), completeWithin)
		defer cancel()
		if c.configure(cmd) != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		url, err := c.settings.stateURL()
		if err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		store, err := state.Open(ctx, url)
		if err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		defer store.Close()
		all, err := list(ctx, c, store)
		if err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		var found []string
		for _, one := range all {
			if strings.HasPrefix(one, typed) {
				found = append(found, one)
			}
		}
		return found, cobra.ShellCompDirectiveNoFileComp
	}
}

func migrationNames(ctx context.Context, _ *cli, store *state.Store) (names []string, err error) {
	all, err := store.List(ctx)
	for _, st := range all {
		names = append(names, st.Migration)
	}
	return names, err
}

func phaseNames(context.Context, *cli, *state.Store) (names []string, err error) {
	for _, p := range phases.Order {
		names = append(names, string(p))
	}
	return names, nil
}

func instanceNames(ctx context.Context, c *cli, store *state.Store) (names []string, err error) {
	name, err := c.name(ctx, store, nil)
	if err != nil {
		return nil, err
	}
	leases, err := store.Leases(ctx, name)
	for _, l := range leases {
		names = append(names, l.Instance)
	}
	return names, err
}

func gateNames(ctx context.Context, c *cli, store *state.Store) (names []string, err error) {
	name, err := c.name(ctx, store, nil)
	if err != nil {
		return nil, err
	}
	st, err := app.ReadStatus(ctx, store, name)
	for _, g := range st.Gates {
		names = append(names, g.Gate)
	}
	return names, err
}

func runNumbers(ctx context.Context, c *cli, store *state.Store) (numbers []string, err error) {
	name, err := c.name(ctx, store, nil)
	if err != nil {
		return nil, err
	}
	if strings.Contains(c.command, " runbook ") {
		runs, err := runbooks.New(store.Pool(), name).List(ctx, completedRuns)
		for _, r := range runs {
			numbers = append(numbers, fmt.Sprintf("%d\t%s, %s", r.ID, r.Runbook, r.Status))
		}
		return numbers, err
	}
	runs, err := reconciles.New(store.Pool(), name).List(ctx, completedRuns)
	for _, r := range runs {
		numbers = append(numbers, fmt.Sprintf("%d\t%s", r.ID, r.Status))
	}
	return numbers, err
}

func drillNumbers(ctx context.Context, c *cli, store *state.Store) (numbers []string, err error) {
	name, err := c.name(ctx, store, nil)
	if err != nil {
		return nil, err
	}
	runs, err := drills.New(store.Pool(), name).List(ctx, completedRuns)
	for _, r := range runs {
		numbers = append(numbers, strconv.FormatInt(r.ID, 10))
	}
	return numbers, err
}
