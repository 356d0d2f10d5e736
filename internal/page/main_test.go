package page_test

import (
	"testing"

	"github.com/stranglerfig/migrator/internal/test/statetest"
	"github.com/stranglerfig/migrator/internal/test/testenv"
)

func TestMain(m *testing.M) { testenv.Main(m) }

func stateURL(t testing.TB) string {
	t.Helper()
	return statetest.URL(t)
}
