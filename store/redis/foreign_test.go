package redis

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"github.com/stranglerfig/migrator/internal/hint"
	"github.com/stranglerfig/migrator/internal/test/testenv"
	"github.com/stranglerfig/migrator/record"
	"github.com/stranglerfig/migrator/store"
	"github.com/stranglerfig/migrator/store/storetest"
)

// TestForeignFailuresOfRedis: each row of the table is what a real server in that state gives, with its
// words, a risk and a remedy.
func TestForeignFailuresOfRedis(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	schema := storetest.Simple()
	m := testConfig("hash", "p", schema, storetest.TargetOptions{})
	// protected-mode (DENIED) needs a client on another machine.
	c := &foreignCheck{t, map[string]bool{"DENIED": true, "silent": true}} // silent: see the other test
	check, checks := c.failed, c.refused
	at := func(url string) *Target { return open(t, m, url, schema) }
	lsn := 0
	writes := func(target *Target) error {
		lsn++
		results, err := target.Apply(ctx, []store.Write{write(1, lsn)})
		if err == nil {
			err = results[0].Err
		}
		return err
	}
	reads := func(target *Target) error {
		_, err := target.Get(ctx, []record.Key{"1"})
		return err
	}
	// Connections.
	server := testenv.Redis(t, testenv.RedisOptions{Config: []string{"enable-debug-command yes", "user narrow on >s3cret ~p:* +get +hmget +info"}})
	admin := goredis.NewClient(must1(goredis.ParseURL(server.URL())))
	defer func() { _ = admin.Close() }()
	set := func(client *goredis.Client, name, value string) {
		t.Helper()
		ok(t, client.ConfigSet(ctx, name, value).Err())
	}
	check(reads(at("redis://no-such-host.invalid:6379")), "no-host", "no-such-host.invalid")
	check(reads(at("redis://"+server.Addr())), "NOAUTH", "NOAUTH")
	check(reads(at("redis://:s3cret@"+server.Addr())), "WRONGPASS", "WRONGPASS")
	checks(at("rediss://:s3cret@"+server.Addr()+"?dial_timeout=2s"), "tls-not-spoken", "does not speak TLS")
	narrow := at("redis://narrow:s3cret@" + server.Addr())
	check(writes(narrow), "NOPERM", "redis-cli ACL SETUSER narrow '~p:*' '~migrator:v:{*'", "+evalsha", "+hset")
	gone := testenv.Redis(t)
	ok(t, gone.Kill())
	check(reads(at(gone.URL())), "refused", "connection refused")
	checks(at(gone.URL()), "refused")

	// States of a server.
	target := at(server.URL())
	ok(t, writes(target))
	used := must1(strconv.Atoi(infoField(admin.Info(ctx, "memory").Val(), "used_memory")))
	set(admin, "maxmemory", strconv.Itoa(used/2))
	check(writes(target), "OOM", "maxmemory")
	set(admin, "maxmemory", "0")
	set(admin, "min-replicas-to-write", "1")
	check(writes(target), "NOREPLICAS")
	set(admin, "min-replicas-to-write", "0")
	set(admin, "lua-time-limit", "1")
	go func() {
		_ = goredis.NewClient(target.client.(*goredis.Client).Options()).Eval(ctx, "while true do end", nil).Err()
	}()
	var err error
	for err == nil && ctx.Err() == nil {
		err = reads(target)
	}
	check(err, "BUSY")
	ok(t, admin.Do(ctx, "SCRIPT", "KILL").Err())
	ok(t, reads(target))

	// A replica: read-only, loading, without its master.
	replica := testenv.Redis(t, testenv.RedisOptions{NoPassword: true, Config: []string{"masterauth " + server.Password(), "repl-diskless-load disabled", "key-load-delay 0"}})
	follower := goredis.NewClient(must1(goredis.ParseURL(replica.URL())))
	defer func() { _ = follower.Close() }()
	host, port, _ := strings.Cut(server.Addr(), ":")
	behind := at(replica.URL())
	set(admin, "repl-diskless-sync-delay", "0")
	pipe := admin.Pipeline()
	for i := range 5000 {
		pipe.Set(ctx, fmt.Sprint("filler", i), "x", 0)
	}
	_, err = pipe.Exec(ctx)
	ok(t, err)
	set(follower, "loading-process-events-interval-bytes", "1024")
	set(follower, "key-load-delay", "2000") // microseconds a key
	ok(t, follower.ReplicaOf(ctx, host, port).Err())
	is := func(client *goredis.Client, section, field, value string) {
		t.Helper()
		for ctx.Err() == nil && infoField(client.Info(ctx, section).Val(), field) != value {
			time.Sleep(time.Millisecond)
		}
	}
	is(follower, "persistence", "loading", "1")
	check(writes(behind), "LOADING", "loading")
	set(follower, "key-load-delay", "0")
	is(follower, "replication", "master_link_status", "up")
	check(writes(behind), "READONLY", "read only replica")
	set(follower, "replica-serve-stale-data", "no")
	ok(t, follower.ReplicaOf(ctx, "127.0.0.1", "1").Err())
	check(reads(behind), "MASTERDOWN", "down")

	// No room for a client, and a disk that takes no snapshot.
	set(follower, "replica-serve-stale-data", "yes")
	ok(t, follower.Do(ctx, "REPLICAOF", "NO", "ONE").Err())
	set(follower, "maxclients", "1")
	checks(at(replica.URL()), "max-clients", "max number of clients")
	set(follower, "maxclients", "100")
	broken := testenv.Redis(t, testenv.RedisOptions{NoPassword: true, Config: []string{"enable-protected-configs yes", "save 3600 1"}})
	disk := goredis.NewClient(must1(goredis.ParseURL(broken.URL())))
	defer func() { _ = disk.Close() }()
	set(disk, "dir", "/proc")
	ok(t, disk.BgSave(ctx).Err())
	is(disk, "persistence", "rdb_last_bgsave_status", "err")
	check(writes(at(broken.URL())), "MISCONF", "MISCONF")
	set(disk, "save", "") // else it would not end, since it can't save

	// A cluster.
	node := testenv.Redis(t, testenv.RedisOptions{NoPassword: true, Config: []string{"cluster-enabled yes"}})
	check(writes(at(node.URL())), "CLUSTERDOWN", "CLUSTERDOWN")
	cluster, err := testenv.StartRedisCluster(ctx, 3)
	ok(t, err)
	defer func() { _ = cluster.Stop(context.WithoutCancel(ctx)) }()
	first, _, _ := strings.Cut(cluster.URL(), "?")
	elsewhere := at(first)
	var moved error
	for i := 0; moved == nil && i < 100; i++ {
		_, moved = elsewhere.Get(ctx, []record.Key{record.Key(strconv.Itoa(i))})
	}
	check(moved, "MOVED", "cluster=true")

	// Sentinels.
	sentinel := testenv.Redis(t, testenv.RedisOptions{NoPassword: true})
	checks(at("redis+sentinel://127.0.0.1:1/mymaster"), "no-sentinel")
	ok(t, sentinel.Kill())
	watch, err := testenv.StartRedisSentinel(ctx)
	ok(t, err)
	defer func() { _ = watch.Stop(context.WithoutCancel(ctx)) }()
	unknown := at("redis+sentinel://" + watch.Addr() + "/other")
	checks(unknown, "no-master")
	check(reads(unknown), "no-master")
	check(writes(unknown), "no-master")

	// No answer, and none at all.
	ok(t, server.Pause())
	brief, cancel := context.WithTimeout(ctx, 200*time.Millisecond)
	defer cancel()
	_, err = target.Get(brief, []record.Key{"1"})
	check(err, "timeout")
	ok(t, server.Resume())

	for _, f := range hint.Failures() {
		if f.System == hint.Redis && !c.seen[f.Code] && !strings.HasPrefix(f.Code, "tls-") {
			t.Errorf("no server here was brought to %s", f.Code)
		}
	}
}

// foreignCheck compares errors with rows of the table.
type foreignCheck struct {
	t    *testing.T
	seen map[string]bool
}

func (c *foreignCheck) failed(err error, code string, words ...string) {
	c.t.Helper()
	c.seen[code] = true
	if err == nil {
		c.t.Errorf("%s: no error", code)
		return
	}
	f, _ := hint.FailureOf(err)
	h, _ := hint.Of(err)
	if f.Code != code || f.Risk == "" || h.IsZero() {
		c.t.Errorf("%s: %v is %q: %+v", code, err, f.Code, h)
	}
	for _, word := range words {
		if !strings.Contains(err.Error()+h.Text, word) {
			c.t.Errorf("%s: %v, %s: lacks %q", code, err, h.Text, word)
		}
	}
	if strings.Contains(err.Error()+h.Text, "s3cret") {
		c.t.Errorf("%s: %v names the password", code, err)
	}
}

// refused is what plan and doctor say of the connection.
func (c *foreignCheck) refused(target *Target, code string, words ...string) {
	c.t.Helper()
	c.seen[code] = true
	found, err := target.Check(c.t.Context())
	f, _ := hint.Row(hint.Redis, code)
	if err != nil || len(found) != 1 || !strings.Contains(found[0].Detail, f.What) || found[0].Hint.Text != f.Remedy("target.url").Text {
		c.t.Errorf("%s: %+v %v", code, found, err)
		return
	}
	for _, word := range words {
		if !strings.Contains(found[0].Detail, word) {
			c.t.Errorf("%s: %s lacks %q", code, found[0].Detail, word)
		}
	}
}

// certify makes a certificate for a host.
func certify(t *testing.T, host string, until time.Time) (cert, key string) {
	t.Helper()
	private := must1(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	about := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: "redis"}, NotBefore: time.Now().Add(-48 * time.Hour), NotAfter: until,
	}
	if ip := net.ParseIP(host); ip != nil {
		about.IPAddresses = []net.IP{ip}
	} else {
		about.DNSNames = []string{host}
	}
	public := must1(x509.CreateCertificate(rand.Reader, about, about, &private.PublicKey, private))
	secret := must1(x509.MarshalECPrivateKey(private))
	dir := t.TempDir()
	cert, key = filepath.Join(dir, "crt"), filepath.Join(dir, "key")
	ok(t, os.WriteFile(cert, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: public}), 0o600))
	ok(t, os.WriteFile(key, pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: secret}), 0o600))
	return cert, key
}

func TestForeignTLSOfRedis(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	c := &foreignCheck{t, map[string]bool{"tls-not-spoken": true}}
	cert, key := certify(t, "127.0.0.1", time.Now().Add(time.Hour))
	listener := must1(net.Listen("tcp", "127.0.0.1:0")) //nolint:noctx // to find a free port
	there := listener.Addr().String()
	_, port, _ := net.SplitHostPort(there)
	ok(t, listener.Close())
	server, err := testenv.StartRedis(ctx, testenv.RedisOptions{NoPassword: true, Config: []string{
		"tls-port " + port, "tls-cert-file " + cert, "tls-key-file " + key, "tls-ca-cert-file " + cert, "tls-auth-clients no",
	}})
	if err != nil && strings.Contains(err.Error(), "TLS") {
		t.Skipf("this Redis has no TLS: %v", err)
	}
	ok(t, err)
	defer func() { _ = server.Stop(context.WithoutCancel(ctx)) }()
	admin := goredis.NewClient(must1(goredis.ParseURL(server.URL())))
	defer func() { _ = admin.Close() }()
	schema := storetest.Simple()
	target := func(scheme string) *Target {
		return open(t, testConfig("hash", "p", schema, storetest.TargetOptions{}), scheme+"://"+there, schema)
	}
	reads := func(scheme string) error {
		_, err := target(scheme).Get(ctx, []record.Key{"1"})
		return err
	}
	c.refused(target("redis"), "tls-demanded")
	c.failed(reads("redis"), "silent")
	c.failed(reads("rediss"), "tls-untrusted", "unknown authority")
	for _, one := range []struct {
		host  string
		until time.Time
		code  string
	}{{"cache.internal", time.Now().Add(time.Hour), "tls-name"}, {"127.0.0.1", time.Now().Add(-time.Hour), "tls-expired"}} {
		cert, key := certify(t, one.host, one.until)
		ok(t, admin.Do(ctx, "CONFIG", "SET", "tls-cert-file", cert, "tls-key-file", key).Err())
		c.failed(reads("rediss"), one.code)
	}
	for _, f := range hint.Failures() {
		if f.System == hint.Redis && !c.seen[f.Code] && strings.HasPrefix(f.Code, "tls-") {
			t.Errorf("no server here was brought to %s", f.Code)
		}
	}
}

func must1[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// TestTheACLIsEnough: a user with that line and nothing else passes every check, and all that a target
// does; the server's log of refusals stays empty. Less is refused.
func TestTheACLIsEnough(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	server := testenv.Redis(t)
	admin := goredis.NewClient(must1(goredis.ParseURL(server.URL())))
	defer func() { _ = admin.Close() }()
	schema := storetest.Simple()
	for _, format := range []string{"hash", "json"} {
		ok(t, admin.FlushAll(ctx).Err())
		ok(t, admin.Do(ctx, "ACL", "SETUSER", "mover", "reset", "on", ">pw").Err())
		m := testConfig(format, "p*[x]", schema, storetest.TargetOptions{})
		target := open(t, m, "redis://mover:pw@"+server.Addr()+"/3", schema)
		line := strings.NewReplacer("'", "").Replace(strings.TrimPrefix(target.ACL(), "redis-cli "))
		var words []any
		for _, w := range strings.Fields(line) {
			words = append(words, w)
		}
		ok(t, admin.Do(ctx, words...).Err())
		ok(t, admin.Do(ctx, "ACL", "LOG", "RESET").Err())
		checked(t, target, "redis-privileges", store.Good, "every command")
		ok(t, target.Claim(ctx, store.Mark{Owner: "o"}, false))
		for i := range 3 {
			applied(t, target, write(i, 1))
		}
		applied(t, target, store.Write{Key: "1", Version: version(2), Deleted: true})
		_, err := target.Get(ctx, []record.Key{"0", "1", "9"})
		ok(t, err)
		ok(t, target.Scan(ctx, func([]store.Entry) error { return nil }))
		_, _, err = target.LookForLoss(ctx, "")
		ok(t, err)
		_, err = target.Now(ctx)
		ok(t, err)
		if log := admin.Do(ctx, "ACL", "LOG").Val(); fmt.Sprint(log) != "[]" && strings.Contains(fmt.Sprint(log), "reason:command") {
			for _, entry := range log.([]any) {
				if !strings.Contains(fmt.Sprint(entry), "client|") && !strings.Contains(fmt.Sprint(entry), "pexpiretime") { // which may be refused
					t.Errorf("%s: refused: %v", format, entry)
				}
			}
		}
	}
}
