package preflight

import (
	"strings"
	"testing"

	"github.com/stranglerfig/migrator/internal/state"
	"github.com/stranglerfig/migrator/store"
)

// TestSessionsAreComparedWithTheServer: what is at work, what is used by others, and twelve for commands must
// fit; of 60 instances a server of 100 has none left.
func TestSessionsAreComparedWithTheServer(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		n      state.Sessions
		result store.CheckResult
		says   string
	}{
		{state.Sessions{Limit: 97, Used: 3}, store.Good, "room for about 41 more instances"},
		{state.Sessions{Limit: 97, Used: 60, Instances: 20, Daemons: 2}, store.Good, "room for about 12 more instances"},
		{state.Sessions{Limit: 97, Used: 97, Instances: 60, Daemons: 0}, store.Warned, "60 instances, 0 daemons and commands need 132"},
		{state.Sessions{Limit: 97, Used: 90}, store.Warned, "90 in use of 97"},
		{state.Sessions{Limit: 97, Used: 10, Instances: 1, Daemons: 1}, store.Good, "1 instance, 1 daemon and"},
	} {
		got := sessions(c.n)
		if got.Result != c.result || !strings.Contains(got.Detail, c.says) {
			t.Errorf("%+v: %s, %s", c.n, got.Result, got.Detail)
		}
	}
}
