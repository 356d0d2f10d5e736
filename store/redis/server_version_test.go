package redis

import (
	"strings"
	"testing"

	"github.com/stranglerfig/migrator/store"
)

// TestServersAreRecognised: Valkey reports the version of Redis that it is compatible with, and since 8 its mode under
// another name.
func TestServersAreRecognised(t *testing.T) {
	t.Parallel()
	for info, want := range map[string]struct {
		result store.CheckResult
		detail string
	}{
		"redis_version:7.0.15\r\nredis_mode:standalone":                                               {store.Good, "Redis 7.0.15"},
		"redis_version:6.2.14\r\nredis_mode:standalone":                                               {store.Refused, "Redis 6.2.14 is too old; Redis 7.0"},
		"redis_version:7.2.4\r\nserver_name:valkey\r\nvalkey_version:9.1.2\r\nserver_mode:standalone": {store.Good, "Valkey 9.1.2"},
		"redis_version:7.2.4\r\nserver_name:valkey\r\nvalkey_version:7.2.5\r\nredis_mode:standalone":  {store.Good, "Valkey 7.2.5"},
		"server_name:other": {store.Warned, "does not report its version"},
	} {
		if c := checkVersion(server{info: info}); c.Result != want.result || !strings.Contains(c.Detail, want.detail) {
			t.Errorf("%q: %+v", info, c)
		}
	}
	target := &Target{}
	if c := target.checkMode(server{info: "server_mode:cluster"}); c.Result != store.Refused || !strings.Contains(c.Detail, "node of a cluster") {
		t.Errorf("a node of a cluster of Valkey: %+v", c)
	}
	if c := target.checkMode(server{info: "server_mode:standalone"}); c.Result != store.Good {
		t.Errorf("%+v", c)
	}
	if c := checkRole(server{info: "redis_version:7.0.0"}); c.Result != store.Warned || strings.Contains(c.Detail, "()") {
		t.Errorf("without a role: %+v", c)
	}
}
