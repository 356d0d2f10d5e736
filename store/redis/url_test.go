package redis

import (
	"strings"
	"testing"

	goredis "github.com/redis/go-redis/v9"

	"github.com/stranglerfig/migrator/migration"
	"github.com/stranglerfig/migrator/record"
	"github.com/stranglerfig/migrator/store/storetest"
)

func TestURLForms(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ url, kind string }{
		{"redis://localhost", "single"},
		{"redis://:s3cret@[::1]:6380/5?read_timeout=2s", "single"},
		{"rediss://user:s3cret@example.com:6380", "single"},
		{"unix:///run/redis.sock?db=2", "single"},
		{"redis://a:1?addr=b:2&addr=c:3", "cluster"},
		{"rediss://u:s3cret@a:1/0?cluster=true", "cluster"},
		{"redis://a:1?cluster=false", "single"},
		{"redis+sentinel://a:1,b:2,c/mymaster/3", "single"},
		{"rediss+sentinel://user:s3cret@a:1/my%2Fmaster?sentinel_password=x&dial_timeout=1s", "single"},
		{"redis://a:1?master_name=mymaster", "single"},
	} {
		client, err := dial(c.url, nil)
		if err != nil {
			t.Errorf("%s: %v", c.url, err)
			continue
		}
		kind := "single"
		if _, ok := client.(*goredis.ClusterClient); ok {
			kind = "cluster"
		}
		if kind != c.kind {
			t.Errorf("%s: %s, want %s", c.url, kind, c.kind)
		}
		ok(t, client.Close())
	}
}

// TestReplicasAreNeverRead, whatever the URL says.
func TestReplicasAreNeverRead(t *testing.T) {
	t.Parallel()
	const options = "read_only=true&route_randomly=true&route_by_latency=true"
	client, err := dial("redis://a:1?addr=b:2&"+options, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = client.Close() }()
	if o := client.(*goredis.ClusterClient).Options(); o.ReadOnly || o.RouteByLatency || o.RouteRandomly {
		t.Errorf("of a cluster: %t, %t, %t", o.ReadOnly, o.RouteByLatency, o.RouteRandomly)
	}
	for _, option := range strings.Split(options, "&") {
		client, err := dial("redis://a:1?master_name=mymaster&"+strings.Replace(option, "read_only", "replica_only", 1), nil)
		if err == nil {
			_ = client.Close()
			t.Errorf("behind sentinels: %s is taken", option)
		}
	}
}

func TestURLErrorsContainNoSecret(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ url, want string }{
		{"s3cret", "not a URL"},
		{"s3cret@host://x", "not a URL"},
		{"postgres://u:s3cret@h/db", "unknown scheme postgres"},
		{"redis://:p/s3cret@host:6379", "can't be read"},
		{"redis://u:p?s3cret@host:6379", "can't be read"},
		{"redis://user:12/s3cret@host:6379", "can't be read"},
		{"redis://u:p#s3cret@host:6379", "can't be read"},
		{"redis://u:%s3cret@host:6379", "can't be read"},
		{"redis://:s3cret@host/s3cret", "the database is not a number"},
		{"redis://:s3cret@host/1/2", "can't be read"},
		{"redis://:s3cret@host?read_timeout=s3cret", "can't be read"},
		{"redis://:s3cret@host?retries=5", "unknown option retries"},
		{"redis://:s3cret@host?cluster=s3cret", "cluster must be true or false"},
		{"redis://:s3cret@host/7?addr=b:1", "no database but 0"},
		{"redis://:s3cret@host?addr=s3cret", "can't be read"},
		{"unix://?cluster=true", "no unix socket"},
		{"unix://:s3cret@", "can't be read"},
		{"redis+sentinel://u:s3cret@a:1", "the master's name is missing"},
		{"redis+sentinel://u:s3cret@a:1/m/s3cret", "the database is not a number"},
		{"redis+sentinel://:26379/m", "without a host"},
		{"redis+sentinel://u:%s3cret@a:1/m", "user and password can't be read"},
		{"redis+sentinel://a:1/m?replica_only=true", "never read from replicas"},
		{"redis+sentinel://a:1/m?s3cret=%zz", "options can't be read"},
	} {
		client, err := dial(c.url, nil)
		if err == nil {
			_ = client.Close()
			t.Errorf("%s: no error", c.url)
			continue
		}
		if !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "s3cret") {
			t.Errorf("%s: %v\nwant %s", c.url, err, c.want)
		}
	}
}

func FuzzURL(f *testing.F) {
	for _, s := range []string{"redis://u:p@h:1/2?addr=x:1", "redis+sentinel://u:p@a:1,b:2/m/1?x=y", "unix:///x", "redis://[::1]:0"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if strings.Contains(s, "min_idle") { // which would connect
			return
		}
		client, err := dial(s, nil)
		if err == nil {
			_ = client.Close()
		}
	})
}

func TestOpenRefuses(t *testing.T) {
	t.Parallel()
	base := TargetConfig{KeyTemplate: "p:{id}"}
	for _, c := range []struct {
		change func(m *TargetConfig, s *record.Schema)
		url    string
		want   string
	}{
		{func(m *TargetConfig, _ *record.Schema) { m.Format = "protobuf" }, "redis://h", `target.format "protobuf": want hash or json`},
		{func(m *TargetConfig, _ *record.Schema) { m.Expires = "nope" }, "redis://h", `target.expires: there is no column "nope"`},
		{func(m *TargetConfig, _ *record.Schema) { m.Expires = "name" }, "redis://h", `want timestamp or timestamptz`},
		{func(m *TargetConfig, _ *record.Schema) { m.VersionField = "name" }, "redis://h", `reserved for the version`},
		{func(_ *TargetConfig, s *record.Schema) { s.Fields[1].Target = "_v" }, "redis://h", `reserved for the version`},
		{func(_ *TargetConfig, s *record.Schema) { s.Fields[1].Target = "amount" }, "redis://h", `would both be named "amount"`},
		{func(m *TargetConfig, _ *record.Schema) { m.KeyTemplate = "" }, "redis://h", `key column "id" is missing`},
		{func(*TargetConfig, *record.Schema) {}, "", "target.url is empty"},
		{func(*TargetConfig, *record.Schema) {}, "http://h", "unknown scheme http"},
	} {
		own, schema := base, storetest.Simple()
		c.change(&own, schema)
		m := &migration.Config{Target: migration.Target{Part: &own}}
		if _, err := Open(t.Context(), m, c.url, schema); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v, want %s", err, c.want)
		}
	}
}
