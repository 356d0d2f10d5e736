package main

import (
	"context"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/stranglerfig/migrator/internal/sqlconsole"
	"github.com/stranglerfig/migrator/internal/state"
	"github.com/stranglerfig/migrator/internal/state/runbooks"
	"github.com/stranglerfig/migrator/phases"
	"github.com/stranglerfig/migrator/runbook"
	"github.com/stranglerfig/migrator/store"
)

// runbookVerdict is what runbook verify found of one runbook.
type runbookVerdict struct {
	phases.RunbookEvidence
	File   string        `json:"file,omitempty"`
	Checks []store.Check `json:"checks"`
}

func newRunbookVerify(c *cli) *cobra.Command {
	return &cobra.Command{
		Use:   "verify [FILE|rollback|cutover]",
		Short: "Look whether every step could be run, without running it",
		Long: `Looks whether programs exist, statements can be planned with the present privileges,
endpoints answer, names are not remembered for too long, and somebody may approve.
Nothing is changed. Without an argument both runbooks that can be rendered are
looked at. The result is kept: the gate runbook (gates.runbook.within) rests on the
newest one of the runbook rollback.`,
		Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			switch len(args) {
			case 0:
				args = runbook.Rendered
			case 1:
			default:
				return usagef("want one runbook, or none for all that can be rendered, but got %d arguments; try: migrator runbook verify rollback", len(args))
			}
			ctx := cmd.Context()
			b, err := c.openShelf(ctx)
			if err != nil {
				return err
			}
			defer b.store.Close()
			var all []runbookVerdict
			wanting := 0
			for _, what := range args {
				v, err := c.verifyBook(ctx, b, what)
				if err != nil {
					return err
				}
				if !v.Passed {
					wanting++
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
			if wanting > 0 {
				return notYet(fmt.Errorf("%d of %d runbooks could not be run now; what is wanting is said above", wanting, len(all)))
			}
			return nil
		},
	}
}

func (c *cli) verifyBook(ctx context.Context, b *bookshelf, what string) (v runbookVerdict, err error) {
	r, path, err := c.openBook(ctx, b, what)
	if err == nil {
		err = applies(r, b, false)
	}
	if err == nil { // what is found is kept as found under what is applied
		err = c.shelfAsApplied(b)
	}
	if err != nil {
		return v, err
	}
	tools, err := c.runbookTools(b, r, runbooks.Run{UID: "verify"})
	if err != nil {
		return v, err
	}
	stateURL, err := c.settings.stateURL()
	if err != nil {
		return v, err
	}
	v.File, v.Checks = path, tools.Verify(ctx, prober{c.console(b.m, r, stateURL), b.store})
	if ctx.Err() != nil {
		return v, ctx.Err()
	}
	passed := true
	for _, check := range v.Checks {
		passed = passed && check.Result != store.Refused
	}
	v.RunbookEvidence, err = runbooks.New(b.store.Pool(), b.m.Name).Verified(ctx, r.Name, r.Source, passed, v.Checks)
	return v, err
}

// prober looks at what steps need.
type prober struct {
	*sqlconsole.Console
	*state.Store
}

// Command implements runbook.Prober.
func (prober) Command(words []string) error {
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

func (c *cli) printVerdict(v runbookVerdict) {
	word := c.paint(c.out, green, "verified")
	if !v.Passed {
		word = c.paint(c.out, red, "wanting")
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
		Args:  cobra.ArbitraryArgs,
		RunE: c.withRun(func(v runbookView) error {
			book, err := runbook.Reread(fmt.Sprintf("run %d", v.Run.ID), v.Run.Source)
			if err != nil {
				book = nil // written by another release: its records still tell what happened
			}
			text := runbook.Report{
				Title: v.Run.Title, Run: v.Run.ID, Status: v.Run.Status, Began: v.Run.Began, Finished: v.Run.Finished, Records: v.Steps, Book: book,
				Subject: fmt.Sprintf("%s of %s, by %s, in epoch %d, configuration %s", v.Run.Runbook, v.Run.Migration, v.Run.Actor, v.Run.Epoch, short12(v.Run.ConfigHash)),
			}.Markdown()
			if out != "" {
				if err := os.WriteFile(out, []byte(text), 0o644); err != nil { //nolint:gosec // a document for everybody; it holds no secret
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
