package main

import (
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/stranglerfig/migrator/runbook"
)

func newRunbookRender(c *cli) *cobra.Command {
	var out string
	cmd := &cobra.Command{
		Use:   "render rollback|cutover",
		Short: "Write the migration's own runbook, with its exact commands",
		Long: `Writes the runbook from the migration file: the migration's commands, and the
PgBouncers, services, caches, DNS names and regions of its section runbook. Looks up the
names' times to live and the members of the approving role.`,
		Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) != 1 || !slices.Contains(runbook.Rendered, args[0]) {
				return usageTry(try("migrator runbook render rollback"), "want one of %s", strings.Join(runbook.Rendered, ", "))
			}
			ctx := cmd.Context()
			b, err := c.openRunbooks(ctx)
			if err != nil {
				return err
			}
			defer b.State.Close()
			text, err := b.Render(ctx, args[0])
			if err != nil {
				return err
			}
			if out != "" {
				if err := os.WriteFile(out, text, 0o644); err != nil { //nolint:gosec // public: it contains no secret
					return err
				}
			}
			result := map[string]string{"runbook": args[0], "migration": b.Config.Name, "file": out, "text": string(text)}
			return c.show(result, func() {
				if out == "" {
					c.printf("%s", written(text))
					return
				}
				c.printf("wrote %s. To check it: migrator runbook verify %s\n", out, out)
			})
		},
	}
	cmd.Flags().StringVar(&out, "out", "", "the `FILE` to write; default: the terminal")
	return cmd
}
