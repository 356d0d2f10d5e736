package cases

import (
	"testing"

	"github.com/stranglerfig/migrator/internal/test/testenv"
)

func TestMain(m *testing.M) { testenv.Main(m) }
