package redis

import (
	"testing"

	"github.com/stranglerfig/migrator/record"
	"github.com/stranglerfig/migrator/store/storetest"
)

// TestVersionReader accepts nothing but a version, at the place where the format has it.
func TestVersionReader(t *testing.T) {
	t.Parallel()
	than := record.MakeVersion(1, 1, 7)
	text := string(than.AppendText32(nil))
	older := string(record.MakeVersion(1, 1, 6).AppendText32(nil))
	schema := storetest.Simple()
	json, err := newJSONCodec(schema, []string{"id", "name", "amount", "expires_at"}, "_v", "")
	ok(t, err)
	hash := newHashCodec(schema, []string{"id", "name", "amount", "expires_at"}, "_v")
	for _, c := range []struct {
		what   string
		reader versionReader
		reply  string
		new    bool
	}{
		{"a hash's", hash.versions(), text, true},
		{"a hash's older one", hash.versions(), older, false},
		{"a hash without one", hash.versions(), "", false},
		{"a document's", json.versions(), json.head + text + `"`, true},
		{"a document's older one", json.versions(), json.head + older + `"`, false},
		{"a text that ends behind the digits", json.versions(), json.head + text, false},
		{"a text that goes on behind them", json.versions(), json.head + text + "0", false},
		{"a text without the beginning", json.versions(), text + `"`, false},
		{"nothing", json.versions(), "", false},
	} {
		if got := c.reader.newEnough([]byte(c.reply), than.AppendText32(nil)); got != c.new {
			t.Errorf("%s: %v", c.what, got)
		}
	}
}
