// Package clitest runs migrator as an operator does: the program itself, with each test's
// own stores and state database.
package clitest

import (
	"bytes"
	"context"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	goredis "github.com/redis/go-redis/v9"

	"github.com/stranglerfig/migrator/internal/test/statetest"
	"github.com/stranglerfig/migrator/internal/test/testenv"
)

// Exit codes.
const (
	Done   = 0
	Error  = 1
	Usage  = 2
	NotYet = 8
)

// Operator runs command lines with its own stores and state database. Unlike a script's,
// its configuration is a settings file.
type Operator struct {
	T                     testing.TB
	Dir                   string // its files
	State, Legacy, Target string // URLs
}

// New writes a migration.yaml with the lines that follow the stores' URLs: those of
// legacy, those of target, and the rest.
func New(t testing.TB, name, legacy, target, rest string) *Operator {
	t.Helper()
	o := &Operator{
		T: t, Dir: t.TempDir(),
		State: statetest.URL(t), Legacy: testenv.PostgresURL(t), Target: testenv.RedisURL(t),
	}
	o.Write("legacy.url", o.Legacy)
	o.Write("target.url", o.Target)
	o.Write("migration.yaml", "name: "+name+"\nlegacy:\n  store: postgres\n  url_file: legacy.url\n"+legacy+
		"target:\n  store: redis\n  url_file: target.url\n"+target+rest)
	o.Write("settings.yaml", "file: "+o.Path("migration.yaml")+"\nstate_url: "+o.State+"\n")
	return o
}

// Path is one of its files.
func (o *Operator) Path(name string) string { return filepath.Join(o.Dir, name) }

// Write writes one of its files.
func (o *Operator) Write(name, text string) {
	o.T.Helper()
	if err := os.WriteFile(o.Path(name), []byte(text), 0o600); err != nil {
		o.T.Fatal(err)
	}
}

// AsRole is the same database for another role.
func AsRole(raw, role, password string) string {
	u, err := url.Parse(raw)
	if err != nil {
		panic(err)
	}
	u.User = url.UserPassword(role, password)
	return u.String()
}

// Command is a command line, ready to run.
func (o *Operator) Command(args ...string) *exec.Cmd {
	//nolint:gosec // the program under test, with the test's own arguments
	return exec.Command("migrator", append([]string{"--settings", o.Path("settings.yaml")}, args...)...)
}

// Try runs one command line.
func (o *Operator) Try(args ...string) (code int, stdout, stderr string) {
	var out, err bytes.Buffer
	cmd := o.Command(args...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(""), &out, &err
	if failed := cmd.Run(); failed != nil && cmd.ProcessState == nil {
		o.T.Error(failed)
		return -1, "", failed.Error()
	}
	return cmd.ProcessState.ExitCode(), out.String(), err.String()
}

// Does runs command lines that must succeed.
func (o *Operator) Does(lines ...string) {
	o.T.Helper()
	for _, line := range lines {
		if code, stdout, stderr := o.Try(strings.Fields(line)...); code != Done {
			o.T.Fatalf("%s: exit code %d\n%s%s", line, code, stdout, stderr)
		}
	}
}

// SQL runs statements on the database.
func (o *Operator) SQL(url, statements string) {
	o.T.Helper()
	ctx := context.WithoutCancel(o.T.Context())
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		o.T.Fatal(err)
	}
	defer func() { _ = conn.Close(ctx) }()
	if _, err := conn.PgConn().Exec(ctx, statements).ReadAll(); err != nil {
		o.T.Fatal(err)
	}
}

// Soak moves the start of the present route into the past, as if the time had passed.
func (o *Operator) Soak() {
	o.T.Helper()
	o.SQL(o.State, `UPDATE migrator.migrations SET phase_since = phase_since - interval '100 days', route_since = route_since - interval '100 days'`)
}

// Redis runs one command in the target.
func (o *Operator) Redis(words ...any) {
	o.T.Helper()
	options, err := goredis.ParseURL(o.Target)
	if err != nil {
		o.T.Fatal(err)
	}
	client := goredis.NewClient(options)
	defer func() { _ = client.Close() }()
	if err := client.Do(o.T.Context(), words...).Err(); err != nil {
		o.T.Fatal(err)
	}
}
