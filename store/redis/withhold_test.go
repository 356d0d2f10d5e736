package redis

import (
	"strings"
	"testing"

	goredis "github.com/redis/go-redis/v9"

	"github.com/stranglerfig/migrator/internal/test/testenv"
	"github.com/stranglerfig/migrator/store"
	"github.com/stranglerfig/migrator/store/storetest"
)

// TestErrorsQuoteNoArguments: a server that lacks a command quotes what the command was given, as
// one does behind a proxy, or with renamed commands.
func TestErrorsQuoteNoArguments(t *testing.T) {
	t.Parallel()
	server := testenv.Redis(t, testenv.RedisOptions{Config: []string{"rename-command EVALSHA \"\"", "rename-command EVAL \"\""}})
	client, err := dial(server.URL(), nil)
	ok(t, err)
	defer func() { _ = client.Close() }()
	const canary = "CANARY"
	refused := func(what string, err error) {
		t.Helper()
		if err == nil || !strings.Contains(err.Error(), "unknown command") || strings.Contains(err.Error(), canary) {
			t.Errorf("%s: %v", what, err)
		}
	}
	refused("a command", client.Do(t.Context(), "NOSUCH", canary).Err())
	pipe := client.Pipeline()
	cmd := pipe.Do(t.Context(), "NOSUCH", canary)
	_, err = pipe.Exec(t.Context())
	refused("a pipeline", err)
	refused("a command of a pipeline", cmd.Err())
	for _, format := range []string{"hash", "json"} {
		schema := storetest.Simple()
		target := open(t, testConfig(format, format, schema, storetest.TargetOptions{}), server.URL(), schema)
		w := write(1, 1)
		w.Record[1].Text = canary
		results, err := target.Apply(t.Context(), []store.Write{w})
		if err == nil {
			err = results[0].Err
		}
		refused(format, err)
	}
	conn, err := dialBulk(t.Context(), client.(*goredis.Client).Options())
	ok(t, err)
	defer func() { _ = conn.Close() }()
	ok(t, conn.during(t.Context(), func() error {
		conn.out = appendCommand(conn.out, "NOSUCH", canary)
		if err := conn.flush(); err != nil {
			return err
		}
		_, _, err := conn.header()
		return err
	}))
	if conn.refused == "" || strings.Contains(conn.refused, canary) {
		t.Errorf("the bulk connection: %q", conn.refused)
	}
}
