package redis

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stranglerfig/migrator/internal/test/testenv"
	"github.com/stranglerfig/migrator/record"
	"github.com/stranglerfig/migrator/store"
	"github.com/stranglerfig/migrator/store/storetest"
)

// BenchmarkBulkLoad loads new records, 500 at a time, short ones and some of 240 bytes,
// by the fast and the slow scripts. It reports the server's CPU time too.
func BenchmarkBulkLoad(b *testing.B) {
	short := storetest.Simple()
	wide := &record.Schema{Key: []int{0}, Fields: []record.Field{
		{Name: "id", Kind: record.Int},
		{Name: "name", Kind: record.Text},
		{Name: "price", Kind: record.Decimal},
		{Name: "stock", Kind: record.Int},
		{Name: "updated_at", Kind: record.TimestampTZ},
		{Name: "attributes", Kind: record.JSON},
	}}
	const document = `{"new": true, "size": 17, "tags": ["tag 3", "label 10"], "maker": "maker 123", "colour": "green", "weight": 712.5}`
	for _, of := range []struct {
		name   string
		schema *record.Schema
		rest   []string
	}{
		{"short", short, []string{"12.50", "2024-01-01T00:00:00Z"}},
		{"wide", wide, []string{"12.50", "321", "2024-01-01T00:00:00Z", document}},
	} {
		for _, by := range []string{"hash", "hash by HSET", "json", "json by SET"} {
			b.Run(by+"/"+of.name, func(b *testing.B) {
				format, _, surely := strings.Cut(by, " ")
				target := open(b, testConfig(format, "fill", of.schema, storetest.TargetOptions{}), testenv.RedisURL(b), of.schema)
				target.noFastLoad.Store(surely)
				next := 0
				const rows = 500
				block, written := new(record.Block), make([]bool, rows)
				f := store.BulkWrite{Block: block, Version: record.MakeVersion(1, 0, 1), NotAfter: time.Now().Add(time.Hour)}
				before := serverCPU(b, target)
				for b.Loop() {
					block.Reset(len(of.schema.Fields))
					for range rows {
						next++
						block.Add(strconv.AppendInt(block.Buffer(), int64(next), 10))
						block.Add(fmt.Appendf(block.Buffer(), "product number %d", next))
						for _, text := range of.rest {
							block.Add(append(block.Buffer(), text...))
						}
					}
					if err := target.BulkLoad(b.Context(), f, written); err != nil || !written[0] || !written[rows-1] {
						b.Fatal("not written", err)
					}
				}
				each := float64(b.N) * rows
				b.ReportMetric(float64(b.Elapsed().Nanoseconds())/each, "ns/record")
				b.ReportMetric((serverCPU(b, target)-before)*1e9/each, "server-ns/record")
			})
		}
	}
}

// serverCPU returns the CPU time of the server in seconds.
func serverCPU(b *testing.B, t *Target) (seconds float64) {
	info, err := t.client.Info(b.Context(), "cpu").Result()
	if err != nil {
		b.Fatal(err)
	}
	for _, name := range []string{"used_cpu_sys", "used_cpu_user"} {
		n, err := strconv.ParseFloat(infoField(info, name), 64)
		if err != nil {
			b.Fatal(err)
		}
		seconds += n
	}
	return seconds
}
