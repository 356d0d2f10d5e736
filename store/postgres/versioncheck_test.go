package postgres_test

import (
	"strings"
	"testing"

	"github.com/stranglerfig/migrator/migration"
	"github.com/stranglerfig/migrator/store"
	"github.com/stranglerfig/migrator/store/postgres"
)

// TestAVersionColumnWithoutASequenceIsWarnedOf: a DELETE has no later version then.
func TestAVersionColumnWithoutASequenceIsWarnedOf(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	d.exec(`CREATE SEQUENCE changes;
		CREATE TABLE plain (id bigint PRIMARY KEY, v bigint NOT NULL DEFAULT 1);
		CREATE TABLE drawn (id bigint PRIMARY KEY, v bigint NOT NULL DEFAULT nextval('changes'), other bigint NOT NULL DEFAULT 0);
		CREATE TABLE serial (id bigint PRIMARY KEY, v bigserial);
		CREATE TABLE identity (id bigint PRIMARY KEY, v bigint GENERATED ALWAYS AS IDENTITY);
		CREATE TABLE counted (id bigint PRIMARY KEY, v bigint NOT NULL);
		CREATE TABLE stamped (id bigint PRIMARY KEY, v bigint NOT NULL);
		CREATE FUNCTION add_one() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.v := OLD.v + 1; RETURN NEW; END $$;
		CREATE FUNCTION stamp() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.v := nextval('changes'); RETURN NEW; END $$;
		CREATE TRIGGER add_one BEFORE UPDATE ON counted FOR EACH ROW EXECUTE FUNCTION add_one();
		CREATE TRIGGER stamp BEFORE INSERT OR UPDATE ON stamped FOR EACH ROW EXECUTE FUNCTION stamp()`)
	for _, c := range []struct {
		table, column string
		want          store.CheckResult // "": it is not looked at
	}{
		{"plain", "v", store.Warned},
		{"plain", "", ""},
		{"drawn", "v", store.Good},
		{"drawn", "other", store.Warned}, // another column's sequence
		{"serial", "v", store.Good},
		{"identity", "v", store.Good},
		{"counted", "v", store.Warned},
		{"stamped", "v", store.Good},
	} {
		m := &migration.Config{Name: c.table, Legacy: migration.Legacy{Store: "postgres", Part: &postgres.LegacyConfig{Table: c.table, VersionColumn: c.column}}}
		l, err := postgres.OpenLegacy(d.ctx, m, d.url)
		d.ok(err)
		checks, err := l.Check(d.ctx)
		l.Close()
		d.ok(err)
		var got store.Check
		for _, check := range checks {
			if check.Name == "legacy-version-column" {
				got = check
			}
		}
		if got.Result != c.want || got.Result == store.Warned && (!strings.Contains(got.Detail, "no sequence feeds") || got.Hint.IsZero()) {
			t.Errorf("%s.%s: %+v, want %q", c.table, c.column, got, c.want)
		}
	}
}
