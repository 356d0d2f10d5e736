package testenv

import (
	"context"
	"errors"
	"flag"
	"net/url"
	"os"
	"strconv"
	"sync"
	"testing"
	"time"
)

// lazy is a server that all tests of a binary share; the first test starts it.
type lazy[S interface{ Stop(context.Context) error }] struct {
	once   sync.Once
	server S
	up     bool
	err    error
}

func (l *lazy[S]) get(start func(context.Context) (S, error)) (S, error) {
	l.once.Do(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
		defer cancel()
		l.server, l.err = start(ctx)
		l.up = l.err == nil
	})
	return l.server, l.err
}

// stop returns after the server has ended; if none was started it prevents a start.
func (l *lazy[S]) stop(ctx context.Context) error {
	l.once.Do(func() { l.err = errStopped })
	if !l.up {
		return nil
	}
	return l.server.Stop(ctx)
}

var (
	sharedPostgres lazy[*PostgresServer]
	sharedRedis    lazy[*RedisServer]
)

// M is a *testing.M, or one with other settings.
type M interface{ Run() int }

// Main runs the tests, stops the shared servers and exits: the TestMain of a
// package whose tests use them.
func Main(m M) { os.Exit(Run(m)) }

// Parallel lets n tests run at a time, more than there are processors, unless -parallel is
// given: for a package whose tests mostly wait.
func Parallel(m M, n int) M { return parallel{m, n} }

type parallel struct {
	M
	n int
}

func (p parallel) Run() int {
	flag.Parse()
	chosen := false
	flag.Visit(func(f *flag.Flag) { chosen = chosen || f.Name == "test.parallel" })
	if !chosen {
		if err := flag.Set("test.parallel", strconv.Itoa(p.n)); err != nil {
			_, _ = os.Stderr.WriteString(err.Error() + "\n")
			return 1
		}
	}
	return p.M.Run()
}

// Run is Main without the exit.
func Run(m M) int {
	if err := Scratch(); err != nil {
		_, _ = os.Stderr.WriteString("make a directory for temporary files: " + err.Error() + "\n")
		return 1
	}
	code := m.Run()
	if err := errors.Join(StopShared(), RemoveScratch()); err != nil {
		_, _ = os.Stderr.WriteString("clean up after the tests: " + err.Error() + "\n")
		return max(code, 1)
	}
	return code
}

// StopShared stops the servers of [PostgresURL] and [RedisURL] for good.
func StopShared() error {
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	defer cancel()
	dropTemplates()
	return errors.Join(sharedPostgres.stop(ctx), sharedRedis.stop(ctx))
}

// PostgresURL returns the URL of an empty database for this test alone, dropped when the test
// ends, on the server that the test binary shares. That server may lose acknowledged commits
// if it is killed, which no test does: see [Postgres].
func PostgresURL(t testing.TB) string {
	t.Helper()
	admin, err := adminURL()
	if err != nil {
		t.Fatal(err)
	}
	dbURL, drop, err := createDatabase(t.Context(), admin, "template0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(drop)
	return Patient(dbURL)
}

// Patient is a server's URL with a limit of a connection's start that a loaded machine keeps, where what is tested is not
// a server that does not answer: a command's own limit is five seconds.
func Patient(dbURL string) string {
	u, err := url.Parse(dbURL)
	if err != nil || u.Query().Has("connect_timeout") {
		return dbURL
	}
	query := u.Query()
	query.Set("connect_timeout", "60")
	u.RawQuery = query.Encode()
	return u.String()
}

// PostgresURLFrom is PostgresURL, of a copy of a database that prepare has filled: once for the
// test binary, under a name. prepare must leave no connection open.
func PostgresURLFrom(t testing.TB, name string, prepare func(ctx context.Context, url string) error) string {
	t.Helper()
	admin, err := adminURL()
	if err != nil {
		t.Fatal(err)
	}
	made, _ := prepared.LoadOrStore(name, sync.OnceValues(func() (string, error) {
		ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
		defer cancel()
		return prepareTemplate(ctx, admin, prepare)
	}))
	template, err := made.(func() (string, error))()
	if err != nil {
		t.Fatal(err)
	}
	dbURL, drop, err := createDatabase(t.Context(), admin, template)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(drop)
	return Patient(dbURL)
}

// prepared are the templates of PostgresURLFrom by their names, each a func() (string, error).
var prepared sync.Map

var sweepNamed = sync.OnceValue(func() error {
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	defer cancel()
	return dropAbandoned(ctx, os.Getenv(EnvPostgresURL))
})

func adminURL() (string, error) {
	if named := os.Getenv(EnvPostgresURL); named != "" {
		return named, sweepNamed()
	}
	s, err := sharedPostgres.get(func(ctx context.Context) (*PostgresServer, error) {
		return StartPostgres(ctx, PostgresOptions{Settings: map[string]string{"synchronous_commit": "off"}})
	})
	if err != nil {
		return "", err
	}
	return s.URL(), nil
}

// RedisURL returns the URL of an empty database for this test alone on the server that the
// test binary shares. FLUSHALL and CONFIG SET affect the other tests.
func RedisURL(t testing.TB) string {
	t.Helper()
	dbURL, release, err := redisDatabase(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(release)
	return dbURL
}

// Postgres starts a server for this test alone, which it may kill or pause. A kill loses no
// acknowledged commit.
func Postgres(t testing.TB, o ...PostgresOptions) *PostgresServer {
	t.Helper()
	return own(t, StartPostgres, o)
}

// Redis starts a server for this test alone, which it may kill or pause.
func Redis(t testing.TB, o ...RedisOptions) *RedisServer {
	t.Helper()
	return own(t, StartRedis, o)
}

func own[O any, S interface{ Stop(context.Context) error }](t testing.TB, start func(context.Context, O) (S, error), o []O) S {
	t.Helper()
	var options O
	if len(o) > 0 {
		options = o[0]
	}
	s, err := start(t.Context(), options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
		defer cancel()
		if err := s.Stop(ctx); err != nil {
			t.Errorf("stop a server of the test: %v", err)
		}
	})
	return s
}
