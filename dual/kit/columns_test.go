package kit_test

import (
	"database/sql"
	"encoding/json"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
	_ "github.com/lib/pq"

	"github.com/stranglerfig/migrator/dual"
	"github.com/stranglerfig/migrator/internal/test/testenv"
	"github.com/stranglerfig/migrator/migration"
	"github.com/stranglerfig/migrator/record"
	"github.com/stranglerfig/migrator/store"
	"github.com/stranglerfig/migrator/store/memory"
	"github.com/stranglerfig/migrator/store/postgres"
)

func TestMain(m *testing.M) { testenv.Main(m) }

const everyType = `
CREATE TYPE mood AS ENUM ('sad', 'happy');
CREATE TABLE things (
	id bigint PRIMARY KEY,
	small smallint NOT NULL, int_null integer,
	flag boolean NOT NULL, flag_null boolean,
	name text NOT NULL, name_null text, code varchar(10) NOT NULL, mood mood NOT NULL,
	amount numeric(12,2) NOT NULL, amount_null numeric,
	real4 real NOT NULL, real8 double precision NOT NULL,
	blob bytea NOT NULL, blob_null bytea,
	at timestamptz NOT NULL, at_null timestamptz, at3 timestamptz(3) NOT NULL, wall timestamp NOT NULL, day date NOT NULL,
	uid uuid NOT NULL, uid_null uuid,
	doc jsonb NOT NULL, doc_null json, document jsonb NOT NULL,
	address inet NOT NULL
);
INSERT INTO things VALUES
(1, -32768, NULL, true, NULL, '', NULL, 'x', 'sad', 0.10, NULL, 1.5, 1e300, '', NULL,
 '2024-02-29 12:00:00.123456+05', NULL, '2024-01-01 00:00:00.5Z', '0044-03-15 10:00:00 BC', '2024-02-29',
 'A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11', NULL, '{"a": [1, "<é>"]}', NULL, '{"City": "Zürich", "Tags": null}', '10.0.0.1'),
(2, 32767, 2147483647, false, true, E'tab\t"quote" 🎉', '', 'abcdefghij', 'happy', -9999999999.99, 1.000, '-0', 'NaN', '\x00ff', '\x',
 '0001-01-01 00:00:00Z BC', '294276-12-31 23:59:59.999999Z', '1969-12-31 23:59:59.999Z', '1999-12-31 23:59:59.999999', '0001-02-28 BC',
 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a12', 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a13', 'null', '  {"z": 1e2}', '{"City": "", "Tags": ["a"]}', '10.0.0.0/8'),
(3, 0, 0, true, false, 'a,b%', E'\n', '', 'sad', 0, 123456789012345678901234567890.5, 'Infinity', '-Infinity', '\x01', '\x02',
 '1970-01-01 00:00:00Z', '2000-01-01 00:00:00.000001Z', '2000-01-01Z', '2000-01-01', '9999-12-31',
 '00000000-0000-0000-0000-000000000000', '00000000-0000-0000-0000-000000000000', '[]', '1', '{"City": "x", "Tags": []}', '::1')`

// place is a document by the tag's option.
type place struct {
	City string
	Tags []string
}

// thing is what both drivers scan into.
type thing struct {
	ID         int64            `db:"id"`
	Small      int16            `db:"small"`
	IntNull    sql.Null[int32]  `db:"int_null"`
	Flag       bool             `db:"flag"`
	FlagNull   sql.NullBool     `db:"flag_null"`
	Name       string           `db:"name"`
	NameNull   *string          `db:"name_null"`
	Code       string           `db:"code"`
	Mood       string           `db:"mood"`
	Amount     string           `db:"amount"`
	AmountNull sql.Null[string] `db:"amount_null"`
	Real4      float32          `db:"real4"`
	Real8      float64          `db:"real8"`
	Blob       []byte           `db:"blob"`
	BlobNull   []byte           `db:"blob_null"`
	At         time.Time        `db:"at"`
	AtNull     sql.NullTime     `db:"at_null"`
	At3        time.Time        `db:"at3"`
	Wall       time.Time        `db:"wall"`
	Day        time.Time        `db:"day"`
	UID        string           `db:"uid"`
	UIDNull    *string          `db:"uid_null"`
	Doc        json.RawMessage  `db:"doc"`
	DocNull    *json.RawMessage `db:"doc_null"`
	Document   place            `migrator:"document,json"`
	Address    string           `db:"address"`
}

func openThings(t *testing.T, ddl, table string) (url string, legacy store.Legacy, schema *record.Schema) {
	t.Helper()
	url = testenv.PostgresURL(t)
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	if _, err := conn.Exec(t.Context(), ddl, pgx.QueryExecModeSimpleProtocol); err != nil {
		t.Fatal(err)
	}
	m, err := migration.Parse("m.yaml", []byte("name: m\nlegacy: {store: postgres, table: "+table+", url: '"+url+"'}\ntarget: {store: memory}\n"),
		nil, postgres.Kind(), memory.Kind())
	if err != nil {
		t.Fatal(err)
	}
	if legacy, err = m.OpenLegacy(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(legacy.Close)
	return url, legacy, legacy.Schema()
}

// row is what both drivers' rows can do.
type row interface{ Scan(dest ...any) error }

func scanThing(r row) (v thing, err error) {
	var document []byte
	to := []any{}
	of := reflect.ValueOf(&v).Elem()
	for i := range of.NumField() {
		if of.Type().Field(i).Name == "Document" {
			to = append(to, &document)
			continue
		}
		to = append(to, of.Field(i).Addr().Interface())
	}
	if err = r.Scan(to...); err == nil {
		err = json.Unmarshal(document, &v.Document)
	}
	return v, err
}

// TestTaggedColumnsWriteWhatTheBackfillWrites: what the application read from legacy, with
// either driver, is encoded as the texts that the store itself reads, and back.
func TestTaggedColumnsWriteWhatTheBackfillWrites(t *testing.T) {
	t.Parallel()
	url, legacy, schema := openThings(t, everyType, "things")
	codec, err := dual.NewCodec[int64, thing](schema, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	comparer, err := record.NewComparer(schema, nil)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, f := range schema.Fields {
		if f.Name == "address" {
			f.Name += "::text" // pgx scans no inet into a string
		}
		names = append(names, f.Name)
	}
	query := "SELECT " + strings.Join(names, ", ") + " FROM things WHERE id = $1"
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	db, err := sql.Open("postgres", url)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	drivers := map[string]func(id int64) row{
		"pgx":    func(id int64) row { return conn.QueryRow(t.Context(), query, id) },
		"lib/pq": func(id int64) row { return db.QueryRowContext(t.Context(), query, id) },
	}
	for id := int64(1); id <= 3; id++ {
		found, err := legacy.Lookup(t.Context(), []record.Key{codec.Key(id)})
		if err != nil || len(found) != 1 || !found[0].Found {
			t.Fatalf("row %d: %+v, %v", id, found, err)
		}
		want := found[0].Record
		check := func(how string, v thing) {
			t.Helper()
			got, err := codec.Encode(v)
			if err != nil {
				t.Errorf("row %d, %s: %v", id, how, err)
				return
			}
			for _, d := range comparer.Compare(want, got) {
				at := schema.Index(strings.TrimPrefix(d.Path, "/"))
				if at >= 0 {
					t.Errorf("row %d, %s: %s: %+v, want %+v", id, how, d.Path, got[at], want[at])
				} else {
					t.Errorf("row %d, %s: %+v", id, how, d)
				}
			}
			for i, f := range schema.Fields {
				switch f.Kind {
				case record.JSON, record.Float, record.Float32, record.Decimal: // compared by meaning: pgx scans 0.00 into "0"
				default:
					if got[i] != want[i] {
						t.Errorf("row %d, %s: %s: %+v, want %+v", id, how, f.Name, got[i], want[i])
					}
				}
			}
		}
		for name, query := range drivers {
			v, err := scanThing(query(id))
			if err != nil {
				t.Errorf("row %d, %s: %v", id, name, err)
				continue
			}
			check(name, v)
		}
		v, err := codec.Decode(want)
		if err != nil {
			t.Errorf("row %d: decode: %v", id, err)
			continue
		}
		check("decoded", v)
	}
}

// TestColumnsOfOtherTypes are those that one driver alone scans, or neither.
func TestColumnsOfOtherTypes(t *testing.T) {
	t.Parallel()
	type others struct {
		ID       int64              `migrator:"id"`
		Words    []string           `migrator:"words"`
		Numbers  []int64            `migrator:"numbers"`
		Flags    []*bool            `migrator:"flags"`
		Blobs    [][]byte           `migrator:"blobs"`
		UID      [16]byte           `migrator:"uid"`
		At       pgtype.Timestamptz `migrator:"at"`
		Amount   pgtype.Numeric     `migrator:"amount"`
		Text     pgtype.Text        `migrator:"text"`
		Unsigned uint32             `migrator:"unsigned"`
		Docs     []json.RawMessage  `migrator:"docs"`
	}
	url, legacy, schema := openThings(t, `CREATE TABLE others (id bigint PRIMARY KEY, words text[] NOT NULL, numbers bigint[], flags boolean[] NOT NULL,
		blobs bytea[] NOT NULL, uid uuid NOT NULL, at timestamptz, amount numeric, text text, unsigned bigint NOT NULL, docs jsonb[] NOT NULL);
		INSERT INTO others VALUES (1, '{}', NULL, '{t,NULL,f}', '{"\\x00ff"}', gen_random_uuid(), 'infinity', 1.50, NULL, 4294967295, ARRAY['null'::jsonb, NULL, '{"a": "x"}', '1']),
		(2, '{"a \"b\"","NULL"}', '{1,-2}', '{}', '{}', gen_random_uuid(), '2024-01-01Z', NULL, '', 0, ARRAY['{"a": [null]}'::jsonb, NULL])`, "others")
	codec, err := dual.NewCodec[int64, others](schema, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	for id := int64(1); id <= 2; id++ {
		found, err := legacy.Lookup(t.Context(), []record.Key{codec.Key(id)})
		if err != nil {
			t.Fatal(err)
		}
		var v others
		if err := conn.QueryRow(t.Context(), `SELECT * FROM others WHERE id = $1`, id).Scan(&v.ID, &v.Words, &v.Numbers, &v.Flags, &v.Blobs, &v.UID, &v.At, &v.Amount, &v.Text, &v.Unsigned, &v.Docs); err != nil {
			t.Fatal(err)
		}
		decoded, err := codec.Decode(found[0].Record)
		if err != nil {
			t.Fatal(err)
		}
		for how, v := range map[string]others{"scanned": v, "decoded": decoded} {
			got, err := codec.Encode(v)
			if err != nil {
				t.Fatal(err)
			}
			for i, f := range schema.Fields {
				if got[i] != found[0].Record[i] {
					t.Errorf("row %d, %s: %s: %+v, want %+v", id, how, f.Name, got[i], found[0].Record[i])
				}
			}
		}
	}
}
