// Package daemontest tests migrator's processes from outside: the daemon, workers, drills,
// automatic rollback and scheduled runs, on real stores.
package daemontest

import (
	"testing"

	"github.com/stranglerfig/migrator/internal/test/clitest"
	"github.com/stranglerfig/migrator/internal/test/testenv"
)

// Most tests wait for an interval of the daemon, or for a rate limit. Those that load an
// application do not: see [loadOne].
func TestMain(m *testing.M) { clitest.Main(testenv.Parallel(m, 8), nil) }

var loads = make(chan struct{}, 3)

// loadOne waits until fewer than three applications of other tests are under load: their
// latencies are judged.
func loadOne(t testing.TB) {
	t.Helper()
	loads <- struct{}{}
	t.Cleanup(func() { <-loads })
}

// operator is a person with a terminal, with the helpers of these tests.
type operator struct{ *clitest.Operator }

func newOperator(t testing.TB, name, legacy, target, rest string) *operator {
	t.Helper()
	return &operator{clitest.New(t, name, legacy, target, rest)}
}
