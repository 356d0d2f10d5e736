// Package daemontest tests migrator's processes from outside: the daemon, workers, drills,
// automatic rollback and scheduled runs, on real stores.
package daemontest

import (
	"testing"

	"github.com/stranglerfig/migrator/internal/test/clitest"
)

func TestMain(m *testing.M) { clitest.Main(m, nil) }

// operator is a person with a terminal, with the helpers of these tests.
type operator struct{ *clitest.Operator }

func newOperator(t testing.TB, name, legacy, target, rest string) *operator {
	t.Helper()
	return &operator{clitest.New(t, name, legacy, target, rest)}
}
