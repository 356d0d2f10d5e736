package testenv

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// PgbouncerOptions are what a private PgBouncer stands in front of.
type PgbouncerOptions struct {
	URL    string   // of one PostgreSQL database; required
	Mode   string   // pool_mode: "session", "transaction" or "statement"; required
	Config []string // more lines of the section pgbouncer
}

// PgbouncerServer is a private PgBouncer. It lets each client in without a password.
type PgbouncerServer struct {
	server
	options PgbouncerOptions
	account account
	through *url.URL // the database's URL, through it but for the port
}

// StartPgbouncer starts a server and returns when it listens. The error is a [MissingError]
// when there is no PgBouncer on this machine.
func StartPgbouncer(ctx context.Context, o PgbouncerOptions) (*PgbouncerServer, error) {
	acct, err := unprivileged() // it refuses to run as root, as PostgreSQL does
	if err != nil {
		return nil, err
	}
	p, err := findPgbouncer(ctx, acct)
	if err != nil {
		return nil, err
	}
	u, err := url.Parse(o.URL)
	if err != nil {
		return nil, err
	}
	dir, err := newServerDir("pgbouncer")
	if err != nil {
		return nil, err
	}
	s := &PgbouncerServer{server: server{program: p, dir: dir, quit: sigInt}, options: o, account: acct, through: u}
	if err := os.Mkdir(dir.file("run"), 0o700); err != nil {
		return nil, errors.Join(err, dir.remove())
	}
	if err := retryBind(ctx, s.startOn); err != nil {
		return nil, errors.Join(err, s.Stop(ctx))
	}
	return s, nil
}

// startOn starts the server on a newly picked port.
func (s *PgbouncerServer) startOn(ctx context.Context) (err error) {
	releasePort(s.port) // of the attempt before
	if s.port, err = freePort(); err != nil {
		return err
	}
	file := filepath.Join(s.dir.file("run"), "pgbouncer.ini")
	if err := errors.Join(os.WriteFile(file, []byte(s.config()), 0o600), s.account.give(s.dir.file("run"))); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.proc, err = launch(launchSpec{
		dir: s.dir, workDir: s.dir.file("run"), program: s.program, args: []string{file}, account: s.account, onDeath: sigKill,
	})
	if err != nil {
		return err
	}
	proc := s.proc
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	err = await(ctx, 5*time.Millisecond, "PgBouncer to listen", func() (bool, error) {
		if proc.ended() {
			return false, errors.New("it ended while starting")
		}
		return answers(s.Addr()), nil
	})
	if err != nil {
		// In the form of PostgreSQL and Redis, so that another port is tried.
		text := strings.ReplaceAll(s.dir.tail(), "address already in use", "Address already in use")
		return fmt.Errorf("%w; its log:\n%s", errors.Join(err, proc.kill()), text)
	}
	return nil
}

func (s *PgbouncerServer) config() string {
	quoted := func(value string) string { return "'" + strings.ReplaceAll(value, "'", "''") + "'" }
	password, _ := s.through.User.Password()
	return strings.Join(append([]string{
		"[databases]",
		fmt.Sprintf("%s = host=%s port=%s user=%s password=%s", strings.TrimPrefix(s.through.Path, "/"), s.through.Hostname(), s.through.Port(),
			quoted(s.through.User.Username()), quoted(password)),
		"[pgbouncer]",
		"listen_addr = 127.0.0.1", fmt.Sprint("listen_port = ", s.port), "unix_socket_dir =", "auth_type = any", "pool_mode = " + s.options.Mode,
	}, s.options.Config...), "\n") + "\n"
}

// URL returns the URL of the options' database through this server.
func (s *PgbouncerServer) URL() string {
	u := *s.through
	u.Host = s.Addr()
	return u.String()
}

func findPgbouncer(ctx context.Context, acct account) (program, error) {
	missing := &MissingError{What: "PgBouncer"}
	for _, dir := range candidates(missing, "pgbouncer",
		"/usr/sbin", "/usr/bin", "/usr/local/bin", "/opt/homebrew/bin", unpacked("pgbouncer", "usr/sbin")) {
		p, err := probe(ctx, filepath.Join(dir, "pgbouncer"), acct)
		if err == nil {
			return p, nil
		}
		missing.note(dir, err)
	}
	return program{}, missing
}

// Pgbouncer starts a server for this test alone. Without the program the test skips; with
// CI=true it fails.
func Pgbouncer(t testing.TB, o PgbouncerOptions) *PgbouncerServer {
	t.Helper()
	acct, err := unprivileged()
	if err == nil {
		_, err = findPgbouncer(t.Context(), acct)
	}
	if err != nil {
		skipUnlessCI(t, err)
	}
	return own(t, StartPgbouncer, []PgbouncerOptions{o})
}
