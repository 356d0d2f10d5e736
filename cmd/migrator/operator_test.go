package main

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	goredis "github.com/redis/go-redis/v9"

	"github.com/stranglerfig/migrator/internal/test/testenv"
)

// operator is a person with a terminal: it runs command lines in this process, on
// stores and a state of its own. Unlike a script's, its environment is a settings
// file, so that tests run side by side.
type operator struct {
	t                     testing.TB
	dir                   string
	state, legacy, target string // URLs
}

// newOperator writes a migration.yaml of what comes after the stores' URLs:
// lines of legacy, lines of target, and the rest.
func newOperator(t testing.TB, name, legacy, target, rest string) *operator {
	t.Helper()
	o := &operator{
		t: t, dir: t.TempDir(),
		state: testenv.PostgresURL(t), legacy: testenv.PostgresURL(t), target: testenv.RedisURL(t),
	}
	o.write("legacy.url", o.legacy)
	o.write("target.url", o.target)
	o.write("migration.yaml", "name: "+name+"\nlegacy:\n  store: postgres\n  url_file: legacy.url\n"+legacy+
		"target:\n  store: redis\n  url_file: target.url\n"+target+rest)
	o.write("settings.yaml", "file: "+o.path("migration.yaml")+"\nstate_url: "+o.state+"\n")
	return o
}

func (o *operator) path(name string) string { return filepath.Join(o.dir, name) }

func (o *operator) write(name, text string) {
	o.t.Helper()
	if err := os.WriteFile(o.path(name), []byte(text), 0o600); err != nil {
		o.t.Fatal(err)
	}
}

// try runs one command line.
func (o *operator) try(args ...string) (code int, stdout, stderr string) {
	var out, err bytes.Buffer
	args = append([]string{"--settings", o.path("settings.yaml")}, args...)
	code = run(context.WithoutCancel(o.t.Context()), args, streams{in: strings.NewReader(""), out: &out, err: &err})
	return code, out.String(), err.String()
}

// does runs command lines that must succeed.
func (o *operator) does(lines ...string) {
	o.t.Helper()
	for _, line := range lines {
		if code, stdout, stderr := o.try(strings.Fields(line)...); code != exitDone {
			o.t.Fatalf("%s: exit code %d\n%s%s", line, code, stdout, stderr)
		}
	}
}

// sql runs statements on the database.
func (o *operator) sql(url, statements string) {
	o.t.Helper()
	ctx := context.WithoutCancel(o.t.Context())
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		o.t.Fatal(err)
	}
	defer func() { _ = conn.Close(ctx) }()
	if _, err := conn.PgConn().Exec(ctx, statements).ReadAll(); err != nil {
		o.t.Fatal(err)
	}
}

// soak moves the present route's beginning back, as if the time had passed.
func (o *operator) soak() {
	o.t.Helper()
	o.sql(o.state, `UPDATE migrator.migrations SET phase_since = phase_since - interval '100 days', route_since = route_since - interval '100 days'`)
}

// redis runs one command in the target.
func (o *operator) redis(words ...any) {
	o.t.Helper()
	options, err := goredis.ParseURL(o.target)
	if err != nil {
		o.t.Fatal(err)
	}
	client := goredis.NewClient(options)
	defer func() { _ = client.Close() }()
	if err := client.Do(o.t.Context(), words...).Err(); err != nil {
		o.t.Fatal(err)
	}
}
