package migration_test

import (
	"encoding/json"
	"testing"

	"github.com/stranglerfig/migrator/internal/openstore"
	"github.com/stranglerfig/migrator/migration"
)

// TestARehearsalIsTheSameInEveryEnvironment, also of a stored file, and another one if a
// drill would rehearse something else.
func TestARehearsalIsTheSameInEveryEnvironment(t *testing.T) {
	t.Parallel()
	parse := func(rest string) *migration.Config {
		t.Helper()
		m, err := openstore.Parse("migration.yaml", []byte("name: products\nlegacy: {store: postgres, url: 'postgres://a/b', table: products}\n"+
			"target: {store: redis, url: 'redis://a', key: 'product:{id}'}\n"+rest), func(string) (string, bool) { return "", false })
		if err != nil {
			t.Fatal(err)
		}
		return m
	}
	production := parse("")
	for _, same := range []string{
		"environment: staging\n",
		"phases: {dual_read: {over: 0s}, approval: {for: []}}\n",
		"gates: {drill: {within: 7d}}\n",
		"gates: {off: staging has too little traffic}\n",
		"prometheus: {url: 'http://a'}\nfleet: {lease: 3s, renew: 1s}\nreconcile: {rate: 10}\n",
	} {
		m := parse(same)
		if m.DrillHash() != production.DrillHash() {
			t.Errorf("%s is another rehearsal", same)
		}
		text, err := m.Public()
		if err != nil {
			t.Fatal(err)
		}
		var applied migration.Config
		if err := json.Unmarshal(text, &applied); err != nil || applied.DrillHash() != m.DrillHash() {
			t.Errorf("%s: the stored file is another rehearsal (%v)", same, err)
		}
	}
	for _, other := range []string{
		"triggers: {errors: {limit: 1%}}\n",
		"triggers: {off: staging}\n",
		"writing: {on_target_failure: fail}\n",
		"exclude: [image]\n",
		"compare: [{path: /name, ignore: it does not matter}]\n",
	} {
		if parse(other).DrillHash() == production.DrillHash() {
			t.Errorf("%s is the same rehearsal", other)
		}
	}
	if production.DrillHash() == production.Hash() {
		t.Error("both hashes are equal")
	}
}
