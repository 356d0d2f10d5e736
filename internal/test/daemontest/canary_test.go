package daemontest

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/stranglerfig/migrator/dual"
	"github.com/stranglerfig/migrator/dual/pgfleet"
	"github.com/stranglerfig/migrator/internal/openstore"
	"github.com/stranglerfig/migrator/internal/state"
	"github.com/stranglerfig/migrator/internal/test/clitest"
	"github.com/stranglerfig/migrator/internal/test/testenv"
	"github.com/stranglerfig/migrator/record"
	"github.com/stranglerfig/migrator/store"
)

const (
	canary    = "CANARYVALUE" // in each value of a record but the key
	canaryKey = "CANARYKEY"   // in each key

	canaryPatience = 10 * time.Second
)

// canaries looks for them in what leaves the stores.
type canaries struct {
	*operator
	t       *testing.T
	printed int
}

// check looks at a text, which may have keys.
func (c *canaries) check(where, text string, keys bool) {
	c.t.Helper()
	c.printed += len(text)
	if at := strings.Index(text, canary); at >= 0 {
		c.t.Errorf("%s has a value: %q", where, text[max(0, at-200):min(len(text), at+100)])
	}
	if at := strings.Index(text, canaryKey); at >= 0 && !keys {
		c.t.Errorf("%s has a key: %q", where, text[max(0, at-200):min(len(text), at+100)])
	}
}

// try looks at what commands print, as text and as JSON.
func (c *canaries) try(lines ...string) {
	c.t.Helper()
	for _, line := range lines {
		words := strings.Fields(line)
		for _, form := range []string{"text", "json"} {
			if form == "json" && words[0] == "phase" && !slices.Contains(words, "--rehearse") {
				continue // it would be done twice
			}
			c.once(form, words...)
		}
	}
}

// once returns what a command prints.
func (c *canaries) once(form string, words ...string) string {
	c.t.Helper()
	// Findings and refused rows are named by their keys.
	keys := words[0] == "reconcile" || words[0] == "backfill" || words[0] == "phase"
	var out testenv.Buffer
	cmd := c.Command(append([]string{"--log-level", "debug", "-o", form}, words...)...)
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := testenv.Start(cmd); err != nil {
		c.t.Fatal(err)
	}
	// A run that tries until the target takes the write is ended; what it has printed counts.
	stop := time.AfterFunc(canaryPatience, func() { _ = cmd.Process.Signal(syscall.SIGINT) })
	_ = cmd.Wait()
	stop.Stop()
	c.check(strings.Join(words, " "), out.String(), keys)
	return out.String()
}

// hooked is an address for webhooks, and what was sent to it.
func hooked(t *testing.T) (url string, sent func() string) {
	var hooks testenv.Buffer
	hook := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(&hooks, r.Body)
	}))
	t.Cleanup(hook.Close)
	return hook.URL, hooks.String
}

// debugged has the daemon log at debug too.
func (o *operator) debugged() {
	o.T.Helper()
	o.Write("settings.yaml", "file: "+o.Path("migration.yaml")+"\nstate_url: "+o.State+"\nlog_level: debug\n")
}

// answers looks at the daemon's pages.
func (c *canaries) answers(d *daemonProcess) {
	c.t.Helper()
	for _, path := range []string{"/metrics", "/status", "/healthz"} {
		_, body := d.get(path)
		c.check(path, body, false)
	}
}

// peopleTable has a function for triggers, which quote values where they refuse a write.
const peopleTable = `CREATE TABLE people (id text PRIMARY KEY, email text, doc jsonb);
	CREATE FUNCTION bad() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
		IF NEW.email LIKE '%7' THEN RAISE EXCEPTION 'mail % is not wanted, nor is %', NEW.email, NEW.doc USING HINT = NEW.email, DETAIL = NEW.doc; END IF;
		RETURN NEW; END $$;`

// describesPeople writes the migration file of people, from PostgreSQL to PostgreSQL, with a webhook.
func (o *operator) describesPeople(hook, rest string) {
	o.Target = testenv.PostgresURL(o.T)
	o.Write("target.url", o.Target)
	o.Write("secret", "a secret of some length")
	o.Write("migration.yaml", `name: people
legacy: {store: postgres, url_file: legacy.url, table: people}
target: {store: postgres, url_file: target.url, table: people}
webhooks: [{url: "`+hook+`", secret_file: secret}]
`+rest)
}

// TestTortureNoValueLeavesTheStores: a whole migration, with stores whose own triggers quote values where
// they refuse a write, with differences, repairs, a journal, rollbacks, webhooks, and every log at
// debug. The values of records are in the two stores and nowhere else; keys are in the state's
// columns for keys and where a command shows a finding or was given a key.
func TestTortureNoValueLeavesTheStores(t *testing.T) {
	t.Parallel()
	onlyLong(t)
	url, sent := hooked(t)
	o := newOperator(t, "people", "", "", "")
	o.describesPeople(url, clitest.Staged)
	o.SQL(o.Legacy, peopleTable+fmt.Sprintf(`INSERT INTO people SELECT '%s' || i, '%s' || i, jsonb_build_object('note', '%[2]s') FROM generate_series(1, 40) i;
		CREATE TRIGGER bad BEFORE UPDATE ON people FOR EACH ROW EXECUTE FUNCTION bad()`, canaryKey, canary))
	o.SQL(o.Target, peopleTable+`CREATE TRIGGER bad BEFORE INSERT OR UPDATE ON people FOR EACH ROW EXECUTE FUNCTION bad()`)

	o.debugged()
	c := &canaries{operator: o, t: t}
	check, try := c.check, c.try
	try("plan", "doctor")
	o.Does("init", "apply", "phase advance")
	d := o.serve(t)
	d.awaits("the lead", d.leads)
	try("backfill run", "status", "gate list") // the target's trigger refuses some
	o.SQL(o.Target, `ALTER TABLE people DISABLE TRIGGER bad`)
	o.Does("backfill run", "phase advance")
	o.SQL(o.Target, fmt.Sprintf(`UPDATE people SET email = '%[1]sx' || email, doc = '{"note": ["%[1]s"]}' WHERE id LIKE '%%7'; DELETE FROM people WHERE id = '%[2]s17';
		ALTER TABLE people ENABLE TRIGGER bad`, canary, canaryKey))
	try("reconcile run --full", "reconcile run --full --repair --yes --force x", "reconcile list", "reconcile show", "reconcile explain "+canaryKey+"7", "reconcile explain "+canaryKey+"17",
		"backfill run --again", "reconcile schedule", "trigger list", "trigger test", "runbook render rollback", "runbook verify")
	o.SQL(o.Target, `ALTER TABLE people DISABLE TRIGGER bad`)
	try("reconcile run --full --repair --yes --force x") // exits with 8: only a later run is clean
	o.Does("backfill run", "reconcile run --full", "phase advance")

	// An application's write that the target refuses: its words are in the journal, and roll back.
	m, err := openstore.Load(o.Path("migration.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	legacy, err := m.OpenLegacy(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer legacy.Close()
	target, err := m.OpenTarget(t.Context(), legacy.Schema())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = target.Close() }()
	o.SQL(o.Target, `ALTER TABLE people ENABLE TRIGGER bad`)
	key := record.MakeKey(canaryKey + "7")
	rows, err := legacy.LookupLocked(t.Context(), []record.Key{key})
	if err != nil {
		t.Fatal(err)
	}
	version := record.MakeVersion(9, 0, 1)
	results, err := target.Apply(t.Context(), []store.Write{{Key: key, Record: rows[0].Record, Version: version}})
	if err != nil || results[0].Err == nil {
		t.Fatalf("the target's trigger refused nothing: %+v %v", results, err)
	}
	check("the target's error", results[0].Err.Error(), true)
	fleet, err := pgfleet.Open(t.Context(), o.State, "people", pgfleet.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer fleet.Close()
	st, err := state.Open(t.Context(), o.State)
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	applied, err := st.Config(t.Context(), "people")
	if err != nil {
		t.Fatal(err)
	}
	grant, err := fleet.Join(t.Context(), dual.Identity{Instance: "web", Moves: applied.Moves})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := fleet.Journal(t.Context(), []dual.JournalEntry{{Key: key, Version: version, Reason: results[0].Err.Error()}}); err != nil {
		t.Fatal(err)
	}
	if err := fleet.RollBack(t.Context(), grant.Route.Epoch, results[0].Err.Error()); err != nil {
		t.Fatal(err)
	}
	try("status", "phase history", "history verify", "fleet list", "gate list", "gate explain mismatches", "config show", "drill list", "runbook list", "phase rollback --yes --to legacy --reason x")
	c.answers(d)
	if err := fleet.Leave(t.Context(), grant.Lease); err != nil {
		t.Fatal(err)
	}
	d.end(syscall.SIGTERM)
	check("the daemon's log", d.logText(), false)
	o.dumpState(check)
	try("forget people --yes")
	o.dumpState(check)
	check("the webhooks", sent(), false)
	if c.printed < 50_000 {
		t.Errorf("%d bytes were looked at: too few", c.printed)
	}
}

// dumpState looks at every row of every table of the state database. Keys are in columns named so.
func (o *operator) dumpState(check func(where, text string, keys bool)) {
	o.T.Helper()
	ctx := o.T.Context()
	conn, err := pgx.Connect(ctx, o.State)
	if err != nil {
		o.T.Fatal(err)
	}
	defer func() { _ = conn.Close(ctx) }()
	rows, _ := conn.Query(ctx, `SELECT format('%I.%I', table_schema, table_name) || ' ' || quote_ident(column_name)
		FROM information_schema.columns JOIN information_schema.tables USING (table_schema, table_name)
		WHERE table_type = 'BASE TABLE' AND table_schema NOT IN ('pg_catalog', 'information_schema')`)
	columns, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil || len(columns) < 50 {
		o.T.Fatalf("%d columns: %v", len(columns), err)
	}
	for _, column := range columns {
		table, name, _ := strings.Cut(column, " ")
		var text string
		if err := conn.QueryRow(ctx, `SELECT coalesce(string_agg(`+name+`::text, E'\n'), '') FROM `+table).Scan(&text); err != nil {
			o.T.Fatal(err)
		}
		check("the state's "+column, text, strings.Contains(name, "key"))
	}
}
