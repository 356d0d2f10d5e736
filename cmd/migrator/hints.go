package main

import (
	"log/slog"
	"regexp"
	"strings"

	"github.com/stranglerfig/migrator/internal/hint"
)

// commandLines maps each action to the command line that performs it. A {placeholder} is
// a subject, in the order of the hint's Of; {migration} is the name that the command was
// given, or nothing. Shell metacharacters in subjects are quoted.
func commandLines() map[hint.Action]string {
	return map[hint.Action]string{
		hint.Init:                "migrator init",
		hint.GrantOperator:       "migrator init --grant-operator {role}",
		hint.GrantApplication:    "migrator init --grant-application {role}",
		hint.GrantServer:         "migrator init --grant-server {role}",
		hint.SetStateURL:         "export MIGRATOR_STATE_URL=postgres://user@host/database",
		hint.Listen:              "--listen 127.0.0.1:7070, or --listen-anywhere behind a firewall",
		hint.SetMigrationFile:    "--file products.yaml",
		hint.Apply:               "migrator apply",
		hint.AddField:            "migrator apply --add-field {column}",
		hint.DropField:           "migrator apply --drop-field {column}",
		hint.ChangeField:         "migrator apply --drop-field {column} --add-field {column}",
		hint.LiftFence:           "migrator apply --lift-fence {attempt}",
		hint.Doctor:              "migrator doctor",
		hint.Status:              "migrator status",
		hint.Retry:               "the same again",
		hint.Serve:               "migrator serve",
		hint.Advance:             "migrator phase advance {migration}",
		hint.AdvanceDryRun:       "migrator phase advance {migration} --dry-run",
		hint.Approve:             "migrator phase approve {migration} --to {phase}",
		hint.Override:            "migrator phase advance {migration} --override {gate}='...'",
		hint.Acknowledge:         "migrator phase acknowledge {migration} --reason '...'",
		hint.Resume:              "migrator phase resume {migration}",
		hint.Reclaim:             "migrator phase reclaim --reason '...'",
		hint.Rollback:            "migrator phase rollback {migration}",
		hint.RollbackTo:          "migrator phase rollback {migration} --to {phase} --percent {percent}",
		hint.RollbackToGrace:     "migrator phase rollback {migration} --to grace",
		hint.RollbackToLegacy:    "migrator phase rollback {migration} --to legacy",
		hint.AcceptMissing:       "migrator phase rollback {migration} --accept-missing {records}",
		hint.Claim:               "migrator target claim",
		hint.TakeOver:            "migrator apply --take-over",
		hint.Forget:              "migrator --file its.yaml forget {name}",
		hint.Rehearse:            "migrator phase rollback {migration} --rehearse",
		hint.SetAside:            "migrator phase rollback {migration} --set-aside",
		hint.GateExplain:         "migrator gate explain {gate} {migration}",
		hint.FleetList:           "migrator fleet list {migration}",
		hint.FleetEvict:          "migrator fleet evict {instance} --reason '...'",
		hint.BackfillRun:         "migrator backfill run",
		hint.ReconcileRun:        "migrator reconcile run",
		hint.ReconcileFull:       "migrator reconcile run --full",
		hint.ReconcileRepair:     "migrator reconcile run --repair",
		hint.ReconcileFullRepair: "migrator reconcile run --full --repair",
		hint.ReconcileResume:     "migrator reconcile resume",
		hint.ReconcileList:       "migrator reconcile list {migration}",
		hint.ReconcileShow:       "migrator reconcile show {run}",
		hint.RunbookVerify:       "migrator runbook verify {runbook}",
		hint.RunbookList:         "migrator runbook list",
		hint.RunbookShow:         "migrator runbook show {run}",
		hint.RunbookRender:       "migrator runbook render {runbook}",
		hint.RunbookResume:       "migrator runbook resume {run}",
		hint.RunbookDecide:       "migrator runbook resume {run} --step {step} --outcome {outcome}",
		hint.RunbookApprove:      "migrator runbook approve {run} {step}",
		hint.DrillList:           "migrator drill list {migration}",
		hint.DrillShow:           "migrator drill show {drill}",
		hint.DrillLift:           "migrator drill lift {migration}",
	}
}

// given is the part of the command line that a command in a hint must repeat.
type given struct {
	file      string // --file; a file of the settings or the environment is found again
	migration string // the name of one
}

var (
	subject      = regexp.MustCompile(` ?\{[a-z]+\}`)
	plainSubject = regexp.MustCompile(`^[A-Za-z0-9_.:/@%+=-]+$`)
)

// commandLine is an action's line with its subjects, "" for an action that this release
// does not know. A missing subject stays a placeholder in capitals.
func (g given) commandLine(h hint.Hint) string {
	of := h.Of
	line := subject.ReplaceAllStringFunc(commandLines()[h.Do], func(token string) string {
		name := strings.Trim(token, " {}")
		switch {
		case name == "migration" && g.migration == "":
			return ""
		case name == "migration":
			return " " + quoted(g.migration)
		case len(of) == 0:
			return " " + strings.ToUpper(name)
		}
		value := of[0]
		of = of[1:]
		return " " + quoted(value)
	})
	if rest, ok := strings.CutPrefix(line, "migrator "); ok && g.file != "" && !strings.HasPrefix(rest, "--file ") {
		line = "migrator --file " + quoted(g.file) + " " + rest
	}
	return line
}

func quoted(s string) string {
	if plainSubject.MatchString(s) {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

// text is a hint for a person: the command line, then the hint's own text.
func (g given) text(h hint.Hint) string {
	line := g.commandLine(h)
	switch {
	case line == "":
		return h.Text
	case h.Text == "":
		return line
	}
	return line + ", " + h.Text
}

// logHint is a ReplaceAttr of slog: it replaces a hint by its command line.
func (c *cli) logHint(_ []string, a slog.Attr) slog.Attr {
	if h, ok := a.Value.Any().(hint.Hint); ok {
		return slog.String(a.Key, c.given.text(h))
	}
	return a
}
