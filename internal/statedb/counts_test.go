package statedb

import (
	"bytes"
	"reflect"
	"testing"
	"time"

	"github.com/stranglerfig/migrator/dual/telemetry"
	"github.com/stranglerfig/migrator/internal/stats/sketch"
)

func someCounts() []telemetry.Count {
	sketch := new(sketch.Sketch)
	sketch.Add(time.Millisecond, 5)
	sketch.Add(time.Second, 1<<40)
	return []telemetry.Count{
		{Series: telemetry.Series{Operation: telemetry.Read, Store: telemetry.Target, Role: telemetry.Serving, Outcome: telemetry.OK}, N: 1<<63 + 1, Latency: sketch},
		{Series: telemetry.Series{Operation: telemetry.Comparison, Store: telemetry.Both, Role: telemetry.Shadow, Outcome: telemetry.LostWrite}, N: 0},
	}
}

func TestCountsComeBack(t *testing.T) {
	t.Parallel()
	for _, counts := range [][]telemetry.Count{{}, someCounts()} {
		b, err := PackCounts(counts)
		if err != nil {
			t.Fatal(err)
		}
		back, err := NewUnpacker().Unpack(b)
		if err != nil || !reflect.DeepEqual(back, counts) {
			t.Errorf("%+v came back as %+v, %v", counts, back, err)
		}
		for n := range b {
			if _, err := NewUnpacker().Unpack(b[:n]); err == nil {
				t.Errorf("%d of %d bytes were taken", n, len(b))
			}
		}
		if _, err := NewUnpacker().Unpack(append(b, 0)); err == nil {
			t.Error("a byte too many was taken")
		}
	}
}

// FuzzCounts: what applications may insert is read or refused; what is read can be
// written again, and is the same then.
func FuzzCounts(f *testing.F) {
	good, err := PackCounts(someCounts())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add([]byte{1, 0})
	f.Add([]byte{1, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1})
	f.Fuzz(func(t *testing.T, b []byte) {
		counts, err := NewUnpacker().Unpack(b)
		if err != nil {
			return
		}
		once, err := PackCounts(counts)
		if err != nil {
			t.Fatal(err)
		}
		again, err := NewUnpacker().Unpack(once)
		if err != nil {
			t.Fatal(err)
		}
		if twice, err := PackCounts(again); err != nil || !bytes.Equal(once, twice) {
			t.Errorf("%x became %x, %v", once, twice, err)
		}
	})
}
