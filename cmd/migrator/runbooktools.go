package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/stranglerfig/migrator/internal/sources"
	"github.com/stranglerfig/migrator/internal/sqlconsole"
	"github.com/stranglerfig/migrator/internal/state/runbooks"
	"github.com/stranglerfig/migrator/migration"
	"github.com/stranglerfig/migrator/phases"
	"github.com/stranglerfig/migrator/runbook"
)

// runbookTools reaches what steps name.
func (c *cli) runbookTools(b *bookshelf, r *runbook.Runbook, run runbooks.Run) (*runbook.Executors, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	stateURL, err := c.settings.stateURL()
	if err != nil {
		return nil, err
	}
	secrets := append(runbook.FromEnvironment(), stateURL, b.m.Legacy.URL, b.m.Target.URL, b.m.Prometheus.URL)
	for name := range r.Connections {
		if url, err := r.URL(name); err == nil {
			secrets = append(secrets, url)
		}
	}
	mark, err := markFile(run.UID)
	if err != nil {
		return nil, err
	}
	return &runbook.Executors{
		Book: r, Run: run.ID, Self: self, Env: c.stepEnv(b.m, stateURL), SQL: c.console(b.m, r, stateURL),
		PromQL: c.promQL(b.m), Redact: runbook.NewRedactor(secrets...), Mark: mark,
	}, nil
}

// markFile is where this machine knows that programs of a run are alive.
func markFile(uid string) (string, error) {
	dir, err := os.UserCacheDir()
	if err != nil {
		dir = filepath.Join(os.TempDir(), fmt.Sprintf("migrator-%d", os.Getuid()))
	}
	dir = filepath.Join(dir, "migrator", "runs")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", fmt.Errorf("a place for the marks of running steps: %w", err)
	}
	return filepath.Join(dir, uid), nil
}

// stepEnv is the environment of programs: the operator's own, and where the
// migration's databases are.
func (c *cli) stepEnv(m *migration.Config, stateURL string) []string {
	set := map[string]string{
		"MIGRATION": m.Name, "MIGRATOR_LEGACY_URL": m.Legacy.URL, "MIGRATOR_TARGET_URL": m.Target.URL,
		"MIGRATOR_OUTPUT": outputText, "MIGRATOR_STATE_URL": stateURL, "NO_COLOR": "1",
	}
	if file := c.settings.descriptionFile(); file != "" {
		if whole, err := filepath.Abs(file); err == nil {
			set["MIGRATOR_FILE"] = whole
		}
	}
	if c.settings.StateURLFile != "" { // two places would be one too many
		delete(set, "MIGRATOR_STATE_URL")
		if whole, err := filepath.Abs(c.settings.StateURLFile); err == nil {
			set["MIGRATOR_STATE_URL_FILE"] = whole
		}
	}
	env := slices.DeleteFunc(os.Environ(), func(pair string) bool {
		name, _, _ := strings.Cut(pair, "=")
		_, replaced := set[name]
		return replaced || name == "MIGRATOR_STATE_URL" || name == "MIGRATOR_STATE_URL_FILE"
	})
	for name, value := range set {
		if value != "" {
			env = append(env, name+"="+value)
		}
	}
	slices.Sort(env)
	return env
}

// console reaches the connections that steps in SQL name.
func (c *cli) console(m *migration.Config, r *runbook.Runbook, stateURL string) *sqlconsole.Console {
	return &sqlconsole.Console{
		URL: func(connection string) (string, error) {
			switch {
			case connection == "state":
				return stateURL, nil
			case connection == "legacy" && m.Legacy.URL != "":
				return m.Legacy.URL, nil
			case connection == "target" && m.Target.Store != "postgres":
				return "", fmt.Errorf("the target is a %s, which takes no SQL", m.Target.Store)
			case connection == "target" && m.Target.URL != "":
				return m.Target.URL, nil
			case connection == "legacy" || connection == "target":
				return "", fmt.Errorf("the URL of %s is in the description; try: migrator runbook run --file %s.yaml", connection, m.Name)
			}
			return r.URL(connection)
		},
		Pooler: func(connection string) bool { return r.Connections[connection].Pooler },
	}
}

func (c *cli) promQL(m *migration.Config) func(ctx context.Context, query string) (float64, error) {
	if m.Prometheus.URL == "" {
		return nil
	}
	return func(ctx context.Context, query string) (float64, error) {
		p := sources.Prometheus{
			URL: m.Prometheus.URL, Query: query, TokenFile: m.Prometheus.TokenFile, CAFile: m.Prometheus.CAFile,
			Username: m.Prometheus.Username, PasswordFile: m.Prometheus.PasswordFile,
		}
		reading := p.Read(ctx)
		switch reading.Verdict {
		case "":
			return reading.Value, nil
		case phases.NoData:
			return 0, &runbook.NotMetError{What: reading.Detail}
		}
		return 0, errors.New(reading.Detail)
	}
}
