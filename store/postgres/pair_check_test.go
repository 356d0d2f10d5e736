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

// found lists what the first checks, of the pair and of the target alone, don't call good.
func found(d *database, from *postgres.Legacy, to *postgres.Target, checks int) (all []string) {
	d.Helper()
	for _, check := range []func() ([]store.Check, error){
		func() ([]store.Check, error) { return to.CheckPair(d.ctx, from) },
		func() ([]store.Check, error) { return to.Check(d.ctx) },
	}[:checks] {
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
	for name, c := range map[string]struct {
		legacy, target, want string
		alone                bool // the target alone shows it
	}{
		"the same":                     {idText, `CREATE TABLE copies (LIKE items INCLUDING ALL)`, "", true},
		"varchar to text":              {`CREATE TABLE items (id int PRIMARY KEY, a varchar(9))`, `CREATE TABLE copies (id int PRIMARY KEY, a text)`, "", false},
		"index collation":              {idText, `CREATE TABLE copies (id text NOT NULL, a text, b int, at timestamptz); CREATE UNIQUE INDEX loose ON copies (id COLLATE ci)`, `refused target-unique: unique index "loose" (id COLLATE ci)`, false},
		"index collation beside":       {idText, `CREATE TABLE copies (LIKE items INCLUDING ALL); CREATE UNIQUE INDEX loose ON copies (id COLLATE ci)`, `refused target-unique: unique index "loose"`, false},
		"index of an expression":       {idText, `CREATE TABLE copies (LIKE items INCLUDING ALL); CREATE UNIQUE INDEX loose ON copies (lower(id))`, `refused target-unique: unique index "loose" (lower(id))`, false},
		"the same expression":          {idText + `; CREATE UNIQUE INDEX strict ON items (lower(id))`, `CREATE TABLE copies (LIKE items INCLUDING ALL)`, "", false},
		"index of part of the key":     {`CREATE TABLE items (id int, n int, PRIMARY KEY (id, n))`, `CREATE TABLE copies (LIKE items INCLUDING ALL); CREATE UNIQUE INDEX loose ON copies (n)`, `refused target-unique`, false},
		"partial index of the key":     {idText, `CREATE TABLE copies (LIKE items INCLUDING ALL); CREATE UNIQUE INDEX ON copies (id) WHERE b > 0`, "", false},
		"index of more than the key":   {idText, `CREATE TABLE copies (LIKE items INCLUDING ALL); CREATE UNIQUE INDEX ON copies (id, b)`, "", false},
		"operator class, same equal":   {idText, `CREATE TABLE copies (LIKE items INCLUDING ALL); CREATE UNIQUE INDEX ON copies (id text_pattern_ops)`, "", false},
		"exclusion of the key":         {`CREATE TABLE items (id int4range PRIMARY KEY)`, `CREATE TABLE copies (id int4range PRIMARY KEY, EXCLUDE USING gist (id WITH &&))`, "refused target-unique: exclusion constraint", false},
		"unique other column":          {idText, `CREATE TABLE copies (LIKE items INCLUDING ALL, UNIQUE (b))`, `warning target-unique: legacy has not the unique index "copies_b_key"`, false},
		"unique in both":               {idText + `; CREATE UNIQUE INDEX ON items (b)`, `CREATE TABLE copies (LIKE items INCLUDING ALL)`, "", false},
		"unique nulls":                 {idText + `; CREATE UNIQUE INDEX ON items (b)`, `CREATE TABLE copies (id text PRIMARY KEY, a text, b int, at timestamptz, UNIQUE NULLS NOT DISTINCT (b))`, "NULLS NOT DISTINCT", false},
		"unique, loose in both":        {idText + `; CREATE UNIQUE INDEX ON items (a COLLATE ci)`, `CREATE TABLE copies (LIKE items INCLUDING ALL)`, "", false},
		"unique, loose here":           {idText + `; CREATE UNIQUE INDEX ON items (a)`, `CREATE TABLE copies (id text PRIMARY KEY, a text, b int, at timestamptz); CREATE UNIQUE INDEX ON copies (a COLLATE ci)`, "warning target-unique", false},
		"check":                        {idText, `CREATE TABLE copies (LIKE items INCLUDING ALL, CONSTRAINT few CHECK (b < 9))`, `warning target-constraints: copies has the constraint "few" (CHECK (b < 9))`, false},
		"check in both":                {`CREATE TABLE items (id int PRIMARY KEY CHECK (id < 9))`, `CREATE TABLE copies (LIKE items INCLUDING ALL)`, "", false},
		"check of a domain":            {`CREATE TABLE items (id int PRIMARY KEY, a int)`, `CREATE DOMAIN few AS int CHECK (VALUE < 9); CREATE TABLE copies (id int PRIMARY KEY, a few)`, "of domain few", false},
		"foreign key":                  {idText, `CREATE TABLE others (b int PRIMARY KEY); CREATE TABLE copies (LIKE items INCLUDING ALL, CONSTRAINT o FOREIGN KEY (b) REFERENCES others)`, `foreign key "o"`, false},
		"foreign key to it":            {idText, `CREATE TABLE copies (LIKE items INCLUDING ALL); CREATE TABLE others (id text CONSTRAINT o REFERENCES copies)`, `the foreign key "o" (FOREIGN KEY (id) REFERENCES copies(id) of table others) refers to copies`, false},
		"not null":                     {idText, `CREATE TABLE copies (LIKE items INCLUDING ALL, more int NOT NULL)`, "refused target-fields: columns more", true},
		"identity":                     {`CREATE TABLE items (id int PRIMARY KEY, a int NOT NULL)`, `CREATE TABLE copies (id int PRIMARY KEY, a int GENERATED ALWAYS AS IDENTITY)`, "GENERATED ALWAYS AS IDENTITY", false},
		"generated":                    {`CREATE TABLE items (id int PRIMARY KEY, a int)`, `CREATE TABLE copies (id int PRIMARY KEY, a int GENERATED ALWAYS AS (id) STORED)`, "computed by the target", true},
		"trigger":                      {idText, `CREATE TABLE copies (LIKE items INCLUDING ALL);` + function + `CREATE TRIGGER stamp BEFORE INSERT OR UPDATE ON copies FOR EACH ROW EXECUTE FUNCTION f()`, `row triggers that may change or drop what is written: "stamp"`, false},
		"trigger after":                {idText, `CREATE TABLE copies (LIKE items INCLUDING ALL);` + function + `CREATE TRIGGER audit AFTER INSERT ON copies FOR EACH ROW EXECUTE FUNCTION f()`, `triggers that act once more on what the application did, or may refuse it: "audit"`, false},
		"trigger that is disabled":     {idText, `CREATE TABLE copies (LIKE items INCLUDING ALL);` + function + `CREATE TRIGGER stamp BEFORE INSERT ON copies FOR EACH ROW EXECUTE FUNCTION f(); ALTER TABLE copies DISABLE TRIGGER stamp`, "", false},
		"trigger of replicas":          {idText, `CREATE TABLE copies (LIKE items INCLUDING ALL);` + function + `CREATE TRIGGER stamp BEFORE INSERT ON copies FOR EACH ROW EXECUTE FUNCTION f(); ALTER TABLE copies ENABLE REPLICA TRIGGER stamp`, "", false},
		"trigger of a partition":       {`CREATE TABLE items (id int PRIMARY KEY, at timestamptz)`, `CREATE TABLE copies (LIKE items INCLUDING ALL) PARTITION BY HASH (id); CREATE TABLE p PARTITION OF copies FOR VALUES WITH (MODULUS 1, REMAINDER 0);` + function + `CREATE TRIGGER stamp BEFORE INSERT ON p FOR EACH ROW EXECUTE FUNCTION f()`, `"stamp"`, false},
		"trigger that drops the row":   {idText + `; INSERT INTO items VALUES ('x')`, `CREATE TABLE copies (LIKE items INCLUDING ALL); CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'; CREATE TRIGGER drops BEFORE INSERT ON copies FOR EACH ROW EXECUTE FUNCTION f()`, `refused target-rehearsal: the record of key "x" was written, and can't be read back`, false},
		"trigger that fails":           {idText + `; INSERT INTO items VALUES ('x')`, `CREATE TABLE copies (LIKE items INCLUDING ALL); CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM * FROM gone; RETURN NEW; END'; CREATE TRIGGER fails BEFORE INSERT ON copies FOR EACH ROW EXECUTE FUNCTION f()`, `warning target-rehearsal: key "x" of legacy is refused: a trigger or function of the table fails (SQLSTATE 42P01)`, false},
		"rule":                         {idText, `CREATE TABLE copies (LIKE items INCLUDING ALL); CREATE RULE r AS ON INSERT TO copies DO NOTHING`, "refused target-rules", true},
		"rule for deletes":             {idText, `CREATE TABLE copies (LIKE items INCLUDING ALL); CREATE RULE r AS ON DELETE TO copies DO INSTEAD NOTHING`, "refused target-rules", true},
		"unlogged":                     {idText, `CREATE UNLOGGED TABLE copies (LIKE items INCLUDING ALL)`, "unlogged", true},
		"partition that is unlogged":   {`CREATE TABLE items (id int PRIMARY KEY)`, `CREATE TABLE copies (id int PRIMARY KEY) PARTITION BY HASH (id); CREATE UNLOGGED TABLE p PARTITION OF copies FOR VALUES WITH (MODULUS 1, REMAINDER 0)`, "partition p is unlogged", false},
		"no default partition":         {`CREATE TABLE items (id int PRIMARY KEY)`, `CREATE TABLE copies (id int PRIMARY KEY) PARTITION BY RANGE (id); CREATE TABLE p PARTITION OF copies FOR VALUES FROM (0) TO (9)`, "copies has no default partition", false},
		"a partition itself":           {`CREATE TABLE items (id int PRIMARY KEY)`, `CREATE TABLE whole (id int PRIMARY KEY) PARTITION BY RANGE (id); CREATE TABLE copies PARTITION OF whole FOR VALUES FROM (0) TO (9)`, "copies is itself a partition", false},
		"an heir":                      {`CREATE TABLE items (id int PRIMARY KEY)`, `CREATE TABLE whole (id int); CREATE TABLE copies (PRIMARY KEY (id)) INHERITS (whole)`, "copies inherits from another table", false},
		"access method":                {`CREATE TABLE items (id int PRIMARY KEY)`, `CREATE ACCESS METHOD other TYPE TABLE HANDLER heap_tableam_handler; CREATE TABLE copies (id int PRIMARY KEY) USING other`, "copies has the access method other", false},
		"access method of legacy":      {`CREATE ACCESS METHOD another TYPE TABLE HANDLER heap_tableam_handler; CREATE TABLE items (id int PRIMARY KEY) USING another`, `CREATE TABLE copies (id int PRIMARY KEY)`, "warning legacy-storage: items has the access method another", false},
		"what the first record breaks": {idText + `; INSERT INTO items VALUES ('x', 'long enough')`, `CREATE TABLE copies (id text PRIMARY KEY, a varchar(3), b int, at timestamptz)`, `warning target-rehearsal: key "x" of legacy is refused: field "a": to character varying(3)`, false},
	} {
		t.Run(name, func(t *testing.T) {
			n++
			schema := fmt.Sprintf("case%d", n)
			if strings.Contains(c.target, "NULLS NOT DISTINCT") && d.older(15) {
				t.Skip("needs PostgreSQL 15")
			}
			from, to := pairOf(t, d, schema, c.legacy, c.target)
			checks := 1
			if c.alone {
				checks = 2
			}
			all := strings.ReplaceAll(strings.Join(found(d, from, to, checks), "\n"), schema+".", "")
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

// TestNarrowerKeysAreRefused: a key that may not read back as it was written, column by column.
func TestNarrowerKeysAreRefused(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	columns := []struct {
		was, is string
		refused bool
	}{
		{"text", "char(5)", true},
		{"text", "text", false},
		{"text", "varchar", false},
		{"text", "varchar(9)", true},
		{"text", "name", true},
		{"varchar(9)", "varchar(8)", true},
		{"varchar(8)", "varchar(9)", false},
		{"varchar(9)", "text", false},
		{"varchar(9)", "short", true},
		{"char(5)", "char(5)", false},
		{"char(5)", "char(6)", true},
		{"char(5)", "text", false},
		{"name", "varchar(63)", false},
		{"name", "varchar(62)", true},
		{"numeric(10,4)", "numeric(10,2)", true},
		{"numeric(10,2)", "numeric(12,4)", true},
		{"numeric(10,2)", "numeric(9,2)", true},
		{"numeric(10,2)", "numeric(11,2)", false},
		{"numeric(10,2)", "numeric", false},
		{"numeric", "numeric(10,2)", true},
		{"timestamp", "timestamp(0)", true},
		{"timestamp(3)", "timestamp", false},
		{"timestamptz(3)", "timestamptz(2)", true},
		{"time", "time(3)", true},
		{"int8", "int4", true},
		{"int4", "int8", false},
		{"int4", "int2", true},
		{"bit(3)", "bit(3)", false},
		{"varbit", "varbit(9)", true},
		{"varbit(9)", "varbit", false},
		{"ab", "a", true},
		{"a", "ab", false},
		{"inet", "cidr", true},
	}
	var was, is, key []string
	for i, c := range columns {
		name := "c" + itoa(i)
		was, is, key = append(was, name+" "+c.was+" NOT NULL"), append(is, name+" "+c.is+" NOT NULL"), append(key, name)
	}
	// An index takes 32 columns at most.
	for from := 0; from < len(columns); from += 20 {
		to := min(len(columns), from+20)
		table := func(name string, list []string) string {
			return "CREATE TABLE " + name + " (" + strings.Join(list[from:to], ", ") + ", PRIMARY KEY (" + strings.Join(key[from:to], ", ") + "))"
		}
		if from == 0 {
			d.exec(`CREATE TYPE ab AS ENUM ('a', 'b'); CREATE TYPE a AS ENUM ('a'); CREATE DOMAIN short AS varchar(3)`)
		}
		legacy, target := pairOf(t, d, "from"+itoa(from), table("items", was), table("copies", is))
		all := strings.Join(found(d, legacy, target, 1), "\n")
		for i, c := range columns[from:to] {
			if says := strings.Contains(all, `refused target-key: key column "`+key[from+i]+`" `); says != c.refused {
				t.Errorf("%s to %s: refused: %t", c.was, c.is, says)
			}
		}
	}
}

// TestRowsOfATargetAreCountedBeforeTheFirstWrite: once it is prepared they may be migrator's.
func TestRowsOfATargetAreCountedBeforeTheFirstWrite(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	from, to := pairOf(t, d, "contents", idText, `CREATE TABLE copies (LIKE items INCLUDING ALL)`)
	rows := 0
	for _, want := range []struct {
		rows int
		text string
	}{
		{0, ""}, {1, "has 1 row that"}, {10_000, "has 10,000 rows that"}, {10_001, "has more than 10,000 rows that"},
	} {
		d.exec(`INSERT INTO contents.copies (id) SELECT i FROM generate_series($1::int, $2) i`, rows+1, want.rows)
		rows = want.rows
		got := strings.Join(found(d, from, to, 2), "\n")
		if has := strings.Contains(got, "warning "+store.ContentsCheck); has != (want.text != "") || !strings.Contains(got, want.text) {
			t.Errorf("of %d rows: %q, want %q", rows, got, want.text)
		}
	}
	d.ok(to.Prepare(d.ctx))
	if got := strings.Join(found(d, from, to, 2), "\n"); strings.Contains(got, store.ContentsCheck) {
		t.Errorf("of a target that is prepared: %q", got)
	}
}
