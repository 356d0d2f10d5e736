package redis

import (
	"testing"

	"github.com/stranglerfig/migrator/internal/test/testenv"
	"github.com/stranglerfig/migrator/record"
	"github.com/stranglerfig/migrator/store"
	"github.com/stranglerfig/migrator/store/storetest"
)

// BenchmarkBatches is the rate of records in batches of 1,000.
func BenchmarkBatches(b *testing.B) {
	const batch = 1000
	for _, format := range formats {
		schema := storetest.Simple()
		target := open(b, testConfig(format, "p", schema, storetest.TargetOptions{}), testenv.RedisURL(b), schema)
		keys := make([]record.Key, batch)
		writes := make([]store.Write, batch)
		b.Run(format+"/apply", func(b *testing.B) {
			b.ReportAllocs()
			for n := 0; b.Loop(); n++ {
				for i := range writes {
					writes[i] = write(i, n+1)
					keys[i] = writes[i].Key
				}
				if _, err := target.Apply(b.Context(), writes); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.N*batch)/b.Elapsed().Seconds(), "records/s")
		})
		b.Run(format+"/get", func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := target.Get(b.Context(), keys); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.N*batch)/b.Elapsed().Seconds(), "records/s")
		})
	}
}
