package record_test

import (
	"strings"
	"testing"

	"github.com/stranglerfig/migrator/record"
)

func TestAs(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		kind record.Kind
		as   string
		a, b string
		want string
	}{
		{record.Text, "uuid", "F47AC10B-58CC-4372-A567-0E02B2C3D479", "f47ac10b-58cc-4372-a567-0e02b2c3d479", ""},
		{record.Text, "uuid", "{f47ac10b58cc4372a5670e02b2c3d479}", "f47ac10b-58cc-4372-a567-0e02b2c3d479", ""},
		{record.Text, "uuid", "{f47ac10b58cc4372a5670e02b2c3d479", "f47ac10b-58cc-4372-a567-0e02b2c3d479", "value /f"},
		{record.Text, "uuid", "f47a--c10b58cc4372a5670e02b2c3d479", "f47ac10b-58cc-4372-a567-0e02b2c3d479", "value /f"},
		{record.Text, "uuid", "f47ac10b-58cc-4372-a567-0e02b2c3d478", "f47ac10b-58cc-4372-a567-0e02b2c3d479", "value /f"},
		{record.Text, "uuid", "x", "X", ""},
		{record.Text, "int", "007", "7", ""},
		{record.Text, "int", " 7\n", "7", ""},
		{record.Text, "int", "7", "8", "value /f"},
		{record.Text, "numeric", "1.50", "1.5", ""},
		{record.Text, "numeric", "1.50", "1.51", "value /f"},
		{record.Text, "double", "1e2", "100", ""},
		{record.Text, "boolean", "Yes", "true", ""},
		{record.Text, "boolean", "of", "0", ""},
		{record.Text, "boolean", "o", "false", "value /f"},
		{record.Text, "boolean", "t", "f", "value /f"},
		{record.Text, "date", " 2024-02-29", "2024-02-29", ""},
		{record.Text, "timestamptz", "2024-02-29 12:00:00+02", "2024-02-29T10:00:00Z", ""},
		{record.Text, "timestamptz", "2024-02-29 12:00:00+02", "2024-02-29T12:00:00Z", "value /f"},
		{record.Text, "json", `{"b":1, "a":[1.0]}`, `{"a":[1],"b":1}`, ""},
		{record.Text, "jsonb", `{"b":1, "a":[1.0]}`, `{"a":[2],"b":1}`, "value /f/a/0"},
		{record.Text, "json", `{`, `{ `, "value /f"},
		{record.Int, "boolean", "1", "2", "value /f"}, // its kind has the meaning: the rule is the other store's
		{record.Timestamp, "timestamptz", "2024-02-29T12:00:00", "2024-02-29T12:00:00.0", ""},
	} {
		comparer := comparer(t, one(c.kind, ""), record.Rule{Path: "/f", As: c.as})
		if got := show(comparer.Compare(text(c.a), text(c.b))); got != c.want {
			t.Errorf("%s as %s: %q, %q: %q, want %q", c.kind, c.as, c.a, c.b, got, c.want)
		}
	}
	list := comparer(t, one(record.Array, record.Text), record.Rule{Path: "/f", As: "uuid"})
	if got := show(list.Compare(text(`["F47AC10B58CC4372A5670E02B2C3D479","a"]`), text(`["f47ac10b-58cc-4372-a567-0e02b2c3d479","b"]`))); got != "value /f/1" {
		t.Errorf("an array: %q", got)
	}
	if list.Strict() {
		t.Error("texts with a meaning are compared strictly")
	}
	if how := one(record.Timestamp, "").Fields[0].How([]record.Rule{{Path: "/f", As: "timestamptz", Zone: "UTC"}}); how != "as timestamptz in UTC" {
		t.Errorf("described as %q", how)
	}
}

func TestAsFits(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		kind     record.Kind
		as, zone string
		fits     bool
	}{
		{record.Int, "boolean", "", true},
		{record.Int, "uuid", "", false},
		{record.Date, "timestamptz", "UTC", true},
		{record.Text, "timestamptz", "UTC", false},
		{record.JSON, "json", "", true},
		{record.UUID, "json", "", false},
		{record.Bytes, "json", "", false},
	} {
		_, err := record.NewComparer(one(c.kind, ""), []record.Rule{{Path: "/f", As: c.as, Zone: c.zone}})
		if (err == nil) != c.fits || err != nil && !strings.Contains(err.Error(), `"/f"`) {
			t.Errorf("%s as %s %s: %v", c.kind, c.as, c.zone, err)
		}
	}
}
