package redis

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/stranglerfig/migrator/record"
)

// expiryField finds the column that target.expires names.
func expiryField(schema *record.Schema, name string) (int, error) {
	i := schema.Index(name)
	if i < 0 {
		return 0, fmt.Errorf("target.expires: there is no column %q among the fields", name)
	}
	if k := schema.Fields[i].Kind; k != record.Timestamp && k != record.TimestampTZ {
		return 0, fmt.Errorf("target.expires: column %q is of type %s; want timestamp or timestamptz", name, schema.Fields[i].Type)
	}
	return i, nil
}

// errNotTimestamp refuses an expiry that can't be parsed. It contains no value.
var errNotTimestamp = errors.New("not a canonical timestamp")

// expiryOf converts a canonical timestamp (UTC, if it has no zone) to milliseconds
// since 1970, rounded down: a record may expire up to 1 ms early, never late. ever is
// false for NULL and infinity.
func expiryOf(v record.Value) (ms int64, ever bool, err error) {
	switch {
	case v.State != record.Present, v.Text == "infinity":
		return 0, false, nil
	case v.Text == "-infinity", strings.HasSuffix(v.Text, " BC"):
		return math.MinInt64 / 2, true, nil
	}
	// Years have four digits or more, which time.Parse doesn't read.
	year, rest, ok := strings.Cut(strings.TrimSuffix(v.Text, "Z"), "-")
	n, bad := strconv.Atoi(year)
	if !ok || bad != nil || len(year) < 4 || n < 1 || n > 300_000 {
		return 0, false, errNotTimestamp
	}
	// Parsed in a leap year, moved to its own.
	t, bad := time.Parse("2006-01-02T15:04:05.999999999", "2000-"+rest)
	if bad != nil {
		return 0, false, errNotTimestamp
	}
	at := time.Date(n, t.Month(), t.Day(), t.Hour(), t.Minute(), t.Second(), t.Nanosecond(), time.UTC)
	if at.Day() != t.Day() {
		return 0, false, errNotTimestamp
	}
	return at.UnixMilli(), true, nil
}
