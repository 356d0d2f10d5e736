// Package testenv starts private PostgreSQL and Redis servers, for the tests and for
// `make demo`. Servers listen on 127.0.0.1 alone, keep everything in one directory below
// /dev/shm or /tmp, and leave nothing behind: their owner stops them; they die with it (Linux:
// a parent-death signal); and the next start by the same user sweeps the files and processes
// of a killed owner.
//
// Servers: [StartPostgres], [StartRedis], [StartRedisCluster], [StartRedisSentinel]. In tests:
// [PostgresURL] and [RedisURL] return a fresh database of a server that the whole test binary
// shares; [Postgres] and [Redis] start a server for one test, to kill or pause. A package that
// uses them has
//
//	func TestMain(m *testing.M) { testenv.Main(m) }
//
// The shared servers and the thread that starts servers live as long as the test binary: under
// goleak, ignore the functions of [Goroutines].
package testenv

// Environment variables that select the servers.
const (
	// EnvPostgresURL names a running server in which [PostgresURL] creates its
	// databases, instead of a private server. The user needs CREATEDB.
	EnvPostgresURL = "MIGRATOR_TEST_POSTGRES_URL"
	// EnvRedisURL names a running server whose empty databases [RedisURL]
	// returns, instead of a private server's.
	EnvRedisURL = "MIGRATOR_TEST_REDIS_URL"
	// EnvServerPath is a list of directories, as in PATH, that are the only ones
	// searched for server programs.
	EnvServerPath = "MIGRATOR_SERVER_PATH"

	// envCache names the cache for processes that a test starts, since the test has a
	// user's cache of its own.
	envCache = "MIGRATOR_TEST_CACHE"
)

// Goroutines returns the functions of goroutines that outlive a test by design,
// for goleak.IgnoreAnyFunction.
func Goroutines() []string {
	const pkg = "github.com/stranglerfig/migrator/internal/test/testenv."
	return []string{pkg + "spawnLoop", pkg + "(*process).reap", pkg + "(*scratch).watch"}
}
