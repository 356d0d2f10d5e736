package storetest

import (
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stranglerfig/migrator/record"
	"github.com/stranglerfig/migrator/store"
)

// bulkLoader returns the target, if it can bulk load.
func bulkLoader(b *targetFixture) store.BulkLoader {
	b.t.Helper()
	f, ok := b.target.(store.BulkLoader)
	if !ok || !f.CanBulkLoad() {
		b.t.Skip("this target has no BulkLoad")
	}
	return f
}

// bulkLoad loads the records, with left until the not-after, and returns which were
// written.
func (b *targetFixture) bulkLoad(version record.Version, left time.Duration, records []record.Record) []bool {
	b.t.Helper()
	f := store.BulkWrite{Block: new(record.Block), Version: version, NotAfter: b.now().Add(left)}
	f.Block.Reset(len(b.schema.Fields))
	for _, r := range records {
		addRecord(f.Block, r)
	}
	written := make([]bool, len(records))
	for i := range written {
		written[i] = true // BulkLoad must clear it
	}
	if err := bulkLoader(b).BulkLoad(b.ctx, f, written); err != nil {
		b.t.Fatalf("BulkLoad: %v", err)
	}
	return written
}

func addRecord(b *record.Block, r record.Record) {
	for _, v := range r {
		if v.State == record.Present {
			b.Add(append(b.Buffer(), v.Text...))
		} else {
			b.AddNull()
		}
	}
}

// testBulkLoad: it writes new records and nothing else, for every state of the target and
// every number of records.
func testBulkLoad(t *testing.T, h TargetHarness) {
	b := simpleFixture(t, h)
	bulkLoader(b)
	const rows = 331
	b.apply(put(3, 5), put(50, 100), put(51, 200), remove(101, 5), remove(102, 200))
	spoiled := map[int]func(*testing.T, store.Target, record.Key){150: h.Foreign, 151: h.WrongType, 51: h.Damage}
	for id, spoil := range spoiled {
		if spoil != nil {
			spoil(t, b.target, keyOf(id))
		} else if id != 51 {
			b.apply(put(id, 5))
		}
	}
	old := []int{3, 50, 51, 101, 102, 150, 151}
	before := make(map[int]store.Entry)
	for _, id := range old {
		before[id] = b.get(keyOf(id))[0]
	}
	var records []record.Record
	for id := 1; id <= rows; id++ {
		r := simple(id, 100)
		switch id {
		case 200:
			r[1] = text("")
		case 201:
			r[1] = record.NullValue
		case 202:
			r[1] = text("a\r\nb\\\t\"$3\r\n\\N\\.\n")
		case 203:
			r[1] = text(strings.Repeat("0123456789abcdef", 10_000))
		case 204:
			r[1], r[2] = record.NullValue, record.NullValue
		}
		records = append(records, r)
	}
	for i, done := range b.bulkLoad(at(100), time.Minute, records) {
		id := i + 1
		if slices.Contains(old, id) {
			if done {
				t.Errorf("%d was known, and is reported as written", id)
			}
			if e := b.get(keyOf(id))[0]; e.Presence != before[id].Presence || e.Version != before[id].Version || !slices.Equal(e.Record, before[id].Record) {
				t.Errorf("%d was %+v and is %+v", id, before[id], e)
			}
			continue
		}
		if !done {
			t.Fatalf("%d was new, and is not written", id)
		}
		b.live(keyOf(id), records[i], at(100))
		b.want(store.Write{Key: keyOf(id), Record: records[i], Version: at(100)}, store.Older, at(100))
	}
	twice := b.bulkLoad(at(100), time.Minute, []record.Record{simple(1001, 1), simple(1001, 2)})
	if twice[0] && twice[1] {
		t.Error("it wrote two records of one key")
	}
	if again := b.bulkLoad(at(300), time.Minute, records); slices.Contains(again, true) {
		t.Error("it wrote what was there")
	}
	b.want(put(1, 101), store.Applied, at(101))
	b.want(remove(2, 101), store.Applied, at(101))
	b.apply(remove(1001, 400))
	if n := len(b.scan()); n != rows+1 {
		t.Errorf("%d entries, want %d", n, rows+1)
	}
}

// testBulkLoadLate: after the not-after it writes neither a record nor a version.
func testBulkLoadLate(t *testing.T, h TargetHarness) {
	b := simpleFixture(t, h)
	if written := b.bulkLoad(at(7), -time.Millisecond, []record.Record{simple(1, 7), simple(2, 7)}); slices.Contains(written, true) {
		t.Error("it wrote too late")
	}
	b.gone(keyOf(1), store.Absent, record.Version{})
	b.want(put(1, 1), store.Applied, at(1))
}

// testBulkLoadEveryKind: each value is stored as by Apply, alone and with all others.
func testBulkLoadEveryKind(t *testing.T, h TargetHarness) {
	all, common := AllKinds(), AllKinds()
	common.Fields = slices.DeleteFunc(common.Fields, func(f record.Field) bool { // keeps what PostgreSQL reads in binary form
		return f.Kind == record.TimeOfDay || f.Kind == record.Interval || f.Kind == record.Array || f.Kind == record.Other
	})
	for _, schema := range []*record.Schema{all, common} {
		bulkLoadEveryKind(newTargetFixture(t, h, schema, TargetOptions{}))
	}
}

func bulkLoadEveryKind(b *targetFixture) {
	bulkLoader(b)
	var records []record.Record
	for i, f := range b.schema.Fields[1:] {
		for _, s := range kindTexts[f.Name] {
			r := make(record.Record, len(b.schema.Fields))
			for j := range r {
				r[j] = record.NullValue
			}
			r[0], r[i+1] = text(strconv.Itoa(len(records)+1)), text(s)
			records = append(records, r)
		}
	}
	written := b.bulkLoad(at(9), time.Minute, records)
	for i, r := range records {
		if !written[i] {
			b.t.Errorf("%v is not written", r)
			continue
		}
		key := keyOf(i + 1)
		b.live(key, r, at(9))
		filled := b.get(key)[0]
		b.want(store.Write{Key: key, Record: r, Version: at(10)}, store.Applied, at(10))
		if applied := b.get(key)[0]; !slices.Equal(applied.Record, filled.Record) {
			b.t.Errorf("filled %v, applied %v", filled.Record, applied.Record)
		}
	}
}

// testBulkLoadBesideWriters: with concurrent writers the newest state stays, and no call
// fails.
func testBulkLoadBesideWriters(t *testing.T, h TargetHarness) {
	b := simpleFixture(t, h)
	bulkLoader(b)
	const ids, step = 300, 30
	var wg sync.WaitGroup
	wg.Go(func() {
		for from := 1; from <= ids; from += step {
			var writes []store.Write
			for id := from + step - 1; id >= from; id-- { // against the order of BulkLoad
				if w := put(id, 200); id%3 > 0 {
					w.Deleted = id%3 == 2
					writes = append(writes, w)
				}
			}
			if results, err := b.target.Apply(b.ctx, writes); err != nil || slices.ContainsFunc(results, func(r store.Result) bool { return r.Outcome != store.Applied }) {
				t.Errorf("Apply beside BulkLoad: %v %v", results, err)
			}
		}
	})
	for from := ids - step + 1; from > 0; from -= step {
		f := store.BulkWrite{Block: new(record.Block), Version: at(100), NotAfter: b.now().Add(time.Minute)}
		f.Block.Reset(len(b.schema.Fields))
		var writes []store.Write
		for id := from; id < from+step; id++ {
			addRecord(f.Block, simple(id, 100))
			writes = append(writes, put(id, 100))
		}
		written := make([]bool, step)
		if bulkLoader(b).BulkLoad(b.ctx, f, written) != nil {
			clear(written)
		}
		for i, done := range written {
			if !done {
				b.apply(writes[i])
			}
		}
	}
	wg.Wait()
	for id := 1; id <= ids; id++ {
		switch id % 3 {
		case 0:
			b.live(keyOf(id), simple(id, 100), at(100))
		case 1:
			b.live(keyOf(id), simple(id, 200), at(200))
		case 2:
			b.gone(keyOf(id), store.Tombstone, at(200))
		}
	}
}

// testBulkLoadExpiring: records expire, their versions outlive them, and expired records
// are left to Apply.
func testBulkLoadExpiring(t *testing.T, h TargetHarness) {
	if !h.Expires {
		t.Skip("the target's records don't expire")
	}
	b := newTargetFixture(t, h, Simple(), TargetOptions{Expires: "expires_at"})
	bulkLoader(b)
	soon, later, past := b.now().Add(300*time.Millisecond), b.now().Add(time.Hour).Truncate(time.Millisecond), b.now().Add(-time.Hour)
	const known = 5
	b.apply(remove(known, 50))
	var records []record.Record
	for id := 1; id <= 250; id++ {
		when := []*time.Time{&later, nil, &past}[id%3]
		r := expiring(id, 100, when).Record
		switch id {
		case 6:
			r = expiring(id, 100, &soon).Record
		case 7:
			r[3] = text("infinity")
		case 9:
			r[1] = text(strings.Repeat("long ", 2000))
		}
		records = append(records, r)
	}
	for i, done := range b.bulkLoad(at(100), time.Minute, records) {
		id, r := i+1, records[i]
		if id == 6 {
			if !done { // too soon for a slow machine
				b.apply(store.Write{Key: keyOf(id), Record: r, Version: at(100)})
			}
			continue
		}
		if done != (id%3 != 2) { // of known it is 2 too
			t.Fatalf("%d is written: %v", id, done)
		}
		if !done {
			continue
		}
		b.live(keyOf(id), r, at(100))
		want := time.Time{}
		if id%3 == 0 {
			want = later
		}
		if got := b.get(keyOf(id))[0].Expires; !got.Equal(want) {
			t.Errorf("%d expires %s, want %s", id, got, want)
		}
	}
	b.until("the record to expire", func() bool { return b.get(keyOf(6))[0].Presence != store.Live })
	b.gone(keyOf(6), store.Tombstone, at(100))
	b.want(put(6, 100), store.Older, at(100))
	b.gone(keyOf(known), store.Tombstone, at(50))
	b.gone(keyOf(11), store.Absent, record.Version{})
	b.want(remove(3, 101), store.Applied, at(101))
	if again := b.bulkLoad(at(300), time.Minute, records[:7]); slices.Contains(again, true) {
		t.Errorf("it wrote what was known: %v", again)
	}
}
