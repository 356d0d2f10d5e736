package testenv

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"
)

const (
	ownerFile = "owner" // "<pid> <start time> <program>", locked by a living owner
	baseLock  = "lock"
)

// serverDir is the directory of one server, or of a test binary's temporary files. Its owner holds a lock on the file `owner`; the
// kernel releases it when the owner ends, and the next start sweeps.
type serverDir struct {
	path string
	lock *os.File
}

// Directories of servers are in migrator-<uid> below one of these: short, since a socket's
// path has at most 107 bytes, and never TMPDIR, so that a sweep sees the directories of a run
// with another TMPDIR. Each test's database is a thousand small files: making and removing
// them in memory costs a third of what a disk's file system takes.
const (
	onDisk   = "/tmp"
	inMemory = "/dev/shm"

	roomInMemory = 8 << 30 // bytes; otherwise the disk is used
)

func baseIn(root string) string { return fmt.Sprintf("%s/migrator-%d", root, os.Geteuid()) }

// baseDir is the base directory for this process's servers.
var baseDir = sync.OnceValue(func() string {
	if freeMemory(inMemory) >= roomInMemory {
		return baseIn(inMemory)
	}
	return baseIn(onDisk)
})

func (d *serverDir) file(name string) string { return filepath.Join(d.path, name) }

func newServerDir(kind string) (*serverDir, error) {
	if !supported {
		return nil, errors.New("private servers are not supported on this system\nTry: set " +
			EnvPostgresURL + " and " + EnvRedisURL + " to running servers")
	}
	return newDir(baseDir(), kind)
}

// newDir makes and locks a directory, after sweeping those of dead owners.
func newDir(base, kind string) (*serverDir, error) {
	// 0711: the account of root's servers must be able to pass through.
	if err := os.Mkdir(base, 0o711); err != nil && !errors.Is(err, fs.ErrExist) { //nolint:gosec // see above
		return nil, err
	}
	info, err := os.Lstat(base)
	if err != nil {
		return nil, err
	}
	if !info.IsDir() || !ownedBy(info, os.Geteuid()) {
		return nil, fmt.Errorf("%s, where private servers and temporary files are kept, belongs to another user\nTry: remove it", base)
	}
	// The lock is held while directories are made and stale ones are picked, so that no
	// process sees a half-made one.
	baseFile, err := os.OpenFile(filepath.Join(base, baseLock), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := waitLock(baseFile); err != nil {
		_ = baseFile.Close()
		return nil, err
	}
	stale := claimStale(base)
	dir, err := makeServerDir(base, kind)
	_ = baseFile.Close()
	stale = append(stale, claimElsewhere(base)...)
	for _, d := range stale {
		err = errors.Join(err, d.remove())
	}
	return dir, err
}

// claimElsewhere is claimStale for the other base directory, which a run with more or less
// free memory used.
func claimElsewhere(base string) (stale []*serverDir) {
	for _, other := range []string{baseIn(inMemory), baseIn(onDisk)} {
		info, err := os.Lstat(other)
		if other == base || err != nil || !info.IsDir() || !ownedBy(info, os.Geteuid()) {
			continue
		}
		baseFile, err := os.OpenFile(filepath.Join(other, baseLock), os.O_CREATE|os.O_RDWR, 0o600)
		if err != nil {
			continue
		}
		if waitLock(baseFile) == nil {
			stale = append(stale, claimStale(other)...)
		}
		_ = baseFile.Close()
	}
	return stale
}

func makeServerDir(base, kind string) (*serverDir, error) {
	path, err := os.MkdirTemp(base, kind+"-"+strconv.Itoa(os.Getpid())+"-")
	if err != nil {
		return nil, err
	}
	if err := os.Chmod(path, 0o711); err != nil { //nolint:gosec // as the base directory
		return nil, err
	}
	lock, ok, err := lockOwner(path)
	if err != nil || !ok {
		return nil, errors.Join(fmt.Errorf("lock %s", path), err)
	}
	_, err = fmt.Fprintf(lock, "%d %s %s\n", os.Getpid(), strings.ReplaceAll(startTime(os.Getpid()), " ", "_"), os.Args[0])
	return &serverDir{path: path, lock: lock}, err
}

func lockOwner(path string) (*os.File, bool, error) {
	f, err := os.OpenFile(filepath.Join(path, ownerFile), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, false, err
	}
	ok, err := tryLock(f)
	if err != nil || !ok {
		_ = f.Close()
		return nil, false, err
	}
	return f, true, nil
}

// claimStale locks every directory whose owner is dead. The caller holds baseLock.
func claimStale(base string) (stale []*serverDir) {
	entries, _ := os.ReadDir(base)
	for _, e := range entries {
		path := filepath.Join(base, e.Name())
		if !e.IsDir() {
			continue
		}
		lock, ok, err := lockOwner(path)
		if err != nil || !ok {
			continue
		}
		if ownerLives(lock) { // on a file system without working locks
			_ = lock.Close()
			continue
		}
		stale = append(stale, &serverDir{path: path, lock: lock})
	}
	return stale
}

func ownerLives(f *os.File) bool {
	raw := make([]byte, 512)
	n, _ := f.ReadAt(raw, 0)
	fields := strings.Fields(string(raw[:n]))
	if len(fields) < 2 {
		return false
	}
	pid, err := strconv.Atoi(fields[0])
	return err == nil && running(pid) && fields[1] == strings.ReplaceAll(startTime(pid), " ", "_")
}

// remove kills the processes that still run in the directory, and removes it with its lock.
func (d *serverDir) remove() error {
	deadline := time.NewTimer(time.Minute)
	defer deadline.Stop()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for left := processesIn(d.path); len(left) > 0; left = processesIn(d.path) {
		for _, pid := range left {
			_ = sendSignal(pid, sigKill)
		}
		select {
		case <-tick.C:
		case <-deadline.C:
			return fmt.Errorf("processes %v of the abandoned server in %s do not die", left, d.path)
		}
	}
	d.removeSegment()
	entries, err := os.ReadDir(d.path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for _, e := range entries { // the lock is removed last
		if e.Name() != ownerFile {
			err = errors.Join(err, os.RemoveAll(d.file(e.Name())))
		}
	}
	err = errors.Join(err, os.RemoveAll(d.path))
	return errors.Join(err, d.lock.Close())
}

// removeSegment removes the System V segment of a killed postmaster. A postmaster that stopped
// by itself has removed it, and postmaster.pid too.
func (d *serverDir) removeSegment() {
	raw, err := os.ReadFile(d.file("data/postmaster.pid"))
	if err != nil {
		return
	}
	lines := strings.Split(string(raw), "\n")
	if len(lines) < 7 {
		return
	}
	if f := strings.Fields(lines[6]); len(f) == 2 { // "key id"
		if id, err := strconv.Atoi(f[1]); err == nil {
			removeSharedMemory(id)
		}
	}
}

// tail returns the last part of the server's log.
func (d *serverDir) tail() string {
	raw, err := os.ReadFile(d.file(logFile))
	if err != nil {
		return ""
	}
	const limit = 16 << 10
	if len(raw) > limit {
		raw = raw[len(raw)-limit:]
	}
	return strings.TrimSpace(string(raw))
}
