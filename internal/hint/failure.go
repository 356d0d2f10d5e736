package hint

import (
	"errors"
	"strings"
)

// Systems whose failures the table has.
const (
	PostgreSQL = "PostgreSQL"
	Redis      = "Redis"
	Prometheus = "Prometheus"
)

// Failure is one way in which a system that is not migrator's refuses or fails: a row of the one
// table of them. The error beside it has the system's own words.
type Failure struct {
	System string
	// Code is the SQLSTATE, the first word of Redis's reply or the HTTP status. What has no code
	// of its own has a name in small letters.
	Code string
	What string // a predicate: the server ...
	Risk string // to data

	URL    string // what the URL must have
	Server string // what to do at the system itself
	Do     Action // of migrator
	Then   string // goes with Do

	Input bool // what was given is wrong: exit code 2
}

// StateURL stands for the setting of the state database's URL in Failure.Remedy.
const StateURL = "state"

// Remedy is the hint for a failure of the system that a setting such as target.url names; "" where
// it is not known whose URL is wrong.
func (f Failure) Remedy(setting string) Hint {
	switch {
	case f.URL != "":
		or := ""
		if f.Server != "" {
			or = "; or " + f.Server
		}
		switch setting {
		case StateURL:
			return Hint{Do: SetStateURL, Text: "with " + f.URL + or}
		case "":
			return Hint{Text: "give its URL " + f.URL + or}
		}
		return Hint{Text: "give " + setting + " " + f.URL + or}
	case f.Do != "":
		then := f.Then
		if f.Server != "" {
			then = strings.TrimPrefix(then+"; at the server: "+f.Server, "; ")
		}
		return Hint{Do: f.Do, Text: then}
	}
	return Hint{Text: f.Server}
}

// Failures lists all rows.
func Failures() []Failure { return append([]Failure(nil), failures...) }

// Row is the row of a code.
func Row(system, code string) (Failure, bool) {
	for _, f := range failures {
		if f.System == system && f.Code == code {
			return f, true
		}
	}
	return Failure{}, false
}

// Foreign is err with the failure of another system that it is, and its remedy.
func Foreign(err error, f Failure, remedy Hint) error {
	if err == nil {
		return nil
	}
	return &Error{err: err, hint: remedy, failure: f}
}

// FailureOf finds the failure of another system in an error: one that Foreign gave it, else that of
// a SQLSTATE.
func FailureOf(err error) (Failure, bool) {
	if known := foreign(err); known != nil {
		return known.failure, true
	}
	var pg interface{ SQLState() string }
	if errors.As(err, &pg) {
		return Row(PostgreSQL, pg.SQLState())
	}
	return Failure{}, false
}

// foreign is the outermost error that Foreign made; nil if there is none.
func foreign(err error) *Error {
	if e, ok := err.(*Error); ok && e.failure.Code != "" { //nolint:errorlint // the tree is walked here
		return e
	}
	switch wraps := err.(type) { //nolint:errorlint // the tree is walked here
	case interface{ Unwrap() error }:
		return foreign(wraps.Unwrap())
	case interface{ Unwrap() []error }:
		for _, one := range wraps.Unwrap() {
			if e := foreign(one); e != nil {
				return e
			}
		}
	}
	return nil
}

// Risks that several rows share.
const (
	riskNone   = "none: it has not taken the command"
	riskWhole  = "none: the last statement took effect wholly or not at all"
	riskWrite  = "nothing acknowledged is lost; writes to this server fail until it is put right"
	riskClosed = "none: what can't be measured opens no gate and fires no trigger"
)

var failures = []Failure{
	// PostgreSQL, while connecting.
	{PostgreSQL, "no-host", "has a host that can't be found", riskNone, "the right host", "", "", "", false},
	{PostgreSQL, "refused", "refuses connections: no server listens there", riskNone, "the right host and port", "start the server", "", "", false},
	{PostgreSQL, "silent", "closes the connection without an answer", riskNone, "the right port, or sslmode=require", "see its log: it may take TLS alone, or be no PostgreSQL", "", "", false},
	{PostgreSQL, "timeout", "does not answer in time", riskNone, "", "see by pg_isready whether it runs and the network reaches it", Retry, "once it answers", false},
	{PostgreSQL, "28P01", "refuses the role or its password", riskNone, "the right role and password", "ALTER ROLE ... PASSWORD", "", "", true},
	{PostgreSQL, "no-login", "does not let the role in", riskNone, "a role that exists and may log in", "ALTER ROLE ... LOGIN", "", "", true},
	{PostgreSQL, "28000", "refuses how the role logs in", riskNone, "another role", "see its log and pg_hba.conf", "", "", true},
	{PostgreSQL, "no-hba", "has no line in pg_hba.conf that admits the connection", riskNone, "another role, database or host", "add a line to pg_hba.conf, and SELECT pg_reload_conf()", "", "", true},
	{PostgreSQL, "tls-demanded", "has no line in pg_hba.conf that admits the connection without encryption", riskNone, "sslmode=require, or verify-full with sslrootcert", "add a line without hostssl to pg_hba.conf", "", "", true},
	{PostgreSQL, "tls-not-spoken", "does not speak TLS", riskNone, "sslmode=disable, if the network is trusted", "set ssl = on with a certificate", "", "", true},
	{PostgreSQL, "tls-untrusted", "shows a certificate of an authority that is not trusted", riskNone, "sslrootcert=FILE, the authority's certificate", "install it in this machine's trust store", "", "", true},
	{PostgreSQL, "tls-expired", "shows a certificate that has expired, or is not valid yet", riskNone, "", "renew the server's certificate, or set this machine's clock", "", "", true},
	{PostgreSQL, "tls-name", "shows a certificate for another host's name", riskNone, "the host's name as the certificate has it", "give the server a certificate for this name", "", "", true},
	{PostgreSQL, "3D000", "has no such database", riskNone, "the right database", "CREATE DATABASE", "", "", true},
	{PostgreSQL, "53300", "has no connection left", riskNone, "", "raise max_connections, or end idle sessions: SELECT pid, usename, state FROM pg_stat_activity", Retry, "once sessions have ended", false},
	{PostgreSQL, "role-full", "has no connection left for this role or database", riskNone, "", "ALTER ROLE ... CONNECTION LIMIT, ALTER DATABASE ... CONNECTION LIMIT, or end its idle sessions", Retry, "once sessions have ended", false},
	{PostgreSQL, "57P03", "is starting up, recovering or shutting down", riskNone, "", "", Retry, "in a moment", false},
	{PostgreSQL, "08P01", "refuses what the connection asks for, as a pooler does that does not keep a session's settings", riskNone, "the server's own host and port, not the pooler's", "", "", "", true},
	{PostgreSQL, "pooler", "is a pooler that shares sessions (transaction mode)", "none: it was refused before anything was done; through it locks, notifications and the leadership would be lost unnoticed", "the server's own host and port, or those of a pool with pool_mode = session", "", "", "", true},

	// PostgreSQL, later.
	{PostgreSQL, "57P01", "closed the connection: an administrator ended the session, or the server shuts down", riskWhole, "", "", Status, "and repeat the command if it did not take effect", false},
	{PostgreSQL, "42P05", "has a prepared statement of another session", riskWhole, "the server's own host and port, not a pooler's in transaction mode", "", "", "", false},
	{PostgreSQL, "26000", "has lost a prepared statement", riskWhole, "the server's own host and port, not a pooler's in transaction mode", "", "", "", false},
	{PostgreSQL, "53100", "has no room left on a disk", riskWrite, "", "free room on the file system of its data, or in the tablespace", Retry, "once there is room", false},
	{PostgreSQL, "53200", "is out of memory or shared memory", riskWhole, "", "lower work_mem, or raise max_locks_per_transaction", Retry, "once there is memory", false},
	{PostgreSQL, "25006", "takes no writes: it is a standby, is being failed over, or default_transaction_read_only is on", "none: nothing was changed", "the primary, or all hosts and target_session_attrs=read-write", "promote the standby", "", "", false},
	{PostgreSQL, "57014", "cancelled the statement: statement_timeout, or a person", riskWhole, "", "raise statement_timeout of the role, if it is too short for the table", Retry, "when the server has less to do", false},
	{PostgreSQL, "55P03", "did not get a lock in time", riskWhole, "", "find who holds it: SELECT * FROM pg_locks WHERE granted, and pg_prepared_xacts", Retry, "once the lock is free", false},
	{PostgreSQL, "40P01", "ended the statement because of a deadlock", riskWhole, "", "", Retry, "", false},
	{PostgreSQL, "25P03", "ended a transaction that was idle for too long", riskWhole, "", "", Retry, "", false},

	// Redis, while connecting.
	{Redis, "no-host", "has a host that can't be found", riskNone, "the right host", "", "", "", true},
	{Redis, "refused", "refuses connections: no server listens there", riskNone, "the right host and port", "start the server", "", "", false},
	{Redis, "timeout", "does not answer in time", riskWhole, "", "see by redis-cli PING whether it runs and the network reaches it", Retry, "once it answers", false},
	{Redis, "silent", "closes the connection without an answer", riskNone, "the scheme rediss:// if that port takes TLS", "see its log, and raise maxclients if it is full", "", "", false},
	{Redis, "tls-demanded", "takes TLS alone at that port", riskNone, "the scheme rediss://", "", "", "", true},
	{Redis, "tls-not-spoken", "does not speak TLS at that port", riskNone, "the scheme redis://, or the port of tls-port", "set tls-port with a certificate", "", "", true},
	{Redis, "tls-untrusted", "shows a certificate of an authority that is not trusted", riskNone, "", "install the authority's certificate in this machine's trust store, or name its file in SSL_CERT_FILE", "", "", true},
	{Redis, "tls-expired", "shows a certificate that has expired, or is not valid yet", riskNone, "", "renew the server's certificate, or set this machine's clock", "", "", true},
	{Redis, "tls-name", "shows a certificate for another host's name", riskNone, "the host's name as the certificate has it", "give the server a certificate for this name", "", "", true},
	{Redis, "no-master", "is under Sentinels that know no master of that name", riskNone, "the name that redis-cli -p 26379 SENTINEL MASTERS shows", "", "", "", true},
	{Redis, "no-sentinel", "is under Sentinels that can't be reached", riskNone, "the Sentinels' hosts and ports", "start them", "", "", false},
	{Redis, "NOAUTH", "demands a password", riskNone, "the user and password", "", "", "", true},
	{Redis, "WRONGPASS", "refuses the user or its password", riskNone, "the right user and password", "ACL SETUSER", "", "", true},
	{Redis, "DENIED", "takes connections from its own machine alone (protected-mode)", riskNone, "", "set bind and requirepass, then protected-mode no", "", "", false},
	{Redis, "max-clients", "has no connection left", riskNone, "", "CONFIG SET maxclients, or end idle clients: CLIENT LIST", Retry, "once clients have ended", false},

	// Redis, later.
	{Redis, "NOPERM", "does not allow the user a command or a key", riskNone, "", "allow the user every command and key that this migration needs: plan shows the line", "", "", false},
	{Redis, "OOM", "has reached maxmemory", riskWrite, "", "CONFIG SET maxmemory to more, and keep maxmemory-policy noeviction", Retry, "once there is memory", false},
	{Redis, "READONLY", "is a replica now", "what the former master had not passed on is lost where a failover promoted this one's master: the run shows it", "the master, or the Sentinels: redis+sentinel://host:port/master", "", "", "", false},
	{Redis, "MASTERDOWN", "is a replica without its master", riskWrite, "the master, or the Sentinels: redis+sentinel://host:port/master", "", "", "", false},
	{Redis, "LOADING", "is loading its data", "what it had not saved before it stopped is lost: the daemon and a full reconcile find it", "", "", Retry, "once INFO persistence has loading:0", false},
	{Redis, "CLUSTERDOWN", "is a cluster in which a slot has no master", riskWrite, "", "see CLUSTER NODES; start or fail over the master of the missing slots", Retry, "once cluster_state is ok", false},
	{Redis, "MOVED", "is a node of a cluster, and the key is another node's", riskNone, "?cluster=true", "", "", "", true},
	{Redis, "MISCONF", "takes no writes, since it can't save to disk", "all since its last snapshot is lost if it stops now; writes to this server fail until it is put right", "", "free room where CONFIG GET dir points, then BGSAVE", Retry, "once INFO persistence has rdb_last_bgsave_status:ok", false},
	{Redis, "NOREPLICAS", "takes no writes: fewer replicas follow than min-replicas-to-write", riskWrite, "", "start the replicas", Retry, "once they follow", false},
	{Redis, "BUSY", "runs a script that does not end", riskWrite, "", "SCRIPT KILL, if it is another program's", Retry, "", false},

	// Prometheus.
	{Prometheus, "no-host", "has a host that can't be found", riskClosed, "the right host", "", "", "", false},
	{Prometheus, "refused", "refuses connections: no server listens there", riskClosed, "the right host and port", "start it", "", "", false},
	{Prometheus, "timeout", "did not answer within the timeout", riskClosed, "", "make the query cheaper by a recording rule, or give the gate a longer timeout", "", "", false},
	{Prometheus, "login", "answers with a web page in place of JSON: a login page, a proxy or another program", riskClosed, "the address that passes the login, with token_file", "", "", "", false},
	{Prometheus, "not-json", "answers with something that is not Prometheus's JSON", riskClosed, "the address of Prometheus, with its path prefix", "", "", "", false},
	{Prometheus, "empty", "answers with nothing", riskClosed, "the address of Prometheus, with its path prefix", "see the log of the proxy before it", "", "", false},
	{Prometheus, "401", "demands a login", riskClosed, "token_file, or username and password_file, beside it", "", "", "", false},
	{Prometheus, "403", "refuses the token or user", riskClosed, "a token that may query, by token_file beside it", "", "", "", false},
	{Prometheus, "404", "has no query API at that path", riskClosed, "its path prefix, such as https://host/prometheus", "", "", "", false},
	{Prometheus, "429", "takes no more queries now", riskClosed, "", "raise the limit of the proxy, or the gate's interval", "", "", false},
	{Prometheus, "503", "is not ready, or the proxy before it finds it down", riskClosed, "", "see its log, and the proxy's", "", "", false},
	{Prometheus, "tls-not-spoken", "does not speak TLS at that port", riskClosed, "http:// in place of https://", "", "", "", false},
	{Prometheus, "tls-demanded", "takes TLS alone at that port", riskClosed, "https:// in place of http://", "", "", "", false},
	{Prometheus, "tls-untrusted", "shows a certificate of an authority that is not trusted", riskClosed, "ca_file beside it, the authority's certificate", "", "", "", false},
	{Prometheus, "tls-expired", "shows a certificate that has expired, or is not valid yet", riskClosed, "", "renew its certificate, or set this machine's clock", "", "", false},
	{Prometheus, "tls-name", "shows a certificate for another host's name", riskClosed, "the host's name as the certificate has it", "", "", "", false},
}
