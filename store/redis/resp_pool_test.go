package redis

import (
	"strings"
	"testing"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"github.com/stranglerfig/migrator/internal/hint"
	"github.com/stranglerfig/migrator/internal/test/testenv"
	"github.com/stranglerfig/migrator/record"
	"github.com/stranglerfig/migrator/store"
	"github.com/stranglerfig/migrator/store/storetest"
)

// TestBulkConnectionsExpire: a server that is no longer master, and does not know it,
// is not used for long.
func TestBulkConnectionsExpire(t *testing.T) {
	t.Parallel()
	schema := storetest.Simple()
	target := open(t, testConfig("hash", "p", schema, storetest.TargetOptions{}), testenv.RedisURL(t), schema)
	client, _ := target.client.(*goredis.Client)
	take := func() *bulkConn {
		t.Helper()
		c, err := target.bulk.open(t.Context(), client)
		ok(t, err)
		return c
	}
	first := take()
	target.bulk.give(client, first)
	if again := take(); again != first {
		t.Error("a connection that has not expired is not reused")
	}
	target.bulk.give(client, first)
	first.born = first.born.Add(-2 * bulkMaxAge)
	second := take()
	if second == first {
		t.Error("one that has expired while idle is reused")
	}
	second.born = second.born.Add(-2 * bulkMaxAge)
	target.bulk.give(client, second)
	if third := take(); third == second {
		t.Error("one that has expired in use is reused")
	} else {
		target.bulk.give(client, third)
	}
	for _, c := range []*bulkConn{first, second} {
		if _, err := c.Write([]byte("PING\r\n")); err == nil {
			t.Error("an expired connection is still open")
		}
	}
}

// TestBulkCompareOutlivesItsConnections: it reports every block, over several connections.
func TestBulkCompareOutlivesItsConnections(t *testing.T) {
	t.Parallel()
	schema := storetest.Simple()
	target := open(t, testConfig("hash", "p", schema, storetest.TargetOptions{}), testenv.RedisURL(t), schema)
	applied(t, target, write(1, 1))
	block := new(record.Block)
	block.Reset(len(schema.Fields))
	for _, v := range write(1, 1).Record {
		if v.State == record.Present {
			block.Add(append(block.Buffer(), v.Text...))
		} else {
			block.AddNull()
		}
	}
	connections := func() string {
		t.Helper()
		info, err := target.client.Info(t.Context(), "stats").Result()
		ok(t, err)
		return infoField(info, "total_connections_received")
	}
	given, reported, before := 0, 0, ""
	ok(t, target.BulkCompare(t.Context(), []int{0, 1, 2, 3}, func() (*record.Block, record.Version, error) {
		switch given++; given {
		case 3:
			before = connections()
			<-time.After(bulkMaxAge + time.Millisecond)
		case 5:
			return nil, record.Version{}, nil
		}
		return block, write(1, 1).Version, nil
	}, func(_ *record.Block, same []bool) error {
		if reported++; !same[0] {
			t.Errorf("block %d: not the same", reported)
		}
		return nil
	}))
	if reported != 4 || connections() == before {
		t.Errorf("%d of 4 blocks reported, %s connections before and %s after", reported, before, connections())
	}
}

// TestRefusedScanHasAHint: a permanent refusal names the right that is missing.
func TestRefusedScanHasAHint(t *testing.T) {
	t.Parallel()
	schema := storetest.Simple()
	server := testenv.Redis(t)
	admin := open(t, testConfig("hash", "p", schema, storetest.TargetOptions{}), server.URL(), schema)
	applied(t, admin, write(1, 1))
	ok(t, admin.client.Do(t.Context(), "acl", "setuser", "few", "on", ">secret", "~*", "+@all", "-scan").Err())
	target := open(t, testConfig("hash", "p", schema, storetest.TargetOptions{}), "redis://few:secret@"+server.Addr()+"/0", schema)
	err := target.ScanKeys(t.Context(), func([]record.Key, []store.Entry) error { return nil })
	if h, _ := hint.Of(err); err == nil || !strings.Contains(err.Error(), "refuses SCAN") || h.Text != "allow SCAN to the user of target.url" {
		t.Errorf("without the right to SCAN: %v, and the hint is %v", err, h)
	}
	for refusal, permanent := range map[string]bool{
		"NOPERM this user has no permissions to run the 'scan' command": true, "ERR unknown command 'SCAN'": true,
		"LOADING Redis is loading the dataset in memory": false, "BUSY Redis is busy running a script": false, "OOM command not allowed": false,
	} {
		if permanentRefusal(refusal) != permanent {
			t.Errorf("%q: permanent is %v", refusal, !permanent)
		}
	}
}
