// Package daemontest tests migrator's processes from outside: the daemon, workers, drills,
// automatic rollback and scheduled runs, on real stores.
package daemontest

import (
	"encoding/json"
	"testing"

	"github.com/stranglerfig/migrator/internal/test/clitest"
	"github.com/stranglerfig/migrator/internal/test/testenv"
)

// Most tests wait for an interval of the daemon, or for a rate limit. Those that load an
// application do not: see [loadOne].
func TestMain(m *testing.M) { clitest.Main(testenv.Parallel(m, 8), nil) }

var loads = make(chan struct{}, 3)

// loadOne waits until fewer than three applications of other tests are under load: their
// latencies are judged.
func loadOne(t testing.TB) {
	t.Helper()
	loads <- struct{}{}
	t.Cleanup(func() { <-loads })
}

// operator is a person with a terminal, with the helpers of these tests.
type operator struct{ *clitest.Operator }

func newOperator(t testing.TB, name, legacy, target, rest string) *operator {
	t.Helper()
	return &operator{clitest.New(t, name, legacy, target, rest)}
}

// token grants a role, which it creates, the rights of a kind, and makes a token of it.
func (o *operator) token(role, kind string) (token string, id int64) {
	o.T.Helper()
	o.SQL(o.State, `DO $$ BEGIN IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = '`+role+`') THEN CREATE ROLE `+role+`; END IF; END $$`)
	o.T.Cleanup(func() { o.SQL(o.State, `DROP OWNED BY `+role+` CASCADE; DROP ROLE `+role) })
	o.Does("init --grant-" + kind + " " + role + " --migration items")
	var made struct {
		ID    int64  `json:"id"`
		Token string `json:"token"`
	}
	code, stdout, stderr := o.Try("token", "create", "--role", role, "-o", "json")
	if err := json.Unmarshal([]byte(stdout), &made); err != nil || code != 0 {
		o.T.Fatalf("token create: %d %s %s", code, stdout, stderr)
	}
	return made.Token, made.ID
}
