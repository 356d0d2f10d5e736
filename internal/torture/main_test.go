//go:build unix

package torture

import (
	"context"
	"fmt"
	"os"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/stranglerfig/migrator/internal/testenv"
)

// silent keeps go-redis from telling of every connection that a fault has cost.
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
