package main

import (
	"cmp"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/stranglerfig/migrator/internal/app"
	"github.com/stranglerfig/migrator/internal/humanize"
	"github.com/stranglerfig/migrator/internal/preflight"
	"github.com/stranglerfig/migrator/migration"
	"github.com/stranglerfig/migrator/store"
)

func newPlan(c *cli) *cobra.Command {
	return &cobra.Command{
		Use:   "plan",
		Short: "Check both stores and show the phases ahead; change nothing",
		Long: `Connects to both stores and the state database, checks privileges, the key, the
types, versions and settings that would hurt later, compares a PostgreSQL target with
legacy, and prints the phases with their gates. Some checks write what the migration
will write, and roll it back: triggers of the tables run. Exits with 2 if a check
refuses the migration.`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			m, err := c.load()
			if err != nil {
				return err
			}
			p := c.preflight(m).Plan(cmd.Context())
			if err := c.show(p, func() { c.printPlan(p) }); err != nil {
				return err
			}
			return verdict(p)
		},
	}
}

// verdict is nil if the migration may be applied.
func verdict(p *preflight.Report) error {
	if p.Refused == 0 {
		return nil
	}
	if p.Refused == 1 {
		return usagef("a check refuses the migration")
	}
	return usagef("%d checks refuse the migration", p.Refused)
}

// preflight checks m, which may be nil.
func (c *cli) preflight(m *migration.Config) *preflight.Preflight {
	p := &preflight.Preflight{Config: m, StateURL: c.settings.stateURL, OpenState: c.openState, CheckSources: app.CheckPrometheus}
	for _, file := range []string{c.settings.StateURLFile, c.settings.AlertsTokenFile, c.settings.TLSKeyFile} {
		if file != "" {
			p.SecretFiles = append(p.SecretFiles, file)
		}
	}
	if m != nil {
		p.SecretFiles = append(p.SecretFiles, m.SecretFiles(filepath.Dir(c.settings.migrationFile()))...)
	}
	return p
}

func (c *cli) printPlan(p *preflight.Report) {
	c.printChecks(p.Checks)
	if len(p.Fields) > 0 {
		rows := [][]string{{"FIELD", "TYPE", "KIND", "IN THE TARGET"}}
		for _, f := range p.Fields {
			rows = append(rows, []string{f.Name, f.Type, string(f.Kind), f.Target})
		}
		c.printf("\n")
		c.table(rows)
	}
	c.printf("\n")
	rows := [][]string{{"PHASE", "STEPS", "AT LEAST", "ROLLBACK", "GATES TO ENTER"}}
	for _, ph := range p.Phases {
		least := "-"
		if ph.AtLeast > 0 {
			least = ph.AtLeast.String()
		}
		rows = append(rows, []string{string(ph.Phase), cmp.Or(ph.Steps, "-"), least, ph.Rollback, cmp.Or(join(ph.Gates), "-")})
	}
	c.table(rows)
	c.printSummary(p)
}

func (c *cli) printChecks(checks []store.Check) {
	marks := map[store.CheckResult]written{
		store.Good:    c.paint(c.out, green, "ok     "),
		store.Warned:  c.paint(c.out, yellow, "warning"),
		store.Refused: c.paint(c.out, red, "refused"),

		store.Unchecked: c.paint(c.out, yellow, "unknown"),
	}
	for _, check := range checks {
		c.printf("%s  %s: %s\n", marks[check.Result], check.Name, check.Detail)
		if !check.Hint.IsZero() && check.Result != store.Good {
			c.printf("         try: %s\n", c.given.text(check.Hint))
		}
	}
}

func newDoctor(c *cli) *cobra.Command {
	var bundle string
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "Check settings, stores and state of a running migration",
		Long: `Repeats the checks of plan and adds those of a running migration: lapsed leases,
journaled keys, an interrupted fence, a migration file that differs from the applied
one, messages that wait, no daemon, and what the leading daemon saw when it last
repeated the checks. What could not be looked at is listed as unknown. Exits with 2
if a check refuses the migration.

--bundle also writes them to a file for support, with version, settings and migration files without
secrets, status, history, fleet, gates, triggers, runs and metrics of each migration. It has no
record's value and no key, no URL of a store and no token; reasons that operators gave are in it.`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var m *migration.Config
			if c.settings.migrationFile() != "" {
				var err error
				if m, err = c.load(); err != nil {
					return err
				}
			}
			p := c.preflight(m).Diagnose(cmd.Context())
			if bundle != "" {
				if err := c.writeBundle(cmd.Context(), bundle, m, p); err != nil {
					return err
				}
				c.note("wrote %s", bundle)
			}
			if err := c.show(p, func() { c.printDiagnosis(p) }); err != nil {
				return err
			}
			return verdict(p)
		},
	}
	cmd.Flags().StringVar(&bundle, "bundle", "", "also write all that support needs to this new `FILE` (.tar.gz)")
	return cmd
}

func (c *cli) printDiagnosis(p *preflight.Report) {
	c.printChecks(p.Checks)
	c.printSummary(p)
}

func (c *cli) printSummary(p *preflight.Report) {
	c.printf("\n%s, %s, %d refused", humanize.Counted(len(p.Checks), "check"), humanize.Counted(p.Warnings, "warning"), p.Refused)
	if p.Unchecked > 0 {
		c.printf(", %d unknown: not everything was looked at", p.Unchecked)
	}
	c.printf("\n")
}
