package redis

import (
	"cmp"
	"context"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"github.com/stranglerfig/migrator/internal/hint"
	"github.com/stranglerfig/migrator/record"
	"github.com/stranglerfig/migrator/store"
)

// maxSkew is the clock difference from which Check warns.
const maxSkew = 500 * time.Millisecond

// server is what one master reports about itself.
type server struct {
	address string
	info    string
	save    string // the setting save: when snapshots are taken
	noSave  error  // why save can't be read
	fsync   string // the setting appendfsync; "": it can't be read
	sync    string // the setting min-replicas-to-write; "": it can't be read
	clients string // the setting maxclients; "": it can't be read
	skew    time.Duration
	errSkew error
}

// Check implements store.Checker.
func (t *Target) Check(ctx context.Context) ([]store.Check, error) {
	checks, err := t.CheckServer(ctx)
	if err != nil || len(checks) == 1 { // it can't be reached
		return checks, err
	}
	checks = append(append(checks, t.checkDocuments()...), t.checkMeanings()...)
	keys, err := t.checkKeys(ctx)
	if err != nil {
		return checks, err
	}
	return append(checks, keys...), nil
}

var _ store.ServerChecker = (*Target)(nil)

// CheckServer implements store.ServerChecker. Of several masters each finding names the first
// that it concerns. A setting that a managed Redis does not report is a warning.
func (t *Target) CheckServer(ctx context.Context) ([]store.Check, error) {
	servers, err := t.servers(ctx)
	if err != nil {
		err = contextError(ctx, t.whyNot(ctx, err))
		remedy, known := hint.Of(err)
		if !known {
			remedy = hint.Hint{Text: "check target.url, that Redis is running, and that this machine may reach it"}
		}
		return []store.Check{{Name: "redis-connection", Result: store.Refused, Detail: err.Error(), Hint: remedy}}, nil
	}
	checks := []store.Check{{Name: "redis-connection", Result: store.Good, Detail: "reached " + addresses(servers)}}
	for _, check := range []func(server) store.Check{t.checkMode, checkVersion, checkRole, t.checkEviction, checkMemory, checkPersistence, checkDisk, checkReplicas, checkClients, t.checkClock} {
		checks = append(checks, worst(servers, check))
	}
	return append(checks, t.checkPrivileges(ctx)), nil
}

// worst returns the worst result of a check over all servers.
func worst(servers []server, check func(server) store.Check) store.Check {
	var found store.Check
	for i, s := range servers {
		c := check(s)
		if c.Result != store.Good && len(servers) > 1 {
			c.Detail = s.address + ": " + c.Detail
		}
		if i == 0 || c.Result.WorseThan(found.Result) {
			found = c
		}
	}
	return found
}

func addresses(servers []server) string {
	list := make([]string, len(servers))
	for i, s := range servers {
		list[i] = s.address
	}
	return strings.Join(list, ", ")
}

func (t *Target) servers(ctx context.Context) ([]server, error) {
	var mu sync.Mutex
	var servers []server
	err := t.masters(ctx, func(ctx context.Context, client *goredis.Client) error {
		s := server{address: client.Options().Addr}
		var err error
		if s.info, err = client.Info(ctx).Result(); err != nil {
			return err
		}
		if s.address == sentinelAddress {
			s.address = "the master under Sentinel"
		}
		if conf, err := client.ConfigGet(ctx, "save").Result(); err != nil {
			s.noSave = err
		} else {
			s.save = conf["save"]
		}
		s.fsync = setting(ctx, client, "appendfsync")
		s.sync = setting(ctx, client, "min-replicas-to-write")
		s.clients = setting(ctx, client, "maxclients")
		sent := time.Now()
		now, err := client.Time(ctx).Result()
		s.errSkew, s.skew = err, now.Sub(sent.Add(time.Since(sent)/2))
		mu.Lock()
		defer mu.Unlock()
		servers = append(servers, s)
		return nil
	})
	return servers, err
}

// setting is "" where the server does not report it.
func setting(ctx context.Context, client *goredis.Client, name string) string {
	conf, _ := client.ConfigGet(ctx, name).Result()
	return conf[name]
}

func (t *Target) checkMode(s server) store.Check {
	c := store.Check{Name: "redis-mode", Result: store.Good, Detail: cmp.Or(infoField(s.info, "redis_mode"), infoField(s.info, "server_mode"))} // the latter is Valkey's
	switch {
	case c.Detail == "cluster" && t.cluster == nil:
		c.Result, c.Detail = store.Refused, "this is a node of a cluster, and would refuse most keys"
		c.Hint = hint.Hint{Text: "add ?cluster=true to target.url"}
	case c.Detail == "sentinel":
		c.Result, c.Detail = store.Refused, "this is a Sentinel, which holds no records"
		c.Hint = hint.Hint{Text: "write target.url as redis+sentinel://host:port/master"}
	case c.Detail == "":
		c.Result, c.Detail = store.Warned, "the server does not report whether it is part of a cluster"
	}
	return c
}

// oldestMajor is of the oldest servers that make matrix runs.
const oldestMajor = 7

// checkVersion reads Valkey's own version: its redis_version is the one of Redis that it is compatible with.
func checkVersion(s server) store.Check {
	name, text := "Redis", infoField(s.info, "redis_version")
	if own := infoField(s.info, "valkey_version"); own != "" || infoField(s.info, "server_name") == "valkey" {
		name, text = "Valkey", cmp.Or(own, text)
	}
	c := store.Check{Name: "redis-version", Result: store.Good, Detail: name + " " + text}
	var major, minor int
	if n, _ := fmt.Sscanf(text, "%d.%d", &major, &minor); n != 2 {
		c.Result, c.Detail = store.Warned, "the server does not report its version; Redis 7.0 or Valkey 7.2 or later is needed"
	} else if major < oldestMajor {
		c.Result, c.Detail, c.Hint = store.Refused, name+" "+text+" is too old; Redis 7.0 or Valkey 7.2 or later is needed", hint.Hint{Text: "upgrade " + name}
	}
	return c
}

func checkRole(s server) store.Check {
	role := infoField(s.info, "role")
	c := store.Check{Name: "redis-role", Result: store.Good, Detail: role}
	if role == "" {
		c.Result, c.Detail = store.Warned, "the server does not report whether it is a master; only a master takes writes"
	} else if role != "master" {
		c.Result, c.Detail = store.Refused, "the server is a replica ("+role+"): it refuses writes, or loses them"
		c.Hint = hint.Hint{Text: "name the master in target.url, or the Sentinels: redis+sentinel://host:port/master"}
	}
	return c
}

// checkEviction refuses policies under which Redis drops records. An evicted
// tombstone lets a late older write restore its record.
func (t *Target) checkEviction(s server) store.Check {
	policy, limit := infoField(s.info, "maxmemory_policy"), infoField(s.info, "maxmemory")
	c := store.Check{Name: "redis-eviction", Result: store.Good, Detail: "maxmemory-policy is " + policy}
	switch {
	case policy == "":
		c.Result, c.Detail = store.Warned, "the server does not report its maxmemory-policy; it must be noeviction"
		c.Hint = hint.Hint{Text: "check it where the server is configured"}
		return c
	case policy == "noeviction":
		return c
	case strings.HasPrefix(policy, "volatile-") && t.expires < 0:
		c.Result = store.Warned
		c.Detail += ": when memory is short Redis drops the versions of deleted records, and a late older write may bring one back"
	case strings.HasPrefix(policy, "volatile-"):
		c.Result = store.Refused
		c.Detail += ": when memory is short Redis drops records that have an expiry before it is over"
	default:
		c.Result = store.Refused
		c.Detail += ": when memory is short Redis drops records"
	}
	if c.Result == store.Refused && limit == "0" {
		c.Result, c.Detail = store.Warned, c.Detail+" (now no maxmemory is set)"
	}
	c.Hint = hint.Hint{Text: "redis-cli CONFIG SET maxmemory-policy noeviction, and in redis.conf"}
	return c
}

func checkPersistence(s server) store.Check {
	c := store.Check{Name: "redis-persistence", Result: store.Good, Detail: "append-only file, appendfsync always"}
	if infoField(s.info, "aof_enabled") == "1" {
		switch s.fsync {
		case "always":
		case "":
			c.Result, c.Detail = store.Warned, "append-only file; the server does not report appendfsync"
			c.Hint = hint.Hint{Text: "check it where the server is configured: from retain on, always"}
		default:
			c.Result, c.Detail = store.Warned, "append-only file, appendfsync "+s.fsync+": a crash loses the last acknowledged writes, which from retain on no other store has"
			c.Hint = hint.Hint{Text: "before retain: redis-cli CONFIG SET appendfsync always, and in redis.conf"}
		}
		return c
	}
	c.Result = store.Warned
	c.Hint = hint.Hint{Text: "redis-cli CONFIG SET appendonly yes, and in redis.conf"}
	switch {
	case s.noSave != nil:
		c.Detail = "no append-only file; the server does not report whether there are snapshots"
		c.Hint = hint.Hint{Text: "check its persistence where the server is configured"}
	case s.save != "":
		c.Detail = "snapshots alone (" + s.save + "): a crash loses acknowledged writes since the last one"
	default:
		c.Detail = "none: a restart loses every record"
	}
	return c
}

// shortFrom is the share of a limit, in per cent, from which it is nearly reached.
const shortFrom = 90

// share is how much of most is used, in per cent; false if either is no number.
func share(used, most string) (percent float64, ok bool) {
	of, err := strconv.ParseFloat(most, 64)
	is, wrong := strconv.ParseFloat(used, 64)
	return is * 100 / of, err == nil && wrong == nil && of > 0
}

// checkMemory warns before a Redis that evicts nothing refuses writes.
func checkMemory(s server) store.Check {
	used, most := infoField(s.info, "used_memory"), infoField(s.info, "maxmemory")
	c := store.Check{Name: "redis-memory", Result: store.Good, Detail: "no maxmemory is set"}
	switch percent, ok := share(used, most); {
	case used == "" || most == "":
		c.Result, c.Detail = store.Unchecked, "the server does not report how much memory it uses"
	case ok && percent >= shortFrom:
		c.Result, c.Detail = store.Warned, fmt.Sprintf("%.0f %% of maxmemory is used: at 100 %% writes are refused, or records are dropped", percent)
		c.Hint = hint.Hint{Text: "a larger maxmemory, or a larger server"}
	case ok:
		c.Detail = fmt.Sprintf("%.0f %% of maxmemory is used", percent)
	}
	return c
}

// checkClients warns before Redis refuses connections.
func checkClients(s server) store.Check {
	c := store.Check{Name: "redis-clients", Result: store.Unchecked, Detail: "the server does not report maxclients"}
	if percent, ok := share(infoField(s.info, "connected_clients"), s.clients); ok {
		c.Result, c.Detail = store.Good, fmt.Sprintf("%s of %s connections are in use", infoField(s.info, "connected_clients"), s.clients)
		if percent >= shortFrom {
			c.Result, c.Hint = store.Warned, hint.Hint{Text: "a larger maxclients, or fewer and smaller pools"}
		}
	}
	return c
}

// checkDisk reports failures of the last writes to disk: Redis refuses writes after them.
func checkDisk(s server) store.Check {
	c := store.Check{Name: "redis-disk", Result: store.Good, Detail: "the last writes to disk succeeded"}
	if infoField(s.info, "aof_last_write_status") == "" && infoField(s.info, "rdb_last_bgsave_status") == "" {
		c.Result, c.Detail = store.Unchecked, "the server does not report its writes to disk"
	}
	for _, w := range []struct{ field, what string }{
		{"aof_last_write_status", "the last write of the append-only file"},
		{"aof_last_bgrewrite_status", "the last rewrite of the append-only file"},
		{"rdb_last_bgsave_status", "the last snapshot"},
	} {
		if infoField(s.info, w.field) == "err" {
			c.Result, c.Detail = store.Warned, w.what+" failed: a restart loses what it would have saved, and Redis may refuse writes"
			if w.field == "aof_last_write_status" {
				c.Result, c.Detail = store.Refused, w.what+" failed: Redis refuses writes"
			}
			c.Hint = hint.Hint{Text: "see the server's log; free disk space"}
			break
		}
	}
	return c
}

// checkReplicas warns of replicas that a failover may promote without the last writes.
func checkReplicas(s server) store.Check {
	c := store.Check{Name: "redis-replicas", Result: store.Good, Detail: "min-replicas-to-write is " + s.sync}
	switch replicas := infoField(s.info, "connected_slaves"); {
	case replicas == "0" || replicas == "":
		c.Detail = "no replica is connected"
	case s.sync == "":
		c.Result, c.Detail = store.Warned, replicas+" replicas; the server does not report min-replicas-to-write"
		c.Hint = hint.Hint{Text: "check it where the server is configured: from retain on, 1 at least"}
	case s.sync == "0":
		c.Result, c.Detail = store.Warned, replicas+" replicas, and min-replicas-to-write is 0: a master that is cut off takes writes that are lost when a replica is promoted"
		c.Hint = hint.Hint{Text: "before retain: redis-cli CONFIG SET min-replicas-to-write 1, and in redis.conf"}
	}
	return c
}

func (t *Target) checkClock(s server) store.Check {
	c := store.Check{Name: "redis-clock", Result: store.Good, Detail: "within " + maxSkew.String() + " of this machine's"}
	switch {
	case s.errSkew != nil:
		c.Result, c.Detail = store.Refused, "TIME is refused: "+s.errSkew.Error()
		c.Hint = hint.Hint{Text: t.ACL()}
	case s.skew.Abs() > maxSkew:
		c.Result = store.Warned
		c.Detail = s.skew.Round(time.Millisecond).String() + " from this machine's: writes are refused earlier or later than their deadline"
		c.Hint = hint.Hint{Text: "synchronise both clocks (NTP)"}
	}
	return c
}

// probe runs every command that writes need on a key of the template that is probably free; true if
// it was taken.
func (t *Target) probe(ctx context.Context) (taken bool, err error) {
	parts := make([]string, len(t.schema.Key))
	for part, at := range t.template.keyed {
		parts[part] = t.template.columns[at].shape.unusual()
	}
	key, sidecarKey, err := t.names(record.MakeKey(parts...))
	if err != nil {
		return false, err
	}
	probe := &command{key: key, script: probeScript, keys: []string{key, sidecarKey}}
	t.send(ctx, []*command{probe})
	return probe.err == nil && probe.value == "taken", probe.err
}

// checkPrivileges runs every command that writes need, in one script that removes
// what it wrote.
func (t *Target) checkPrivileges(ctx context.Context) store.Check {
	c := store.Check{Name: "redis-privileges", Result: store.Good, Detail: "scripts may run every command that writes need"}
	const tries = 20
	var err error
	taken := true
	for try := 0; taken && err == nil && try < tries; try++ {
		taken, err = t.probe(ctx)
	}
	if taken {
		c.Result, c.Detail = store.Warned, "scripts may run; their commands were not tried, as every key that was tried exists"
	}
	if err != nil {
		c.Result, c.Detail = store.Refused, err.Error()
		if c.Hint, _ = hint.Of(err); c.Hint.IsZero() {
			c.Hint = hint.Hint{Text: t.ACL()}
		}
	}
	return c
}
