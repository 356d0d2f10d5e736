package testenv

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

var initdbArgs = []string{
	"--username=postgres", "--auth-local=trust", "--auth-host=scram-sha-256",
	"--encoding=UTF8", "--locale=C", "--no-sync",
}

// makeDataDir makes dir/data: a copy of a cached one (0.1 s), or by initdb (1 s).
func makeDataDir(ctx context.Context, initdb program, acct account, dir *serverDir, fresh bool) error {
	data := dir.file("data")
	cache, cacheErr := templateCache(initdb)
	if !fresh && cacheErr == nil && cache.copyTo(data) == nil {
		return acct.give(data)
	}
	if err := os.RemoveAll(data); err != nil { // the remains of a failed copy
		return err
	}
	if err := os.Mkdir(data, 0o700); err != nil {
		return err
	}
	secret := dir.file("secret") // a password until setPassword
	if err := os.Mkdir(secret, 0o700); err != nil {
		return err
	}
	pwfile := filepath.Join(secret, "password")
	if err := os.WriteFile(pwfile, []byte(rand.Text()), 0o600); err != nil {
		return err
	}
	if err := errors.Join(acct.give(data), acct.give(secret)); err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, initdb.path, append([]string{"-D", data, "--pwfile", pwfile}, initdbArgs...)...) //nolint:gosec // the program that was searched for
	cmd.Dir, cmd.Env, cmd.SysProcAttr = data, initdb.env(), asAccount(acct)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w\n%s", initdb.path, err, out)
	}
	if !fresh && cacheErr == nil {
		cache.save(data)
	}
	return os.RemoveAll(secret)
}

// template is a data directory that initdb made once, in the cache. A reader locks it
// shared; a process that changes the cache locks it exclusively.
type template struct{ root, path string }

const templateAge = 30 * 24 * time.Hour // unused for this long, it is removed

func templateCache(initdb program) (template, error) {
	cache, err := cacheDir()
	if err != nil {
		return template{}, err
	}
	root := filepath.Join(cache, "pgdata")
	sum := sha256.Sum256([]byte(initdb.path + initdb.version + strings.Join(initdbArgs, " ")))
	return template{root: root, path: filepath.Join(root, hex.EncodeToString(sum[:8]))}, os.MkdirAll(root, 0o700)
}

func (t template) lock(take func(*os.File) error) (unlock func(), err error) {
	f, err := os.OpenFile(filepath.Join(t.root, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := take(f); err != nil {
		_ = f.Close()
		return nil, err
	}
	return func() { _ = f.Close() }, nil
}

// copyTo fails unless the copy is as long as what was saved: after a power failure the cache
// may contain truncated files.
func (t template) copyTo(data string) error {
	unlock, err := t.lock(waitSharedLock)
	if err != nil {
		return err
	}
	defer unlock()
	want, err := os.ReadFile(t.path + ".size")
	if err != nil {
		return err
	}
	if err := copyDir(t.path, data); err != nil {
		return err
	}
	if got := treeSize(data); got != string(want) {
		return fmt.Errorf("the template %s is damaged", t.path)
	}
	now := time.Now()
	return os.Chtimes(t.path+".size", now, now)
}

// save stores a copy for the next start. A failure costs only time.
func (t template) save(data string) {
	unlock, err := t.lock(func(f *os.File) error {
		if ok, err := tryLock(f); err != nil || !ok {
			return errors.Join(errors.New("the cache is in use"), err)
		}
		return nil
	})
	if err != nil {
		return
	}
	defer unlock()
	t.removeUnused()
	for _, path := range []string{t.path + ".size", t.path} {
		if os.RemoveAll(path) != nil {
			return
		}
	}
	if copyDir(data, t.path) != nil {
		return
	}
	_ = os.WriteFile(t.path+".size", []byte(treeSize(t.path)), 0o600)
}

// removeUnused removes templates without a recent .size, half-made ones too.
func (t template) removeUnused() {
	entries, _ := os.ReadDir(t.root)
	for _, e := range entries {
		path := filepath.Join(t.root, e.Name())
		if !e.IsDir() {
			continue
		}
		if info, err := os.Stat(path + ".size"); err != nil || time.Since(info.ModTime()) > templateAge {
			_ = os.RemoveAll(path + ".size")
			_ = os.RemoveAll(path)
		}
	}
}

func copyDir(from, to string) error {
	if err := os.CopyFS(to, os.DirFS(from)); err != nil {
		return err
	}
	return os.Chmod(to, 0o700) //nolint:gosec // a directory
}

// treeSize is "<files> <bytes>".
func treeSize(dir string) string {
	var files, bytes int64
	_ = filepath.WalkDir(dir, func(_ string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		info, err := e.Info()
		if err == nil {
			files++
			bytes += info.Size()
		}
		return err
	})
	return fmt.Sprint(files, bytes)
}

// configure writes the settings; ALTER SYSTEM overrides them.
func (s *PostgresServer) configure() error {
	zone := "UTC"
	if _, err := os.Stat("/usr/share/zoneinfo/UTC"); err != nil {
		zone = "GMT" // the one zone that PostgreSQL knows without a database
	}
	set := map[string]string{
		"listen_addresses": "127.0.0.1", "port": fmt.Sprint(s.port), "unix_socket_directories": s.dir.file("run"),
		"max_connections": "200", "shared_buffers": "64MB",
		"wal_level": "logical", "max_wal_senders": "40", "max_replication_slots": "40",
		"fsync": "off", "timezone": zone, "log_timezone": zone,
		// In the data directory, so that a killed server leaves nothing in /dev/shm.
		"dynamic_shared_memory_type": "mmap",
	}
	maps.Copy(set, s.settings)
	var b strings.Builder
	b.WriteString("# Written at every first start.\n")
	for _, name := range slices.Sorted(maps.Keys(set)) {
		fmt.Fprintf(&b, "%s = '%s'\n", name, strings.ReplaceAll(set[name], "'", "''"))
	}
	data := s.dir.file("data")
	root, err := os.OpenRoot(data) // the account may own it already
	if err != nil {
		return err
	}
	defer func() { _ = root.Close() }()
	const main, include = "postgresql.conf", "\ninclude 'testenv.conf'\n"
	if err := root.WriteFile("testenv.conf", []byte(b.String()), 0o600); err != nil {
		return err
	}
	raw, err := root.ReadFile(main)
	if err != nil {
		return err
	}
	if !strings.HasSuffix(string(raw), include) {
		if err := root.WriteFile(main, append(raw, include...), 0o600); err != nil {
			return err
		}
	}
	return s.account.give(data)
}
