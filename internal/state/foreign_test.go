package state_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/url"
	"os"
	osexec "os/exec"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/stranglerfig/migrator/internal/hint"
	"github.com/stranglerfig/migrator/internal/pgserver"
	"github.com/stranglerfig/migrator/internal/state"
	"github.com/stranglerfig/migrator/internal/test/testenv"
	"github.com/stranglerfig/migrator/store"
)

// foreignServer is a PostgreSQL that a test may spoil, and a superuser's session that outlives it.
type foreignServer struct {
	t     *testing.T
	admin *pgx.Conn
	url   string
}

func (s *foreignServer) sql(statements string) {
	s.t.Helper()
	_, err := s.admin.Exec(s.t.Context(), statements, pgx.QueryExecModeSimpleProtocol)
	must(s.t, err)
}

// file writes a file in the server's data folder, as its account.
func (s *foreignServer) file(name, content string) {
	s.t.Helper()
	s.sql(fmt.Sprintf("COPY (SELECT '%s') TO PROGRAM 'base64 -d > %s && chmod 600 %s'", base64.StdEncoding.EncodeToString([]byte(content)), name, name))
}

// hba replaces pg_hba.conf.
func (s *foreignServer) hba(lines ...string) {
	s.t.Helper()
	s.file("pg_hba.conf", "local all all trust\n"+strings.Join(lines, "\n")+"\n")
	s.sql("SELECT pg_reload_conf()")
}

// certify gives the server a certificate for a name.
func (s *foreignServer) certify(name string, until time.Time) (pemCert string) {
	s.t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(s.t, err)
	about := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name},
		NotBefore: time.Now().Add(-48 * time.Hour), NotAfter: until, IsCA: true, BasicConstraintsValid: true,
	}
	if ip := net.ParseIP(name); ip != nil {
		about.DNSNames, about.IPAddresses = nil, []net.IP{ip}
	}
	public, err := x509.CreateCertificate(rand.Reader, about, about, &private.PublicKey, private)
	must(s.t, err)
	secret, err := x509.MarshalECPrivateKey(private)
	must(s.t, err)
	pemCert = string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: public}))
	s.file("server.crt", pemCert)
	s.file("server.key", string(pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: secret})))
	s.sql("ALTER SYSTEM SET ssl = on")
	s.sql("SELECT pg_reload_conf()")
	return pemCert
}

// at is the server's URL, changed.
func (s *foreignServer) at(change func(u *url.URL, q url.Values)) string {
	s.t.Helper()
	u, err := url.Parse(s.url)
	must(s.t, err)
	q := u.Query()
	change(u, q)
	u.RawQuery = q.Encode()
	return u.String()
}

func (s *foreignServer) as(role, password string, more ...string) string {
	return s.at(func(u *url.URL, q url.Values) {
		u.User = url.UserPassword(role, password)
		for i := 0; i+1 < len(more); i += 2 {
			q.Set(more[i], more[i+1])
		}
	})
}

// TestForeignFailuresOfPostgreSQL: each row of the table is what a real server in that state gives, with
// its words but without the role and password, with a risk and a remedy.
func TestForeignFailuresOfPostgreSQL(t *testing.T) {
	t.Parallel()
	// What no server here can be brought to: a pooler refuses a parameter, and has its own test; an
	// authority is not trusted where it is not named (tls-untrusted needs a name, and has a case).
	seen := map[string]bool{"pooler": true, "08P01": true}
	server := testenv.Postgres(t, testenv.PostgresOptions{Settings: map[string]string{
		"max_connections": "12", "superuser_reserved_connections": "1", "ssl_cert_file": "server.crt", "ssl_key_file": "server.key",
		"max_locks_per_transaction": "10", "deadlock_timeout": "10ms",
	}})
	ctx := t.Context()
	admin, err := pgx.Connect(ctx, server.URL())
	must(t, err)
	defer func() { _ = admin.Close(context.WithoutCancel(ctx)) }()
	s := &foreignServer{t: t, admin: admin, url: server.URL()}
	password := func() string { u, _ := url.Parse(s.url); p, _ := u.User.Password(); return p }()

	check := func(err error, code string, words ...string) {
		t.Helper()
		seen[code] = true
		if err == nil {
			t.Errorf("%s: no error", code)
			return
		}
		f, _ := hint.FailureOf(err)
		h, _ := hint.Of(err)
		if f.Code != code || f.Risk == "" || h.IsZero() {
			t.Errorf("%s: %v is %q: %+v", code, err, f.Code, h)
		}
		for _, word := range words {
			if !strings.Contains(err.Error(), word) {
				t.Errorf("%s: %v lacks %q", code, err, word)
			}
		}
		if strings.Contains(err.Error(), "s3cret") || strings.Contains(err.Error(), "clerk_a") || strings.Contains(err.Error(), password) {
			t.Errorf("%s: %v names the role or the password", code, err)
		}
	}
	opened := func(at string) error {
		t.Helper()
		st, err := state.Open(ctx, at)
		if err == nil {
			st.Close()
		}
		return err
	}
	// A reload takes effect a moment later.
	await := func(at, code string, words ...string) {
		t.Helper()
		err := opened(at)
		for end := time.Now().Add(time.Minute); time.Now().Before(end) && ctx.Err() == nil; err = opened(at) {
			if f, _ := hint.FailureOf(err); f.Code == code {
				break
			}
		}
		check(err, code, words...)
	}

	s.sql(`CREATE ROLE clerk_a LOGIN PASSWORD 's3cret'; CREATE ROLE clerk_b PASSWORD 's3cret'`)
	check(opened(s.as("clerk_a", "s3cret-wrong")), "28P01", `password authentication failed for user "..."`)
	check(opened(s.as("clerk_absent", "s3cret")), "28P01")
	check(opened(s.as("clerk_b", "s3cret")), "no-login", `role "..." is not permitted to log in`)
	check(opened(s.at(func(u *url.URL, _ url.Values) { u.Path = "/nosuch" })), "3D000", `database "nosuch" does not exist`)
	check(opened(s.at(func(u *url.URL, _ url.Values) { u.Host = "no-such-host.invalid:5432" })), "no-host", "no-such-host.invalid")
	s.sql("ALTER ROLE clerk_a CONNECTION LIMIT 0")
	check(opened(s.as("clerk_a", "s3cret")), "role-full", `too many connections for role "..."`)
	s.sql("ALTER ROLE clerk_a CONNECTION LIMIT -1")
	check(opened(s.as("postgres", password, "sslmode", "require")), "tls-not-spoken", "server refused TLS")

	// Ports that are no server's.
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	must(t, err)
	mute := listener.Addr().String()
	check(opened(s.at(func(u *url.URL, q url.Values) { u.Host = mute; q.Set("connect_timeout", "1") })), "timeout", "has not answered within 1")
	must(t, listener.Close())
	check(opened(s.at(func(u *url.URL, _ url.Values) { u.Host = mute })), "refused", mute)

	// TLS.
	hour := time.Now().Add(time.Hour)
	s.certify("127.0.0.1", hour)
	s.hba("hostssl all all 127.0.0.1/32 scram-sha-256")
	await(s.as("clerk_a", "s3cret", "sslmode", "disable"), "tls-demanded", "no pg_hba.conf entry", "no encryption")
	await(s.as("postgres", password, "sslmode", "verify-full", "sslrootcert", "system"), "tls-untrusted", "authority")
	other := s.certify("db.internal", hour)
	root := t.TempDir() + "/root.crt"
	must(t, os.WriteFile(root, []byte(other), 0o600))
	await(s.as("postgres", password, "sslmode", "verify-full", "sslrootcert", root), "tls-name")
	must(t, os.WriteFile(root, []byte(s.certify("127.0.0.1", time.Now().Add(-time.Hour))), 0o600))
	await(s.as("postgres", password, "sslmode", "verify-full", "sslrootcert", root), "tls-expired", "expired")
	s.hba("hostssl all postgres 127.0.0.1/32 scram-sha-256")
	await(s.as("clerk_a", "s3cret", "sslmode", "require"), "no-hba", `user "..."`)
	s.hba("host all clerk_a 127.0.0.1/32 ident", "host all all 127.0.0.1/32 scram-sha-256")
	await(s.as("clerk_a", "s3cret"), "28000", "Ident")
	s.hba("host all all 127.0.0.1/32 scram-sha-256")
	certificate, err := tls.X509KeyPair(selfSigned(t))
	must(t, err)
	secure, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{certificate}, MinVersion: tls.VersionTLS12})
	must(t, err)
	defer func() { _ = secure.Close() }()
	go func() {
		for {
			conn, err := secure.Accept()
			if err != nil {
				return
			}
			_, _ = conn.Read(make([]byte, 1)) // the handshake fails
			_ = conn.Close()
		}
	}()
	check(opened(s.at(func(u *url.URL, _ url.Values) { u.Host = secure.Addr().String() })), "silent")

	// Statements, through a session of a role that is no superuser.
	connect := func() *pgx.Conn {
		t.Helper()
		conn, err := pgx.Connect(ctx, s.url)
		must(t, err)
		t.Cleanup(func() { _ = conn.Close(context.WithoutCancel(ctx)) })
		return conn
	}
	a, b := connect(), connect()
	run := func(conn *pgx.Conn, sql string) error {
		_, err := conn.Exec(ctx, sql, pgx.QueryExecModeSimpleProtocol)
		return err
	}
	must(t, run(a, "SET default_transaction_read_only = on"))
	check(run(a, "CREATE TABLE x (a int)"), "25006", "read-only transaction")
	must(t, run(a, "SET default_transaction_read_only = off"))
	check(run(a, "SET statement_timeout = 1; SELECT pg_sleep(60)"), "57014", "statement timeout")
	must(t, run(a, "SET statement_timeout = 0; CREATE TABLE held (id int PRIMARY KEY); INSERT INTO held VALUES (1), (2)"))
	must(t, run(a, "BEGIN; LOCK TABLE held"))
	check(run(b, "SET lock_timeout = 1; LOCK TABLE held"), "55P03", "lock timeout")
	must(t, run(a, "ROLLBACK"))
	must(t, run(b, "SET lock_timeout = 0"))
	check(run(a, "PREPARE p AS SELECT 1; PREPARE p AS SELECT 1"), "42P05", "already exists")
	check(run(b, "EXECUTE p"), "26000", "does not exist")
	check(run(a, "SELECT count(pg_advisory_lock(i)) FROM generate_series(1, 1000000) i"), "53200", "shared memory")
	must(t, run(a, "SELECT pg_advisory_unlock_all()"))
	must(t, run(a, "BEGIN; UPDATE held SET id = 1 WHERE id = 1"))
	must(t, run(b, "BEGIN; UPDATE held SET id = 2 WHERE id = 2"))
	waits := make(chan error, 1)
	go func() { waits <- run(a, "UPDATE held SET id = 2 WHERE id = 2; ROLLBACK") }()
	deadlock := run(b, "UPDATE held SET id = 1 WHERE id = 1; ROLLBACK")
	if err := <-waits; deadlock == nil {
		deadlock = err
	}
	check(deadlock, "40P01", "deadlock")
	_, _ = run(a, "ROLLBACK"), run(b, "ROLLBACK")
	s.fullDisk(a, check, seen)

	idle := connect()
	must(t, run(idle, "SET idle_in_transaction_session_timeout = 1; BEGIN"))
	err = run(idle, "SELECT 1")
	for err == nil && ctx.Err() == nil {
		time.Sleep(2 * time.Millisecond) // in which the transaction is idle
		err = run(idle, "SELECT 1")
	}
	check(err, "25P03", "idle-in-transaction")
	s.sql(fmt.Sprintf("SELECT pg_terminate_backend(%d)", b.PgConn().PID()))
	check(run(b, "SELECT 1"), "57P01", "administrator")

	var full error
	for n := 0; full == nil && n < 50; n++ {
		var conn *pgx.Conn
		if conn, full = pgx.Connect(ctx, s.as("clerk_a", "s3cret")); full == nil {
			t.Cleanup(func() { _ = conn.Close(context.WithoutCancel(ctx)) })
		}
	}
	check(opened(s.as("clerk_a", "s3cret")), "53300")

	// The end: a shutdown that waits for a session.
	s.sql("COPY (SELECT 1) TO PROGRAM 'kill -TERM $(head -1 postmaster.pid)'")
	await(s.url, "57P03", "shutting down")

	for _, f := range hint.Failures() {
		if f.System == hint.PostgreSQL && !seen[f.Code] {
			t.Errorf("no server here was brought to %s", f.Code)
		}
	}
}

// fullDisk fills a small file system, which only root can make.
func (s *foreignServer) fullDisk(conn *pgx.Conn, check func(error, string, ...string), seen map[string]bool) {
	t := s.t
	t.Helper()
	seen["53100"] = true
	dir := t.TempDir()
	if os.Geteuid() != 0 {
		t.Log("a full disk is not tried: only root can mount a small file system")
		return
	}
	if out, err := osexec.CommandContext(t.Context(), "mount", "-t", "tmpfs", "-o", "size=1m,mode=777", "none", dir).CombinedOutput(); err != nil {
		t.Logf("a full disk is not tried: %v: %s", err, out)
		return
	}
	defer func() { _ = osexec.CommandContext(context.WithoutCancel(t.Context()), "umount", "-l", dir).Run() }()
	for up := dir; up != "/" && up != "."; up = up[:max(strings.LastIndexByte(up, '/'), 1)] { // the server's account must pass
		if info, err := os.Stat(up); err == nil && info.Mode().Perm()&0o001 == 0 {
			must(t, os.Chmod(up, info.Mode().Perm()|0o011))
		}
	}
	s.sql("COPY (SELECT 1) TO PROGRAM 'mkdir -m 700 " + dir + "/ts'")
	s.sql("CREATE TABLESPACE small LOCATION '" + dir + "/ts'")
	_, err := conn.Exec(t.Context(), "SET temp_tablespaces = small")
	must(t, err)
	room, err := pgserver.Check(t.Context(), conn)
	must(t, err)
	if c := room[2]; c.Name != "disk" || c.Result != store.Refused {
		t.Errorf("a full disk: %+v", room)
	}
	_, err = conn.Exec(t.Context(), "CREATE TABLE filler TABLESPACE small AS SELECT repeat('x', 1000) FROM generate_series(1, 10000)", pgx.QueryExecModeSimpleProtocol)
	check(err, "53100")
	_, err = conn.Exec(t.Context(), "RESET temp_tablespaces")
	must(t, err)
	s.sql("DROP TABLE IF EXISTS filler")
	s.sql("DROP TABLESPACE small")
}

func selfSigned(t *testing.T) (cert, key []byte) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	about := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	public, err := x509.CreateCertificate(rand.Reader, about, about, &private.PublicKey, private)
	must(t, err)
	secret, err := x509.MarshalECPrivateKey(private)
	must(t, err)
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: public}), pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: secret})
}
