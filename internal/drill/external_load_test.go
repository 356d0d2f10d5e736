package drill

import (
	"context"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stranglerfig/migrator/record"
	"github.com/stranglerfig/migrator/store"
)

// table is legacy with two columns, id and name.
type table map[record.Key]string

func (t table) Lookup(_ context.Context, keys []record.Key) (rows []store.Row, err error) {
	for _, k := range keys {
		name, found := t[k]
		row := store.Row{Key: k, Found: found}
		if found {
			row.Record = record.Record{record.TextValue(string(k)), record.TextValue(name)}
		}
		rows = append(rows, row)
	}
	return rows, nil
}

var tableSchema = &record.Schema{
	Fields: []record.Field{{Name: "id", Target: "id", Kind: record.Int}, {Name: "name", Target: "name", Kind: record.Text}}, Key: []int{0},
}

func newExternalLoad(t *testing.T, source string, rows table) *ExternalLoad {
	t.Helper()
	compare, err := record.NewComparer(tableSchema, nil)
	if err != nil {
		t.Fatal(err)
	}
	return &ExternalLoad{Source: source, Legacy: rows, Schema: tableSchema, Compare: compare, Every: 5 * time.Millisecond}
}

const someLines = `
{"key":"1","at":"2100-01-01T00:00:00Z","fields":{"name":"a"}}
{"key":"1","at":"2100-01-01T00:00:01Z","fields":{"name":"b"}}
{"key":"2","at":"2100-01-01T00:00:02Z","deleted":true}
{"key":"3","at":"2100-01-01T00:00:03Z","unknown":true}
{"key":"4","at":"2000-01-01T00:00:00Z","fields":{"name":"before the drill"}}
{"key":"1","at":"2100-01-01T00:00:04Z","fields":{"na`

// TestExternalLedger: of a file and of a URL. An incomplete last line does not count.
func TestExternalLedger(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "ledger")
	if err := os.WriteFile(path, []byte(someLines), 0o600); err != nil {
		t.Fatal(err)
	}
	served := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(someLines)) }))
	t.Cleanup(served.Close)
	for _, c := range []struct {
		name        string
		source      string
		rows        table
		lost, stale int64
	}{
		{"right", path, table{"1": "b"}, 0, 0},
		{"right, of a URL", served.URL, table{"1": "b", "3": "x"}, 0, 0},
		{"lost", path, table{}, 1, 0},
		{"stale", path, table{"1": "a"}, 0, 1},
		{"not deleted", path, table{"1": "b", "2": "c"}, 0, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			a := newExternalLoad(t, c.source, c.rows)
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			if err := a.Start(ctx); err != nil {
				t.Fatal(err)
			}
			a.Stop()
			got, controlFound, err := a.Check(t.Context())
			if err != nil || !controlFound || got.Records != 3 || got.Lost != c.lost || got.Stale == nil || *got.Stale != c.stale || got.StaleReads != nil {
				t.Errorf("%+v, %t, %v", got, controlFound, err)
			}
			if totals := a.Totals(); totals.Writes != 3 || totals.Failed != 1 {
				t.Errorf("%+v", totals)
			}
		})
	}
}

func TestExternalLedgerErrors(t *testing.T) {
	t.Parallel()
	for line, says := range map[string]string{
		"{}\nno":                                   ":2:",
		`{"key":"1","colour":"red"}`:               "colour",
		`{"key":"1","fields":{"colour":"red"}}`:    "not migrated",
		`{"key":"1","at":"yesterday","fields":{}}`: "yesterday",
	} {
		path := filepath.Join(t.TempDir(), "ledger")
		if err := os.WriteFile(path, []byte(line+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		a := newExternalLoad(t, path, table{})
		err := a.Start(ctx)
		a.Stop()
		cancel()
		if err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v", line, err)
		}
	}
}
