//go:build unix

package torture

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/stranglerfig/migrator/internal/test/testenv"
)

// silent keeps go-redis from logging every connection that a fault has closed.
type silent struct{}

func (silent) Printf(context.Context, string, ...any) {}

// envRole makes the test binary an instance of the application.
const envRole = "TORTURE_ROLE"

func TestMain(m *testing.M) {
	if os.Getenv(envRole) == "instance" {
		redis.SetLogger(silent{})
		if err := serveInstance(context.Background()); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	redis.SetLogger(silent{})
	testenv.Main(m)
}

// program builds migrator once for all worlds, and returns its path.
var program = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "migrator-torture-")
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, "migrator")
	out, err := exec.Command("go", "build", "-o", path, "../../../cmd/migrator").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("build migrator: %w\n%s", err, out)
	}
	return path, nil
})
