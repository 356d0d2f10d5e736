package storetest

import (
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stranglerfig/migrator/record"
	"github.com/stranglerfig/migrator/store"
)

// testBulkCompare: records that BulkCompare reports as equal are equal, for every way in
// which a record can differ. The last row is compared completely.
func testBulkCompare(t *testing.T, h TargetHarness) {
	bench := simpleFixture(t, h)
	m, ok := bench.target.(store.BulkComparer)
	if !ok || !m.CanBulkCompare() {
		t.Skip("this target has no BulkCompare")
	}
	high := at(100)
	all := []int{0, 1, 2, 3}
	row := func(name string) record.Record {
		return record.Record{{}, text(name), text("1.50"), record.NullValue}
	}
	type expected struct {
		what   string
		legacy record.Record // zero: a usual one
		same   bool
	}
	big := strings.Repeat("0123456789abcdef", 40_000)
	cases := []expected{
		{what: "the same", same: true},
		{what: "the same, empty text", legacy: row(""), same: true},
		{what: "the same, odd bytes", legacy: row("a\r\nb\x01$3\r\n"), same: true},
		{what: "the same, 640 kB", legacy: row(big), same: true},
		{what: "another last byte of 640 kB", legacy: row(big[1:] + "!")},
		{what: "missing"},
		{what: "missing, another client writes it"},
		{what: "missing, another client writes another type"},
		{what: "deleted"},
		{what: "another text"},
		{what: "another length"},
		{what: "NULL in the target"},
		{what: "NULL in legacy"},
		{what: "another version, known", same: true},
		{what: "the highest version", same: true},
		{what: "a newer version than the highest"},
		{what: "a newer era"},
		{what: "the last one", same: true},
	}
	b := new(record.Block)
	b.Reset(len(all))
	for i := range cases {
		c := &cases[i]
		if c.legacy == nil {
			c.legacy = row("a name")
		}
		key := keyOf(i)
		c.legacy[0] = text(string(key))
		w := store.Write{Key: key, Record: slices.Clone(c.legacy), Version: at(7)}
		switch c.what {
		case "another last byte of 640 kB":
			w.Record[1] = text(big[1:] + "?")
		case "another text":
			w.Record[1] = text("a nama")
		case "another length":
			w.Record[1] = text("a nam")
		case "NULL in the target":
			w.Record[1] = record.NullValue
		case "NULL in legacy":
			c.legacy[1] = record.NullValue
		case "another version, known":
			w.Version = at(8)
		case "the highest version":
			w.Version = high
		case "a newer version than the highest":
			w.Version = at(101)
		case "a newer era":
			w.Version = record.MakeVersion(2, 0, 0)
		case "deleted":
			w = store.Write{Key: key, Deleted: true, Version: w.Version}
		}
		if !strings.HasPrefix(c.what, "missing") {
			bench.apply(w)
		}
		addRecord(b, c.legacy)
	}
	same := make([]bool, b.Rows())
	check := func(why string, fields []int, must bool, want func(c expected) bool) {
		t.Helper()
		for i := range same {
			same[i] = true // BulkCompare must clear it
		}
		if err := compareThrice(t, m, b, fields, high, same); err != nil {
			t.Fatal(err)
		}
		for i, c := range cases {
			if same[i] && !want(c) {
				t.Errorf("%s, %s: the same", why, c.what)
			}
			if !same[i] && c.same && must {
				t.Errorf("%s, %s: not the same", why, c.what)
			}
		}
	}
	check("all fields", all, true, func(c expected) bool { return c.same })
	// A target may leave rows undecided if some fields are not compared.
	check("without the name", []int{0, 2, 3}, false, func(c expected) bool {
		return c.same || strings.Contains(c.what, "another") || strings.Contains(c.what, "NULL")
	})
	for what, spoil := range map[string]func(*testing.T, store.Target, record.Key){
		"the same": h.Damage, "missing, another client writes it": h.Foreign, "missing, another client writes another type": h.WrongType,
	} {
		if spoil != nil {
			i := slices.IndexFunc(cases, func(c expected) bool { return c.what == what })
			spoil(t, bench.target, keyOf(i))
			cases[i].same = false
		}
	}
	check("after damage", all, true, func(c expected) bool { return c.same })
}

// compareThrice compares a block three times in succession.
func compareThrice(t *testing.T, m store.BulkComparer, b *record.Block, fields []int, high record.Version, same []bool) error {
	t.Helper()
	given, reported := 0, 0
	next := func() (*record.Block, record.Version, error) {
		if given++; given > 3 {
			return nil, record.Version{}, nil
		}
		return b, high, nil
	}
	err := m.BulkCompare(t.Context(), fields, next, func(of *record.Block, is []bool) error {
		if reported++; of != b || reported > given || reported > 1 && !slices.Equal(same, is) {
			t.Errorf("after %d blocks %d are reported, with %v, want %v", given, reported, is, same)
		}
		copy(same, is)
		return nil
	})
	if err == nil && reported != 3 {
		t.Errorf("of 3 blocks %d are reported", reported)
	}
	return err
}

// testBulkCompareEveryKind: the target's text of every value equals legacy's.
func testBulkCompareEveryKind(t *testing.T, h TargetHarness) {
	schema := AllKinds()
	b := newTargetFixture(t, h, schema, TargetOptions{})
	m, ok := b.target.(store.BulkComparer)
	if !ok || !m.CanBulkCompare() {
		t.Skip("this target has no BulkCompare")
	}
	block := new(record.Block)
	block.Reset(len(schema.Fields))
	var fields []int
	var of []string
	for i, f := range schema.Fields {
		fields = append(fields, i)
		for _, s := range kindTexts[f.Name] {
			r := make(record.Record, len(schema.Fields))
			for j := range r {
				r[j] = record.NullValue
			}
			r[0] = text(strconv.Itoa(len(of)))
			if i > 0 {
				r[i] = text(s)
			}
			b.apply(store.Write{Key: keyOf(len(of)), Record: r, Version: at(1)})
			addRecord(block, b.get(keyOf(len(of)))[0].Record) // a server may format JSON differently
			of = append(of, f.Name+" "+s)
		}
	}
	same := make([]bool, block.Rows())
	if err := compareThrice(t, m, block, fields, at(1), same); err != nil {
		t.Fatal(err)
	}
	for i, ok := range same {
		if !ok {
			t.Errorf("%s: not the same", of[i])
		}
	}
}

// testBulkCompareExpiring: a record that expires at another time than the row differs.
func testBulkCompareExpiring(t *testing.T, h TargetHarness) {
	if !h.Expires {
		t.Skip("the target's records don't expire")
	}
	b := newTargetFixture(t, h, Simple(), TargetOptions{Expires: "expires_at"})
	m, ok := b.target.(store.BulkComparer)
	if !ok || !m.CanBulkCompare() {
		t.Skip("this target has no BulkCompare")
	}
	later := b.now().Add(time.Hour).Truncate(time.Millisecond)
	latest, past := later.Add(time.Minute), b.now().Add(-time.Hour)
	cases := []struct {
		what         string
		written, row *time.Time
		same         bool
	}{
		{"at the same time", &later, &later, true},
		{"never", nil, nil, true},
		{"at another time", &later, &latest, false},
		{"never in legacy", &later, nil, false},
		{"never in the target", nil, &later, false},
		{"long ago", &past, &past, false},
		{"at the same time, the last one", &latest, &latest, true},
	}
	block := new(record.Block)
	block.Reset(len(b.schema.Fields))
	for i, c := range cases {
		b.apply(expiring(i, 1, c.written))
		addRecord(block, expiring(i, 1, c.row).Record)
	}
	for _, fields := range [][]int{{0, 1, 2, 3}, {0, 1, 2}} {
		same := make([]bool, block.Rows())
		if err := compareThrice(t, m, block, fields, at(1), same); err != nil {
			t.Fatal(err)
		}
		for i, c := range cases {
			if all := len(fields) == len(b.schema.Fields); same[i] && !c.same || !same[i] && c.same && all {
				t.Errorf("fields %v, one expires %s: same is %v", fields, c.what, same[i])
			}
		}
	}
}
