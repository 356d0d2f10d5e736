package bench

import (
	"context"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	goredis "github.com/redis/go-redis/v9"

	"github.com/stranglerfig/migrator/internal/test/testenv"
)

// tableDDL makes rows of about 240 bytes, some 106 of them JSON text.
const tableDDL = `CREATE TABLE products (
	id bigint PRIMARY KEY, name text NOT NULL, price numeric(10,2) NOT NULL, stock integer, updated_at timestamptz NOT NULL, attributes jsonb)`

const fillTable = `INSERT INTO products SELECT i, 'product ' || md5(i::text), (i % 100000) / 100.0, CASE WHEN i % 10 > 0 THEN i % 1000 END,
	timestamptz '2024-01-01 00:00:00Z' + i * interval '1 second',
	jsonb_build_object('colour', (ARRAY['red', 'green', 'blue'])[1 + i % 3], 'size', i % 50, 'weight', i % 10000 / 10.0,
		'tags', jsonb_build_array('tag ' || i % 7, 'label ' || i % 11), 'maker', 'maker ' || i % 1000, 'new', i % 2 = 0)
	FROM generate_series($1::bigint, $2::bigint) i`

// cluster is the servers of one benchmark.
type cluster struct {
	legacy    *testenv.PostgresServer
	legacyURL string
	stateURL  string
	roots     func(testing.TB) []int // process ids of the servers
}

// newCluster starts legacy's server with the table filled.
func newCluster(b *testing.B, rows int) *cluster {
	b.Helper()
	c := &cluster{legacy: startPostgres(b)}
	c.legacyURL = c.legacy.URL()
	var drop func()
	var err error
	if c.stateURL, drop, err = c.legacy.CreateDatabase(b.Context()); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(drop)
	c.roots = func(tb testing.TB) []int { return []int{postmaster(tb, c.legacyURL)} }
	withConn(b, c.legacyURL, func(ctx context.Context, conn *pgx.Conn) error {
		if _, err := conn.Exec(ctx, tableDDL); err != nil {
			return err
		}
		if _, err := conn.Exec(ctx, fillTable, 1, rows); err != nil {
			return err
		}
		_, err := conn.Exec(ctx, "VACUUM ANALYZE products")
		return err
	})
	return c
}

func startPostgres(b *testing.B) *testenv.PostgresServer {
	return testenv.Postgres(b, testenv.PostgresOptions{Settings: map[string]string{
		"shared_buffers": "256MB", "max_wal_size": "4GB", "synchronous_commit": "off",
	}})
}

func withConn(tb testing.TB, url string, do func(context.Context, *pgx.Conn) error) {
	tb.Helper()
	ctx := tb.Context()
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		tb.Fatal(err)
	}
	defer func() { _ = conn.Close(ctx) }()
	if err := do(ctx, conn); err != nil {
		tb.Fatal(err)
	}
}

func postmaster(tb testing.TB, url string) (pid int) {
	withConn(tb, url, func(ctx context.Context, conn *pgx.Conn) error {
		var file string
		if err := conn.QueryRow(ctx, "SELECT pg_read_file('postmaster.pid')").Scan(&file); err != nil {
			return err
		}
		first, _, _ := strings.Cut(file, "\n")
		var err error
		pid, err = strconv.Atoi(strings.TrimSpace(first))
		return err
	})
	return pid
}

func redisProcess(tb testing.TB, url string) int {
	tb.Helper()
	client := redisClient(tb, url)
	defer func() { _ = client.Close() }()
	info, err := client.Info(tb.Context(), "server").Result()
	if err != nil {
		tb.Fatal(err)
	}
	_, rest, _ := strings.Cut(info, "process_id:")
	pid, err := strconv.Atoi(strings.TrimSpace(strings.SplitN(rest, "\r", 2)[0]))
	if err != nil {
		tb.Fatal(err)
	}
	return pid
}

func redisClient(tb testing.TB, url string) *goredis.Client {
	tb.Helper()
	o, err := goredis.ParseURL(url)
	if err != nil {
		tb.Fatal(err)
	}
	return goredis.NewClient(o)
}

// cpu returns the CPU seconds of the servers: the parent's account includes PostgreSQL's ended
// children.
func (c *cluster) cpu(tb testing.TB) (seconds float64) {
	roots := c.roots(tb)
	entries, _ := os.ReadDir("/proc")
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		stat, err := os.ReadFile(filepath.Join("/proc", e.Name(), "stat"))
		if err != nil {
			continue
		}
		fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
		for _, root := range roots {
			if pid != root && fields[1] != strconv.Itoa(root) {
				continue
			}
			for i, field := range fields[11:15] { // of itself, then of its ended children
				ticks, _ := strconv.ParseFloat(field, 64)
				if i < 2 || pid == root {
					seconds += ticks / 100
				}
			}
		}
	}
	return seconds
}
