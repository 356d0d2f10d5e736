package main

import (
	"crypto/ed25519"
	"crypto/x509"
	"encoding/pem"
	"os"
	"strings"
	"testing"

	"github.com/stranglerfig/migrator/internal/drill"
	"github.com/stranglerfig/migrator/internal/state"
	"github.com/stranglerfig/migrator/internal/state/drills"
	"github.com/stranglerfig/migrator/internal/statedb"
)

// drills looks at the documents of the commands of drills, on a migration of their own.
func (a *audit) drills() {
	before := a.o
	defer func() { a.o = before }()
	a.o = newOperator(a.t, "products", "  table: products\n", "  key: product:{id}\n", stagedRest)
	a.o.sql(a.o.legacy, `CREATE TABLE products (id bigint PRIMARY KEY, name text); INSERT INTO products VALUES (1, 'a')`)
	a.o.does("init", "apply")
	a.expect(exitUsage, "drill", "rollback", "--fault", "fire")
	a.expect(exitNotYet, "drill", "rollback", "--load", "none", "--keep-daemon", "--reports", a.o.dir)
	a.o.passed("products")
	a.expect(exitDone, "drill", "list")
	a.expect(exitDone, "drill", "show", "2", "--reports", a.o.dir)
	a.expect(exitUsage, "drill", "show", "two")
	a.expect(exitUsage, "drill", "show", "2", "--reports", a.o.path("nowhere"))
	a.expect(exitError, "drill", "show", "999")
	a.o.keys("drill")
	file := a.o.path("signed.json")
	a.expect(exitUsage, "drill", "export", "2")
	a.expect(exitUsage, "drill", "export", "2", "--out", file, "--key", a.o.path("drill.pub"))
	a.expect(exitNotYet, "drill", "export", "1", "--out", file, "--key", a.o.path("drill.key"))
	a.expect(exitDone, "drill", "export", "2", "--out", file, "--key", a.o.path("drill.key"))
	a.expect(exitUsage, "drill", "import", file)
	a.expect(exitUsage, "drill", "import", file, "--public-key", a.o.path("drill.key"))
	a.expect(exitDone, "drill", "import", file, "--public-key", a.o.path("drill.pub"))
	a.o.sql(a.o.state, `UPDATE migrator.migrations SET config = jsonb_set(config::jsonb, '{exclude}', '["name"]')::json`)
	a.expect(exitNotYet, "drill", "import", file, "--public-key", a.o.path("drill.pub"))
}

// keys writes a private key and its public half.
func (o *operator) keys(name string) {
	o.t.Helper()
	public, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		o.t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		o.t.Fatal(err)
	}
	o.write(name+".key", string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})))
	o.write(name+".pub", drill.EncodeKey(public))
}

// TestADrillOpensProductionsGate: signed, by the key that production's description
// names, and of a drill that has rehearsed what production does.
func TestADrillOpensProductionsGate(t *testing.T) {
	t.Parallel()
	o := newOperator(t, "products", "  table: products\n", "  key: product:{id}\n", stagedRest)
	o.sql(o.legacy, `CREATE TABLE products (id bigint PRIMARY KEY, name text)`)
	o.does("init", "apply")
	o.passed("products")
	o.keys("drill")
	o.keys("other")
	file, forged := o.path("signed.json"), o.path("forged.json")
	o.does("drill export 1 --key "+o.path("drill.key")+" --out "+file, "drill export 1 --key "+o.path("other.key")+" --out "+forged)

	trusted, err := os.ReadFile(o.path("drill.pub"))
	if err != nil {
		t.Fatal(err)
	}
	rest := strings.NewReplacer("environment: staging", "environment: production", "gates: {off: a test of drills}",
		"gates: {drill: {within: 7d, public_key: "+string(trusted)+"}}", "for: 0s", "for: 1s").Replace(stagedRest)
	p := newOperator(t, "products", "  table: products\n", "  key: product:{id}\n", rest)
	p.sql(p.legacy, `CREATE TABLE products (id bigint PRIMARY KEY, name text)`)
	p.does("init", "apply")
	for _, c := range []struct {
		args, says string
		code       int
	}{
		{forged, "not of the key that is trusted", exitUsage},
		{file + " --public-key " + o.path("other.pub"), "leave --public-key out", exitUsage},
		{p.path("migration.yaml"), "no signed drill", exitUsage},
		{file, "", exitDone},
		{file, "", exitDone}, // again
	} {
		code, stdout, stderr := p.try(strings.Fields("drill import " + c.args)...)
		if code != c.code || !strings.Contains(stderr, c.says) {
			t.Errorf("drill import %s: %d %s%s", c.args, code, stdout, stderr)
		}
	}
	store, err := state.Open(t.Context(), p.state)
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	e, err := store.Evidence(t.Context(), "products")
	if err != nil || e.Drill == nil || e.Drill.ConfigHash != e.Standing.ConfigHash {
		t.Fatalf("%+v, %v", e.Drill, err)
	}
	if drills, err := drills.New(store.Pool(), "products").List(t.Context(), 10); err != nil || len(drills) != 1 || drills[0].Environment != statedb.Staging || drills[0].Signer != string(trusted) {
		t.Errorf("%+v, %v", drills, err)
	}
	// Another way to write is another rehearsal.
	text, err := os.ReadFile(p.path("migration.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	p.write("migration.yaml", strings.Replace(string(text), "deadline: 2s", "deadline: 1s", 1))
	p.does("apply")
	if e, err = store.Evidence(t.Context(), "products"); err != nil || e.Drill == nil || e.Drill.ConfigHash == e.Standing.ConfigHash {
		t.Errorf("after another description: %+v, %v", e.Drill, err)
	}
	if code, _, stderr := p.try("drill", "import", file); code != exitNotYet || !strings.Contains(stderr, "opens no gate") {
		t.Errorf("%d %s", code, stderr)
	}
}

// passed keeps a drill that has passed, without making it.
func (o *operator) passed(name string) drill.Report {
	o.t.Helper()
	ctx := o.t.Context()
	store, err := state.Open(ctx, o.state)
	if err != nil {
		o.t.Fatal(err)
	}
	defer store.Close()
	m, err := appliedSettings(ctx, store, name)
	if err != nil {
		o.t.Fatal(err)
	}
	run, release, err := drills.New(store.Pool(), name).Begin(ctx, m.Rehearsal())
	if err != nil {
		o.t.Fatal(err)
	}
	defer release()
	r := drill.Report{
		Drill: run.ID, Migration: name, Environment: run.Environment, ConfigHash: run.ConfigHash, Rehearsal: run.Rehearsal,
		Actor: run.Actor, Began: run.Began, Finished: run.Began, Passed: true,
		Reasons: []string{}, Reconciles: []drill.Reconciled{}, Series: []drill.Second{}, Marks: []drill.Mark{},
	}
	if err := drills.New(store.Pool(), name).Finish(ctx, r); err != nil {
		o.t.Fatal(err)
	}
	return r
}
