package redis

import (
	"context"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stranglerfig/migrator/internal/test/testenv"
	"github.com/stranglerfig/migrator/record"
	"github.com/stranglerfig/migrator/store"
	"github.com/stranglerfig/migrator/store/storetest"
)

// filled loads records and returns which were written.
func filled(t *testing.T, target *Target, version record.Version, records ...record.Record) []bool {
	t.Helper()
	f := store.BulkWrite{Block: new(record.Block), Version: version, NotAfter: time.Now().Add(time.Minute)}
	f.Block.Reset(len(target.schema.Fields))
	for _, r := range records {
		for _, v := range r {
			if v.State == record.Present {
				f.Block.Add(append(f.Block.Buffer(), v.Text...))
			} else {
				f.Block.AddNull()
			}
		}
	}
	written := make([]bool, len(records))
	ok(t, target.BulkLoad(t.Context(), f, written))
	return written
}

// TestBulkLoadEqualsApply: a small hash is the same to its last byte, whether BulkLoad
// or Apply wrote it; a hash of long values has the same fields.
func TestBulkLoadEqualsApply(t *testing.T) {
	t.Parallel()
	schema := storetest.Simple()
	schema.Fields[2].Kind, schema.Fields[3].Kind = record.Text, record.Text
	schema.Fields[2].Target = "7" // which Redis keeps as an integer
	redis := testenv.RedisURL(t)
	fills, writes := open(t, testConfig("hash", "fills", schema, storetest.TargetOptions{}), redis, schema), open(t, testConfig("hash", "writes", schema, storetest.TargetOptions{}), redis, schema)
	texts := []string{
		"", "a", "-", "-0", "007", "+1", "1.0", "1e3", " 1", "1 ", "9223372036854775808", "-9223372036854775809", "99999999999999999999",
		strings.Repeat("x", 63), strings.Repeat("x", 64),
	}
	for _, bits := range []uint{0, 6, 7, 8, 12, 13, 15, 16, 23, 24, 31, 32, 62} {
		for n := int64(1)<<bits - 2; n <= 1<<bits+1; n++ {
			texts = append(texts, strconv.FormatInt(n, 10), strconv.FormatInt(-n, 10))
		}
	}
	texts = append(texts, "9223372036854775807", "-9223372036854775808")
	small := len(texts)
	for _, n := range []int{65, 100, 120, 127, 128, 129, 255, 256, 1000, 4000, packedLimit - 100, packedLimit, packedLimit + 1, 1 << 14, 1 << 17} {
		texts = append(texts, strings.Repeat("y", n))
	}
	version := record.MakeVersion(1, 2, 3)
	var records []record.Record
	var applies []store.Write
	for i, text := range texts {
		r := record.Record{record.TextValue(strconv.Itoa(i)), record.TextValue(text), record.NullValue, record.TextValue("last")}
		if i%3 == 0 {
			r[2], r[3] = r[3], r[2]
		}
		records = append(records, r)
		applies = append(applies, store.Write{Key: record.MakeKey(strconv.Itoa(i)), Record: r, Version: version})
	}
	if written := filled(t, fills, version, records...); slices.Contains(written, false) {
		t.Fatalf("written: %v", written)
	}
	applied(t, writes, applies...)
	ctx := t.Context()
	for i := range texts {
		by := fmt.Sprint(":", i)
		if i < small {
			one, other := fills.client.Dump(ctx, "fills"+by).Val(), writes.client.Dump(ctx, "writes"+by).Val()
			if one == "" || one != other {
				t.Errorf("%.70q: BulkLoad makes %q, Apply %q", texts[i], one, other)
			}
		}
		one, other := fills.client.HGetAll(ctx, "fills"+by).Val(), writes.client.HGetAll(ctx, "writes"+by).Val()
		if len(one) != 4 || !maps.Equal(one, other) {
			t.Errorf("%.70q: BulkLoad makes %.200q, Apply %.200q", texts[i], one, other)
		}
	}
	if fills.noFastLoad.Load() {
		t.Error("the fast path was disabled")
	}
}

// TestBulkLoadWithFewRights: all records are written, also if the fast path is refused or
// the server validates payloads.
func TestBulkLoadWithFewRights(t *testing.T) {
	t.Parallel()
	server := testenv.Redis(t, testenv.RedisOptions{Config: []string{
		"sanitize-dump-payload yes", "user less on >secret ~* +@all -restore -msetnx",
	}})
	less, err := url.Parse(server.URL())
	ok(t, err)
	less.User = url.UserPassword("less", "secret")
	schema := storetest.Simple()
	version := record.MakeVersion(0, 0, 5)
	later := time.Now().Add(time.Hour).UTC().Truncate(time.Second)
	for _, format := range formats {
		for who, at := range map[string]string{"all": server.URL(), "less": less.String()} {
			for _, expires := range []string{"", "expires_at"} {
				prefix := fmt.Sprint(format, who, expires)
				target := open(t, testConfig(format, prefix, schema, storetest.TargetOptions{Expires: expires}), at, schema)
				next := 0
				for range 2 {
					var records []record.Record
					for range 3 * loadRows / 2 {
						next++
						records = append(records, write(next, 0).Record)
					}
					records[7][1] = record.TextValue(strings.Repeat("long ", packedLimit))
					records[7][3], records[8][3] = record.TextValue(later.Format(time.RFC3339)), record.TextValue(later.Format(time.RFC3339))
					known := records[9][0].Text
					applied(t, target, store.Write{Key: record.MakeKey(known), Record: records[9], Version: record.MakeVersion(0, 0, 1)})
					for i, done := range filled(t, target, version, records...) {
						if done != (i != 9) {
							t.Errorf("%s: record %s is written: %v", prefix, records[i][0].Text, done)
						}
					}
					for i := 6; i < 9; i++ {
						id, _ := strconv.Atoi(records[i][0].Text)
						if e := entry(t, target, id); e.Version != version || e.Expires.Equal(later) != (expires != "" && i > 6) {
							t.Errorf("%s: record %d is at %s and expires %s", prefix, id, e.Version, e.Expires)
						}
					}
				}
				if refused := who == "less" && (format == "hash" || expires == ""); target.noFastLoad.Load() != refused {
					t.Errorf("%s: the fast path is disabled: %v", prefix, target.noFastLoad.Load())
				}
				if n := scanned(t, target); n != next {
					t.Errorf("%s: %d entries, want %d", prefix, n, next)
				}
			}
		}
	}
}

// TestBulkLoadWithoutMemory: rows that are not written are not reported as written, and
// the fast path stays enabled.
func TestBulkLoadWithoutMemory(t *testing.T) {
	t.Parallel()
	server := testenv.Redis(t)
	schema := storetest.Simple()
	for _, format := range formats {
		target := open(t, testConfig(format, format, schema, storetest.TargetOptions{}), server.URL(), schema)
		ok(t, target.client.ConfigSet(t.Context(), "maxmemory", "1").Err())
		records := []record.Record{write(1, 0).Record, write(2, 0).Record}
		if written := filled(t, target, record.MakeVersion(0, 0, 1), records...); slices.Contains(written, true) {
			t.Errorf("%s: written without memory: %v", format, written)
		}
		ok(t, target.client.ConfigSet(context.WithoutCancel(t.Context()), "maxmemory", "0").Err())
		if written := filled(t, target, record.MakeVersion(0, 0, 1), records...); slices.Contains(written, false) {
			t.Errorf("%s: not written: %v", format, written)
		}
		if target.noFastLoad.Load() {
			t.Errorf("%s: the fast path was disabled", format)
		}
	}
}

// TestAClusterBehindOneAddress: the server refuses a call with keys of several slots. From then on each call has one
// record, by the fast script too.
func TestAClusterBehindOneAddress(t *testing.T) {
	t.Parallel()
	server := testenv.Redis(t, testenv.RedisOptions{NoPassword: true, Config: []string{"cluster-enabled yes"}})
	schema := storetest.Simple()
	for _, format := range formats {
		m := testConfig(format, format, schema, storetest.TargetOptions{})
		loads, applies := open(t, m, server.URL(), schema), open(t, m, server.URL(), schema)
		if format == formats[0] {
			ok(t, loads.client.Do(t.Context(), "cluster", "addslotsrange", 0, 16383).Err())
		}
		for !strings.Contains(loads.client.ClusterInfo(t.Context()).Val(), "cluster_state:ok") {
			time.Sleep(time.Millisecond)
		}
		var records []record.Record
		var writes []store.Write
		for i := range 50 {
			w := write(i, 2)
			records, writes = append(records, w.Record), append(writes, w)
		}
		for range 2 {
			ok(t, loads.client.FlushAll(t.Context()).Err())
			if written := filled(t, loads, version(1), records...); slices.Contains(written, false) {
				t.Errorf("%s: written: %v", format, written)
			}
		}
		if !loads.oneSlot.Load() || loads.noFastLoad.Load() {
			t.Errorf("%s: one slot: %v, no fast load: %v", format, loads.oneSlot.Load(), loads.noFastLoad.Load())
		}
		applied(t, applies, writes...)
		if !applies.oneSlot.Load() {
			t.Errorf("%s: calls still have several keys", format)
		}
	}
}
