package cases

import (
	"context"
	"testing"

	goredis "github.com/redis/go-redis/v9"

	"github.com/stranglerfig/migrator/internal/test/testenv"
)

func TestMain(m *testing.M) {
	goredis.SetLogger(silent{}) // servers are killed here
	testenv.Main(m)
}

type silent struct{}

func (silent) Printf(context.Context, string, ...any) {}
