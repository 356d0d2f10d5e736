package peers

import (
	"context"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/launchdarkly/go-sdk-common/v3/ldcontext"
	"github.com/launchdarkly/go-sdk-common/v3/ldmigration"
	"github.com/launchdarkly/go-sdk-common/v3/ldvalue"
	ld "github.com/launchdarkly/go-server-sdk/v7"
	"github.com/launchdarkly/go-server-sdk/v7/ldcomponents"
	"github.com/launchdarkly/go-server-sdk/v7/testhelpers/ldtestdata"

	"github.com/stranglerfig/migrator/dual"
	"github.com/stranglerfig/migrator/dual/telemetry"
	"github.com/stranglerfig/migrator/phases"
	"github.com/stranglerfig/migrator/record"
	"github.com/stranglerfig/migrator/store"
)

// The stores do nothing: what is left is the cost of what stands before them.
func legacyRead(context.Context, int) (int, bool, error) { return 1, true, nil }

func legacyWrite(context.Context) (record.Version, error) { return record.MakeVersion(1, 0, 1), nil }

type target struct{}

func (target) Get(context.Context, int) (dual.Versioned[int], error) {
	return dual.Versioned[int]{Value: 1, Found: true}, nil
}

func (target) Apply(context.Context, dual.Change[int, int], dual.ApplyOptions) (store.Result, error) {
	return store.Result{Outcome: store.Applied}, nil
}

func (target) Now(context.Context) (time.Time, error) { return time.Now(), nil }

// fleet is a state that answers at once, and takes what is counted.
type fleet struct{ route phases.Route }

func (f fleet) Join(context.Context, dual.Identity) (dual.Grant, error) {
	return dual.Grant{Lease: "lease", Instance: "instance", Route: f.route}, nil
}

func (f fleet) Renew(ctx context.Context, _ string, _ int64) (dual.Grant, error) {
	return f.Join(ctx, dual.Identity{})
}
func (fleet) Leave(context.Context, string) error                       { return nil }
func (fleet) Observe(context.Context, string, []telemetry.Window) error { return nil }
func (f fleet) Journal(context.Context, []dual.JournalEntry) (dual.JournalResult, error) {
	return dual.JournalResult{Route: f.route}, nil
}

func ours(tb testing.TB, r phases.Route) (read, write func() error) {
	tb.Helper()
	r.Epoch = 1
	i, err := dual.Join(tb.Context(), dual.Config{Fleet: fleet{r}})
	if err != nil {
		tb.Fatal(err)
	}
	key := func(int) record.Key { return "42" }
	reader, err := dual.NewReader(dual.ReaderConfig[int, int]{
		Instance: i, Legacy: legacyRead, Target: target{}, Key: key, Equal: func(a, b int) bool { return a == b },
	})
	if err != nil {
		tb.Fatal(err)
	}
	writer, err := dual.NewWriter(dual.WriterConfig[int, int]{Instance: i, Legacy: legacyRead, Target: target{}, Key: key})
	if err != nil {
		tb.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var group sync.WaitGroup
	group.Go(func() { _ = i.Run(ctx) })
	tb.Cleanup(func() {
		cancel()
		group.Wait()
	})
	read = func() error {
		_, _, err := reader.Get(ctx, 1)
		return err
	}
	return read, func() error { return writer.Put(ctx, 1, 2, legacyWrite) }
}

func theirs(tb testing.TB, stage ldmigration.Stage) (read, write func() error) {
	tb.Helper()
	flags := ldtestdata.DataSource()
	flags.Update(flags.Flag("move").Variations(ldvalue.String(string(stage))).FallthroughVariationIndex(0).On(true))
	client, err := ld.MakeCustomClient("key", ld.Config{
		DataSource: flags, Events: ldcomponents.NoEvents(), Logging: ldcomponents.NoLogging(), DiagnosticOptOut: true,
	}, 5*time.Second)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = client.Close() })
	same := ld.MigrationComparisonFn(func(a, b any) bool { return a == b })
	nothing := func(any) (any, error) { return 1, nil }
	m, err := ld.Migration(client).Read(nothing, nothing, &same).Write(nothing, nothing).Build()
	if err != nil {
		tb.Fatal(err)
	}
	user := ldcontext.New("user")
	read = func() error { r := m.Read("move", user, ldmigration.Off, 1); return r.GetError() }
	write = func() error {
		r := m.Write("move", user, ldmigration.Off, 1)
		authoritative := r.GetAuthoritativeResult()
		return authoritative.GetError()
	}
	return read, write
}

func compared(tb testing.TB, visit func(name string, read, write func() error)) {
	for _, c := range []struct {
		stage ldmigration.Stage
		route phases.Route
	}{
		{ldmigration.Off, phases.Route{Phase: phases.Legacy}},
		{ldmigration.DualWrite, phases.Route{Phase: phases.ShadowWrite}},
		{ldmigration.Shadow, phases.Route{Phase: phases.DualRead, Percent: 100}},
		{ldmigration.Live, phases.Route{Phase: phases.Grace}},
		{ldmigration.Complete, phases.Route{Phase: phases.Complete}},
	} {
		read, write := ours(tb, c.route)
		visit("dual "+string(c.route.Phase), read, write)
		read, write = theirs(tb, c.stage)
		visit("LaunchDarkly "+string(c.stage), read, write)
	}
}

func TestBothDoWhatIsMeasured(t *testing.T) {
	compared(t, func(name string, read, write func() error) {
		if err := read(); err != nil {
			t.Errorf("%s: read: %v", name, err)
		}
		if err := write(); err != nil {
			t.Errorf("%s: write: %v", name, err)
		}
	})
}

func BenchmarkPeers(b *testing.B) {
	compared(b, func(name string, read, write func() error) {
		for what, call := range map[string]func() error{"read": read, "write": write} {
			b.Run(what+"/"+name+"/1", func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					_ = call()
				}
			})
			b.Run(what+"/"+name+"/8", func(b *testing.B) {
				b.ReportAllocs()
				b.SetParallelism(max(1, 8/runtime.GOMAXPROCS(0)))
				b.RunParallel(func(pb *testing.PB) {
					for pb.Next() {
						_ = call()
					}
				})
			})
		}
	})
}
