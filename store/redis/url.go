package redis

import (
	"crypto/tls"
	"net"
	"net/url"
	"regexp"
	"strconv"
	"strings"

	goredis "github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"

	"github.com/stranglerfig/migrator/internal/hint"
	"github.com/stranglerfig/migrator/record"
)

// urlForms is the hint of a URL that can't be read. No error contains the URL itself,
// as it may hold a password.
const urlForms = "write it as redis://[user:password@]host:port[/db], rediss://..., unix:///path/to/socket?db=0, " +
	"redis://host:port?addr=host2:port2&addr=... or ?cluster=true for a cluster, " +
	"or redis+sentinel://[user:password@]host:port,host2:port2/master[/db]; " +
	"write /, ?, #, @ and % in a password as %2F, %3F, %23, %40 and %25"

func badURL(what string) error {
	return hint.With(record.URLError("target.url: "+what), hint.Hint{Text: urlForms})
}

// dial makes a client for the URL. It does not connect. The client never reads from
// replicas: they lag, and a read must not miss an acknowledged write. grant is the command that gives
// the user its privileges; nil: not known.
func dial(raw string, grant func() string) (goredis.UniversalClient, error) {
	scheme, rest, ok := strings.Cut(raw, "://")
	if !ok {
		return nil, badURL("not a URL")
	}
	if record.SplitsPassword(raw) {
		return nil, badURL("can't be read")
	}
	switch scheme {
	case "redis", "rediss", "unix":
	case "redis+sentinel", "rediss+sentinel":
		return dialSentinel(scheme == "rediss+sentinel", rest, grant)
	default:
		if !regexp.MustCompile(`^[a-z][a-z0-9+.-]{0,20}$`).MatchString(scheme) {
			return nil, badURL("not a URL")
		}
		return nil, badURL("unknown scheme " + scheme)
	}
	u, err := url.Parse(raw)
	if err != nil {
		return nil, badURL("can't be read")
	}
	query := u.Query()
	clustered := query.Has("addr") && !query.Has("master_name")
	if query.Has("cluster") {
		yes, err := strconv.ParseBool(query.Get("cluster"))
		if err != nil {
			return nil, badURL("cluster must be true or false")
		}
		clustered = clustered || yes
		query.Del("cluster")
		u.RawQuery = query.Encode()
	}
	switch {
	case scheme == "unix" && clustered:
		return nil, badURL("a cluster has no unix socket")
	case clustered:
		return dialCluster(u, grant)
	case query.Has("master_name"):
		o, err := goredis.ParseFailoverURL(u.String())
		if err != nil {
			return nil, explain(err)
		}
		return dialFailover(o, grant)
	}
	o, err := goredis.ParseURL(u.String())
	if err != nil {
		return nil, explain(err)
	}
	// Only this package sends a command again: it knows which ones may run twice.
	o.MaxRetries, o.DialerRetries, o.ContextTimeoutEnabled = -1, 1, true
	o.MaintNotificationsConfig = &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}
	return (&withholding{grant: grant, encrypted: o.TLSConfig != nil}).client(o), nil
}

func dialCluster(u *url.URL, grant func() string) (goredis.UniversalClient, error) {
	if p := strings.Trim(u.Path, "/"); p != "" && p != "0" {
		return nil, badURL("a cluster has no database but 0")
	}
	u.Path = ""
	o, err := goredis.ParseClusterURL(u.String())
	if err != nil {
		return nil, explain(err)
	}
	// [primary-only]: a replica lags behind acknowledged writes.
	o.ReadOnly, o.RouteByLatency, o.RouteRandomly = false, false, false
	o.MaxRetries, o.DialerRetries, o.ContextTimeoutEnabled = -1, 1, true
	o.MaintNotificationsConfig = &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}
	o.NewClient = (&withholding{grant: grant, clustered: true, encrypted: o.TLSConfig != nil}).client
	return goredis.NewClusterClient(o), nil
}

func dialFailover(o *goredis.FailoverOptions, grant func() string) (goredis.UniversalClient, error) {
	// [primary-only]: as in a cluster.
	if o.RouteByLatency || o.RouteRandomly || o.ReplicaOnly {
		return nil, badURL("records are never read from replicas")
	}
	o.MaxRetries, o.DialerRetries, o.ContextTimeoutEnabled = -1, 1, true
	client := goredis.NewFailoverClient(o)
	client.AddHook(&withholding{grant: grant, encrypted: o.TLSConfig != nil})
	return client, nil
}

// dialSentinel reads [user:password@]host:port,host2:port2/master[/db][?options].
// User and password are the master's; sentinel_username and sentinel_password
// among the options are the sentinels'.
func dialSentinel(encrypted bool, rest string, grant func() string) (goredis.UniversalClient, error) {
	rest, query, _ := strings.Cut(rest, "?")
	userinfo := ""
	if at := strings.LastIndexByte(rest, '@'); at >= 0 {
		userinfo, rest = rest[:at+1], rest[at+1:]
	}
	hosts, path, _ := strings.Cut(rest, "/")
	master, db, _ := strings.Cut(path, "/")
	master, err := url.PathUnescape(master)
	if err != nil || master == "" {
		return nil, badURL("the master's name is missing behind the sentinels")
	}
	if db != "" && strings.Trim(db, "0123456789") != "" {
		return nil, badURL("the database is not a number")
	}
	var addresses []string
	for _, host := range strings.Split(hosts, ",") {
		if _, _, err := net.SplitHostPort(host); err != nil {
			host = net.JoinHostPort(host, "26379")
		}
		if strings.HasPrefix(host, ":") {
			return nil, badURL("a sentinel without a host")
		}
		addresses = append(addresses, host)
	}
	values, err := url.ParseQuery(query)
	if err != nil {
		return nil, badURL("the options can't be read")
	}
	own := url.Values{}
	for _, name := range []string{"sentinel_username", "sentinel_password"} {
		own.Set(name, values.Get(name))
		values.Del(name)
	}
	// The failover form of go-redis reads the rest; in it the user is the sentinels'.
	u, err := url.Parse("redis://" + userinfo + "localhost")
	if err != nil {
		return nil, badURL("user and password can't be read")
	}
	password, _ := u.User.Password()
	user := u.User.Username()
	u.User = nil
	values.Set("master_name", master)
	u.RawQuery = values.Encode()
	u.Path = "/" + db
	o, err := goredis.ParseFailoverURL(u.String())
	if err != nil {
		return nil, explain(err)
	}
	o.SentinelAddrs = addresses
	o.Username, o.Password = user, password
	o.SentinelUsername, o.SentinelPassword = own.Get("sentinel_username"), own.Get("sentinel_password")
	if encrypted {
		host, _, _ := net.SplitHostPort(addresses[0])
		o.TLSConfig = &tls.Config{ServerName: host, MinVersion: tls.VersionTLS12}
	}
	return dialFailover(o, grant)
}

// explain replaces a parser's error by one that contains no part of the URL except the
// name of an option.
func explain(err error) error {
	if m := regexp.MustCompile(`unexpected option: ([a-z_]{1,30})$`).FindStringSubmatch(err.Error()); m != nil {
		return badURL("unknown option " + m[1])
	}
	if strings.Contains(err.Error(), "database number") {
		return badURL("the database is not a number")
	}
	return badURL("can't be read")
}

// errNoURL refuses a target without a URL.
var errNoURL = hint.With(record.URLError("target.url is empty"), hint.Hint{Text: "set target.url or target.url_file in the migration file"})
