// Package testenv starts private PostgreSQL and Redis servers, for the tests and
// for `make demo`. Servers listen on 127.0.0.1 alone, keep everything in one
// directory below /dev/shm or /tmp, and leave nothing behind: they are stopped by their
// owner; they die with it (Linux: a parent-death signal); and what a killed owner
// left is swept when the next server is started by the same user.
//
// Servers: [StartPostgres], [StartRedis], [StartRedisCluster], [StartRedisSentinel].
// In tests: [PostgresURL] and [RedisURL] hand out a fresh database of a server
// that the whole test binary shares; [Postgres] and [Redis] start one of the
// test's own, to kill or pause. A package that uses them says
//
//	func TestMain(m *testing.M) { testenv.Main(m) }
//
// The shared servers and the thread that starts servers live as long as the test
// binary: under goleak, ignore what [Goroutines] names.
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
