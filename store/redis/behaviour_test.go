package redis

import (
	"fmt"
	"maps"
	"strings"
	"testing"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"github.com/stranglerfig/migrator/internal/test/testenv"
	"github.com/stranglerfig/migrator/record"
	"github.com/stranglerfig/migrator/store"
	"github.com/stranglerfig/migrator/store/storetest"
)

// simple makes a target of Simple records on a database of the test's own.
func simple(t testing.TB, format string, o storetest.TargetOptions) *Target {
	t.Helper()
	schema := storetest.Simple()
	return open(t, testConfig(format, "p", schema, o), testenv.RedisURL(t), schema)
}

func remove(id, lsn int) store.Write {
	w := write(id, lsn)
	w.Deleted, w.Record = true, nil
	return w
}

// dump returns what other readers see: names, and the values of hashes and strings.
func dump(t testing.TB, target *Target) map[string]string {
	t.Helper()
	seen := map[string]string{}
	for _, name := range target.client.Keys(t.Context(), "*").Val() {
		if target.client.Type(t.Context(), name).Val() == "hash" {
			seen[name] = fmt.Sprint(target.client.HGetAll(t.Context(), name).Val())
		} else {
			seen[name] = target.client.Get(t.Context(), name).Val()
		}
	}
	return seen
}

const v1, v2, v3 = "00000001000000010000000000000001", "00000001000000010000000000000002", "00000001000000010000000000000003"

func TestOtherReadersSeePlainValues(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ format, live string }{
		{"hash", "map[_v:" + v1 + " amount:1.50 id:1 name:name 1]"},
		{"json", `{"_v":"` + v1 + `","id":1,"name":"name 1","amount":1.50,"expires_at":null}`},
	} {
		t.Run(c.format, func(t *testing.T) {
			t.Parallel()
			target := simple(t, c.format, storetest.TargetOptions{})
			applied(t, target, write(1, 1))
			if got, want := dump(t, target), map[string]string{"p:1": c.live}; !maps.Equal(got, want) {
				t.Errorf("live: %v, want %v", got, want)
			}
			applied(t, target, remove(1, 2))
			if got, want := dump(t, target), map[string]string{"migrator:v:{p:1}": v2}; !maps.Equal(got, want) {
				t.Errorf("deleted: %v, want %v", got, want)
			}
			ttl := target.client.PTTL(t.Context(), "migrator:v:{p:1}").Val()
			if ttl < 23*time.Hour || ttl > 24*time.Hour {
				t.Errorf("the tombstone expires in %s, want 24h", ttl)
			}
			applied(t, target, write(1, 3))
			if got := dump(t, target); len(got) != 1 || !strings.Contains(got["p:1"], v3) {
				t.Errorf("live again: %v", got)
			}
			if ttl := target.client.PTTL(t.Context(), "p:1").Val(); ttl != -1 {
				t.Errorf("the record expires in %s", ttl)
			}
		})
	}
}

func TestExpiryIsARedisExpiry(t *testing.T) {
	t.Parallel()
	for _, format := range formats {
		t.Run(format, func(t *testing.T) {
			t.Parallel()
			target := simple(t, format, storetest.TargetOptions{Expires: "expires_at", Tombstones: time.Hour})
			w := write(1, 1)
			at := time.Now().Add(30 * time.Minute).Truncate(time.Millisecond).UTC()
			w.Record[3] = record.TextValue(at.Format("2006-01-02T15:04:05.999999Z"))
			applied(t, target, w)
			for name, want := range map[string]time.Time{"p:1": at, "migrator:v:{p:1}": at.Add(time.Hour)} {
				if ms := target.client.PExpireTime(t.Context(), name).Val(); ms != time.Duration(want.UnixMilli())*time.Millisecond {
					t.Errorf("%s expires %s, want %s", name, time.UnixMilli(ms.Milliseconds()).UTC(), want)
				}
			}
			target.noExpireTime.Store(true) // as before Redis 7
			if e := entry(t, target, 1); e.Expires != at || e.Presence != store.Live {
				t.Errorf("by the script: %+v", e)
			}
			// In retain the version never expires.
			w.Version, w.Keep = version(2), true
			applied(t, target, w)
			if ttl := target.client.PTTL(t.Context(), "migrator:v:{p:1}").Val(); ttl != -1 {
				t.Errorf("the kept version expires in %s", ttl)
			}
			// A record that has expired long ago leaves its version for the whole horizon from now.
			w = write(2, 1)
			w.Record[3] = record.TextValue("2001-01-01T00:00:00Z")
			applied(t, target, w)
			if ttl := target.client.PTTL(t.Context(), "migrator:v:{p:2}").Val(); ttl < 59*time.Minute {
				t.Errorf("the version of a record that had expired before the write expires in %s", ttl)
			}
			w.Version, w.Record[3] = version(2), record.TextValue("soon: s3cret")
			results, err := target.Apply(t.Context(), []store.Write{w})
			ok(t, err)
			if err := results[0].Err; err == nil || !strings.Contains(err.Error(), `field "expires_at": not a canonical timestamp`) {
				t.Error(err)
			}
		})
	}
}

func TestTombstonesExpire(t *testing.T) {
	t.Parallel()
	target := simple(t, "hash", storetest.TargetOptions{Tombstones: 20 * time.Millisecond})
	applied(t, target, remove(1, 5))
	testenv.Await(t, "the tombstone to expire", func() bool { return entry(t, target, 1).Presence == store.Absent })
}

// TestWriteRepairsDamage: whatever another client did to a hash, the next write leaves
// exactly the record.
func TestWriteRepairsDamage(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	target := simple(t, "hash", storetest.TargetOptions{})
	for i, damage := range []func(c goredis.UniversalClient) error{
		func(c goredis.UniversalClient) error { return c.HSet(ctx, "p:1", "extra", "x", "name", "y").Err() },
		func(c goredis.UniversalClient) error {
			return c.HSet(ctx, "p:1", "extra", "x").Err() // as many fields as there were
		},
		func(c goredis.UniversalClient) error { return c.HDel(ctx, "p:1", "name", "amount").Err() },
		func(c goredis.UniversalClient) error { return c.Expire(ctx, "p:1", time.Hour).Err() },
		func(c goredis.UniversalClient) error { return c.Set(ctx, "migrator:v:{p:1}", "garbage", 0).Err() },
		func(c goredis.UniversalClient) error {
			return c.RPush(ctx, "migrator:v:{p:1}", "not even a string").Err()
		},
		func(c goredis.UniversalClient) error { return c.Del(ctx, "p:1").Err() },
	} {
		lsn := 2*i + 1
		applied(t, target, write(1, lsn))
		ok(t, damage(target.client))
		w := write(1, lsn+1)
		if i == 1 {
			w.Record[1] = record.NullValue
		}
		applied(t, target, w)
		want := map[string]string{"id": "1", "amount": "1.50", "_v": w.Version.String()}
		if i != 1 {
			want["name"] = w.Record[1].Text
		}
		if got := target.client.HGetAll(ctx, "p:1").Val(); !maps.Equal(got, want) {
			t.Errorf("after damage %d: %v, want %v", i, got, want)
		}
		if got := dump(t, target); len(got) != 1 {
			t.Errorf("after damage %d: %v", i, got)
		}
		if ttl := target.client.PTTL(ctx, "p:1").Val(); ttl != -1 {
			t.Errorf("after damage %d the record expires in %s", i, ttl)
		}
	}

	// An invalid version is distinguished from a foreign value, and repaired in the same way.
	ok(t, target.client.HSet(ctx, "p:1", "_v", "7").Err())
	if e := entry(t, target, 1); e.Presence != store.Damaged || e.Detail == "" {
		t.Errorf("%+v", e)
	}
	w := write(1, 99)
	if r, err := target.Apply(ctx, []store.Write{w}); err != nil || r[0].Outcome != store.Foreign {
		t.Errorf("%+v, %v", r, err)
	}
	w.Overwrite = true
	applied(t, target, w)

	// A foreign value over a tombstone does not hide the tombstone's version.
	applied(t, target, remove(1, 100))
	ok(t, target.client.HSet(ctx, "p:1", "name", "theirs").Err())
	e := entry(t, target, 1)
	if e.Presence != store.Unowned || e.Version != version(100) {
		t.Errorf("%+v", e)
	}
	repair := remove(1, 100)
	repair.Overwrite, repair.Only = true, &e.Version
	if r, err := target.Apply(ctx, []store.Write{repair}); err != nil || r[0].Outcome != store.Foreign {
		t.Errorf("a delete over another program's value: %+v, %v", r, err)
	}
	if e := entry(t, target, 1); e.Presence != store.Unowned || e.Version != version(100) {
		t.Errorf("after it: %+v", e)
	}
}

func TestFlushedScriptsAreSentAgain(t *testing.T) {
	t.Parallel()
	server := testenv.Redis(t)
	schema := storetest.Simple()
	target := open(t, testConfig("hash", "p", schema, storetest.TargetOptions{}), server.URL(), schema)
	for round := 1; round <= 3; round++ {
		writes := make([]store.Write, 1200)
		for i := range writes {
			writes[i] = write(i, round)
			if i%7 == 0 {
				writes[i].Only = new(record.MakeVersion(1, 1, uint64(round-1)))
				if round == 1 {
					writes[i].Only = &record.Version{}
				}
			}
		}
		applied(t, target, writes...)
		ok(t, target.client.ScriptFlush(t.Context()).Err())
	}
	if n := scanned(t, target); n != 1200 {
		t.Errorf("Scan found %d", n)
	}
}

func TestOutOfMemoryKeepsRecords(t *testing.T) {
	t.Parallel()
	for _, format := range formats {
		t.Run(format, func(t *testing.T) {
			t.Parallel()
			server := testenv.Redis(t)
			schema := storetest.Simple()
			target := open(t, testConfig(format, "p", schema, storetest.TargetOptions{}), server.URL(), schema)
			applied(t, target, write(1, 1), write(2, 1))
			ok(t, target.client.ConfigSet(t.Context(), "maxmemory", "1").Err())
			results, err := target.Apply(t.Context(), []store.Write{write(1, 2), write(3, 1), remove(2, 2)})
			ok(t, err)
			for i := range 2 {
				if results[i].Err == nil || !strings.Contains(results[i].Err.Error(), "OOM") {
					t.Errorf("write %d: %+v", i, results[i])
				}
			}
			if results[2].Outcome != store.Applied {
				t.Errorf("a delete, which needs no memory: %+v", results[2])
			}
			if e := entry(t, target, 1); e.Presence != store.Live || e.Version != version(1) || e.Record[1].Text != "name 1" {
				t.Errorf("after a refused write: %+v", e)
			}
		})
	}
}
