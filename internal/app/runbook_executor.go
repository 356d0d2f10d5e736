package app

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/stranglerfig/migrator/internal/hint"
	"github.com/stranglerfig/migrator/internal/sqlconsole"
	"github.com/stranglerfig/migrator/internal/state"
	"github.com/stranglerfig/migrator/internal/state/runbooks"
	"github.com/stranglerfig/migrator/migration"
	"github.com/stranglerfig/migrator/phases"
	"github.com/stranglerfig/migrator/runbook"
)

// Executor returns one for the steps of a run. Programs get this process's environment and
// the URLs of the migration's databases. Recorded output is redacted: it has none of these
// secrets.
func (b *Runbooks) Executor(r *runbook.Runbook, run runbooks.Run) (*runbook.Executors, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	secrets := append(runbook.FromEnvironment(), b.StateURL, b.Config.Legacy.URL, b.Config.Target.URL, b.Config.Prometheus.URL)
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
		Book: r, Run: run.ID, Self: self, Env: b.environment(), SQL: b.console(r),
		PromQL: b.promQL(), Redact: runbook.NewRedactor(secrets...), Mark: mark,
	}, nil
}

// markFile returns the path of the file that programs of a run keep open on this machine, so
// that it is known whether one is alive.
func markFile(uid string) (string, error) {
	dir, err := os.UserCacheDir()
	if err != nil {
		dir = filepath.Join(os.TempDir(), fmt.Sprintf("migrator-%d", os.Getuid()))
	}
	dir = filepath.Join(dir, "migrator", "runs")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", fmt.Errorf("create the directory for marks of running steps: %w", err)
	}
	return filepath.Join(dir, uid), nil
}

// environment returns that of programs: the operator's own, and the URLs of the migration's
// databases.
func (b *Runbooks) environment() []string {
	set := map[string]string{
		"MIGRATION": b.Config.Name, "MIGRATOR_LEGACY_URL": b.Config.Legacy.URL, "MIGRATOR_TARGET_URL": b.Config.Target.URL,
		"MIGRATOR_OUTPUT": "text", "MIGRATOR_STATE_URL": b.StateURL, "NO_COLOR": "1",
	}
	if b.File != "" {
		if whole, err := filepath.Abs(b.File); err == nil {
			set["MIGRATOR_FILE"] = whole
		}
	}
	if b.StateURLFile != "" { // migrator refuses both variables at once
		delete(set, "MIGRATOR_STATE_URL")
		if whole, err := filepath.Abs(b.StateURLFile); err == nil {
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

// console connects to the databases that SQL steps name.
func (b *Runbooks) console(r *runbook.Runbook) *sqlconsole.Console {
	m := b.Config
	return &sqlconsole.Console{
		URL: func(connection string) (string, error) {
			_, speaks := m.Target.Part.(migration.SQLPart)
			switch {
			case connection == "state":
				return b.StateURL, nil
			case connection == "legacy" && m.Legacy.URL != "":
				return m.Legacy.URL, nil
			case connection == "target" && !speaks:
				return "", fmt.Errorf("the target is a %s, which does not run SQL", m.Target.Store)
			case connection == "target" && m.Target.URL != "":
				return m.Target.URL, nil
			case connection == "legacy" || connection == "target":
				return "", hint.Errorf(hint.Hint{Do: hint.SetMigrationFile}, "the URL of %s is in the migration file, and none is named", connection)
			}
			return r.URL(connection)
		},
		Pooler: func(connection string) bool { return r.Connections[connection].Pooler },
	}
}

func (b *Runbooks) promQL() func(ctx context.Context, query string) (float64, error) {
	if b.Config.Prometheus.URL == "" {
		return nil
	}
	return func(ctx context.Context, query string) (float64, error) {
		reading := prometheus(b.Config.Prometheus, query).Read(ctx)
		switch reading.Verdict {
		case "":
			return reading.Value, nil
		case phases.NoData:
			return 0, &runbook.NotMetError{What: reading.Detail}
		}
		return 0, errors.New(reading.Detail)
	}
}

// prober implements runbook.Prober.
type prober struct {
	*sqlconsole.Console
	*state.Store
	command func(words []string) error
}

// Command implements runbook.Prober.
func (p prober) Command(words []string) error { return p.command(words) }
