package testenv

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/url"
	"os"
	"time"

	"github.com/jackc/pgx/v5"
)

// PostgresOptions changes a private PostgreSQL. The zero value is a server with
// logical replication on, 200 connections, time zone UTC, locale C and UTF-8. It
// does not sync to disk, but a killed *server* loses no acknowledged commit: only
// with synchronous_commit off would it.
type PostgresOptions struct {
	// Settings are set over the defaults, as in postgresql.conf.
	Settings map[string]string
	// Fresh runs initdb in place of copying a cached data directory. Copies share
	// one system identifier: two servers that must not look like one need this.
	Fresh bool
}

// PostgresServer is a private PostgreSQL. Its methods may be called from several
// goroutines.
type PostgresServer struct {
	server
	account  account
	settings map[string]string
	password string
}

// StartPostgres starts a server and returns when it answers. The error is a
// [MissingError] when there is no PostgreSQL on this machine.
func StartPostgres(ctx context.Context, o PostgresOptions) (*PostgresServer, error) {
	acct, err := unprivileged()
	if err != nil {
		return nil, err
	}
	initdb, postgres, err := findPostgres(ctx, acct)
	if err != nil {
		return nil, err
	}
	dir, err := newServerDir("pg")
	if err != nil {
		return nil, err
	}
	s := &PostgresServer{server: server{program: postgres, dir: dir, quit: sigInt}, account: acct, settings: o.Settings, password: rand.Text()}
	if err := s.prepare(ctx, initdb, o.Fresh); err != nil {
		return nil, errors.Join(err, dir.remove())
	}
	if err := retryBind(ctx, s.startOn); err != nil {
		return nil, errors.Join(err, s.Stop(ctx))
	}
	if err := s.setPassword(ctx); err != nil {
		return nil, errors.Join(err, s.Stop(ctx))
	}
	return s, nil
}

func (s *PostgresServer) prepare(ctx context.Context, initdb program, fresh bool) error {
	if err := makeDataDir(ctx, initdb, s.account, s.dir, fresh); err != nil {
		return err
	}
	// Sockets need no password, so only the account may enter.
	if err := os.Mkdir(s.dir.file("run"), 0o700); err != nil {
		return err
	}
	return s.account.give(s.dir.file("run"))
}

// startOn starts the server on a newly picked port.
func (s *PostgresServer) startOn(ctx context.Context) (err error) {
	releasePort(s.port) // of the attempt before
	if s.port, err = freePort(); err != nil {
		return err
	}
	if err := s.configure(); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.start(ctx)
}

// start starts the server and waits until it answers. The caller holds mu.
func (s *PostgresServer) start(ctx context.Context) error {
	// SIGQUIT, not SIGKILL: an immediate shutdown that frees shared memory.
	proc, err := launch(launchSpec{
		dir: s.dir, workDir: s.dir.file("data"), program: s.program,
		args: []string{"-D", s.dir.file("data")}, account: s.account, onDeath: sigQuit,
	})
	if err != nil {
		return err
	}
	s.proc = proc
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	err = await(ctx, 5*time.Millisecond, "PostgreSQL to answer", func() (bool, error) {
		if proc.ended() {
			return false, errors.New("PostgreSQL ended while starting")
		}
		conn, err := pgx.Connect(ctx, s.socketDSN())
		if err != nil {
			return false, nil // not ready yet
		}
		return true, conn.Close(ctx)
	})
	if err != nil {
		return fmt.Errorf("%w; its log:\n%s", errors.Join(err, proc.kill()), s.dir.tail())
	}
	return nil
}

// setPassword replaces the template's password.
func (s *PostgresServer) setPassword(ctx context.Context) error {
	conn, err := pgx.Connect(ctx, s.socketDSN())
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(ctx) }()
	_, err = conn.Exec(ctx, "ALTER ROLE postgres PASSWORD '"+s.password+"'") // letters and digits
	return err
}

func (s *PostgresServer) socketDSN() string {
	return fmt.Sprintf("host=%s port=%d user=postgres dbname=postgres sslmode=disable connect_timeout=10", s.dir.file("run"), s.port)
}

// URL returns the URL of the database postgres, as the superuser.
func (s *PostgresServer) URL() string { return s.databaseURL("postgres") }

func (s *PostgresServer) databaseURL(db string) string {
	u := url.URL{Scheme: "postgres", User: url.UserPassword("postgres", s.password), Host: s.Addr(), Path: db, RawQuery: "sslmode=disable"}
	return u.String()
}

// CreateDatabase makes an empty database. drop ends its connections and the use of its
// replication slots, and drops it; it may be called on a stopped server.
func (s *PostgresServer) CreateDatabase(ctx context.Context) (dbURL string, drop func(), err error) {
	return createDatabase(ctx, s.URL(), "template0")
}

// Restart stops the server (unless it was killed) and starts it on the same port
// and data.
func (s *PostgresServer) Restart(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.proc == nil {
		return errStopped
	}
	if err := s.proc.stop(ctx, s.quit); err != nil {
		return err
	}
	return retryBind(ctx, s.start)
}
