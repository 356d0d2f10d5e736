package postgres_test

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/stranglerfig/migrator/record"
	"github.com/stranglerfig/migrator/store"
	"github.com/stranglerfig/migrator/store/postgres"
)

// replayBench is a fenced table items (id, name, shop) with rows 1 to 4, named a to d.
type replayBench struct {
	*database
	l   *postgres.Legacy
	run store.ReplayRun
}

func newReplayBench(t *testing.T, more string) *replayBench {
	t.Helper()
	d := newDatabase(t)
	d.exec(`CREATE TABLE shops (id int8 PRIMARY KEY); INSERT INTO shops VALUES (1), (2);
		CREATE TABLE items (id int8 PRIMARY KEY, name text NOT NULL UNIQUE CHECK (name <> 'bad'), shop int8 REFERENCES shops);
		INSERT INTO items VALUES (1, 'a', 1), (2, 'b', 1), (3, 'c', NULL), (4, 'd', NULL);` + more)
	b := &replayBench{database: d, l: d.legacy(testConfig("items"))}
	_, err := b.l.RaiseFence(d.ctx, "A", wait)
	d.ok(err)
	b.run, err = b.l.BeginReplay(d.ctx, "A")
	d.ok(err)
	return b
}

// item reads "1 name 2": the row 1 of the shop 2; "1": the row is deleted.
func item(text string) store.Row {
	f := strings.Fields(text)
	if len(f) == 1 {
		return store.Row{Key: record.Key(f[0])}
	}
	shop := record.NullValue
	if len(f) > 2 {
		shop = record.TextValue(f[2])
	}
	return store.Row{Key: record.Key(f[0]), Found: true, Record: record.Record{record.TextValue(f[0]), record.TextValue(f[1]), shop}}
}

func items(texts ...string) []store.Row {
	rows := make([]store.Row, len(texts))
	for i, text := range texts {
		rows[i] = item(text)
	}
	return rows
}

func (b *replayBench) content() string {
	b.Helper()
	return b.text(`SELECT coalesce(string_agg(concat_ws(' ', id, name, shop), ', ' ORDER BY id), '') FROM items`)
}

func causes(refused []store.Refusal) string {
	texts := make([]string, len(refused))
	for i, r := range refused {
		texts[i] = string(r.Key) + " " + r.Code + " " + r.Constraint + r.Column
	}
	return strings.Join(texts, ", ")
}

// TestReplayFindsAnOrder: the rows of a replay are written whatever order the table's constraints
// require, and what legacy refuses is named. A rehearsal says the same, and changes nothing.
func TestReplayFindsAnOrder(t *testing.T) {
	t.Parallel()
	const before = "1 a 1, 2 b 1, 3 c, 4 d"
	for name, c := range map[string]struct {
		more    string // SQL
		rows    []store.Row
		refused string
		after   string
		next    string // of the sequence numbers; "": there is none
	}{
		"a name that is handed on": {
			rows:  items("1 b 1", "2 c 1", "3 d", "4 e", "5 a"),
			after: "1 b 1, 2 c 1, 3 d, 4 e, 5 a",
		},
		"numbers of a sequence": { // the highest counts, in whatever order they come
			more:  `CREATE SEQUENCE numbers OWNED BY items.id;`,
			rows:  items("5 e", "9 f", "7 g"),
			after: before + ", 5 e, 7 g, 9 f",
			next:  "10",
		},
		"numbers of a sequence that counts down": {
			more:  `CREATE SEQUENCE numbers INCREMENT -1 OWNED BY items.id;`,
			rows:  items("-5 e", "-9 f", "-7 g"),
			after: "-9 f, -7 g, -5 e, " + before,
			next:  "-10",
		},
		"the name of a row that is deleted": {rows: items("5 a", "1"), after: "2 b 1, 3 c, 4 d, 5 a"},
		"an exchange":                       {rows: items("1 b 1", "2 a 1"), after: "1 b 1, 2 a 1, 3 c, 4 d"},
		"a ring beside refused rows": {
			rows:    items("1 b 1", "2 c 1", "3 a", "5 bad", "6 d"),
			refused: "5 23514 items_name_check, 6 23505 items_name_key",
			after:   "1 b 1, 2 c 1, 3 a, 4 d",
		},
		"an exchange where deleting cascades": {
			more:    `CREATE TABLE notes (item int8 REFERENCES items ON DELETE CASCADE); INSERT INTO notes VALUES (1);`,
			rows:    items("1 b 1", "2 a 1", "3 x"),
			refused: "1 23505 items_name_key, 2 23505 items_name_key",
			after:   "1 a 1, 2 b 1, 3 x, 4 d",
		},
		"an exchange where a row is referred to": {
			more:    `CREATE TABLE notes (item int8 REFERENCES items); INSERT INTO notes VALUES (1);`,
			rows:    items("1 b 1", "2 a 1"),
			refused: "1 23505 items_name_key, 2 23505 items_name_key",
			after:   before,
		},
		"an exchange that a trigger would see": {
			more: `CREATE FUNCTION seen() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN OLD; END $$;
				CREATE TRIGGER seen BEFORE DELETE ON items FOR EACH ROW EXECUTE FUNCTION seen();`,
			rows:    items("1 b 1", "2 a 1"),
			refused: "1 23505 items_name_key, 2 23505 items_name_key",
			after:   before,
		},
		"a deferrable constraint": {
			more:  `ALTER TABLE items DROP CONSTRAINT items_name_key, ADD UNIQUE (name) DEFERRABLE;`,
			rows:  items("1 b 1", "2 a 1", "3"),
			after: "1 b 1, 2 a 1, 4 d",
		},
		"a deferrable constraint that stays violated": {
			more:    `ALTER TABLE items DROP CONSTRAINT items_name_key, ADD UNIQUE (name) DEFERRABLE INITIALLY DEFERRED;`,
			rows:    items("5 d", "6 x", "7 y"),
			refused: "5 23505 items_name_key",
			after:   before + ", 6 x, 7 y",
		},
		"foreign keys": {
			rows:    items("5 e 2", "6 f 3", "7 g 4"),
			refused: "6 23503 items_shop_fkey, 7 23503 items_shop_fkey",
			after:   before + ", 5 e 2",
		},
		"a row that refers to a later one": {
			more:  `ALTER TABLE items DROP CONSTRAINT items_shop_fkey, ADD FOREIGN KEY (shop) REFERENCES items;`,
			rows:  items("5 e 6", "6 f 7", "7 g 8", "8 h"),
			after: before + ", 5 e 6, 6 f 7, 7 g 8, 8 h",
		},
		"rows that refer to each other": {
			more:  `ALTER TABLE items DROP CONSTRAINT items_shop_fkey, ADD FOREIGN KEY (shop) REFERENCES items DEFERRABLE;`,
			rows:  items("5 e 6", "6 f 5"),
			after: before + ", 5 e 6, 6 f 5",
		},
		"a row that another table refers to": {
			more:    `CREATE TABLE notes (item int8 REFERENCES items); INSERT INTO notes VALUES (1);`,
			rows:    items("1", "2"),
			refused: "1 23503 notes_item_fkey",
			after:   "1 a 1, 3 c, 4 d",
		},
		"triggers": {
			more: `CREATE FUNCTION picky() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
					IF NEW.name = 'no' THEN RAISE EXCEPTION 'the value %', NEW.name; END IF;
					IF NEW.name = 'own' THEN RAISE EXCEPTION 'the value %', NEW.name USING ERRCODE = 'MY001'; END IF;
					IF NEW.name = 'quiet' THEN RETURN NULL; END IF;
					RETURN NEW;
				END $$;
				CREATE TRIGGER picky BEFORE INSERT OR UPDATE ON items FOR EACH ROW EXECUTE FUNCTION picky();`,
			rows:    items("1 no 1", "2 quiet 1", "3 own", "4 x"),
			refused: "1 P0001 , 2  , 3 MY001 ",
			after:   "1 a 1, 2 b 1, 3 c, 4 x",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, rows := range [][]store.Row{c.rows, reversed(c.rows)} {
				b := newReplayBench(t, c.more)
				parts := [][]store.Row{rows[:1], rows[1:], nil}
				refused, err := b.l.Rehearse(b.ctx, "A", func() ([]store.Row, error) {
					part := parts[0]
					parts = parts[1:]
					return part, nil
				})
				b.ok(err)
				if got := causes(refused); got != c.refused {
					t.Errorf("the rehearsal says that legacy refuses %q, want %q", got, c.refused)
				}
				if got := b.content(); got != before {
					t.Errorf("the rehearsal left %s", got)
				}
				done, err := b.l.Replay(b.ctx, b.run, rows)
				b.ok(err)
				if got := causes(done.Refused); got != c.refused {
					t.Errorf("legacy refuses %q, want %q", got, c.refused)
				}
				if got := b.content(); got != c.after {
					t.Errorf("legacy has %s, want %s", got, c.after)
				}
				if c.next != "" {
					if got := b.text(`SELECT nextval('numbers')::text`); got != c.next {
						t.Errorf("the next record gets %s, want %s", got, c.next)
					}
				}
				var left []record.Key
				for _, row := range done.Rows {
					left = append(left, row.Key)
				}
				var want []record.Key
				for _, row := range rows {
					if !slices.ContainsFunc(done.Refused, func(r store.Refusal) bool { return r.Key == row.Key }) {
						want = append(want, row.Key)
					}
				}
				if !slices.Equal(left, want) {
					t.Errorf("replayed %v, want %v", left, want)
				}
			}
		})
	}
}

func reversed(rows []store.Row) []store.Row {
	rows = slices.Clone(rows)
	slices.Reverse(rows)
	return rows
}

// TestOneRehearsal: two at once would wait for each other's rows.
func TestOneRehearsal(t *testing.T) {
	t.Parallel()
	b := newReplayBench(t, "")
	parts := [][]store.Row{items("1 x"), nil}
	_, err := b.l.Rehearse(b.ctx, "A", func() ([]store.Row, error) {
		if _, err := b.l.Rehearse(b.ctx, "A", nil); !errors.Is(err, store.ErrBusy) {
			t.Errorf("a second rehearsal: %v", err)
		}
		part := parts[0]
		parts = parts[1:]
		return part, nil
	})
	b.ok(err)
	if _, err := b.l.Rehearse(b.ctx, "B", nil); err == nil {
		t.Error("a rehearsal through another attempt's fence")
	}
}

// TestReplayFindsKeysOfEveryForm: a replay changes the row of its key, by the key's own type, also
// where the parameter alone would have another one, and does not add a second row.
func TestReplayFindsKeysOfEveryForm(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ typ, was, other string }{
		{"varchar(3)", "'a'", "'b'"},
		{"char(3)", "'a'", "'b'"},
		{`"char"`, "'a'", "'b'"},
		{"numeric(6,2)", "1.5", "2"},
		{"bit(3)", "'101'", "'111'"},
		{"mood", "'glad'", "'sad'"},
		{"mood[]", "'{glad}'", "'{sad}'"},
		{"short", "'a'", "'b'"},
		{"place", "(1, NULL)", "(2, 'b')"},
		{"int4range", "'[1,3)'", "'[4,9)'"},
		{"inet", "'10.0.0.1'", "'10.0.0.2'"},
	} {
		t.Run(c.typ, func(t *testing.T) {
			t.Parallel()
			d := newDatabase(t)
			d.exec(`CREATE TYPE mood AS ENUM ('glad', 'sad'); CREATE DOMAIN short AS varchar(3) CHECK (value <> '');
				CREATE TYPE place AS (x int, y text);
				CREATE TABLE items (id ` + c.typ + ` PRIMARY KEY, note text, owner text NOT NULL);
				INSERT INTO items VALUES (` + c.was + `, 'old', 'ann'), (` + c.other + `, 'gone', 'ann')`)
			m := testConfig("items")
			m.Exclude = []string{"owner"} // not moved, not null, without a default
			l := d.legacy(m)
			chunks, err := l.Chunks(d.ctx, 10)
			d.ok(err)
			var rows []store.Row
			for _, c := range chunks {
				d.ok(l.Scan(d.ctx, c, func(r store.Row) error {
					r.Key, r.Record = record.Key(strings.Clone(string(r.Key))), r.Record.Clone()
					rows = append(rows, r)
					return nil
				}))
			}
			_, err = l.RaiseFence(d.ctx, "A", wait)
			d.ok(err)
			run, err := l.BeginReplay(d.ctx, "A")
			d.ok(err)
			for i := range rows {
				if rows[i].Record[1].Text == "gone" {
					rows[i] = store.Row{Key: rows[i].Key}
				} else {
					rows[i].Record[1] = record.TextValue("new")
				}
			}
			done, err := l.Replay(d.ctx, run, rows)
			d.ok(err)
			if got := d.text(`SELECT string_agg(format('%s %s %s', id = (` + c.was + `)::` + c.typ + `, note, owner), ',') FROM items`); got != "t new ann" || len(done.Refused) > 0 {
				t.Errorf("%q, %+v", got, done)
			}
		})
	}
}

// TestReplayTakesTheKeysText: of a key that legacy takes as equal to one it has, the row gets the text.
func TestReplayTakesTheKeysText(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	d.exec(`CREATE TABLE items (id bpchar PRIMARY KEY, note text); INSERT INTO items VALUES ('a', 'old')`)
	l := d.legacy(testConfig("items"))
	_, err := l.RaiseFence(d.ctx, "A", wait)
	d.ok(err)
	run, err := l.BeginReplay(d.ctx, "A")
	d.ok(err)
	_, err = l.Replay(d.ctx, run, []store.Row{{
		Key: record.MakeKey("a  "), Found: true, Record: record.Record{record.TextValue("a  "), record.TextValue("new")},
	}})
	d.ok(err)
	if got := d.text(`SELECT string_agg(format('%s|%s', id, note), ',') FROM items`); got != "a  |new" {
		t.Errorf("%q", got)
	}
}
