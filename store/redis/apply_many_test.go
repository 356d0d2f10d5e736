package redis_test

import (
	"strings"
	"testing"
	"time"

	"github.com/stranglerfig/migrator/internal/test/pairtest"
	"github.com/stranglerfig/migrator/record"
	"github.com/stranglerfig/migrator/store"
)

// Many writes take another way than one, to the same results: also on a server that does not know the script yet.
func TestManyWritesHaveTheResultsOfSingleOnes(t *testing.T) {
	t.Parallel()
	for _, format := range []string{"hash", "json"} {
		t.Run(format, func(t *testing.T) {
			t.Parallel()
			p := pairtest.New(t, pairtest.Options{DDL: "CREATE TABLE items (id bigint PRIMARY KEY, name text)", Format: format})
			ctx := t.Context()
			now, err := p.Target.Now(ctx)
			if err != nil {
				t.Fatal(err)
			}
			at := func(n uint64) record.Version { return record.MakeVersion(1, 1, n) }
			var writes []store.Write
			for n := range 60 {
				key := strings.Repeat("1", 1+n)
				if n >= 18 {
					key = "1" + strings.Repeat("0", n%18)
				}
				w := store.Write{Key: record.Key(key), Version: at(uint64(100 + n%7)), NotAfter: now.Add(time.Minute), Record: record.Record{record.TextValue(key), record.TextValue("a \r\n $3 * ü")}}
				switch n % 10 {
				case 3:
					w.Deleted, w.Record = true, nil
				case 4:
					w.NotAfter = now.Add(-time.Minute)
				case 5:
					w.Key = "no number"
				case 7:
					w.Record = w.Record[:1]
				}
				writes = append(writes, w)
			}
			foreign := "item:" + string(writes[2].Key)
			if err := p.Redis.LPush(ctx, foreign, "x").Err(); err != nil {
				t.Fatal(err)
			}
			together, err := p.Target.Apply(ctx, writes)
			if err != nil {
				t.Fatal(err)
			}
			entries, err := p.Target.Get(ctx, keysOf(writes))
			if err != nil {
				t.Fatal(err)
			}
			if err := p.Redis.FlushDB(ctx).Err(); err != nil {
				t.Fatal(err)
			}
			if err := p.Redis.LPush(ctx, foreign, "x").Err(); err != nil {
				t.Fatal(err)
			}
			for n := range writes {
				one, err := p.Target.Apply(ctx, writes[n:n+1])
				if err != nil && one == nil {
					t.Fatal(err)
				}
				if a, b := together[n], one[0]; a.Outcome != b.Outcome || a.Version != b.Version || (a.Err == nil) != (b.Err == nil) {
					t.Errorf("write %d: %+v together, %+v alone", n, a, b)
				}
			}
			after, err := p.Target.Get(ctx, keysOf(writes))
			if err != nil {
				t.Fatal(err)
			}
			for n := range after {
				if a, b := entries[n], after[n]; a.Presence != b.Presence || a.Version != b.Version {
					t.Errorf("entry %d: %+v together, %+v alone", n, a, b)
				}
			}
		})
	}
}

func keysOf(writes []store.Write) (keys []record.Key) {
	for _, w := range writes {
		if w.Key != "no number" {
			keys = append(keys, w.Key)
		}
	}
	return keys
}
