package daemon_test

import (
	"testing"

	"go.uber.org/goleak"

	"github.com/stranglerfig/migrator/internal/test/testenv"
)

// servers lets goleak run the tests inside testenv's servers.
type servers struct{ m *testing.M }

func (s servers) Run() int { return testenv.Run(s.m) }

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(servers{m}, goleak.IgnoreAnyFunction("github.com/stranglerfig/migrator/internal/test/testenv.spawnLoop"))
}
