package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/stranglerfig/migrator/internal/hint"
	"golang.org/x/term"
)

// streams are the command's input and outputs; tests give buffers.
type streams struct {
	in       io.Reader
	out, err io.Writer
}

// output keeps the first error of writing the result. A reader that has left, as head does, is none:
// what the command has done is done, and its exit code says so.
type output struct {
	io.Writer
	left bool
	err  error
}

func (o *output) Write(p []byte) (int, error) {
	if o.left {
		return len(p), nil
	}
	n, err := o.Writer.Write(p)
	if errors.Is(err, syscall.EPIPE) {
		o.left = true
		return len(p), nil
	}
	if err != nil && o.err == nil {
		o.err = err
	}
	return n, err
}

func isTerminal(w any) bool {
	if f, ok := w.(*frame); ok {
		w = f.to
	}
	if o, ok := w.(*output); ok {
		w = o.Writer
	}
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// cli is one invocation: its streams, its settings, and what its commands share.
type cli struct {
	streams
	settings     settings
	settingsFrom string // the file that they were read from; "": none
	given        given
	log          *slog.Logger
	command      string  // the command's path, once it is known
	quiet        bool    // --quiet: print nothing after a success
	holder       *holder // of a quiet command; else nil
	dryRun       bool    // --dry-run of a command that has it (canDryRun)
	warned       bool    // the health warning of the state database was printed
}

// run executes one command line and returns the exit code.
func run(ctx context.Context, args []string, io streams) int {
	out := &output{Writer: io.out}
	c := &cli{streams: streams{in: io.in, out: out, err: io.err}, log: slog.New(slog.DiscardHandler)}
	if wantsJSON(args) {
		c.settings.Output = outputJSON // for errors before the settings are read
	}
	root := newRoot(c)
	root.SetArgs(keysLast(args))
	root.SetIn(io.in)
	root.SetOut(out)
	root.SetErr(io.err)
	ctx = hint.OnWait(ctx, func(what string, remedy hint.Hint) {
		c.note("waiting for %s", what)
		if !remedy.IsZero() {
			c.note("  try: %s", c.given.text(remedy))
		}
	})
	err := root.ExecuteContext(ctx)
	if err == nil && out.err != nil {
		err = fmt.Errorf("the result could not be written: %w", out.err)
	}
	if err != nil {
		c.release()
		return c.fail(err)
	}
	return exitDone
}

// wantsJSON reports whether the command line asks for JSON. It does not parse the rest,
// which may be what is wrong.
func wantsJSON(args []string) bool {
	line := strings.Join(args, " ") + " "
	for _, flag := range []string{"-o json ", "-o=json ", "-ojson ", "--output json ", "--output=json "} {
		if strings.Contains(" "+line, " "+flag) {
			return true
		}
	}
	return os.Getenv("MIGRATOR_OUTPUT") == outputJSON
}

func newRoot(c *cli) *cobra.Command {
	root := &cobra.Command{
		Use:   "migrator",
		Short: "Move live data between stores without downtime",
		Long: `migrator steps one kind of record out of a legacy store into a target store while
the application keeps serving:

  legacy → shadow-write → dual-read → cutover → grace → retain → complete

It refuses a step whose gates are not open, and reports at any moment what a
rollback would cost.

Exit codes: 0 done, 1 error, 2 usage or bad input, 8 not yet (a gate is closed, or
differences remain).`,
		SilenceUsage:  true,
		SilenceErrors: true,
		Args:          noArgs,
		RunE:          func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
		PersistentPreRunE: func(cmd *cobra.Command, _ []string) error {
			if strings.HasPrefix(cmd.Name(), cobra.ShellCompRequestCmd) {
				return nil // the function that completes reads the settings, and says nothing of a mistake in them
			}
			if err := c.configure(cmd); err != nil {
				return err
			}
			if c.quiet {
				c.beQuiet()
			}
			return swallowed(cmd)
		},
	}
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return usage(err, cmd.CommandPath()+" --help")
	})
	addSettingsFlags(root.PersistentFlags())
	root.PersistentFlags().BoolVarP(&c.quiet, "quiet", "q", false, "print nothing if all is done (exit code 0), as for cron; else everything")
	root.AddCommand(
		newInit(c), newPlan(c), newApply(c), newStatus(c), newPhase(c), newHistoryGroup(c), newGate(c), newTrigger(c), newFleet(c), newTarget(c), newLegacy(c),
		newBackfill(c), newReconcile(c), newWorker(c), newDrill(c), newRollback(c), newRunbook(c), newServe(c), newToken(c), newForget(c), newConfig(c), newDoctor(c), newVersion(c),
	)
	root.InitDefaultCompletionCmd()
	c.addCompletions(root)
	return root
}

// noArgs is cobra's validator of the same name, with usage errors.
func noArgs(cmd *cobra.Command, args []string) error {
	if len(args) > 0 {
		if cmd.HasSubCommands() {
			return usageTry(meant(cmd, args[0]), "unknown command %q for %q", args[0], cmd.CommandPath())
		}
		return usageTry(try("%s --help", cmd.CommandPath()), "%q takes no arguments, but got %q", cmd.CommandPath(), args[0])
	}
	return nil
}

// meant is the hint after an unknown command: those of a similar name below the group, else those of the
// same name elsewhere.
func meant(group *cobra.Command, typed string) hint.Hint {
	group.SuggestionsMinimumDistance = 2
	var found []string
	for _, name := range group.SuggestionsFor(typed) {
		found = append(found, group.CommandPath()+" "+name)
	}
	var named func(cmd *cobra.Command)
	named = func(cmd *cobra.Command) {
		for _, sub := range cmd.Commands() {
			if sub.Name() == typed && sub.IsAvailableCommand() {
				found = append(found, sub.CommandPath())
			}
			named(sub)
		}
	}
	if len(found) == 0 {
		named(group.Root())
	}
	if len(found) == 0 {
		return try("%s --help", group.CommandPath())
	}
	return try("%s", strings.Join(found, ", or "))
}

// group is a command that has only subcommands.
func group(use, short string, subs ...*cobra.Command) *cobra.Command {
	cmd := &cobra.Command{
		Use: use, Short: short, Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(subs...)
	return cmd
}
