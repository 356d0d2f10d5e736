package main

import (
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/stranglerfig/migrator/internal/app"
	"github.com/stranglerfig/migrator/internal/hint"
	"github.com/stranglerfig/migrator/internal/humanize"
	"github.com/stranglerfig/migrator/runbook"
	"github.com/stranglerfig/migrator/store"
)

func newRunbookVerify(c *cli) *cobra.Command {
	return &cobra.Command{
		Use:   "verify [FILE|rollback|cutover]",
		Short: "Check whether every step could run, without running it",
		Long: `Checks that programs exist, statements can be planned with the present privileges,
endpoints answer, DNS names have a short time to live, and a role may approve.
Changes nothing. Without an argument it checks both runbooks that can be rendered.
The result is recorded: the gate runbook (gates.runbook.within) needs a recent one of
the runbook rollback.`,
		Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			switch len(args) {
			case 0:
				args = runbook.Rendered
			case 1:
			default:
				return usageTry(hint.Hint{Do: hint.RunbookVerify, Of: []string{"rollback"}}, "want one runbook, or none for all that can be rendered, but got %d arguments", len(args))
			}
			ctx := cmd.Context()
			b, err := c.openRunbooks(ctx)
			if err != nil {
				return err
			}
			defer b.State.Close()
			var all []app.RunbookVerdict
			failed := 0
			for _, what := range args {
				v, err := b.Verify(ctx, what, parseCommand)
				if err != nil {
					return err
				}
				if !v.Passed {
					failed++
				}
				all = append(all, v)
			}
			if err := c.show(all, func() {
				for _, v := range all {
					c.printVerdict(v)
				}
			}); err != nil {
				return err
			}
			if failed > 0 {
				return notYet(fmt.Errorf("%d of %d runbooks could not be run now; see the checks above", failed, len(all)))
			}
			return nil
		},
	}
}

// parseCommand is nil if migrator has such a command line.
func parseCommand(words []string) error {
	cmd, rest, err := newRoot(&cli{}).Find(words[1:])
	if err != nil {
		return err
	}
	if err := cmd.ParseFlags(rest); err != nil {
		return err
	}
	if left := cmd.Flags().Args(); cmd.HasSubCommands() && len(left) > 0 {
		return fmt.Errorf("there is no command %s %s", cmd.CommandPath(), left[0])
	}
	return nil
}

func (c *cli) printVerdict(v app.RunbookVerdict) {
	word := c.paint(c.out, green, "verified")
	if !v.Passed {
		word = c.paint(c.out, red, "failed")
	}
	c.printf("%s: %s\n", v.Runbook, word)
	for _, check := range v.Checks {
		style := green
		switch check.Result {
		case store.Refused:
			style = red
		case store.Warned:
			style = yellow
		}
		c.printf("  %s %s: %s\n", c.paint(c.out, style, fmt.Sprintf("%-8s", check.Result)), check.Name, check.Detail)
		if !check.Hint.IsZero() && check.Result != store.Good {
			c.printf("           see: %s\n", c.given.text(check.Hint))
		}
	}
}

func newRunbookExport(c *cli) *cobra.Command {
	var out string
	cmd := &cobra.Command{
		Use:   "export RUN",
		Short: "Write a run as Markdown, for a post-mortem",
		Args:  runAnd(),
		RunE: c.withRun(func(v app.RunbookView) error {
			book, err := runbook.Reread(fmt.Sprintf("run %d", v.Run.ID), v.Run.Source)
			if err != nil {
				book = nil // written by another release: its records are reported without it
			}
			text := runbook.Report{
				Title: v.Run.Title, Run: v.Run.ID, Status: v.Run.Status, Began: v.Run.Began, Finished: v.Run.Finished, Records: v.Steps, Book: book,
				Subject: fmt.Sprintf("%s of %s, by %s, in epoch %d, config hash %s", v.Run.Runbook, v.Run.Migration, v.Run.Actor, v.Run.Epoch, humanize.Short(v.Run.ConfigHash)),
			}.Markdown()
			if out != "" {
				if err := os.WriteFile(out, []byte(text), 0o644); err != nil { //nolint:gosec // public: it contains no secret
					return err
				}
			}
			result := map[string]string{"runbook": v.Run.Runbook, "migration": v.Run.Migration, "file": out, "text": text}
			return c.show(result, func() {
				if out != "" {
					c.printf("wrote %s\n", out)
					return
				}
				c.printf("%s", strings.TrimRight(text, "\n")+"\n")
			})
		}),
	}
	cmd.Flags().StringVar(&out, "out", "", "the `FILE` to write; default: the terminal")
	return cmd
}
