//go:build unix

package torture

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/stranglerfig/migrator/dual"
)

// shape is the policy and the target of a run.
type shape struct {
	policy dual.Policy // on_target_failure
	target string      // redis or postgres
}

func (s shape) String() string { return fmt.Sprintf("policy=%s/target=%s", s.policy, s.target) }

// writeMigrationFile writes testdata/cells.yaml with this shape's settings.
func (s shape) writeMigrationFile(dir string) (path string, err error) {
	text, err := os.ReadFile("testdata/cells.yaml")
	if err != nil {
		return "", err
	}
	swap := func(from, to string) {
		if strings.Count(string(text), from) != 1 && err == nil {
			err = fmt.Errorf("testdata/cells.yaml: want %q once", from)
		}
		text = []byte(strings.Replace(string(text), from, to, 1))
	}
	swap("on_target_failure: rollback", "on_target_failure: "+string(s.policy))
	if s.target == "postgres" {
		swap("store: redis", "store: postgres")
		swap("key: cell:{id}", "table: cells")
	}
	if err != nil {
		return "", err
	}
	path = filepath.Join(dir, "cells.yaml")
	return path, os.WriteFile(path, text, 0o600)
}

// server is a process that runs a store or the state database.
type server interface {
	Addr() string
	URL() string
	Kill() error
	Pause() error
	Resume() error
	Restart(ctx context.Context) error
}

// machine is a server with its name. It has one fault at a time.
type machine struct {
	server
	name string
	mu   sync.Mutex
}

// withConnectTimeout bounds how long PostgreSQL's client waits for a connection; Redis's
// client has a bound of its own.
func withConnectTimeout(url string) string {
	if strings.HasPrefix(url, "postgres") {
		return url + "&connect_timeout=2"
	}
	return url
}
