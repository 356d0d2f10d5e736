package main

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/stranglerfig/migrator/runbook"
)

func newRunbookRender(c *cli) *cobra.Command {
	var out string
	cmd := &cobra.Command{
		Use:   "render rollback|cutover",
		Short: "Write the migration's own runbook, with its exact commands",
		Long: `Writes the runbook from the description: the migration's commands, and what its
section runbook names (PgBouncers, services, caches, DNS names, regions). Times to
live are looked up, the members of the deciding role are asked for.`,
		Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) != 1 || !slices.Contains(runbook.Rendered, args[0]) {
				return usagef("want one of %s; try: migrator runbook render rollback", strings.Join(runbook.Rendered, ", "))
			}
			ctx := cmd.Context()
			b, err := c.openShelf(ctx)
			if err != nil {
				return err
			}
			defer b.store.Close()
			text, err := c.renderBook(ctx, b, args[0])
			if err != nil {
				return err
			}
			if out != "" {
				if err := os.WriteFile(out, text, 0o644); err != nil { //nolint:gosec // everybody may read a runbook: it holds no secret
					return err
				}
			}
			result := map[string]string{"runbook": args[0], "migration": b.m.Name, "file": out, "text": string(text)}
			return c.show(result, func() {
				if out == "" {
					c.printf("%s", text)
					return
				}
				c.printf("wrote %s; try: migrator runbook verify %s\n", out, out)
			})
		},
	}
	cmd.Flags().StringVar(&out, "out", "", "the `FILE` to write; default: the terminal")
	return cmd
}

// lookupWithin is how long names are looked up for a document that tells of them.
const lookupWithin = 5 * time.Second

// shelfAsApplied refuses a description at hand that is not the one that is applied.
func (c *cli) shelfAsApplied(b *bookshelf) error {
	if file := c.settings.descriptionFile(); file != "" && b.m.Hash() != b.at.ConfigHash {
		return usagef("%s differs from what was applied (%s, applied %s); try: migrator apply", file, short12(b.m.Hash()), short12(b.at.ConfigHash))
	}
	return nil
}

// renderBook needs the description itself: what surrounds the migration is not kept in
// the state database.
func (c *cli) renderBook(ctx context.Context, b *bookshelf, name string) ([]byte, error) {
	if c.settings.descriptionFile() == "" {
		return nil, coded{errNoDescription, exitUsage}
	}
	if err := c.shelfAsApplied(b); err != nil {
		return nil, err
	}
	f := runbook.Facts{ConfigHash: b.at.ConfigHash}
	if role := b.m.Phases.Approval.Role; role != "" {
		members, err := b.store.Members(ctx, role)
		if err != nil {
			return nil, err
		}
		f.Deciders = members
	}
	dns := b.m.Runbook.DNS
	within, cancel := context.WithTimeout(ctx, lookupWithin)
	defer cancel()
	for _, host := range dns.Hosts {
		ttl, err := runbook.LookupTTL(within, dns.Server, host)
		if err != nil {
			f.TTLErrors = append(f.TTLErrors, err.Error())
			continue
		}
		f.TTLs = append(f.TTLs, ttl)
	}
	text, err := runbook.Render(name, b.m, f)
	if err != nil {
		return nil, err
	}
	if _, err := runbook.Parse(name, text, nil); err != nil {
		return nil, fmt.Errorf("the rendered %s is no good runbook: %w", name, err)
	}
	return text, nil
}
