package testenv

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/url"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

const (
	databasePrefix = "migrator_test_"
	abandonedAge   = 6 * time.Hour
)

// createDatabase makes a UTF-8 database on the server of admin, as a copy of another one. Its
// name contains the time, so that dropAbandoned recognises the databases of a killed run.
func createDatabase(ctx context.Context, admin, template string) (dbURL string, drop func(), err error) {
	u, err := url.Parse(admin)
	if err != nil {
		return "", nil, fmt.Errorf("the PostgreSQL URL must look like postgres://user:password@host/db: %w", err)
	}
	name := databasePrefix + strconv.FormatInt(time.Now().Unix(), 10) + "_" + strings.ToLower(rand.Text()[:10])
	conn, err := pgx.Connect(ctx, admin)
	if err != nil {
		return "", nil, err
	}
	defer func() { _ = conn.Close(ctx) }()
	strategy := ""
	if major := 0; conn.QueryRow(ctx, "SELECT current_setting('server_version_num')::int / 10000").Scan(&major) == nil && major >= 15 {
		strategy = " STRATEGY file_copy" // the default of older versions: cheaper, since nothing is synced
	}
	if _, err := conn.Exec(ctx, "CREATE DATABASE "+name+" TEMPLATE "+template+" ENCODING 'UTF8'"+strategy); err != nil {
		return "", nil, fmt.Errorf("create a database for a test: %w", err)
	}
	u.Path = "/" + name
	return u.String(), func() { dropDatabase(admin, name) }, nil
}

// prepareTemplate makes a database, lets prepare fill it, and returns its name.
func prepareTemplate(ctx context.Context, admin string, prepare func(context.Context, string) error) (name string, err error) {
	dbURL, drop, err := createDatabase(ctx, admin, "template0")
	if err != nil {
		return "", err
	}
	templates.Lock()
	templates.drop = append(templates.drop, drop)
	templates.Unlock()
	if err := prepare(ctx, dbURL); err != nil {
		return "", fmt.Errorf("prepare a database for tests: %w", err)
	}
	u, err := url.Parse(dbURL)
	if err != nil {
		return "", err
	}
	name = strings.TrimPrefix(u.Path, "/")
	conn, err := pgx.Connect(ctx, admin)
	if err != nil {
		return "", err
	}
	defer func() { _ = conn.Close(ctx) }()
	// CREATE DATABASE refuses a template that is in use; the sessions of prepare are ending, and
	// none begins any more.
	if _, err := conn.Exec(ctx, "ALTER DATABASE "+name+" ALLOW_CONNECTIONS false"); err != nil {
		return "", err
	}
	return name, await(ctx, 5*time.Millisecond, "the sessions in "+name+" to end", func() (idle bool, err error) {
		err = conn.QueryRow(ctx, "SELECT NOT EXISTS (SELECT FROM pg_stat_activity WHERE datname = $1)", name).Scan(&idle)
		return idle, err
	})
}

// templates are the databases that prepareTemplate has made.
var templates struct {
	sync.Mutex
	drop []func()
}

// dropTemplates matters on a server that the user named; a server of our own ends anyway.
func dropTemplates() {
	templates.Lock()
	defer templates.Unlock()
	if os.Getenv(EnvPostgresURL) != "" {
		for _, drop := range templates.drop {
			drop()
		}
	}
}

// dropDatabase drops a database even if it is in use; on a stopped server it does nothing.
// FORCE does not end a logical walsender, so it ends those first, repeatedly, since a client
// may reconnect.
func dropDatabase(admin, name string) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	conn, err := pgx.Connect(ctx, admin)
	if err != nil {
		return
	}
	defer func() { _ = conn.Close(ctx) }()
	_ = await(ctx, 20*time.Millisecond, "database "+name+" to go", func() (bool, error) {
		_, err := conn.Exec(ctx, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1", name)
		if err != nil {
			return false, err
		}
		_, err = conn.Exec(ctx, "DROP DATABASE IF EXISTS "+name+" WITH (FORCE)")
		var pgErr *pgconn.PgError
		if errors.As(err, &pgErr) && pgErr.Code == "55006" { // object_in_use
			return false, nil
		}
		return true, err
	})
}

// dropAbandoned drops the databases of killed runs on a server that the user named.
func dropAbandoned(ctx context.Context, admin string) error {
	conn, err := pgx.Connect(ctx, admin)
	if err != nil {
		return fmt.Errorf("connect to the server of %s: %w", EnvPostgresURL, err)
	}
	defer func() { _ = conn.Close(ctx) }()
	rows, err := conn.Query(ctx, "SELECT datname FROM pg_database WHERE starts_with(datname, $1)", databasePrefix)
	if err != nil {
		return err
	}
	names, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return err
	}
	for _, name := range names {
		stamp, _, _ := strings.Cut(strings.TrimPrefix(name, databasePrefix), "_")
		made, err := strconv.ParseInt(stamp, 10, 64)
		if err == nil && time.Since(time.Unix(made, 0)) > abandonedAge {
			dropDatabase(admin, name)
		}
	}
	return nil
}
