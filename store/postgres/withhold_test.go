package postgres_test

import (
	"context"
	"strings"
	"testing"

	"github.com/stranglerfig/migrator/record"
	"github.com/stranglerfig/migrator/store"
)

// TestErrorsQuoteNoValue: not of a record's, whatever a trigger of the table, an index or a
// constraint raises, in whatever way the record is read or written.
func TestErrorsQuoteNoValue(t *testing.T) {
	t.Parallel()
	const canary = "CANARY"
	check := func(t *testing.T, what string, err error) {
		t.Helper()
		if err == nil || strings.Contains(err.Error(), canary) {
			t.Errorf("%s: %v", what, err)
		}
	}
	for name, body := range map[string]string{
		"RAISE":        `RAISE EXCEPTION 'mail % is not wanted', NEW.name USING HINT = NEW.name, DETAIL = NEW.name`,
		"its own code": `RAISE EXCEPTION 'mail % is not wanted', NEW.name USING ERRCODE = '23514'`,
		"EXECUTE":      `EXECUTE 'SELECT ' || NEW.name`,
		"a cast":       `PERFORM NEW.name::int`,
		"an assertion": `ASSERT false, NEW.name`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d, target := simpleTarget(t, `CREATE TABLE "The Target" (id int4 PRIMARY KEY, name text, amount numeric, expires_at timestamptz);
				CREATE FUNCTION bad() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN IF NEW.name LIKE '`+canary+`%' THEN `+body+`; END IF; RETURN NEW; END $$;
				CREATE TRIGGER bad BEFORE INSERT OR UPDATE ON "The Target" FOR EACH ROW EXECUTE FUNCTION bad()`, 0)
			results, err := target.Apply(d.ctx, []store.Write{write("1", canary, 1)})
			if err == nil {
				err = results[0].Err
			}
			check(t, "Apply", err)
			block := &record.Block{}
			block.Reset(4)
			block.Add(append(block.Buffer(), "2"...))
			block.Add(append(block.Buffer(), canary...))
			block.AddNull()
			block.AddNull()
			check(t, "BulkLoad", target.BulkLoad(d.ctx, store.BulkWrite{Block: block, Version: record.MakeVersion(1, 0, 1)}, make([]bool, 1)))

			b := newReplayBench(t, `CREATE FUNCTION bad() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN IF NEW.name LIKE '`+canary+`%' THEN `+body+`; END IF; RETURN NEW; END $$;
				CREATE TRIGGER bad BEFORE INSERT OR UPDATE ON items FOR EACH ROW EXECUTE FUNCTION bad()`)
			rows := []store.Row{item("5 " + canary)}
			replayed, err := b.l.Replay(b.ctx, b.run, rows)
			if err != nil {
				check(t, "Replay", err)
			}
			refused, err := b.l.Rehearse(context.WithoutCancel(b.ctx), "A", func() ([]store.Row, error) {
				defer func() { rows = nil }()
				return rows, nil
			})
			if err != nil {
				check(t, "Rehearse", err)
			}
			for _, r := range append(replayed.Refused, refused...) {
				if strings.Contains(r.String(), canary) || strings.Contains(string(r.Key), canary) {
					t.Errorf("a refusal: %+v", r)
				}
			}
		})
	}
}
