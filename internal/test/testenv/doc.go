// Package testenv starts private PostgreSQL and Redis servers, for the tests and for `migrator
// demo`. Servers listen on 127.0.0.1 alone, keep everything in one directory below /dev/shm or
// /tmp, and leave nothing behind: their owner stops them; they die with it (Linux: a
// parent-death signal); and the next start by the same user sweeps the files and processes of
// a killed owner.
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

// Environment variables that change where servers come from.
const (
	// EnvPostgresURL names a running server that [PostgresURL] creates its
	// databases in, in place of a private one. The user must be allowed to.
	EnvPostgresURL = "MIGRATOR_TEST_POSTGRES_URL"
	// EnvRedisURL names a running server whose empty databases [RedisURL] hands
	// out, in place of a private one.
	EnvRedisURL = "MIGRATOR_TEST_REDIS_URL"
	// EnvServerPath is a list of directories, as in PATH, that are the only ones
	// searched for server programs.
	EnvServerPath = "MIGRATOR_SERVER_PATH"
)

// Goroutines names the functions of goroutines that outlive a test on purpose,
// for goleak.IgnoreAnyFunction.
func Goroutines() []string {
	const pkg = "github.com/stranglerfig/migrator/internal/test/testenv."
	return []string{pkg + "spawnLoop", pkg + "(*process).reap"}
}
