package testenv

import (
	"context"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

func dial(t *testing.T, dbURL string) *redis.Client {
	t.Helper()
	o, err := redis.ParseURL(dbURL)
	if err != nil {
		t.Fatal(err)
	}
	o.MaxRetries, o.ContextTimeoutEnabled = -1, true
	client := redis.NewClient(o)
	t.Cleanup(func() { _ = client.Close() })
	return client
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestRedisURLIsPerTest(t *testing.T) {
	t.Parallel()
	a, b := RedisURL(t), RedisURL(t)
	if a == b {
		t.Fatalf("twice the same database: %s", a)
	}
	ca, cb := dial(t, a), dial(t, b)
	must(t, ca.Set(t.Context(), "k", "v", 0).Err())
	if n := cb.DBSize(t.Context()).Val(); n != 0 {
		t.Fatalf("%d keys of another test", n)
	}
}

func TestRedisDatabaseIsFlushedBeforeReuse(t *testing.T) {
	for range 3 {
		t.Run("user", func(t *testing.T) {
			c := dial(t, RedisURL(t))
			if n := c.DBSize(t.Context()).Val(); n != 0 {
				t.Errorf("%d keys of the test before", n)
			}
			must(t, c.Set(t.Context(), "left", "v", 0).Err())
		})
	}
}

func TestRedisRestartKeepsConfiguredData(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		options RedisOptions
		restart func(*RedisServer) error
		kept    bool
	}{
		"nothing":  {RedisOptions{}, func(s *RedisServer) error { return s.Restart(context.Background()) }, false},
		"saved":    {RedisOptions{}, func(s *RedisServer) error { return s.RestartSaved(context.Background()) }, true},
		"appended": {RedisOptions{AppendOnly: true}, func(s *RedisServer) error { return s.Restart(context.Background()) }, true},
		"killed": {RedisOptions{AppendOnly: true, Config: []string{"appendfsync always"}}, func(s *RedisServer) error {
			if err := s.Kill(); err != nil {
				return err
			}
			return s.Restart(context.Background())
		}, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := Redis(t, c.options)
			client := dial(t, s.URL())
			must(t, client.Set(t.Context(), "k", "v", 0).Err())
			must(t, c.restart(s))
			if got := dial(t, s.URL()).Exists(t.Context(), "k").Val() == 1; got != c.kept {
				t.Errorf("kept after the restart: %v, want %v", got, c.kept)
			}
		})
	}
}

func TestRedisOptionsArrive(t *testing.T) {
	t.Parallel()
	s := Redis(t, RedisOptions{MaxMemory: "10mb", MaxMemoryPolicy: "allkeys-lru", Config: []string{"hz 50"}})
	client := dial(t, s.URL())
	for name, want := range map[string]string{"maxmemory": "10485760", "maxmemory-policy": "allkeys-lru", "hz": "50", "save": ""} {
		if got := client.ConfigGet(t.Context(), name).Val()[name]; got != want {
			t.Errorf("%s is %q, not %q", name, got, want)
		}
	}
	if err := dial(t, "redis://"+s.Addr()).Ping(t.Context()).Err(); err == nil {
		t.Error("a client without a password is accepted")
	}
	must(t, s.Pause())
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if err := client.Ping(ctx).Err(); err == nil {
		t.Error("a paused server answers")
	}
	must(t, s.Resume())
	must(t, dial(t, s.URL()).Ping(t.Context()).Err())
}

func TestRedisCluster(t *testing.T) {
	t.Parallel()
	c, err := StartRedisCluster(t.Context(), 3)
	must(t, err)
	t.Cleanup(func() { must(t, c.Stop(context.Background())) })
	o, err := redis.ParseClusterURL(c.URL())
	must(t, err)
	if len(o.Addrs) != 3 {
		t.Fatalf("%s names %v", c.URL(), o.Addrs)
	}
	client := redis.NewClusterClient(o)
	defer func() { _ = client.Close() }()
	for key := range 100 { // of every node's slots
		must(t, client.Set(t.Context(), string(rune('a'+key)), key, 0).Err())
	}
	for _, node := range c.Nodes {
		if n := dial(t, "redis://"+node.Addr()).DBSize(t.Context()).Val(); n == 0 || n == 100 {
			t.Errorf("%s has %d of 100 keys", node.Addr(), n)
		}
	}
}

func TestRedisSentinelPromotesTheReplica(t *testing.T) {
	t.Parallel()
	s, err := StartRedisSentinel(t.Context())
	must(t, err)
	t.Cleanup(func() { must(t, s.Stop(context.Background())) })
	o, err := redis.ParseFailoverURL(s.URL())
	must(t, err)
	client := redis.NewFailoverClient(o)
	defer func() { _ = client.Close() }()
	must(t, client.Set(t.Context(), "k", "v", 0).Err())
	must(t, client.Wait(t.Context(), 1, time.Minute).Err())
	must(t, s.FailOver(t.Context()))
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	must(t, await(ctx, 50*time.Millisecond, "the replica to be promoted", func() (bool, error) {
		info, _ := client.Info(ctx, "replication").Result()
		return strings.Contains(info, "role:master"), nil
	}))
	if got := client.Get(ctx, "k").Val(); got != "v" {
		t.Errorf("the promoted replica has %q", got)
	}
}

func TestNamedRedisSparesUserDatabases(t *testing.T) {
	s := Redis(t)
	t.Setenv(EnvRedisURL, s.URL())
	users := strings.TrimSuffix(s.URL(), "/0") + "/1"
	must(t, dial(t, users).Set(t.Context(), "precious", "v", 0).Err())
	t.Run("user", func(t *testing.T) {
		a, b := RedisURL(t), RedisURL(t)
		if a == b || a == users || b == users || strings.HasSuffix(a, "/0") {
			t.Errorf("got %s and %s", a, b)
		}
		must(t, dial(t, a).Set(t.Context(), "left", "v", 0).Err())
	})
	if dial(t, users).Get(t.Context(), "precious").Val() != "v" {
		t.Error("the user's key was deleted")
	}
}

func TestNamedPostgresIsUsed(t *testing.T) {
	s := Postgres(t)
	t.Setenv(EnvPostgresURL, s.URL())
	if dbURL := PostgresURL(t); !strings.Contains(dbURL, s.Addr()) {
		t.Errorf("%s is not on %s", dbURL, s.Addr())
	}
}

func TestRestartWaitsForItsPort(t *testing.T) {
	t.Parallel()
	for name, s := range map[string]interface {
		Addr() string
		Kill() error
		Restart(context.Context) error
	}{"redis": Redis(t), "postgres": Postgres(t)} {
		must(t, s.Kill())
		l, err := net.Listen("tcp4", s.Addr())
		must(t, err)
		time.AfterFunc(150*time.Millisecond, func() { _ = l.Close() })
		if err := s.Restart(t.Context()); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}
