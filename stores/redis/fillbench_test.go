package redis

import (
	"fmt"
	"strconv"
	"testing"
	"time"

	"github.com/stranglerfig/migrator/internal/testenv"
	"github.com/stranglerfig/migrator/record"
	"github.com/stranglerfig/migrator/stores/storetest"
)

// BenchmarkFill is of records that are new, by 500; the server's own time is in it.
func BenchmarkFill(b *testing.B) {
	for _, format := range []string{"hash", "json"} {
		schema := storetest.Simple()
		target := open(b, migration(format, "fill", schema, storetest.TargetOptions{}), testenv.RedisURL(b), schema)
		next := 0
		b.Run(format, func(b *testing.B) {
			const rows = 500
			block, written := new(record.Block), make([]bool, rows)
			f := record.Fill{Block: block, Version: record.Version{Era: 1, LSN: 1}, NotAfter: time.Now().Add(time.Hour)}
			for b.Loop() {
				block.Reset(len(schema.Fields))
				for range rows {
					next++
					block.Add(strconv.AppendInt(block.Buffer(), int64(next), 10))
					block.Add(fmt.Appendf(block.Buffer(), "product number %d", next))
					block.Add(append(block.Buffer(), "12.50"...))
					block.Add(append(block.Buffer(), "2024-01-01T00:00:00Z"...))
				}
				if err := target.Fill(b.Context(), f, written); err != nil || !written[0] || !written[rows-1] {
					b.Fatal("not written", err)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/rows, "ns/record")
			info, _ := target.Client().Info(b.Context(), "cpu").Result()
			b.Log(b.N*rows, info)
		})
	}
}
