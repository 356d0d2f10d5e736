package testenv

import (
	"errors"
	"os"
	"path/filepath"
	"sync"
	"time"
)

// scratch is the directory of this process's temporary files.
type scratch struct {
	dir  *serverDir
	stop chan struct{}
	over chan struct{} // closed when watch has ended
}

// Scratch makes TMPDIR, and the user's cache, a directory that is swept as a server's is: what
// a killed process leaves in either is removed by the next start. [Run] calls it and removes
// the directory at its end; a TestMain that makes temporary files before Run calls it itself.
// Where locks are not supported it does nothing.
var Scratch = sync.OnceValue(func() error {
	if !supported {
		return nil
	}
	if os.Getenv("GOCACHE") == "" { // of builds: outside go test, which sets it
		if cache, err := os.UserCacheDir(); err == nil {
			_ = os.Setenv("GOCACHE", filepath.Join(cache, "go-build"))
		}
	}
	if cache, err := cacheDir(); err == nil {
		_ = os.Setenv(envCache, cache)
	}
	// On disk: programs are built in it, and memory may be mounted noexec.
	dir, err := newDir(baseIn(onDisk), "tmp")
	if err != nil {
		return err
	}
	theScratch = &scratch{dir: dir, stop: make(chan struct{}), over: make(chan struct{})}
	go theScratch.watch(os.Getppid())
	return errors.Join(os.Setenv("TMPDIR", dir.path), os.Setenv("XDG_CACHE_HOME", dir.file("cache")))
})

var theScratch *scratch // of Scratch

// watch ends this process when the go command that started it was killed: the
// result would be lost, and the servers would run until the tests' end.
func (s *scratch) watch(parent int) {
	if programOf(parent) == "go" && s.orphaned(parent) {
		_ = StopShared() // servers of single tests die with this process
		_ = s.dir.remove()
		os.Exit(1)
	}
	close(s.over)
}

// orphaned waits until the parent is gone, or until the tests are over.
func (s *scratch) orphaned(parent int) bool {
	tick := time.Tick(time.Second)
	for os.Getppid() == parent {
		select {
		case <-tick:
		case <-s.stop:
			return false
		}
	}
	return true
}

// RemoveScratch removes the directory of [Scratch], if there is one, at the end of the process.
func RemoveScratch() error {
	s := theScratch
	if s == nil {
		return nil
	}
	close(s.stop)
	<-s.over
	return s.dir.remove()
}
