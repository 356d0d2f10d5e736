//go:build failpoints

// Package failpoint kills the process between two durable steps, by SIGKILL, in binaries built
// with the tag failpoints.
package failpoint

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
)

var (
	mu     sync.Mutex
	visits = map[string]int{}
)

// Here kills the process like kill -9 if the environment's MIGRATOR_FAILPOINT is the name, or
// name:3 for the third visit. Every visit appends the name as a line to the file that
// MIGRATOR_FAILPOINT_LOG names, if it is set; the file is created. Here does not return if it
// kills the process.
func Here(name string) {
	mu.Lock()
	defer mu.Unlock()
	visits[name]++
	if path := os.Getenv("MIGRATOR_FAILPOINT_LOG"); path != "" {
		note(path, name)
	}
	at, text, numbered := strings.Cut(os.Getenv("MIGRATOR_FAILPOINT"), ":")
	visit := 1
	if numbered {
		var err error
		if visit, err = strconv.Atoi(text); err != nil {
			panic(fmt.Sprintf("MIGRATOR_FAILPOINT: %q is no number of a visit", text))
		}
	}
	if at != name || visits[name] != visit {
		return
	}
	self, err := os.FindProcess(os.Getpid())
	if err == nil {
		err = self.Kill()
	}
	if err != nil {
		panic(fmt.Sprintf("failpoint %s: %v", name, err))
	}
	select {} // the signal may arrive a moment later; nothing more may run until then
}

func note(path, name string) {
	f, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err == nil {
		_, err = f.WriteString(name + "\n")
		err = errors.Join(err, f.Close())
	}
	if err != nil {
		panic(fmt.Sprintf("MIGRATOR_FAILPOINT_LOG: %v", err))
	}
}
