package cases

import (
	"testing"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"github.com/stranglerfig/migrator/internal/test/testenv"
)

// newWorldOnRedis has a Redis of its own, which keeps nothing on disk.
func newWorldOnRedis(t *testing.T) (*world, *testenv.RedisServer) {
	t.Helper()
	server := testenv.Redis(t)
	return newWorld(t, options{targetURL: server.URL()}), server
}

// redisDo sends the commands on one connection of its own. The last one may end that
// connection too.
func redisDo(t *testing.T, server *testenv.RedisServer, commands ...[]any) {
	t.Helper()
	o, err := goredis.ParseURL(server.URL())
	if err != nil {
		t.Fatal(err)
	}
	o.MaxRetries, o.PoolSize = -1, 1
	client := goredis.NewClient(o)
	defer func() { _ = client.Close() }()
	for i, command := range commands {
		if err := client.Do(t.Context(), command...).Err(); err != nil && i < len(commands)-1 {
			t.Fatalf("%v: %v", command, err)
		}
	}
}

// pass waits until d has passed on the target's clock. A client's pool may repeat the error of a master that is gone for
// up to a second.
func (w *world) pass(d time.Duration) {
	w.t.Helper()
	var began time.Time
	testenv.Await(w.t, "the target's clock", func() bool {
		now, err := w.target.Now(w.ctx)
		if err == nil && began.IsZero() {
			began = now
		}
		return err == nil && now.Sub(began) > d
	})
}
