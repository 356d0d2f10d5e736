package redis

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"github.com/stranglerfig/migrator/internal/test/testenv"
	"github.com/stranglerfig/migrator/migration"
	"github.com/stranglerfig/migrator/phases"
	"github.com/stranglerfig/migrator/record"
	"github.com/stranglerfig/migrator/store"
	"github.com/stranglerfig/migrator/store/storetest"
)

func TestMain(m *testing.M) {
	goredis.SetLogger(silent{}) // servers are killed here
	testenv.Main(m)
}

type silent struct{}

func (silent) Printf(context.Context, string, ...any) {}

var formats = []string{"hash", "json"}

// prefixes keeps the tests of one server without databases apart.
var prefixes atomic.Int64

// testConfig is a migration whose template is made of the key's columns.
func testConfig(format, prefix string, schema *record.Schema, o storetest.TargetOptions) *migration.Config {
	template := prefix
	for _, at := range schema.Key {
		template += ":{" + schema.Fields[at].Name + "}"
	}
	return &migration.Config{
		Name:    strings.Trim(fmt.Sprintf("%x", prefix), " "),
		Target:  migration.Target{Part: &TargetConfig{KeyTemplate: template, Format: format, Expires: o.Expires}},
		Writing: migration.Writing{Tombstones: phases.Duration(o.Tombstones)},
	}
}

func part(m *migration.Config) *TargetConfig { return m.Target.Part.(*TargetConfig) }

func open(t testing.TB, m *migration.Config, url string, schema *record.Schema) *Target {
	t.Helper()
	target, err := Open(t.Context(), m, url, schema)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := target.Close(); err != nil {
			t.Error(err)
		}
	})
	return target
}

func rawKey(t testing.TB, target store.Target, key record.Key) (*Target, string) {
	t.Helper()
	own := target.(*Target)
	raw, err := own.template.Render(key)
	if err != nil {
		t.Fatal(err)
	}
	return own, raw
}

func ok(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// harness runs the suite on servers; each call of url names another database.
func harness(format string, url func(t *testing.T) string) storetest.TargetHarness {
	h := storetest.TargetHarness{
		Expires: true,
		Open: func(t *testing.T, schema *record.Schema, o storetest.TargetOptions) store.Target {
			// A character with a meaning in SCAN's patterns.
			prefix := fmt.Sprintf("t[%d]*?\\", prefixes.Add(1))
			return open(t, testConfig(format, prefix, schema, o), url(t), schema)
		},
		UnknownKey: func(t *testing.T, target store.Target) {
			own := target.(*Target)
			ok(t, own.client.Set(t.Context(), own.template.Prefix()+"not a number", "x", 0).Err())
		},
		WrongType: func(t *testing.T, target store.Target, key record.Key) {
			own, raw := rawKey(t, target, key)
			ok(t, own.client.RPush(t.Context(), raw, "a", "b").Err())
		},
	}
	if format == "json" {
		h.Foreign = func(t *testing.T, target store.Target, key record.Key) {
			own, raw := rawKey(t, target, key)
			ok(t, own.client.Set(t.Context(), raw, `{"name":"theirs","_v":"00000001000000010000000000000001"}`, 0).Err())
		}
		h.Damage = func(t *testing.T, target store.Target, key record.Key) {
			own, raw := rawKey(t, target, key)
			doc, err := own.client.Get(t.Context(), raw).Result()
			ok(t, err)
			ok(t, own.client.Set(t.Context(), raw, doc[:len(doc)-1], 0).Err())
		}
		return h
	}
	h.Foreign = func(t *testing.T, target store.Target, key record.Key) {
		own, raw := rawKey(t, target, key)
		ok(t, own.client.HSet(t.Context(), raw, "name", "theirs").Err())
	}
	return h
}

func TestConformance(t *testing.T) {
	for _, format := range formats {
		t.Run(format, func(t *testing.T) {
			t.Parallel()
			storetest.RunTarget(t, harness(format, func(t *testing.T) string { return testenv.RedisURL(t) }))
		})
	}
}

func TestConformanceOnCluster(t *testing.T) {
	t.Parallel()
	cluster, err := testenv.StartRedisCluster(t.Context(), 3)
	ok(t, err)
	t.Cleanup(func() { ok(t, cluster.Stop(context.Background())) })
	for _, format := range formats {
		t.Run(format, func(t *testing.T) {
			storetest.RunTarget(t, harness(format, func(*testing.T) string { return cluster.URL() }))
		})
	}
	t.Run("found by one node", func(t *testing.T) {
		schema := storetest.Simple()
		m := testConfig("hash", "one", schema, storetest.TargetOptions{})
		target := open(t, m, "redis://"+cluster.Nodes[1].Addr()+"?cluster=true", schema)
		for i := range 50 {
			applied(t, target, write(i, 1))
		}
		if n := scanned(t, target); n != 50 {
			t.Errorf("Scan found %d records, want 50", n)
		}
	})
	t.Run("its clock is the least of all masters'", func(t *testing.T) {
		schema := storetest.Simple()
		target := open(t, testConfig("hash", "clocks", schema, storetest.TargetOptions{}), cluster.URL(), schema)
		asked := func() (n []int) {
			for _, node := range cluster.Nodes {
				client := goredis.NewClient(&goredis.Options{Addr: node.Addr()})
				stats, err := client.Info(t.Context(), "commandstats").Result()
				ok(t, errors.Join(err, client.Close()))
				calls := 0
				if _, after, found := strings.Cut(stats, "cmdstat_time:calls="); found {
					text, _, _ := strings.Cut(after, ",")
					calls, err = strconv.Atoi(text)
					ok(t, err)
				}
				n = append(n, calls)
			}
			return n
		}
		before := asked()
		now, err := target.Now(t.Context())
		ok(t, err)
		if d := time.Since(now).Abs(); d > time.Minute {
			t.Errorf("the clock is %s off", d)
		}
		for i, n := range asked() {
			if n <= before[i] {
				t.Errorf("master %d was not asked for its clock", i)
			}
		}
	})
	t.Run("keys that leave no room for a sidecar", func(t *testing.T) {
		schema := storetest.Composite()
		m := testConfig("hash", "", schema, storetest.TargetOptions{})
		part(m).KeyTemplate = "n:{{{tenant}}}:{number}"
		target := open(t, m, cluster.URL(), schema)
		good := store.Write{Key: "eu,1", Record: record.Record{record.TextValue("1"), record.NullValue, record.TextValue("eu")}, Version: record.MakeVersion(0, 0, 1)}
		bad := good
		bad.Key = ",1"
		results, err := target.Apply(t.Context(), []store.Write{bad, good})
		ok(t, err)
		if results[0].Err == nil || !strings.Contains(results[0].Err.Error(), "same cluster slot") {
			t.Errorf("the key without a tag: %v", results[0].Err)
		}
		if results[1].Outcome != store.Applied {
			t.Errorf("the key with a tag: %+v", results[1])
		}
	})
	t.Run("slots on the move", func(t *testing.T) { testMovingSlots(t, cluster) })
	t.Run("a slot moves while the migration is forgotten", func(t *testing.T) { testForgetWhileASlotMoves(t, cluster) })
}

func TestConformanceUnderSentinel(t *testing.T) {
	t.Parallel()
	sentinel, err := testenv.StartRedisSentinel(t.Context())
	ok(t, err)
	t.Cleanup(func() { ok(t, sentinel.Stop(context.Background())) })
	url := "redis+sentinel://" + sentinel.Addr() + "/" + sentinel.MasterName
	for _, format := range formats {
		t.Run(format, func(t *testing.T) {
			storetest.RunTarget(t, harness(format, func(*testing.T) string { return url }))
		})
	}
	t.Run("failover", func(t *testing.T) {
		schema := storetest.Simple()
		m := testConfig("hash", "failover", schema, storetest.TargetOptions{})
		target := open(t, m, url, schema)
		applied(t, target, write(1, 1))
		ok(t, target.client.Do(t.Context(), "wait", 1, 5000).Err())
		ok(t, sentinel.FailOver(t.Context()))
		testenv.Await(t, "a write after the failover", func() bool {
			results, err := target.Apply(t.Context(), []store.Write{write(1, 2)})
			return err == nil && results[0].Err == nil
		})
		if e := entry(t, target, 1); e.Version != version(2) {
			t.Errorf("after the failover: %+v", e)
		}
	})
}

// write is a write of the Simple record.
// version is the one of a write.
func version(n int) record.Version { return record.MakeVersion(1, 1, uint64(n)) }

func write(id, lsn int) store.Write {
	n := record.TextValue(fmt.Sprint(id))
	return store.Write{
		Key:     record.MakeKey(n.Text),
		Record:  record.Record{n, record.TextValue(fmt.Sprint("name ", lsn)), record.TextValue("1.50"), record.NullValue},
		Version: version(lsn),
	}
}

func applied(t testing.TB, target *Target, writes ...store.Write) {
	t.Helper()
	results, err := target.Apply(t.Context(), writes)
	ok(t, err)
	for i, r := range results {
		if r.Err != nil || r.Outcome != store.Applied {
			t.Fatalf("write of %q: %s, %v", writes[i].Key, r.Outcome, r.Err)
		}
	}
}

func entry(t testing.TB, target *Target, id int) store.Entry {
	t.Helper()
	entries, err := target.Get(t.Context(), []record.Key{record.MakeKey(fmt.Sprint(id))})
	ok(t, err)
	return entries[0]
}

func scanned(t testing.TB, target *Target) int {
	t.Helper()
	n := 0
	ok(t, target.Scan(t.Context(), func(e []store.Entry) error { n += len(e); return nil }))
	return n
}

// testForgetWhileASlotMoves: what moves behind the scan would be left.
func testForgetWhileASlotMoves(t *testing.T, cluster *testenv.RedisCluster) {
	ctx := t.Context()
	target := open(t, testConfig("json", "forgotten", storetest.Simple(), storetest.TargetOptions{}), cluster.URL(), storetest.Simple())
	applied(t, target, store.Write{Key: "1", Deleted: true, Version: version(1)})
	f := &forgetter{t: target}
	var found []record.Key
	count := func(keys []record.Key, _ []store.Entry) error {
		found = append(found, keys...)
		return nil
	}
	ok(t, f.scanVersions(ctx, count))
	if len(found) != 1 {
		t.Errorf("found %q", found)
	}
	raw, _, err := target.names("1")
	ok(t, err)
	var nodes []*goredis.Client
	for _, node := range cluster.Nodes {
		client := goredis.NewClient(&goredis.Options{Addr: node.Addr()})
		defer func() { _ = client.Close() }()
		nodes = append(nodes, client)
	}
	// A slot without keys, also of other tests: no node gives another one away.
	slot, owner := int(target.cluster.ClusterKeySlot(ctx, raw).Val()), 0
	for keys := int64(1); keys > 0; {
		slot = (slot + 1) % 16384
		owner = slot * len(nodes) / 16384
		keys, err = nodes[owner].ClusterCountKeysInSlot(ctx, slot).Result()
		ok(t, err)
	}
	move := func(to int) error {
		id := nodes[to].Do(ctx, "cluster", "myid").Val()
		for i := range nodes {
			if err := nodes[(to+i)%len(nodes)].Do(ctx, "cluster", "setslot", slot, "node", id).Err(); err != nil {
				return err
			}
		}
		return nil
	}
	defer func() { ok(t, move(owner)) }()
	// Not by the test's own goroutine: it must return.
	err = f.scanVersions(ctx, func([]record.Key, []store.Entry) error { return move((owner + 1) % len(nodes)) })
	if !errors.Is(err, errTopologyChanged) {
		t.Errorf("a slot has moved: %v", err)
	}
}

// testMovingSlots moves one record's slot from master to master under writes.
func testMovingSlots(t *testing.T, cluster *testenv.RedisCluster) {
	schema := storetest.Simple()
	target := open(t, testConfig("json", "moving", schema, storetest.TargetOptions{}), cluster.URL(), schema)
	applied(t, target, write(1, 1))
	raw, beside, err := target.names("1")
	ok(t, err)
	ctx := t.Context()
	slot := int(target.cluster.ClusterKeySlot(ctx, raw).Val())
	if other := int(target.cluster.ClusterKeySlot(ctx, beside).Val()); other != slot {
		t.Fatalf("the sidecar %q is in slot %d, the record in %d", beside, other, slot)
	}
	from, err := target.cluster.MasterForKey(ctx, raw)
	ok(t, err)
	var to *goredis.Client
	var mu sync.Mutex
	ok(t, target.cluster.ForEachMaster(ctx, func(_ context.Context, c *goredis.Client) error {
		mu.Lock()
		defer mu.Unlock()
		if c.Options().Addr != from.Options().Addr {
			to = c
		}
		return nil
	}))
	id := func(c *goredis.Client) string { return c.Do(ctx, "cluster", "myid").Val().(string) }
	ok(t, to.Do(ctx, "cluster", "setslot", slot, "importing", id(from)).Err())
	ok(t, from.Do(ctx, "cluster", "setslot", slot, "migrating", id(to)).Err())
	host, port, _ := strings.Cut(to.Options().Addr, ":")
	ok(t, from.Migrate(ctx, host, port, raw, 0, time.Minute).Err())
	// The slot still belongs to the first master, the key has moved: reads follow it, and
	// a write waits for the end of the move.
	if e := entry(t, target, 1); e.Version != version(1) {
		t.Errorf("while the slot moves: %+v", e)
	}
	if written := filled(t, target, record.MakeVersion(0, 0, 1), write(1, 1).Record, write(2, 1).Record); written[0] || !written[1] || target.noFastLoad.Load() {
		t.Errorf("a bulk load while the slot of the first record moves: %v, the fast path is disabled: %v", written, target.noFastLoad.Load())
	}
	brief, cancel := context.WithTimeout(ctx, 50*time.Millisecond)
	defer cancel()
	if results, err := target.Apply(brief, []store.Write{write(1, 2)}); err == nil && results[0].Err == nil {
		t.Error("a write to a moving slot was applied")
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		after := time.NewTimer(200 * time.Millisecond)
		defer after.Stop()
		<-after.C
		for _, c := range []*goredis.Client{to, from} {
			if err := c.Do(ctx, "cluster", "setslot", slot, "node", id(to)).Err(); err != nil {
				t.Error(err)
			}
		}
	})
	applied(t, target, write(1, 2))
	wg.Wait()
	conditional := write(1, 3)
	conditional.Only = new(record.MakeVersion(1, 1, 2))
	applied(t, target, conditional)
	if e := entry(t, target, 1); e.Version != version(3) {
		t.Errorf("after the slot has moved: %+v", e)
	}
}
