package redis

import (
	"context"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"github.com/stranglerfig/migrator/internal/hint"
	"github.com/stranglerfig/migrator/internal/test/testenv"
	"github.com/stranglerfig/migrator/record"
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

// TestAServerThatDoesNotAnswerIsNamed: while the call waits, long before it returns.
func TestAServerThatDoesNotAnswerIsNamed(t *testing.T) {
	t.Parallel()
	server := testenv.Redis(t)
	schema := storetest.Simple()
	target := open(t, testConfig("hash", "p", schema, storetest.TargetOptions{}), server.URL(), schema)
	applied(t, target, write(1, 1))
	ok(t, server.Pause())
	defer func() { ok(t, server.Resume()) }()
	for name, call := range map[string]func(context.Context) error{
		"write": func(ctx context.Context) error {
			_, err := target.Apply(ctx, []store.Write{write(1, 2)})
			return err
		},
		"scan": func(ctx context.Context) error {
			return target.Scan(ctx, func([]store.Entry) error { return nil })
		},
		"load": func(ctx context.Context) error {
			f := store.BulkWrite{Block: new(record.Block), Version: version(1), NotAfter: time.Now().Add(time.Minute)}
			f.Block.Reset(len(schema.Fields))
			for _, v := range write(2, 1).Record {
				f.Block.Add(append(f.Block.Buffer(), v.Text...))
			}
			return target.BulkLoad(ctx, f, make([]bool, 1))
		},
	} {
		ctx, cancel := context.WithCancel(t.Context())
		reports := make(chan string, 1000)
		waiting := hint.OnWait(ctx, func(what string, remedy hint.Hint) {
			reports <- what + "; " + remedy.Text
			cancel()
		})
		if err := call(waiting); err == nil {
			t.Errorf("%s: no error of a frozen server", name)
		}
		cancel()
		if text := <-reports; !strings.Contains(text, server.Addr()+", which has not answered") || !strings.Contains(text, "ping") {
			t.Errorf("%s: %q", name, text)
		}
	}
}

// TestANodeThatDoesNotAnswerIsNamed is the same in a cluster, of which other nodes answer.
func TestANodeThatDoesNotAnswerIsNamed(t *testing.T) {
	t.Parallel()
	cluster, err := testenv.StartRedisCluster(t.Context(), 3)
	ok(t, err)
	defer func() { _ = cluster.Stop(context.WithoutCancel(t.Context())) }()
	schema := storetest.Simple()
	target := open(t, testConfig("hash", "p", schema, storetest.TargetOptions{}), cluster.URL(), schema)
	var writes []store.Write
	for id := range 100 {
		writes = append(writes, write(id, 2))
	}
	applied(t, target, writes...)
	frozen := cluster.Nodes[0]
	ok(t, frozen.Pause())
	defer func() { ok(t, frozen.Resume()) }()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var named atomic.Bool
	waiting := hint.OnWait(ctx, func(what string, _ hint.Hint) {
		if strings.Contains(what, frozen.Addr()+", which has not answered") {
			named.Store(true)
		}
	})
	for !named.Load() && ctx.Err() == nil {
		_, _ = target.Apply(waiting, writes)
	}
}
