package bench

import (
	"context"
	"fmt"
	"net"
	"slices"
	"testing"

	"github.com/stranglerfig/migrator/internal/test/testenv"
)

const migrationFile = `
name: bench
legacy: {store: postgres, url: "${LEGACY_URL}", table: products}
target: {%s}
writing: {not_after: 3s, deadline: 500ms}
reconcile: {pause: 50ms}
`

// psqlHashes writes each row as a command for redis-cli --pipe, as the canonical texts; prefix
// is the keys' prefix, before are additional fields.
func psqlHashes(prefix, before string) string {
	return `psql -qAtX "$LEGACY_URL" -c "SELECT 'HSET ` + prefix + `' || id || '` + before + ` id ' || id || ' name \"' || name || '\" price ' || price || coalesce(' stock ' || stock, '')
		|| ' updated_at ' || to_char(updated_at AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"') || ' attributes ' || to_json(attributes::text) FROM products" |
		redis-cli -h 127.0.0.1 -p "$PEER_PORT" -n "$PEER_DB" --pipe >/dev/null`
}

const (
	backfilled = 1_000_000 // larger tables are not backfilled
	filledAt   = "00000001000000010000000000000001"
)

func toRedis(b *testing.B, binary string, rows int) {
	c := newCluster(b, rows)
	server := testenv.Redis(b)
	pg := c.roots
	c.roots = func(tb testing.TB) []int { return append(pg(tb), redisProcess(tb, server.URL())) }
	env := []string{"LEGACY_URL=" + c.legacyURL, "TARGET_URL=" + server.URL(), "MIGRATOR_STATE_URL=" + c.stateURL}
	p := newProgram(b, binary, fmt.Sprintf(migrationFile, `store: redis, url: "${TARGET_URL}", key: "product:{id}"`), env...)
	p.begin(b)
	// The peer's keys are in another database, apart from the records' keys.
	_, port, _ := net.SplitHostPort(server.Addr())
	peer := server.URL()[:len(server.URL())-1] + "1"
	flush := func(db string) {
		client := redisClient(b, db)
		defer func() { _ = client.Close() }()
		if err := client.FlushDB(b.Context()).Err(); err != nil {
			b.Fatal(err)
		}
	}
	peerEnv := append(slices.Clone(env), "REDISCLI_AUTH="+server.Password(), "PEER_PORT="+port)
	if rows <= backfilled {
		compare(b, fmt.Sprintf("backfill, PostgreSQL to Redis, %d rows", rows), c, []subject{
			{name: "backfill psql into redis-cli --pipe", measure: emptied(flush, peer, shell(rows, psqlHashes("peer:", ""), append(peerEnv, "PEER_DB=1"), "psql", "redis-cli"))},
			{name: "backfill run", limit: "backfill psql into redis-cli --pipe", measure: emptied(flush, server.URL(), p.backfill(rows))},
		})
		flush(peer)
	}
	flush(server.URL())
	shell(rows, psqlHashes("product:", " _v "+filledAt), append(peerEnv, "PEER_DB=0"), "psql", "redis-cli")(b.Context(), b)
	subjects := func() []subject {
		const limit = "raw HMGET"
		return []subject{
			{name: "the program, doing nothing", measure: p.idle},
			{name: "raw COPY", measure: rawCopy(c.legacyURL, rows)},
			{name: limit, measure: rawReads(server.URL(), rows)},
			{name: "reconcile one way", limit: limit, measure: p.reconcile(0, "--full", "--one-way")},
			{name: "reconcile both ways", limit: limit, measure: p.reconcile(0, "--full")},
			{name: "reconcile 1 %", limit: limit, measure: p.reconcile(0, "--sample", "1")},
		}
	}
	compare(b, fmt.Sprintf("reconcile, PostgreSQL to Redis filled in the order of keys, %d rows", rows), c, subjects())
	if err := server.RestartSaved(b.Context()); err != nil {
		b.Fatal(err)
	}
	compare(b, fmt.Sprintf("reconcile, PostgreSQL to Redis restarted from its RDB, %d rows", rows), c, subjects())
}

// emptied empties the store before each measurement.
func emptied(empty func(string), url string, then func(context.Context, testing.TB) sample) func(context.Context, testing.TB) sample {
	return func(ctx context.Context, tb testing.TB) sample {
		empty(url)
		return then(ctx, tb)
	}
}

// begin advances the migration to the phase in which records may be copied.
func (p *program) begin(tb testing.TB) {
	tb.Helper()
	p.run(tb, 0, nil, "init")
	p.run(tb, 0, nil, "apply")
	p.run(tb, 0, nil, "phase", "advance")
}
