//go:build unix

package crash

import (
	"testing"

	"github.com/stranglerfig/migrator/internal/test/testenv"
)

// Most cases wait for a lease to expire, or for a timeout of the daemon.
func TestMain(m *testing.M) { testenv.Main(testenv.Parallel(m, 8)) }
