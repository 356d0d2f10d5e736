package main

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/redis/go-redis/v9"
	"github.com/rogpeppe/go-internal/testscript"

	"github.com/stranglerfig/migrator/internal/test/clitest"
	"github.com/stranglerfig/migrator/internal/test/testenv"
)

func TestMain(m *testing.M) { clitest.Main(m, main) }

// TestScripts runs the command lines of testdata/script against real servers.
// Each script gets a database of its own for legacy ($LEGACY_URL) and for the
// state ($MIGRATOR_STATE_URL), and a Redis database ($TARGET_URL).
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup: func(env *testscript.Env) error {
			tb := env.T().(testing.TB)
			env.Setenv("MIGRATOR_STATE_URL", testenv.PostgresURL(tb))
			legacy := testenv.PostgresURL(tb)
			env.Setenv("LEGACY_URL", legacy)
			env.Setenv("WEAK_URL", clitest.AsRole(legacy, "weak", "weak")) // once the script has made the role
			env.Setenv("TARGET_URL", testenv.RedisURL(tb))
			env.Setenv("NO_COLOR", "1")
			env.Setenv("HOME", filepath.Join(env.WorkDir, "home")) // with the logs of runbooks
			examples, err := filepath.Abs("../../configs")
			env.Setenv("CONFIGS", examples)
			return err
		},
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){
			"code":  cmdCode,
			"sql":   cmdSQL,
			"redis": cmdRedis,
			"soak":  cmdSoak,
		},
	})
}

// cmdCode runs a command that must exit with a code: code 2 migrator plan.
func cmdCode(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: code N command [args]")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	err = ts.Exec(args[1], args[2:]...)
	got := 0
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		got = exit.ExitCode()
	} else if err != nil {
		ts.Fatalf("%v", err)
	}
	if got != want {
		ts.Fatalf("%s exited with %d, want %d", strings.Join(args[1:], " "), got, want)
	}
}

// cmdSQL runs statements on the database that a variable names, and prints rows:
// sql LEGACY_URL 'SELECT 1', or sql LEGACY_URL -f file.sql.
func cmdSQL(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) < 2 {
		ts.Fatalf("usage: sql VARIABLE statement...")
	}
	query := strings.Join(args[1:], " ")
	if args[1] == "-f" {
		query = ts.ReadFile(args[2])
	}
	ctx := context.Background()
	conn, err := pgx.Connect(ctx, ts.Getenv(args[0]))
	ts.Check(err)
	defer func() { _ = conn.Close(ctx) }()
	results, err := conn.PgConn().Exec(ctx, query).ReadAll()
	for _, r := range results {
		for _, row := range r.Rows {
			cells := make([]string, len(row))
			for i, cell := range row {
				cells[i] = string(cell)
			}
			_, _ = fmt.Fprintln(ts.Stdout(), strings.Join(cells, "|"))
		}
	}
	if (err != nil) != neg {
		ts.Fatalf("sql: %v", err)
	}
	if err != nil {
		_, _ = fmt.Fprintln(ts.Stderr(), err)
	}
}

// cmdRedis runs one command: redis HGETALL product:1.
func cmdRedis(ts *testscript.TestScript, _ bool, args []string) {
	options, err := redis.ParseURL(ts.Getenv("TARGET_URL"))
	ts.Check(err)
	client := redis.NewClient(options)
	defer func() { _ = client.Close() }()
	words := make([]any, len(args))
	for i, a := range args {
		words[i] = a
	}
	got, err := client.Do(context.Background(), words...).Result()
	if err != nil && !errors.Is(err, redis.Nil) {
		ts.Fatalf("redis: %v", err)
	}
	_, _ = fmt.Fprintln(ts.Stdout(), got)
}

// cmdSoak moves the present route's beginning back, as if the time had passed:
// soak products 40 days.
func cmdSoak(ts *testscript.TestScript, _ bool, args []string) {
	if len(args) < 2 {
		ts.Fatalf("usage: soak migration interval")
	}
	ctx := context.Background()
	conn, err := pgx.Connect(ctx, ts.Getenv("MIGRATOR_STATE_URL"))
	ts.Check(err)
	defer func() { _ = conn.Close(ctx) }()
	tag, err := conn.Exec(ctx, `UPDATE migrator.migrations
		SET phase_since = phase_since - $2::text::interval, route_since = route_since - $2::text::interval WHERE name = $1`,
		args[0], strings.Join(args[1:], " "))
	ts.Check(err)
	if tag.RowsAffected() != 1 {
		ts.Fatalf("no migration %s", args[0])
	}
}
