package redis

import (
	"strings"
	"testing"
	"time"

	"github.com/stranglerfig/migrator/internal/test/testenv"
	"github.com/stranglerfig/migrator/record"
	"github.com/stranglerfig/migrator/store"
	"github.com/stranglerfig/migrator/store/storetest"
)

// checked runs Check and compares the named finding.
func checked(t *testing.T, target *Target, name string, result store.CheckResult, says string) {
	t.Helper()
	checks, err := target.Check(t.Context())
	ok(t, err)
	for _, c := range checks {
		if c.Name != name {
			continue
		}
		if c.Result != result || !strings.Contains(c.Detail, says) {
			t.Errorf("%s: %s, %s; want %s, %s", name, c.Result, c.Detail, result, says)
		}
		if c.Result == store.Refused && c.Hint.IsZero() {
			t.Errorf("%s: no hint", name)
		}
		return
	}
	t.Errorf("no check %s in %v", name, checks)
}

func TestCheckGood(t *testing.T) {
	t.Parallel()
	server := testenv.Redis(t, testenv.RedisOptions{AppendOnly: true})
	schema := storetest.Composite()
	for _, format := range formats {
		m := testConfig(format, "p", schema, storetest.TargetOptions{})
		part(m).KeyTemplate = "p{{{tenant}}}:{number}"
		target := open(t, m, server.URL(), schema)
		ok(t, target.client.ConfigSet(t.Context(), "appendfsync", "always").Err())
		checks, err := target.Check(t.Context())
		ok(t, err)
		if len(checks) != 14 {
			t.Errorf("%d checks: %v", len(checks), checks)
		}
		for _, c := range checks {
			if c.Result != store.Good || c.Detail == "" {
				t.Errorf("%+v", c)
			}
		}
		if n := target.client.DBSize(t.Context()).Val(); n != 0 {
			t.Errorf("Check left %d keys", n)
		}
	}
}

func TestCheckKeys(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	target := simple(t, "hash", storetest.TargetOptions{})
	ok(t, target.client.Set(ctx, "other", "x", 0).Err())
	applied(t, target, write(1, 1))
	checked(t, target, "redis-types", store.Good, "")
	checked(t, target, "redis-foreign", store.Good, "")
	checked(t, target, store.ContentsCheck, store.Warned, `1 of 1 keys hold records of an earlier migration, such as "p:1":`)
	ok(t, target.Claim(ctx, store.Mark{Owner: target.migration + "@here", Incarnation: "one", Beat: 1}, false))
	checks, err := target.Check(ctx)
	ok(t, err)
	for _, c := range checks {
		if c.Name == store.ContentsCheck {
			t.Errorf("its own records: %+v", c)
		}
	}
	ok(t, target.client.Set(ctx, "p:x", "x", 0).Err())
	checked(t, target, "redis-foreign", store.Warned, `such as "p:x"`)
	ok(t, target.client.HSet(ctx, "p:2", "name", "x").Err())
	checked(t, target, store.ContentsCheck, store.Warned, `1 of 3 keys hold values without version, such as "p:2"`)
	checked(t, target, "redis-types", store.Good, "")
	ok(t, target.client.SAdd(ctx, "p:3", "x").Err())
	checked(t, target, "redis-types", store.Refused, `"p:3": a set, not a hash`)
}

// TestCheckTriesAFreeKey: the commands of writes are run though records exist.
func TestCheckTriesAFreeKey(t *testing.T) {
	t.Parallel()
	target := simple(t, "hash", storetest.TargetOptions{})
	for i := range 20 {
		applied(t, target, write(i, 1))
	}
	checked(t, target, "redis-privileges", store.Good, "every command")
	for _, kind := range []record.Kind{record.Text, record.Int, record.Decimal, record.Bool, record.UUID, record.Date, record.TimeOfDay, record.Timestamp, record.TimestampTZ, record.Interval} {
		sh, err := shapeOf(record.Field{Name: "id", Kind: kind})
		ok(t, err)
		for range 100 {
			if text := sh.unusual(); !sh.valid(text) {
				t.Errorf("%q is no %s", text, kind)
			}
		}
	}
}

func TestCheckServer(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	server := testenv.Redis(t, testenv.RedisOptions{Config: []string{"user limited on >pw ~p:* +@all -config", "user reader on >pw ~* +@read +info +ping +config|get +time +@connection"}})
	schema := storetest.Simple()
	m := testConfig("hash", "p", schema, storetest.TargetOptions{})
	target := open(t, m, server.URL(), schema)
	part(m).Expires = "expires_at"
	expiring := open(t, m, server.URL(), schema)
	checked(t, target, "redis-persistence", store.Warned, "none")
	ok(t, target.client.ConfigSet(ctx, "save", "60 1000").Err())
	checked(t, target, "redis-persistence", store.Warned, "snapshots alone (60 1000)")

	set := func(name, value string) { t.Helper(); ok(t, target.client.ConfigSet(ctx, name, value).Err()) }
	set("appendonly", "yes")
	checked(t, target, "redis-persistence", store.Warned, "appendfsync everysec")
	set("appendfsync", "always")
	checked(t, target, "redis-persistence", store.Good, "appendfsync always")
	checked(t, target, "redis-replicas", store.Good, "no replica")
	set("maxmemory-policy", "allkeys-lru")
	checked(t, target, "redis-eviction", store.Warned, "no maxmemory is set")
	set("maxmemory", "100mb")
	checked(t, target, "redis-eviction", store.Refused, "allkeys-lru")
	set("maxmemory-policy", "volatile-ttl")
	checked(t, target, "redis-eviction", store.Warned, "versions of deleted records")
	checked(t, expiring, "redis-eviction", store.Refused, "before it is over")
	set("maxmemory-policy", "noeviction")
	checked(t, expiring, "redis-eviction", store.Good, "noeviction")

	as := func(user string) *Target {
		part(m).Expires = ""
		return open(t, m, "redis://"+user+":pw@"+server.Addr(), schema)
	}
	checked(t, as("limited"), "redis-privileges", store.Refused, "NOPERM")
	checked(t, as("limited"), "redis-persistence", store.Warned, "does not report appendfsync")
	checked(t, as("reader"), "redis-privileges", store.Refused, "NOPERM")
	bad := open(t, m, "redis://:wrong-s3cret@"+server.Addr(), schema)
	checked(t, bad, "redis-connection", store.Refused, "WRONGPASS")

	replica := testenv.Redis(t, testenv.RedisOptions{NoPassword: true, Config: []string{"replicaof " + strings.Replace(server.Addr(), ":", " ", 1), "masterauth " + server.Password()}})
	checked(t, open(t, m, replica.URL(), schema), "redis-role", store.Refused, "replica")
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for infoField(target.client.Info(ctx, "replication").Val(), "connected_slaves") != "1" {
		<-tick.C
	}
	checked(t, target, "redis-replicas", store.Warned, "min-replicas-to-write is 0")
	checked(t, as("limited"), "redis-replicas", store.Warned, "does not report")
	set("min-replicas-to-write", "1")
	checked(t, target, "redis-replicas", store.Good, "is 1")
	gone := testenv.Redis(t)
	ok(t, gone.Kill())
	checked(t, open(t, m, gone.URL(), schema), "redis-connection", store.Refused, "refused")
}

func TestCheckMode(t *testing.T) {
	t.Parallel()
	node := testenv.Redis(t, testenv.RedisOptions{NoPassword: true, Config: []string{"cluster-enabled yes"}})
	schema := storetest.Simple()
	m := testConfig("hash", "p", schema, storetest.TargetOptions{})
	checked(t, open(t, m, node.URL(), schema), "redis-mode", store.Refused, "node of a cluster")
}
