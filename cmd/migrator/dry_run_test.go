package main

import (
	"io"
	"log/slog"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

// withoutDryRun are the commands that have no --dry-run, and why: "" changes nothing that is stored.
var withoutDryRun = map[string]string{
	"config schema": "", "config settings": "", "config show": "", "config validate": "",
	"doctor": "", "plan": "", "status": "", "phase status": "", "version": "",
	"drill list": "", "drill show": "", "fleet list": "", "gate explain": "", "gate list": "", "phase history": "",
	"history verify": "", "history anchor": "", "reconcile explain": "", "reconcile list": "", "reconcile show": "", "reconcile schedule": "",
	"runbook export": "", "runbook list": "", "runbook render": "", "runbook schema": "", "runbook show": "", "trigger list": "", "trigger test": "", "token list": "",
	"completion bash": "", "completion fish": "", "completion powershell": "", "completion zsh": "",

	"drill rollback": "a drill changes what it is to prove; it is refused where a fault could reach customers",
	"drill lift":     "it ends a fault, the sooner the better, and no fault is no error",
	"drill export":   "it writes the file that is named",
	"drill import":   "its file is checked by history's keys, and a drill that is known is refused",
	"reconcile run":  "it compares; of a repair the dry run is --repair=plan",
	"runbook run":    "runbook verify checks the steps, and runbook render shows them",
	"runbook verify": "it records that the runbook was verified, which is its purpose",
	"drill daemon":   "a process that goes on until it is stopped",
	"serve":          "a process that goes on until it is stopped",
	"worker":         "a process that goes on until it is stopped",
}

// TestWhatChangesHasADryRun walks all commands.
func TestWhatChangesHasADryRun(t *testing.T) {
	c := &cli{streams: streams{in: strings.NewReader(""), out: io.Discard, err: io.Discard}, log: slog.New(slog.DiscardHandler)}
	root := newRoot(c)
	root.InitDefaultCompletionCmd()
	seen := map[string]bool{}
	var walk func(*cobra.Command)
	walk = func(cmd *cobra.Command) {
		for _, sub := range cmd.Commands() {
			walk(sub)
		}
		name := strings.TrimPrefix(cmd.CommandPath(), "migrator ")
		if cmd.HasSubCommands() || name == "help" || strings.HasPrefix(name, "__") {
			return
		}
		_, listed := withoutDryRun[name]
		seen[name] = true
		switch has := cmd.Flags().Lookup("dry-run") != nil; {
		case has && listed:
			t.Errorf("%s has --dry-run, and is on the list of those without", name)
		case !has && !listed:
			t.Errorf("%s has no --dry-run: give it one (canDryRun), or write here why it has none", name)
		}
	}
	walk(root)
	for name := range withoutDryRun {
		if !seen[name] {
			t.Errorf("%s is no command", name)
		}
	}
}
