package daemontest

import (
	"os"
	"strings"
	"testing"

	"github.com/stranglerfig/migrator/internal/state"
	"github.com/stranglerfig/migrator/internal/state/drills"
	"github.com/stranglerfig/migrator/internal/statedb"
	"github.com/stranglerfig/migrator/internal/test/clitest"
)

// TestImportedDrillOpensProductionsGate if it is signed by the key in production's
// migration file, and rehearsed the same configuration.
func TestImportedDrillOpensProductionsGate(t *testing.T) {
	t.Parallel()
	o := newOperator(t, "products", "  table: products\n", "  key: product:{id}\n", clitest.Staged)
	o.SQL(o.Legacy, `CREATE TABLE products (id bigint PRIMARY KEY, name text)`)
	o.Does("init", "apply")
	o.Passed("products")
	o.Keys("drill")
	o.Keys("other")
	file, forged := o.Path("signed.json"), o.Path("forged.json")
	o.Does("drill export 1 --key "+o.Path("drill.key")+" --out "+file, "drill export 1 --key "+o.Path("other.key")+" --out "+forged)

	trusted, err := os.ReadFile(o.Path("drill.pub"))
	if err != nil {
		t.Fatal(err)
	}
	rest := strings.NewReplacer("environment: staging", "environment: production", "gates: {off: a test of drills}",
		"gates: {drill: {within: 7d, public_key: "+string(trusted)+"}}", "for: 0s", "for: 1s").Replace(clitest.Staged)
	p := newOperator(t, "products", "  table: products\n", "  key: product:{id}\n", rest)
	p.SQL(p.Legacy, `CREATE TABLE products (id bigint PRIMARY KEY, name text)`)
	p.Does("init", "apply")
	for _, c := range []struct {
		args, says string
		code       int
	}{
		{forged, "not by the trusted key", clitest.Usage},
		{file + " --public-key " + o.Path("other.pub"), "names the trusted key", clitest.Usage},
		{p.Path("migration.yaml"), "not a signed drill", clitest.Usage},
		{file, "", clitest.Done},
		{file, "", clitest.Done}, // again
	} {
		code, stdout, stderr := p.Try(strings.Fields("drill import " + c.args)...)
		if code != c.code || !strings.Contains(stderr, c.says) {
			t.Errorf("drill import %s: %d %s%s", c.args, code, stdout, stderr)
		}
	}
	store, err := state.Open(t.Context(), p.State)
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	e, err := store.Snapshot(t.Context(), "products")
	if err != nil || e.Drill == nil || e.Drill.ConfigHash != e.Status.ConfigHash {
		t.Fatalf("%+v, %v", e.Drill, err)
	}
	if drills, err := drills.New(store.Pool(), "products").List(t.Context(), 10); err != nil || len(drills) != 1 || drills[0].Environment != statedb.Staging || drills[0].Signer != string(trusted) {
		t.Errorf("%+v, %v", drills, err)
	}
	// With other settings of writing it is another rehearsal.
	text, err := os.ReadFile(p.Path("migration.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	p.Write("migration.yaml", strings.Replace(string(text), "deadline: 2s", "deadline: 1s", 1))
	p.Does("apply")
	if e, err = store.Snapshot(t.Context(), "products"); err != nil || e.Drill == nil || e.Drill.ConfigHash == e.Status.ConfigHash {
		t.Errorf("with another migration file: %+v, %v", e.Drill, err)
	}
	if code, _, stderr := p.Try("drill", "import", file); code != clitest.NotYet || !strings.Contains(stderr, "opens no gate") {
		t.Errorf("%d %s", code, stderr)
	}
}
