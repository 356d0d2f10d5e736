package cases

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"net/url"
	"path"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	goredis "github.com/redis/go-redis/v9"

	"github.com/stranglerfig/migrator/internal/app"
	"github.com/stranglerfig/migrator/internal/hint"
	"github.com/stranglerfig/migrator/internal/openstore"
	"github.com/stranglerfig/migrator/internal/preflight"
	"github.com/stranglerfig/migrator/internal/state"
	"github.com/stranglerfig/migrator/internal/test/statetest"
	"github.com/stranglerfig/migrator/internal/test/testenv"
	"github.com/stranglerfig/migrator/migration"
	"github.com/stranglerfig/migrator/phases"
	"github.com/stranglerfig/migrator/reconcile"
	"github.com/stranglerfig/migrator/record"
	"github.com/stranglerfig/migrator/store"
)

// dataCases are small tables that go through plan, apply, shadow-write, backfill and reconcile. A
// case has a file in testdata/data, whose parts begin with "-- @": legacy and target, and a change of
// either that right makes with change. Without the part target it is Redis.
//
// right says what must be, by its error. pending says what is missing before it holds: the case
// fails once it does.
var dataCases = map[string]struct {
	target  string // the lines of the migration file behind target's store and url
	pending string
	right   func(d *data) error
}{
	"bytea_key_to_postgres": {right: func(d *data) error {
		if err := d.moves(); err != nil {
			return err
		}
		return d.holds(`SELECT string_agg(encode(id, 'hex') || ' ' || a, ', ' ORDER BY id) FROM t`,
			"00112233445566778899aabbccddeeff a UUID in bytes, 6162 ascii")
	}},
	"ddl_after_the_evidence": {
		target: "key: 'k:{id}', format: hash",
		right: func(d *data) error {
			if err := d.moves(); err != nil {
				return err
			}
			d.change("legacy")
			if err := d.says("", `"b"`, "not moved"); err != nil {
				return err
			}
			if err := d.apply(); err == nil || !strings.Contains(withHint(err), "add-field") {
				return fmt.Errorf("apply: %w, want a refusal that names --add-field", err)
			}
			return d.same()
		},
	},
	"explain_negative_id": {target: "key: 'k:{id}', format: hash", right: func(d *data) error {
		if err := d.moves(); err != nil {
			return err
		}
		d.redis("HSET", "k:-5", "a", "x")
		x, err := d.job.Explain(d.ctx, "-5")
		if err != nil || x.Same || x.Class != "field" {
			return fmt.Errorf("explain: %+v, %w", x, err)
		}
		return nil
	}},
	"json_lone_surrogate_document": {
		target: "key: 'k:{id}', format: json",
		right: func(d *data) error {
			if err := d.says("", "JSON"); err == nil {
				return nil
			}
			if _, err := d.backfill(); err != nil {
				return nil //nolint:nilerr // it is refused, by the key
			}
			return d.redisJSON("k:1")
		},
	},
	"json_numbers_lose_digits": {
		target: "key: 'k:{id}', format: json",
		right:  func(d *data) error { return d.says(store.Warned, "amount", "digits") },
	},
	"jsonb_array_json_null": {right: func(d *data) error {
		if err := d.moves(); err != nil {
			return err
		}
		if err := d.holds(`SELECT j::text FROM t WHERE id = 1`, `{"null",NULL}`); err != nil {
			return err
		}
		d.change("target")
		return d.differs("1", "/j/0")
	}},
	"key_bpchar_repair_deletes": {right: func(d *data) error {
		return d.says(store.Refused, `"id"`)
	}},
	"key_numeric_unscaled_repair_deletes": {right: func(d *data) error {
		if err := d.says(store.Refused, `"id"`); err == nil {
			return nil
		}
		if err := d.moves(); err != nil {
			return err
		}
		d.change("legacy")
		if _, _, err := d.reconcile(true); err != nil {
			return err
		}
		return d.holds(`SELECT count(*)::text FROM t`, "2")
	}},
	"target_array_nulls_off": {right: func(d *data) error {
		if err := d.copies(); err != nil {
			return err
		}
		return d.holds(`SELECT ta::text FROM t`, `{a,NULL,"NULL"}`)
	}},
	"target_key_narrower_char":    {right: (*data).neverSweepsItsOwn},
	"target_key_narrower_numeric": {right: (*data).neverSweepsItsOwn},
	"target_trigger_changes_rows": {right: func(d *data) error {
		return d.says(store.Warned, "row triggers", `"stamp"`)
	}},
	"target_unique_index_looser": {right: (*data).neverSweepsItsOwn},
	"target_unique_other_column": {right: func(d *data) error {
		if err := d.says(store.Warned, `"t_ch_d_key"`); err != nil {
			return err
		}
		d.impatient = true
		if _, err := d.backfill(); err == nil || !strings.Contains(err.Error(), "23505") || !strings.Contains(err.Error(), `"2"`) {
			return fmt.Errorf("backfill: %w, want a refusal of key 2", err)
		}
		return nil
	}},
	"target_xmloption_document": {right: func(d *data) error {
		if err := d.copies(); err != nil {
			return err
		}
		return d.holds(`SELECT x::text FROM t`, `<a/><b/>`)
	}},
	"type_date_to_timestamp":  {right: (*data).moves},
	"type_int_to_numeric":     {right: (*data).moves},
	"type_text_to_char":       {right: func(d *data) error { return d.says(store.Warned, `"c"`) }},
	"type_text_to_uuid_jsonb": {right: func(d *data) error { return d.says(store.Refused, `"u"`) }},
	"undefined_table_is_misread": {right: func(d *data) error {
		if err := d.copies(); err != nil {
			return err
		}
		d.sql(d.legacyURL, `INSERT INTO t VALUES (2, 't'), (3, 0); CREATE TABLE only_here (); INSERT INTO t VALUES (4, 'only_here')`)
		d.impatient = true
		_, err := d.backfill()
		if err == nil || !strings.Contains(err.Error(), `key "4"`) || !strings.Contains(err.Error(), `column "c"`) || strings.Contains(err.Error(), "table of versions") {
			return fmt.Errorf("backfill: %w, want a refusal of the column c of key 4", err)
		}
		return d.holds(`SELECT string_agg(id::text || ' ' || c, ', ' ORDER BY id) FROM t`, "1 -, 2 t, 3 -")
	}},
}

//go:embed testdata/data/*.sql
var dataFiles embed.FS

func TestDataCases(t *testing.T) {
	t.Parallel()
	files, err := dataFiles.ReadDir("testdata/data")
	if err != nil || len(files) != len(dataCases) {
		t.Errorf("%d files for %d cases: %v", len(files), len(dataCases), err)
	}
	shared := &data{t: t, legacyURL: testenv.PostgresURL(t), targetURL: testenv.PostgresURL(t), stateURL: statetest.URL(t)}
	shared.state, err = state.Open(t.Context(), shared.stateURL)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(shared.state.Close)
	for name, c := range dataCases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			err := c.right(newData(t, shared, name, c.target))
			switch {
			case c.pending != "" && err == nil:
				t.Errorf("it holds: take away the pending (%s)", c.pending)
			case c.pending != "":
				t.Skipf("pending: %s: %v", c.pending, err)
			case err != nil:
				t.Error(err)
			}
		})
	}
}

// data is a migration of the table t.
type data struct {
	t                              *testing.T
	ctx                            context.Context
	name                           string
	legacyURL, targetURL, stateURL string
	state                          *state.Store
	m                              *migration.Config
	job                            *app.Job
	ready                          bool // applied, in shadow-write
	impatient                      bool // the next backfill does not wait for rows that fail
}

const dataFile = `
name: %s
environment: staging
legacy: {store: postgres, url: "%s", table: %s.t}
target: {store: %s, url: "%s", %s}
phases:
  shadow_write: {for: 0s}
  dual_read: {steps: [100], over: 0s}
  cutover: {steps: [100], over: 0s}
  grace: {for: 0s}
  retain: {for: 0s}
  approval: {for: []}
writing: {not_after: 1s, deadline: 500ms, tombstones: 1h}
reconcile: {pause: 20ms, rereads: 2, max_difference: 100%%}
gates: {off: a test}
`

// newData puts the case's tables into a schema of its name. A case that changes its database's
// defaults has a target database of its own.
func newData(t *testing.T, shared *data, name, target string) *data {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	t.Cleanup(cancel)
	d := &data{t: t, ctx: ctx, name: name, legacyURL: shared.legacyURL, stateURL: shared.stateURL, state: shared.state}
	kind := "redis"
	d.sql(d.legacyURL, d.part("legacy"))
	if ddl := d.part("target"); ddl != "" {
		d.targetURL, kind, target = shared.targetURL, "postgres", "table: "+name+".t"
		if strings.Contains(ddl, ":target") {
			d.targetURL = testenv.PostgresURL(t)
		}
		u, err := url.Parse(d.targetURL)
		d.check(err)
		d.sql(d.targetURL, strings.ReplaceAll(ddl, ":target", path.Base(u.Path)))
	} else {
		d.targetURL = testenv.RedisURL(t)
	}
	var err error
	d.m, err = openstore.Parse("test.yaml", fmt.Appendf(nil, dataFile, strings.ReplaceAll(name, "_", "-"), d.legacyURL, name, kind, d.targetURL, target), nil)
	d.check(err)
	return d
}

func (d *data) check(err error) {
	d.t.Helper()
	if err != nil {
		d.t.Fatal(err)
	}
}

// part is a part of the case's file; "" if it has none.
func (d *data) part(name string) string {
	d.t.Helper()
	text, err := dataFiles.ReadFile("testdata/data/" + d.name + ".sql")
	d.check(err)
	_, part, _ := strings.Cut(string(text), "-- @"+name+"\n")
	part, _, _ = strings.Cut(part, "-- @")
	return part
}

func (d *data) sql(url, statements string) {
	d.t.Helper()
	conn, err := pgx.Connect(d.ctx, url)
	d.check(err)
	defer func() { _ = conn.Close(d.ctx) }()
	_, err = conn.PgConn().Exec(d.ctx, "SET client_min_messages = error; CREATE SCHEMA IF NOT EXISTS "+d.name+"; SET search_path = "+d.name+"; "+statements).ReadAll()
	d.check(err)
}

func (d *data) redisClient() *goredis.Client {
	d.t.Helper()
	o, err := goredis.ParseURL(d.targetURL)
	d.check(err)
	client := goredis.NewClient(o)
	d.t.Cleanup(func() { _ = client.Close() })
	return client
}

func (d *data) redis(words ...any) {
	d.t.Helper()
	d.check(d.redisClient().Do(d.ctx, words...).Err())
}

// change makes the file's change of legacy or the target.
func (d *data) change(side string) {
	d.t.Helper()
	url := d.legacyURL
	if side == "target" {
		url = d.targetURL
	}
	d.sql(url, d.part("change-"+side))
	d.closeJob()
}

// says looks for a check of plan with the result, or any, that has all parts in its detail.
func (d *data) says(result store.CheckResult, parts ...string) error {
	p := &preflight.Preflight{
		Config:    d.m,
		StateURL:  func() (string, error) { return d.stateURL, nil },
		OpenState: func(ctx context.Context) (*state.Store, error) { return state.Open(ctx, d.stateURL) },
	}
	var all []string
	for _, c := range p.Check(d.ctx).Checks {
		fits := result == "" || c.Result == result
		for _, part := range parts {
			fits = fits && strings.Contains(c.Detail, part)
		}
		if fits {
			return nil
		}
		if c.Result != store.Good {
			all = append(all, string(c.Result)+" "+c.Name+": "+c.Detail)
		}
	}
	return fmt.Errorf("plan has no check (%s) with %q:\n%s", result, parts, strings.Join(all, "\n"))
}

func (d *data) apply() error {
	_, err := app.Apply(d.ctx, d.state, d.m, false, app.ColumnFlags{})
	return err
}

// open applies the file, enters shadow-write and opens both stores, once.
func (d *data) open() error {
	if !d.ready {
		if err := d.apply(); err != nil {
			return err
		}
		at, err := d.state.Status(d.ctx, d.m.Name)
		if err != nil {
			return err
		}
		_, err = d.state.Transition(d.ctx, d.m.Name, func(phases.Snapshot) (phases.Move, error) {
			return phases.Move{From: at.Route, To: phases.Route{Phase: phases.ShadowWrite}, Cause: phases.CauseAdvance}, nil
		})
		if err != nil {
			return err
		}
		d.ready = true
		d.t.Cleanup(d.closeJob)
	}
	if d.job != nil {
		return nil
	}
	job, err := app.OpenJob(d.ctx, d.state, d.m)
	d.job = job
	return err
}

func (d *data) closeJob() {
	if d.job != nil {
		d.job.CloseStores()
		d.job = nil
	}
}

// backfill copies all records, whatever plan says.
func (d *data) backfill() (app.Backfilled, error) {
	if err := d.open(); err != nil {
		return app.Backfilled{}, err
	}
	o := app.Backfill{Again: true}
	if d.impatient {
		o.Patience = time.Millisecond
	}
	return d.job.Backfill(d.ctx, o)
}

func (d *data) reconcile(repair bool) (reconcile.Run, []reconcile.Finding, error) {
	if err := d.open(); err != nil {
		return reconcile.Run{}, nil, err
	}
	return d.job.Reconcile(d.ctx, app.Reconcile{RunOptions: reconcile.RunOptions{Full: true, TwoWay: true, Repair: repair}})
}

func (d *data) copies() error {
	if done, err := d.backfill(); err != nil || done.Applied != done.Rows || done.Swept != 0 {
		return fmt.Errorf("backfill: %+v, %w", done.Progress, err)
	}
	return nil
}

// moves copies the records, of which none may differ then.
func (d *data) moves() error {
	if err := d.copies(); err != nil {
		return err
	}
	return d.same()
}

func (d *data) same() error {
	run, findings, err := d.reconcile(false)
	if err == nil && run.Differences != 0 {
		err = errors.New("the stores differ")
	}
	if err != nil {
		return fmt.Errorf("reconcile: %+v: %w", findings, err)
	}
	return nil
}

// differs wants a full reconcile that finds one field of one key.
func (d *data) differs(key record.Key, path string) error {
	_, findings, err := d.reconcile(false)
	if err != nil || len(findings) != 1 || findings[0].Key != key || findings[0].Path != path {
		return fmt.Errorf("reconcile: %+v, %w, want %s of key %s", findings, err, path, key)
	}
	return nil
}

// neverSweepsItsOwn: plan refuses the key. A backfill all the same fails, and names the first key.
func (d *data) neverSweepsItsOwn() error {
	if err := d.says(store.Refused, "key"); err != nil {
		return err
	}
	d.impatient = true
	done, err := d.backfill()
	if err == nil || !strings.Contains(err.Error(), "the target does not have it") || done.Swept > 0 {
		return fmt.Errorf("backfill: %+v, %w, want an error", done.Progress, err)
	}
	return nil
}

// holds wants a text of the target.
func (d *data) holds(query, want string) error {
	conn, err := pgx.Connect(d.ctx, d.targetURL)
	d.check(err)
	defer func() { _ = conn.Close(d.ctx) }()
	_, err = conn.Exec(d.ctx, "SET search_path = "+d.name)
	d.check(err)
	var is string
	if err := conn.QueryRow(d.ctx, query).Scan(&is); err != nil {
		return err
	}
	if is != want {
		return fmt.Errorf("the target holds %s, want %s", is, want)
	}
	return nil
}

// redisJSON wants a document that PostgreSQL, as another parser, reads to its last string.
func (d *data) redisJSON(key string) error {
	text, err := d.redisClient().Get(d.ctx, key).Result()
	if err != nil {
		return err
	}
	conn, err := pgx.Connect(d.ctx, d.legacyURL)
	d.check(err)
	defer func() { _ = conn.Close(d.ctx) }()
	_, err = conn.Exec(d.ctx, "SELECT $1::text::jsonb", text)
	return err
}

func withHint(err error) string {
	h, _ := hint.Of(err)
	return fmt.Sprintf("%v %v", err, h)
}
