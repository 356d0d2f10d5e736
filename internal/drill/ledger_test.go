package drill

import (
	"testing"

	"github.com/stranglerfig/migrator/record"
)

func TestLedgerVerify(t *testing.T) {
	t.Parallel()
	l := newLedger(1, "x")
	version := func(n uint64) record.Version { return record.MakeVersion(1, 0, n) }
	shows := func(text string, v record.Version) value {
		return value{record.Record{record.TextValue("1"), record.TextValue(text)}, v}
	}
	if f, _ := l.verify("1", l.floor("1"), false, value{}); f != unwatched {
		t.Error("no answer is right or wrong for a record that was never written")
	}
	var tokens []string
	for n := range uint64(3) {
		number, token := l.begin("1")
		if tokens = append(tokens, token.Text); n < 2 {
			l.acknowledged("1", number, version(10+n))
		}
	}
	for _, c := range []struct {
		name  string
		found bool
		v     value
		want  readResult
	}{
		{"the last acknowledged", true, shows(tokens[1], version(11)), right},
		{"one that was not acknowledged", true, shows(tokens[2], version(12)), right},
		{"legacy's, without a version", true, shows(tokens[1], record.Version{}), right},
		{"an older one", true, shows(tokens[0], record.Version{}), stale},
		{"an older version", true, shows(tokens[1], version(10)), stale},
		{"nothing", false, value{}, lost},
		{"another writer's", true, shows("mine", version(13)), overwritten},
		{"a token of another drill", true, shows("drill y 1", version(13)), overwritten},
	} {
		if got, text := l.verify("1", l.floor("1"), c.found, c.v); got != c.want {
			t.Errorf("%s: %d (%s), want %d", c.name, got, text, c.want)
		}
	}
	l.column = -1
	if got, _ := l.verify("1", l.floor("1"), true, shows(tokens[0], version(11))); got != right {
		t.Error("without a column the version alone decides")
	}
	if got, _ := l.verify("1", l.floor("1"), true, shows(tokens[0], record.Version{})); got != unwatched {
		t.Error("without a column nothing distinguishes legacy's answers")
	}
	if c := l.result(); c.Stale != nil || c.StaleReads != nil {
		t.Errorf("counts of what nothing watched: %+v", c)
	}
	l.increment(&l.compared, "")
	l.increment(&l.checked.Watched, "")
	if c := l.result(); c.Stale == nil || *c.Stale != 0 || c.StaleReads == nil || *c.StaleReads != 0 {
		t.Errorf("%+v", c)
	}
}
