//go:build unix

package crash

import (
	"flag"
	"os"
	"testing"

	"github.com/stranglerfig/migrator/internal/test/testenv"
)

// TestMain runs more cases in parallel than there are processors: most wait for a lease to
// expire, or for a timeout of the daemon.
func TestMain(m *testing.M) {
	flag.Parse()
	chosen := false
	flag.Visit(func(f *flag.Flag) { chosen = chosen || f.Name == "test.parallel" })
	if !chosen {
		if err := flag.Set("test.parallel", "8"); err != nil {
			_, _ = os.Stderr.WriteString(err.Error() + "\n")
			os.Exit(1)
		}
	}
	testenv.Main(m)
}
