package redis

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"github.com/stranglerfig/migrator/internal/test/testenv"
	"github.com/stranglerfig/migrator/record"
	"github.com/stranglerfig/migrator/store"
	"github.com/stranglerfig/migrator/store/storetest"
)

func TestDeadServerGivesErrors(t *testing.T) {
	t.Parallel()
	server := testenv.Redis(t, testenv.RedisOptions{AppendOnly: true, Config: []string{"appendfsync always"}})
	schema := storetest.Simple()
	target := open(t, testConfig("json", "p", schema, storetest.TargetOptions{}), server.URL(), schema)
	applied(t, target, write(1, 1))
	ok(t, server.Kill())
	ctx := t.Context()
	if _, err := target.Apply(ctx, []store.Write{write(1, 2)}); err == nil {
		t.Error("Apply to a dead server gave no error")
	}
	if _, err := target.Get(ctx, []record.Key{"1"}); err == nil {
		t.Error("Get from a dead server gave no error")
	}
	if err := target.Scan(ctx, func([]store.Entry) error { return nil }); err == nil {
		t.Error("Scan of a dead server gave no error")
	}
	ok(t, server.Restart(ctx))
	applied(t, target, write(1, 2)) // over connections that died, with scripts that are gone
	if e := entry(t, target, 1); e.Version != version(2) {
		t.Errorf("%+v", e)
	}
	ok(t, server.Pause())
	brief, cancel := context.WithTimeout(ctx, 100*time.Millisecond)
	defer cancel()
	began := time.Now()
	if _, err := target.Apply(brief, []store.Write{write(1, 3)}); err == nil {
		t.Error("Apply to a frozen server gave no error")
	}
	if took := time.Since(began); took > 30*time.Second {
		t.Errorf("a deadline of 100ms took %s", took)
	}
	ok(t, server.Resume())
}

// TestScanSurvivesBrokenConnections: the consumer of the names may be slow, and the
// server closes idle connections.
func TestScanSurvivesBrokenConnections(t *testing.T) {
	t.Parallel()
	schema := storetest.Simple()
	server := testenv.Redis(t)
	target := open(t, testConfig("hash", "p", schema, storetest.TargetOptions{}), server.URL(), schema)
	const keys = 5 * scanCount
	var writes []store.Write
	for id := range keys {
		writes = append(writes, write(id, 1))
	}
	applied(t, target, writes...)
	other := open(t, testConfig("hash", "other", schema, storetest.TargetOptions{}), server.URL(), schema)
	seen := make(map[record.Key]bool, keys)
	pages := 0
	ok(t, target.ScanKeys(t.Context(), func(found []record.Key, _ []store.Entry) error {
		for _, k := range found {
			seen[k] = true
		}
		if pages++; pages != 2 { // once: each page is tried twice
			return nil
		}
		return other.client.Do(t.Context(), "client", "kill", "type", "normal", "skipme", "yes").Err()
	}))
	if len(seen) != keys || pages < 3 {
		t.Errorf("%d of %d names in %d pages", len(seen), keys, pages)
	}
}

// cutter forwards connections to a server. It closes the next cuts connections instead
// of forwarding the reply to an EVALSHA.
type cutter struct {
	net.Listener
	cuts, seen atomic.Int64
}

func cut(t *testing.T, server string) *cutter {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	ok(t, err)
	c := &cutter{Listener: l}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() { c.serve(client, server) })
		}
	})
	t.Cleanup(func() { _ = l.Close() })
	return c
}

func (c *cutter) serve(client net.Conn, address string) {
	defer client.Close()
	server, err := net.Dial("tcp", address)
	if err != nil {
		return
	}
	defer server.Close()
	var cutting atomic.Bool
	go func() {
		defer server.Close()
		buffer := make([]byte, 1<<16)
		for {
			n, err := client.Read(buffer)
			if err != nil {
				return
			}
			if strings.Contains(strings.ToLower(string(buffer[:n])), "evalsha") {
				c.seen.Add(1)
				cutting.Store(c.cuts.Add(-1) >= 0)
			}
			if _, err := server.Write(buffer[:n]); err != nil {
				return
			}
		}
	}()
	buffer := make([]byte, 1<<16)
	for {
		n, err := server.Read(buffer)
		if err != nil || cutting.Load() {
			return
		}
		if _, err := client.Write(buffer[:n]); err != nil {
			return
		}
	}
}

// TestMissingReplies: a write without a reply is sent again, except a conditional one,
// whose second run would be refused by the effect of the first.
func TestMissingReplies(t *testing.T) {
	t.Parallel()
	url := testenv.RedisURL(t)
	o, err := goredis.ParseURL(url)
	ok(t, err)
	proxy := cut(t, o.Addr)
	schema := storetest.Simple()
	target := open(t, testConfig("hash", "p", schema, storetest.TargetOptions{}), strings.Replace(url, o.Addr, proxy.Addr().String(), 1), schema)
	applied(t, target, write(1, 1), write(2, 1))

	proxy.cuts.Store(1)
	results, err := target.Apply(t.Context(), []store.Write{write(1, 2)})
	ok(t, err)
	if r := results[0]; r.Err != nil || r.Outcome != store.Older || r.Version != version(2) {
		t.Errorf("a write whose reply is missing: %+v", r)
	}

	conditional := write(2, 2)
	conditional.Only = new(record.MakeVersion(1, 1, 1))
	proxy.cuts.Store(1)
	before := proxy.seen.Load()
	results, err = target.Apply(t.Context(), []store.Write{conditional})
	if err == nil && results[0].Err == nil {
		t.Errorf("a conditional write whose reply is missing: %+v", results[0])
	}
	if n := proxy.seen.Load() - before; n != 1 {
		t.Errorf("it was sent %d times", n)
	}
	if e := entry(t, target, 2); e.Version != version(2) {
		t.Errorf("%+v", e)
	}
}

func TestScanDetectsRestart(t *testing.T) {
	t.Parallel()
	server := testenv.Redis(t)
	schema := storetest.Simple()
	target := open(t, testConfig("hash", "p", schema, storetest.TargetOptions{}), server.URL(), schema)
	for i := range 30 {
		applied(t, target, write(i, 1))
	}
	lost := func(seen string) (now, lost string) {
		t.Helper()
		now, lost, err := target.LookForLoss(t.Context(), seen)
		ok(t, err)
		return now, lost
	}
	seen, _ := lost("")
	if _, lost := lost(seen); lost != "" {
		t.Errorf("a server that stayed: %s", lost)
	}
	if _, lost := lost(seen + " another"); lost == "" { // the masters of a cluster, of which one is gone
		t.Error("one of two masters is gone, and nothing is lost")
	}
	restarted := false
	err := target.Scan(t.Context(), func([]store.Entry) error {
		if !restarted {
			restarted = true
			return server.RestartSaved(t.Context())
		}
		return nil
	})
	if !errors.Is(err, errTopologyChanged) {
		t.Errorf("a scan over a restart: %v", err)
	}
	if _, lost := lost(seen); lost == "" {
		t.Error("the server was restarted, and nothing is lost")
	}
}

var _ io.Closer = (*Target)(nil)

// TestWritesOfACallFailByThemselves: one script call has many writes, and each has its own outcome.
func TestWritesOfACallFailByThemselves(t *testing.T) {
	t.Parallel()
	for _, format := range formats {
		server := testenv.Redis(t)
		schema := storetest.Simple()
		m := testConfig(format, "p", schema, storetest.TargetOptions{})
		target := open(t, m, server.URL(), schema)
		applied(t, target, write(1, 5), write(3, 5), write(4, 5))
		conditional := write(4, 6)
		conditional.Only = new(version(5))
		want := func(of *Target, prefix string, writes []store.Write, outcomes ...store.Outcome) {
			t.Helper()
			results, err := of.Apply(t.Context(), writes)
			ok(t, err)
			for i, r := range results {
				if refused := goredis.HasErrorPrefix(r.Err, prefix); r.Outcome != outcomes[i] || refused != (outcomes[i] == "") || (r.Err != nil) != refused {
					t.Errorf("%s, %s: write %d: %+v, want %q", format, prefix, i, r, outcomes[i])
				}
			}
		}
		// The server refuses a write of memory, and what writes none goes on: behind the refused one, and before it.
		ok(t, target.client.ConfigSet(t.Context(), "maxmemory", "1").Err())
		want(target, "OOM", []store.Write{write(1, 4), write(2, 5), write(3, 4)}, store.Older, "", store.Older)
		want(target, "OOM", []store.Write{write(2, 5), write(3, 4)}, "", store.Older)
		ok(t, target.client.ConfigSet(t.Context(), "maxmemory", "0").Err())
		// The server refuses a whole call for one of its keys.
		name, err := target.template.Render(write(2, 1).Key)
		ok(t, err)
		var others []any
		for _, id := range []int{1, 3, 4} {
			other, err := target.template.Render(write(id, 1).Key)
			ok(t, err)
			others = append(others, "~"+other)
		}
		ok(t, target.client.Do(t.Context(), append([]any{"acl", "setuser", "some", "on", ">s3cret", "+@all", "~migrator:v:*"}, others...)...).Err())
		some := open(t, m, "redis://some:s3cret@"+server.Addr(), schema)
		want(some, "NOPERM", []store.Write{write(1, 6), conditional, write(2, 6), write(3, 6)},
			store.Applied, store.Applied, "", store.Applied)
		for id, lsn := range map[int]int{1: 6, 3: 6, 4: 6} {
			if e := entry(t, target, id); e.Version != version(lsn) {
				t.Errorf("%s: record %d: %+v", format, id, e)
			}
		}
		if n := target.client.Exists(t.Context(), name).Val(); n != 0 {
			t.Errorf("%s: the refused write was made", format)
		}
	}
}

// TestOneKeyTwiceInABatch: both writes are made, in their order.
func TestOneKeyTwiceInABatch(t *testing.T) {
	t.Parallel()
	schema := storetest.Simple()
	target := open(t, testConfig("hash", "p", schema, storetest.TargetOptions{}), testenv.RedisURL(t), schema)
	conditional := write(1, 4)
	conditional.Only = new(version(2))
	results, err := target.Apply(t.Context(), []store.Write{write(1, 2), write(1, 1), conditional, write(2, 1), write(1, 3)})
	ok(t, err)
	for i, want := range []store.Outcome{store.Applied, store.Older, store.Applied, store.Applied, store.Older} {
		if results[i].Err != nil || results[i].Outcome != want {
			t.Errorf("write %d: %+v, want %s", i, results[i], want)
		}
	}
}
