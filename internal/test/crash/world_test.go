//go:build unix

package crash

import (
	"context"
	"fmt"
	"maps"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/redis/go-redis/v9"

	"github.com/stranglerfig/migrator/internal/state"
	"github.com/stranglerfig/migrator/internal/test/testenv"
	"github.com/stranglerfig/migrator/phases"
)

// built is the programs with failpoints.
type built struct{ migrator, app string }

var build = sync.OnceValues(func() (built, error) {
	dir, err := os.MkdirTemp("", "migrator-crash-")
	if err != nil {
		return built{}, err
	}
	out, err := exec.Command("go", "build", "-tags", "failpoints", "-o", dir, "../../../cmd/migrator", "./app").CombinedOutput()
	if err != nil {
		err = fmt.Errorf("build with failpoints: %w\n%s", err, out)
	}
	return built{filepath.Join(dir, "migrator"), filepath.Join(dir, "app")}, err
})

func programs(t *testing.T) built {
	t.Helper()
	b, err := build()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// world is the servers, and the migrations on them from which others are copied.
type world struct {
	programs built
	postgres *testenv.PostgresServer
	redis    *testenv.RedisServer
	numbers  atomic.Int64 // of the databases in use
	stages   map[string]*place
	strategy string // of CREATE DATABASE
}

const redisDatabases = 2000

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{programs: programs(t), stages: map[string]*place{}}
	w.postgres = testenv.Postgres(t, testenv.PostgresOptions{Settings: map[string]string{"synchronous_commit": "off"}})
	w.redis = testenv.Redis(t, testenv.RedisOptions{Databases: redisDatabases})
	if w.newerThan(t, 15) {
		w.strategy = " STRATEGY file_copy" // the default of older versions: cheaper here, since nothing is synced
	}
	return w
}

// place is one migration: a database that is both legacy and the state, a Redis database, and
// the acknowledged writes.
type place struct {
	w          *world
	t          *testing.T
	name       string // of the database
	number     int64  // of the Redis database
	file       string
	ledger     ledger
	transcript strings.Builder // the commands and their output
	conn       *pgx.Conn       // opened by the first query
	store      *state.Store    // opened by the first use
	targetAway bool            // of the next application: it can't reach its target
}

// close closes the connections: a database in use can't be copied.
func (p *place) close() {
	ctx := context.WithoutCancel(p.t.Context())
	if p.conn != nil {
		_ = p.conn.Close(ctx)
	}
	if p.store != nil {
		p.store.Close()
	}
	p.conn, p.store = nil, nil
}

// ledger has the points of each customer, without the deleted ones. A write that was not
// acknowledged may be visible or not: it is in maybe.
type ledger struct {
	points map[int64]int
	maybe  map[int64]int
}

func (l ledger) clone() ledger {
	return ledger{maps.Clone(l.points), maps.Clone(l.maybe)}
}

// copyOf returns a new place that is a copy of the stage. The zero stage is a table with
// customers in a database without migrator's schemas.
func (w *world) copyOf(t *testing.T, stage *place) *place {
	t.Helper()
	n := w.numbers.Add(1)
	if n >= redisDatabases {
		t.Fatalf("more than %d databases are needed", redisDatabases)
	}
	p := &place{w: w, t: t, name: fmt.Sprintf("crash_%d", n), number: n, file: "customers.yaml"}
	template := "template0"
	t.Cleanup(p.close)
	if stage != nil {
		template, p.ledger = stage.name, stage.ledger.clone()
	}
	w.admin(t, "CREATE DATABASE "+p.name+" TEMPLATE "+template+w.strategy)
	if stage != nil {
		t.Cleanup(func() { w.admin(t, "DROP DATABASE "+p.name+" WITH (FORCE)") }) // stages are dropped with the server
		p.copyRedis(stage)
	}
	return p
}

// newerThan reports whether the server has the version or a later one.
func (w *world) newerThan(t *testing.T, version int) bool {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), w.postgres.URL())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(t.Context()) }()
	var number int
	if err := conn.QueryRow(t.Context(), "SELECT current_setting('server_version_num')::int").Scan(&number); err != nil {
		t.Fatal(err)
	}
	return number >= version*10000
}

// admin runs one statement in the server's own database.
func (w *world) admin(t *testing.T, statement string) {
	t.Helper()
	ctx := context.WithoutCancel(t.Context())
	conn, err := pgx.Connect(ctx, w.postgres.URL())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(ctx) }()
	if _, err := conn.Exec(ctx, statement); err != nil {
		t.Fatalf("%s: %v", statement, err)
	}
}

func (p *place) databaseURL() string {
	u, err := url.Parse(p.w.postgres.URL())
	if err != nil {
		p.t.Fatal(err)
	}
	u.Path = "/" + p.name
	return testenv.Patient(u.String())
}

func (p *place) redisURL() string {
	return strings.TrimSuffix(p.w.redis.URL(), "/0") + fmt.Sprintf("/%d", p.number)
}

func (p *place) client() *redis.Client {
	o, err := redis.ParseURL(p.redisURL())
	if err != nil {
		p.t.Fatal(err)
	}
	o.DisableIdentity = true
	return redis.NewClient(o)
}

// redisDo runs one command in the target.
func (p *place) redisDo(words ...any) {
	p.t.Helper()
	c := p.client()
	defer func() { _ = c.Close() }()
	if err := c.Do(p.t.Context(), words...).Err(); err != nil {
		p.t.Fatalf("redis %v: %v", words, err)
	}
}

func (p *place) copyRedis(from *place) {
	p.t.Helper()
	c := from.client()
	defer func() { _ = c.Close() }()
	keys, err := c.Keys(p.t.Context(), "*").Result()
	if err == nil {
		_, err = c.Pipelined(p.t.Context(), func(pipe redis.Pipeliner) error {
			for _, k := range keys {
				pipe.Copy(p.t.Context(), k, k, int(p.number), false)
			}
			return nil
		})
	}
	if err != nil {
		p.t.Fatalf("copy the target: %v", err)
	}
}

// connection returns a connection to the place's database.
func (p *place) connection() *pgx.Conn {
	p.t.Helper()
	if p.conn == nil {
		var err error
		if p.conn, err = pgx.Connect(p.t.Context(), p.databaseURL()); err != nil {
			p.t.Fatal(err)
		}
	}
	return p.conn
}

// sql runs statements in the database, all or none.
func (p *place) sql(statements string) error {
	_, err := p.connection().PgConn().Exec(p.t.Context(), statements).ReadAll()
	return err
}

func (p *place) mustSQL(statements string) {
	p.t.Helper()
	if err := p.sql(statements); err != nil {
		p.t.Fatalf("%s: %v", statements, err)
	}
}

// text returns one value, "" for none.
func (p *place) text(query string) string {
	p.t.Helper()
	var text *string
	if err := p.connection().QueryRow(p.t.Context(), query).Scan(&text); err != nil {
		p.t.Fatalf("%s: %v", query, err)
	}
	if text == nil {
		return ""
	}
	return *text
}

// state returns the store of the place's migration.
func (p *place) state() *state.Store {
	p.t.Helper()
	if p.store == nil {
		var err error
		if p.store, err = state.Open(p.t.Context(), p.databaseURL()); err != nil {
			p.t.Fatal(err)
		}
	}
	return p.store
}

// status returns the migration's status.
func (p *place) status() phases.Status {
	p.t.Helper()
	st, err := p.state().Status(p.t.Context(), "customers")
	if err != nil {
		p.t.Fatal(err)
	}
	return st
}
