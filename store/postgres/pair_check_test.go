package postgres_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stranglerfig/migrator/migration"
	"github.com/stranglerfig/migrator/store"
	"github.com/stranglerfig/migrator/store/postgres"
)

// pairOf opens a legacy table items and a target table copies, each made by its DDL in a schema.
func pairOf(t *testing.T, d *database, schema, legacy, target string) (from *postgres.Legacy, to *postgres.Target) {
	t.Helper()
	d.exec("CREATE SCHEMA " + schema + "; SET search_path = " + schema + ", public; " + legacy + "; " + target + "; RESET search_path")
	m := &migration.Config{
		Name:   "m",
		Legacy: migration.Legacy{Part: &postgres.LegacyConfig{Table: schema + ".items"}},
		Target: migration.Target{Part: &postgres.TargetConfig{Table: schema + ".copies"}},
	}
	from, err := postgres.OpenLegacy(d.ctx, m, d.url)
	d.ok(err)
	t.Cleanup(from.Close)
	to, err = postgres.OpenTarget(d.ctx, m, d.url, from.Schema())
	d.ok(err)
	t.Cleanup(func() { _ = to.Close() })
	return from, to
}

// found lists what the checks of both and of the pair don't call good.
func found(d *database, from *postgres.Legacy, to *postgres.Target) (all []string) {
	d.Helper()
	for _, check := range []func() ([]store.Check, error){
		func() ([]store.Check, error) { return to.Check(d.ctx) },
		func() ([]store.Check, error) { return to.CheckPair(d.ctx, from) },
	} {
		checks, err := check()
		d.ok(err)
		for _, c := range checks {
			if c.Result != store.Good {
				all = append(all, fmt.Sprintf("%s %s: %s", c.Result, c.Name, c.Detail))
			}
		}
	}
	return all
}

const (
	ci       = `CREATE COLLATION ci (provider = icu, locale = 'und-u-ks-level2', deterministic = false);`
	idText   = `CREATE TABLE items (id text PRIMARY KEY, a text, b int, at timestamptz)`
	function = `CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.at = now(); RETURN NEW; END $$;`
)

// TestTargetIsExaminedLikeLegacy: what a target may refuse, change or take as one is a finding, by
// name; want is a part of it, "" that there is none.
func TestTargetIsExaminedLikeLegacy(t *testing.T) {
	t.Parallel()
	d, n := newDatabase(t), 0
	d.exec(ci)
	for name, c := range map[string]struct{ legacy, target, want string }{
		"the same":                     {idText, `CREATE TABLE copies (LIKE items INCLUDING ALL)`, ""},
		"key padded":                   {`CREATE TABLE items (id text PRIMARY KEY)`, `CREATE TABLE copies (id char(5) PRIMARY KEY)`, "refused target-key: key column \"id\" is of type character(5)"},
		"key shorter":                  {`CREATE TABLE items (id varchar(9) PRIMARY KEY)`, `CREATE TABLE copies (id varchar(8) PRIMARY KEY)`, "refused target-key"},
		"key longer":                   {`CREATE TABLE items (id varchar(8) PRIMARY KEY)`, `CREATE TABLE copies (id varchar(9) PRIMARY KEY)`, ""},
		"key a name":                   {`CREATE TABLE items (id varchar(8) PRIMARY KEY)`, `CREATE TABLE copies (id name PRIMARY KEY)`, "refused target-key"},
		"key's scale less":             {`CREATE TABLE items (id numeric(10,4) PRIMARY KEY)`, `CREATE TABLE copies (id numeric(10,2) PRIMARY KEY)`, "refused target-key"},
		"key's scale more":             {`CREATE TABLE items (id numeric(10,2) PRIMARY KEY)`, `CREATE TABLE copies (id numeric(12,4) PRIMARY KEY)`, "refused target-key"},
		"key's digits less":            {`CREATE TABLE items (id numeric(10,2) PRIMARY KEY)`, `CREATE TABLE copies (id numeric(9,2) PRIMARY KEY)`, "refused target-key"},
		"key's digits more":            {`CREATE TABLE items (id numeric(10,2) PRIMARY KEY)`, `CREATE TABLE copies (id numeric(11,2) PRIMARY KEY)`, "warning target-fields: column \"id\" is of type numeric(11,2)"},
		"key's seconds":                {`CREATE TABLE items (id timestamp PRIMARY KEY)`, `CREATE TABLE copies (id timestamp(0) PRIMARY KEY)`, "refused target-key"},
		"key an int4":                  {`CREATE TABLE items (id int8 PRIMARY KEY)`, `CREATE TABLE copies (id int4 PRIMARY KEY)`, "refused target-key"},
		"key in a domain":              {`CREATE TABLE items (id text PRIMARY KEY)`, `CREATE DOMAIN short AS varchar(3); CREATE TABLE copies (id short PRIMARY KEY)`, "refused target-key"},
		"key an enum of fewer":         {`CREATE TYPE e AS ENUM ('a', 'b'); CREATE TABLE items (id e PRIMARY KEY)`, `CREATE TYPE e2 AS ENUM ('a'); CREATE TABLE copies (id e2 PRIMARY KEY)`, "refused target-key"},
		"second column of the key":     {`CREATE TABLE items (id int, n varchar(9), PRIMARY KEY (id, n))`, `CREATE TABLE copies (id int, n varchar(8), PRIMARY KEY (id, n))`, "refused target-key: key column \"n\""},
		"varchar to text":              {`CREATE TABLE items (id int PRIMARY KEY, a varchar(9))`, `CREATE TABLE copies (id int PRIMARY KEY, a text)`, ""},
		"index collation":              {idText, `CREATE TABLE copies (id text NOT NULL, a text, b int, at timestamptz); CREATE UNIQUE INDEX loose ON copies (id COLLATE ci)`, `refused target-unique: unique index "loose" (id COLLATE ci)`},
		"index collation beside":       {idText, `CREATE TABLE copies (LIKE items INCLUDING ALL); CREATE UNIQUE INDEX loose ON copies (id COLLATE ci)`, `refused target-unique: unique index "loose"`},
		"index of an expression":       {idText, `CREATE TABLE copies (LIKE items INCLUDING ALL); CREATE UNIQUE INDEX loose ON copies (lower(id))`, `refused target-unique: unique index "loose" (lower(id))`},
		"the same expression":          {idText + `; CREATE UNIQUE INDEX strict ON items (lower(id))`, `CREATE TABLE copies (LIKE items INCLUDING ALL)`, ""},
		"index of part of the key":     {`CREATE TABLE items (id int, n int, PRIMARY KEY (id, n))`, `CREATE TABLE copies (LIKE items INCLUDING ALL); CREATE UNIQUE INDEX loose ON copies (n)`, `refused target-unique`},
		"partial index of the key":     {idText, `CREATE TABLE copies (LIKE items INCLUDING ALL); CREATE UNIQUE INDEX ON copies (id) WHERE b > 0`, ""},
		"index of more than the key":   {idText, `CREATE TABLE copies (LIKE items INCLUDING ALL); CREATE UNIQUE INDEX ON copies (id, b)`, ""},
		"operator class, same equal":   {idText, `CREATE TABLE copies (LIKE items INCLUDING ALL); CREATE UNIQUE INDEX ON copies (id text_pattern_ops)`, ""},
		"exclusion of the key":         {`CREATE TABLE items (id int4range PRIMARY KEY)`, `CREATE TABLE copies (id int4range PRIMARY KEY, EXCLUDE USING gist (id WITH &&))`, "refused target-unique: exclusion constraint"},
		"unique other column":          {idText, `CREATE TABLE copies (LIKE items INCLUDING ALL, UNIQUE (b))`, `warning target-unique: legacy has not the unique index "copies_b_key"`},
		"unique in both":               {idText + `; CREATE UNIQUE INDEX ON items (b)`, `CREATE TABLE copies (LIKE items INCLUDING ALL)`, ""},
		"unique nulls":                 {idText + `; CREATE UNIQUE INDEX ON items (b)`, `CREATE TABLE copies (id text PRIMARY KEY, a text, b int, at timestamptz, UNIQUE NULLS NOT DISTINCT (b))`, "NULLS NOT DISTINCT"},
		"unique, loose in both":        {idText + `; CREATE UNIQUE INDEX ON items (a COLLATE ci)`, `CREATE TABLE copies (LIKE items INCLUDING ALL)`, ""},
		"unique, loose here":           {idText + `; CREATE UNIQUE INDEX ON items (a)`, `CREATE TABLE copies (id text PRIMARY KEY, a text, b int, at timestamptz); CREATE UNIQUE INDEX ON copies (a COLLATE ci)`, "warning target-unique"},
		"check":                        {idText, `CREATE TABLE copies (LIKE items INCLUDING ALL, CONSTRAINT few CHECK (b < 9))`, `warning target-constraints: copies has the constraint "few" (CHECK (b < 9))`},
		"check in both":                {`CREATE TABLE items (id int PRIMARY KEY CHECK (id < 9))`, `CREATE TABLE copies (LIKE items INCLUDING ALL)`, ""},
		"check of a domain":            {`CREATE TABLE items (id int PRIMARY KEY, a int)`, `CREATE DOMAIN few AS int CHECK (VALUE < 9); CREATE TABLE copies (id int PRIMARY KEY, a few)`, "of domain few"},
		"foreign key":                  {idText, `CREATE TABLE others (b int PRIMARY KEY); CREATE TABLE copies (LIKE items INCLUDING ALL, CONSTRAINT o FOREIGN KEY (b) REFERENCES others)`, `foreign key "o"`},
		"foreign key to it":            {idText, `CREATE TABLE copies (LIKE items INCLUDING ALL); CREATE TABLE others (id text CONSTRAINT o REFERENCES copies)`, `the foreign key "o" (FOREIGN KEY (id) REFERENCES copies(id) of table others) refers to copies`},
		"not null":                     {idText, `CREATE TABLE copies (LIKE items INCLUDING ALL, more int NOT NULL)`, "refused target-fields: columns more"},
		"identity":                     {`CREATE TABLE items (id int PRIMARY KEY, a int NOT NULL)`, `CREATE TABLE copies (id int PRIMARY KEY, a int GENERATED ALWAYS AS IDENTITY)`, "GENERATED ALWAYS AS IDENTITY"},
		"generated":                    {`CREATE TABLE items (id int PRIMARY KEY, a int)`, `CREATE TABLE copies (id int PRIMARY KEY, a int GENERATED ALWAYS AS (id) STORED)`, "computed by the target"},
		"trigger":                      {idText, `CREATE TABLE copies (LIKE items INCLUDING ALL);` + function + `CREATE TRIGGER stamp BEFORE INSERT OR UPDATE ON copies FOR EACH ROW EXECUTE FUNCTION f()`, `row triggers that may change or drop what is written: "stamp"`},
		"trigger after":                {idText, `CREATE TABLE copies (LIKE items INCLUDING ALL);` + function + `CREATE TRIGGER audit AFTER INSERT ON copies FOR EACH ROW EXECUTE FUNCTION f()`, `triggers that act once more on what the application did, or may refuse it: "audit"`},
		"trigger that is disabled":     {idText, `CREATE TABLE copies (LIKE items INCLUDING ALL);` + function + `CREATE TRIGGER stamp BEFORE INSERT ON copies FOR EACH ROW EXECUTE FUNCTION f(); ALTER TABLE copies DISABLE TRIGGER stamp`, ""},
		"trigger of replicas":          {idText, `CREATE TABLE copies (LIKE items INCLUDING ALL);` + function + `CREATE TRIGGER stamp BEFORE INSERT ON copies FOR EACH ROW EXECUTE FUNCTION f(); ALTER TABLE copies ENABLE REPLICA TRIGGER stamp`, ""},
		"trigger of a partition":       {`CREATE TABLE items (id int PRIMARY KEY, at timestamptz)`, `CREATE TABLE copies (LIKE items INCLUDING ALL) PARTITION BY HASH (id); CREATE TABLE p PARTITION OF copies FOR VALUES WITH (MODULUS 1, REMAINDER 0);` + function + `CREATE TRIGGER stamp BEFORE INSERT ON p FOR EACH ROW EXECUTE FUNCTION f()`, `"stamp"`},
		"trigger that drops the row":   {idText + `; INSERT INTO items VALUES ('x')`, `CREATE TABLE copies (LIKE items INCLUDING ALL); CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'; CREATE TRIGGER drops BEFORE INSERT ON copies FOR EACH ROW EXECUTE FUNCTION f()`, `refused target-rehearsal: the record of key "x" was written, and can't be read back`},
		"trigger that fails":           {idText + `; INSERT INTO items VALUES ('x')`, `CREATE TABLE copies (LIKE items INCLUDING ALL); CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM * FROM gone; RETURN NEW; END'; CREATE TRIGGER fails BEFORE INSERT ON copies FOR EACH ROW EXECUTE FUNCTION f()`, `warning target-rehearsal: key "x" of legacy is refused: a trigger or function of the table fails (SQLSTATE 42P01)`},
		"rule":                         {idText, `CREATE TABLE copies (LIKE items INCLUDING ALL); CREATE RULE r AS ON INSERT TO copies DO NOTHING`, "refused target-rules"},
		"rule for deletes":             {idText, `CREATE TABLE copies (LIKE items INCLUDING ALL); CREATE RULE r AS ON DELETE TO copies DO INSTEAD NOTHING`, "refused target-rules"},
		"unlogged":                     {idText, `CREATE UNLOGGED TABLE copies (LIKE items INCLUDING ALL)`, "unlogged"},
		"partition that is unlogged":   {`CREATE TABLE items (id int PRIMARY KEY)`, `CREATE TABLE copies (id int PRIMARY KEY) PARTITION BY HASH (id); CREATE UNLOGGED TABLE p PARTITION OF copies FOR VALUES WITH (MODULUS 1, REMAINDER 0)`, "partition p is unlogged"},
		"no default partition":         {`CREATE TABLE items (id int PRIMARY KEY)`, `CREATE TABLE copies (id int PRIMARY KEY) PARTITION BY RANGE (id); CREATE TABLE p PARTITION OF copies FOR VALUES FROM (0) TO (9)`, "copies has no default partition"},
		"a partition itself":           {`CREATE TABLE items (id int PRIMARY KEY)`, `CREATE TABLE whole (id int PRIMARY KEY) PARTITION BY RANGE (id); CREATE TABLE copies PARTITION OF whole FOR VALUES FROM (0) TO (9)`, "copies is itself a partition"},
		"an heir":                      {`CREATE TABLE items (id int PRIMARY KEY)`, `CREATE TABLE whole (id int); CREATE TABLE copies (PRIMARY KEY (id)) INHERITS (whole)`, "copies inherits from another table"},
		"access method":                {`CREATE TABLE items (id int PRIMARY KEY)`, `CREATE ACCESS METHOD other TYPE TABLE HANDLER heap_tableam_handler; CREATE TABLE copies (id int PRIMARY KEY) USING other`, "copies has the access method other"},
		"access method of legacy":      {`CREATE ACCESS METHOD another TYPE TABLE HANDLER heap_tableam_handler; CREATE TABLE items (id int PRIMARY KEY) USING another`, `CREATE TABLE copies (id int PRIMARY KEY)`, "warning legacy-storage: items has the access method another"},
		"what the first record breaks": {idText + `; INSERT INTO items VALUES ('x', 'long enough')`, `CREATE TABLE copies (id text PRIMARY KEY, a varchar(3), b int, at timestamptz)`, `warning target-rehearsal: key "x" of legacy is refused: the server refuses a value`},
	} {
		t.Run(name, func(t *testing.T) {
			n++
			schema := fmt.Sprintf("case%d", n)
			from, to := pairOf(t, d, schema, c.legacy, c.target)
			all := strings.ReplaceAll(strings.Join(found(d, from, to), "\n"), schema+".", "")
			plain := `warning legacy-wal-level`
			var rest []string
			for _, line := range strings.Split(all, "\n") {
				if line != "" && !strings.HasPrefix(line, plain) && !strings.Contains(line, "-durability: ") {
					rest = append(rest, line)
				}
			}
			switch {
			case c.want == "" && len(rest) > 0:
				t.Errorf("there are findings:\n%s", strings.Join(rest, "\n"))
			case c.want != "" && !strings.Contains(all, c.want):
				t.Errorf("no finding has %q:\n%s", c.want, all)
			case strings.Contains(all, "long enough"):
				t.Errorf("a finding has a value:\n%s", all)
			}
		})
	}
}
