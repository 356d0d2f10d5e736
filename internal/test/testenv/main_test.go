package testenv

import (
	"os"
	"testing"
)

// TestMain can also be the owner that the sweep test kills: see sweep_test.go.
func TestMain(m *testing.M) {
	if role := os.Getenv("TESTENV_ROLE"); role != "" {
		beOwner(role)
	}
	Main(m)
}
