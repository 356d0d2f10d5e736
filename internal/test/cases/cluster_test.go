//go:build unix

package cases

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
)

// cluster is a PostgreSQL cluster whose data directory the test can copy, promote or
// upgrade. The servers of testenv do not support that.
type cluster struct {
	t    *testing.T
	bin  string // the directory of PostgreSQL's programs
	data string
	port int
}

// newCluster starts an empty one. It skips the test where this machine lacks the programs.
func newCluster(t *testing.T) *cluster {
	t.Helper()
	bin := postgresPrograms(t, "initdb", "pg_ctl", "pg_basebackup", "pg_upgrade")
	dir, err := os.MkdirTemp("", "migrator-cases-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) }) // not t.TempDir: the account postgres must enter it
	c := &cluster{t: t, bin: bin, data: filepath.Join(dir, "first"), port: freePort(t)}
	if os.Getuid() == 0 { // PostgreSQL refuses to run as root
		c.command("", "chown", "postgres", dir)
	}
	c.initdb()
	c.start()
	return c
}

func postgresPrograms(t *testing.T, programs ...string) string {
	t.Helper()
	dirs, _ := filepath.Glob("/usr/lib/postgresql/*/bin")
	for _, pattern := range []string{"/usr/pgsql-*/bin", "/opt/homebrew/opt/postgresql*/bin", "/usr/local/pgsql/bin", "/usr/local/bin", "/usr/bin"} {
		more, _ := filepath.Glob(pattern)
		dirs = append(dirs, more...)
	}
	for _, dir := range dirs {
		all := true
		for _, p := range programs {
			_, err := os.Stat(filepath.Join(dir, p))
			all = all && err == nil
		}
		if all {
			return dir
		}
	}
	t.Skipf("no directory has %s", strings.Join(programs, ", "))
	return ""
}

func freePort(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	return l.Addr().(*net.TCPAddr).Port
}

// command runs a program in dir ("" for the test's own), and fails the test with what it printed.
func (c *cluster) command(dir, name string, args ...string) {
	c.t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		c.t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
}

// postgres runs one of PostgreSQL's programs, as the user that owns the data.
func (c *cluster) postgres(program string, args ...string) {
	c.t.Helper()
	name, args := filepath.Join(c.bin, program), args
	if os.Getuid() == 0 {
		name, args = "runuser", append([]string{"-u", "postgres", "--", name}, args...)
	}
	c.command(filepath.Dir(c.data), name, args...)
}

func (c *cluster) initdb() {
	c.t.Helper()
	c.postgres("initdb", "-D", c.data, "-A", "trust", "-U", "postgres", "-E", "UTF8", "--locale=C", "--no-sync")
	c.configure()
}

// configure adds to what initdb or a base backup has left.
func (c *cluster) configure() {
	c.t.Helper()
	f, err := os.OpenFile(filepath.Join(c.data, "postgresql.conf"), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		c.t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	_, err = fmt.Fprintf(f, "\nport = %d\nlisten_addresses = '127.0.0.1'\nunix_socket_directories = '%s'\nfsync = off\n", c.port, filepath.Dir(c.data))
	if err != nil {
		c.t.Fatal(err)
	}
}

func (c *cluster) start() {
	c.t.Helper()
	c.postgres("pg_ctl", "-D", c.data, "-l", c.data+".log", "-w", "start")
	c.t.Cleanup(func() {
		if _, err := os.Stat(filepath.Join(c.data, "postmaster.pid")); err == nil {
			c.stop("immediate")
		}
	})
}

func (c *cluster) stop(mode string) {
	c.t.Helper()
	c.postgres("pg_ctl", "-D", c.data, "-m", mode, "-w", "stop")
}

// promote starts the data as a standby without a primary, and promotes it, as after a
// failover. The timeline goes up by one.
func (c *cluster) promote() {
	c.t.Helper()
	if err := os.WriteFile(filepath.Join(c.data, "standby.signal"), nil, 0o644); err != nil {
		c.t.Fatal(err)
	}
	c.start()
	c.postgres("pg_ctl", "-D", c.data, "-w", "promote")
}

// upgraded moves all databases into a cluster of its own, by pg_upgrade, and starts
// that in the place of this one, which must be stopped.
func (c *cluster) upgraded() *cluster {
	c.t.Helper()
	n := &cluster{t: c.t, bin: c.bin, data: c.data + "-new", port: c.port}
	n.initdb()
	c.postgres("pg_upgrade", "-b", c.bin, "-B", c.bin, "-d", c.data, "-D", n.data, "-U", "postgres",
		"-p", strconv.Itoa(freePort(c.t)), "-P", strconv.Itoa(freePort(c.t)), "-s", filepath.Dir(c.data))
	n.start()
	return n
}

func (c *cluster) url(database string) string {
	return fmt.Sprintf("postgres://postgres@127.0.0.1:%d/%s?sslmode=disable", c.port, database)
}

// database creates an empty one.
func (c *cluster) database(name string) string {
	c.t.Helper()
	conn, err := pgx.Connect(c.t.Context(), c.url("postgres"))
	if err != nil {
		c.t.Fatal(err)
	}
	defer func() { _ = conn.Close(c.t.Context()) }()
	if _, err := conn.Exec(c.t.Context(), "CREATE DATABASE "+pgx.Identifier{name}.Sanitize()); err != nil {
		c.t.Fatal(err)
	}
	return c.url(name)
}
