//go:build unix

package torture

import (
	"context"
	"fmt"
	"os"
	"testing"

	"github.com/stranglerfig/migrator/internal/testenv"
)

// envRole makes the test binary an instance of the application.
const envRole = "TORTURE_ROLE"

func TestMain(m *testing.M) {
	if os.Getenv(envRole) == "instance" {
		if err := serveInstance(context.Background()); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	testenv.Main(m)
}
