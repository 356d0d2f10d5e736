package capture

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pglogrepl"

	"github.com/stranglerfig/migrator/record"
)

func row(kind byte, values ...string) []byte {
	b := binary.BigEndian.AppendUint16([]byte{kind}, uint16(len(values)))
	for _, v := range values {
		if v == "n" || v == "u" {
			b = append(b, v[0])
			continue
		}
		b = append(binary.BigEndian.AppendUint32(append(b, 't'), uint32(len(v))), v...)
	}
	return b
}

func message(parts ...[]byte) []byte {
	return append([]byte{0, 0, 1, 2}, bytes.Join(parts, nil)...)
}

func TestRowMessages(t *testing.T) {
	t.Parallel()
	good := []struct {
		kind byte
		in   []byte
	}{
		{'I', message(row('N', "1", "n", ""))},
		{'U', message(row('N', "1", "u"))},
		{'U', message(row('K', "1", "n"), row('N', "2", "x"))},
		{'U', message(row('O', "1", "y"), row('N', "2", "u"))},
		{'D', message(row('K', "1", "n"))},
		{'D', message(row('O', "1", "y"))},
	}
	for _, c := range good {
		var m rowChange
		if err := m.read(c.kind, c.in); err != nil || m.relation != 258 {
			t.Errorf("%c %q: %v", c.kind, c.in, err)
		}
		// Cut short anywhere, or longer, it is refused, and never read beyond its end.
		for n := range c.in {
			if err := m.read(c.kind, c.in[:n:n]); !errors.Is(err, errWire) {
				t.Errorf("%c %q: %v", c.kind, c.in[:n], err)
			}
		}
		if err := m.read(c.kind, append(bytes.Clone(c.in), 0)); !errors.Is(err, errWire) {
			t.Errorf("%c %q and a byte: %v", c.kind, c.in, err)
		}
	}
	var m rowChange
	for _, c := range []struct {
		kind byte
		in   []byte
	}{{'I', message(row('K', "1"), row('N', "1"))}, {'D', message(row('N', "1"))}, {'U', message(row('K', "1"))}, {'I', message([]byte{'N', 0, 1, 'b', 0, 0, 0, 0})}} {
		if err := m.read(c.kind, c.in); !errors.Is(err, errWire) {
			t.Errorf("%c %q: %v", c.kind, c.in, err)
		}
	}
}

func FuzzRowMessages(f *testing.F) {
	f.Add(byte('U'), message(row('K', "1", "n"), row('N', "2", "u")))
	f.Fuzz(func(t *testing.T, kind byte, in []byte) {
		var m rowChange
		if err := m.read(kind, in); err != nil && !errors.Is(err, errWire) {
			t.Fatal(err)
		}
	})
}

func FuzzFrames(f *testing.F) {
	f.Add(appendChange(nil, "key", change{locked: true, record: record.Record{record.TextValue("x"), record.NullValue, {}}}))
	f.Fuzz(func(t *testing.T, frame []byte) {
		in := append(binary.AppendUvarint(nil, uint64(len(frame))), frame...)
		key, c, err := readChange(bufio.NewReader(bytes.NewReader(in)))
		if err != nil {
			return
		}
		again, d, err := readChange(bufio.NewReader(bytes.NewReader(appendFrame(key, c))))
		if err != nil || again != key || cmp.Diff(c, d, cmp.AllowUnexported(change{})) != "" {
			t.Fatalf("%+v became %+v, %v", c, d, err)
		}
	})
}

func appendFrame(key record.Key, c change) []byte {
	frame := appendChange(nil, key, c)
	return append(binary.AppendUvarint(nil, uint64(len(frame))), frame...)
}

func TestAFrameThatIsCutShort(t *testing.T) {
	t.Parallel()
	whole := appendFrame("key", change{record: record.Record{record.TextValue("text"), record.NullValue, {}}})
	for n := range whole {
		_, _, err := readChange(bufio.NewReader(bytes.NewReader(whole[:n])))
		if err == nil || errors.Is(err, io.EOF) != (n == 0) {
			t.Errorf("%d of %d bytes: %v", n, len(whole), err)
		}
	}
}

// By files, some of which are spilled again, a transaction has the states that it has in memory.
func TestSpilledStatesAreThoseOfMemory(t *testing.T) {
	t.Parallel()
	dice := rand.New(rand.NewPCG(1, 2))
	small, large := &transaction{limit: 2000, dir: t.TempDir()}, &transaction{limit: 1 << 30}
	for range 20_000 {
		key := record.Key(fmt.Sprint(dice.IntN(3000)))
		c := change{deleted: dice.IntN(5) == 0}
		if !c.deleted {
			c.record = record.Record{record.TextValue(string(key)), record.TextValue(fmt.Sprint(dice.Int())), {}}
			if dice.IntN(2) == 0 {
				c.record[2] = record.TextValue("large")
			}
		}
		for _, tx := range []*transaction{small, large} {
			own := c
			own.record = c.record.Clone()
			if err := tx.add(key, own); err != nil {
				t.Fatal(err)
			}
		}
	}
	got := map[record.Key]change{}
	parts := 0
	if err := small.each(func(states map[record.Key]change) error {
		parts++
		for key := range states {
			if _, twice := got[key]; twice {
				t.Errorf("%s is in two parts", key)
			}
		}
		maps.Copy(got, states)
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(large.states, got, cmp.AllowUnexported(change{})); diff != "" || parts <= spillFiles {
		t.Errorf("in %d parts: %s", parts, diff)
	}
	small.close()
}

// TestAFullBatchTakesNoMore: what is gathered while the target is slow is bounded. A key that changes again takes no
// more room.
func TestAFullBatchTakesNoMore(t *testing.T) {
	t.Parallel()
	over, cancel := context.WithCancel(t.Context())
	cancel() // put does not wait
	one := change{record: record.Record{record.TextValue("12345678")}}
	q := newQueue(3 * one.size("a"))
	put := func(key record.Key) bool {
		tx := &transaction{limit: 1 << 20}
		if err := tx.add(key, one); err != nil {
			t.Fatal(err)
		}
		return q.put(over, tx, record.MakeVersion(1, 1, 1), Progress{Resume: 1}) == nil
	}
	for range 10 {
		if !put("a") {
			t.Fatal("the same key again is refused")
		}
	}
	if !put("b") || !put("c") || put("d") {
		t.Error("want room for three keys")
	}
	if b, err := q.take(t.Context()); err != nil || len(b.states) != 3 || b.rows != 12 {
		t.Errorf("%d keys, %d rows, %v", len(b.states), b.rows, err)
	}
	if !put("d") {
		t.Error("no room once the batch was taken")
	}
}

// TestMemoryIsOfWhatTheTargetHas: a change that is to be tried again is not the last one that the target may have.
func TestMemoryIsOfWhatTheTargetHas(t *testing.T) {
	t.Parallel()
	at := func(key record.Key, lsn uint64) item {
		return item{key, versioned{version: record.MakeVersion(1, 1, lsn)}}
	}
	var m memory
	m.knows("a") // from now on
	m.keep([]item{at("a", 1), at("b", 1)}, nil)
	m.keep([]item{at("a", 2), at("b", 2)}, []item{at("a", 2)})
	for key, want := range map[record.Key]uint64{"a": 1, "b": 2} {
		if v, known := m.version(key); !known || v != record.MakeVersion(1, 1, want) {
			t.Errorf("%s: %s, %t, want that of change %d", key, v, known, want)
		}
	}
	m.forget()
	if m.knows("a") {
		t.Error("it is known after a gap in the stream")
	}
}

// TestIdleIsWithoutWhatIsUnderWay: the server's end of log is that of the target only where nothing waits for it, and no
// transaction is open.
func TestIdleIsWithoutWhatIsUnderWay(t *testing.T) {
	t.Parallel()
	s := &stream{meter: &meter{}, beat: make(chan struct{}, 1)}
	alive := func(end uint64) {
		t.Helper()
		b := binary.BigEndian.AppendUint64([]byte{pglogrepl.PrimaryKeepaliveMessageByteID}, end)
		if err := s.message(t.Context(), append(binary.BigEndian.AppendUint64(b, 0), 0)); err != nil {
			t.Fatal(err)
		}
	}
	is := func(when string, want uint64) {
		t.Helper()
		if got := s.meter.idle.Load(); got != want {
			t.Errorf("%s: idle up to %d, want %d", when, got, want)
		}
	}
	alive(10)
	is("at rest", 10)
	s.open = &transaction{}
	alive(20)
	is("in a transaction", 10)
	s.open.changes = 2
	s.meter.read(s.open)
	s.open = nil
	alive(30)
	is("while rows wait", 10)
	s.meter.waiting.Add(-2)
	alive(40)
	is("once they are applied", 40)
}
