package runbook_test

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/stranglerfig/migrator/internal/state/runbooks"
	"github.com/stranglerfig/migrator/runbook"
)

// nameserver answers for shop.example on loopback. Its answers for old.* are not
// authoritative.
func nameserver(t *testing.T) string {
	t.Helper()
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	must(t, err)
	zone := map[string][]string{
		"db.shop.example.":   {"db.shop.example. 30 IN A 127.0.0.1"},
		"slow.shop.example.": {"slow.shop.example. 7200 IN A 127.0.0.2"},
		"via.shop.example.":  {"via.shop.example. 600 IN CNAME db.shop.example.", "db.shop.example. 1 IN A 127.0.0.1"},
		"old.shop.example.":  {"old.shop.example. 17 IN A 127.0.0.3"},
	}
	server := &dns.Server{PacketConn: conn, Handler: dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) {
		a := new(dns.Msg)
		a.SetReply(q)
		a.Authoritative = !strings.HasPrefix(q.Question[0].Name, "old.")
		lines, known := zone[q.Question[0].Name]
		if !known {
			a.Rcode = dns.RcodeNameError
		}
		if q.Question[0].Qtype == dns.TypeA {
			for _, line := range lines {
				rr, err := dns.NewRR(line)
				if err != nil {
					t.Error(err)
				}
				a.Answer = append(a.Answer, rr)
			}
		}
		_ = w.WriteMsg(a)
	})}
	started := make(chan struct{})
	server.NotifyStartedFunc = func() { close(started) }
	go func() { _ = server.ActivateAndServe() }()
	<-started
	t.Cleanup(func() { _ = server.Shutdown() })
	return conn.LocalAddr().String()
}

func TestLookupTTL(t *testing.T) {
	t.Parallel()
	server := nameserver(t)
	for host, want := range map[string]string{
		"db.shop.example":   "db.shop.example is 127.0.0.1, TTL 30s",
		"slow.shop.example": "slow.shop.example is 127.0.0.2, TTL 2h",
		"via.shop.example":  "via.shop.example is 127.0.0.1, TTL 1s",
		"old.shop.example":  "old.shop.example is 127.0.0.3, TTL 17s in one resolver's cache; other resolvers may cache it for longer",
	} {
		ttl, err := runbook.LookupTTL(t.Context(), server, host)
		if err != nil || ttl.String() != want {
			t.Errorf("%s, %v, want %s", ttl, err, want)
		}
	}
	if _, err := runbook.LookupTTL(t.Context(), server, "no.shop.example"); err == nil || !strings.Contains(err.Error(), "NXDOMAIN") {
		t.Errorf("%v", err)
	}
}

func TestDNSStepRefusesLongTTL(t *testing.T) {
	t.Parallel()
	server := nameserver(t)
	r := parse(t, "```dns {#ok .check max_ttl=1m server="+server+"}\ndb.shop.example\nvia.shop.example\n```\n"+
		"```dns {#long .check max_ttl=1m server="+server+"}\ndb.shop.example slow.shop.example\n```\n"+
		"```dns {#over .wait timeout=1m server="+server+"}\nvia.shop.example\n```\n")
	tools := &runbook.Executors{Book: r}
	quiet := func(string) {}
	if d, err := tools.Do(t.Context(), r.Named("ok"), quiet); err != nil || strings.Count(d.Output, "\n") != 2 {
		t.Errorf("%+v, %v", d, err)
	}
	var not *runbook.NotMetError
	if _, err := tools.Do(t.Context(), r.Named("long"), quiet); !errors.As(err, &not) || !strings.Contains(err.Error(), "slow.shop.example has a TTL of 2h, above 1m") {
		t.Errorf("%v", err)
	}
	began := time.Now()
	if _, err := tools.Do(t.Context(), r.Named("over"), quiet); err != nil || time.Since(began) < time.Second {
		t.Errorf("after %s: %v", time.Since(began), err)
	}
}

func TestVerifyReportsProblemsWithoutRunning(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	server := nameserver(t)
	_, err := b.store.Pool().Exec(t.Context(), `CREATE TABLE things (id int PRIMARY KEY); INSERT INTO things VALUES (1); CREATE ROLE `+b.role()+` LOGIN PASSWORD 'pw'; GRANT SELECT ON things TO `+b.role())
	must(t, err)
	t.Cleanup(func() { b.dropRole() })
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	gone := closed.Addr().String()
	must(t, closed.Close())
	r, err := runbook.Parse("test.md", []byte(strings.Replace(front, "---\n\n", "connections: {weak: {env: WEAK_URL}}\n---\n\n", 1)+
		"```sh {#programs .action undo=none}\nf() { :; }\nf; touch made; if true; then echo x | grep x; fi\n```\n"+
		"```sh {#no-program .check}\nno-such-program --now | cat\n```\n"+
		"```sql {#may .action on=state undo=none}\nDELETE FROM things;\n```\n"+
		"```sql {#may-not .action on=weak undo=none}\nDELETE FROM things\n```\n"+
		"```sql {#reads .check on=weak}\nSELECT true FROM things\n```\n"+
		"```sql {#several .action on=state undo=none}\nDELETE FROM things; SELECT 1;\n```\n"+
		"```sql {#no-table .check on=state}\nSELECT true FROM nothing\n```\n"+
		"```migrator {#command .action undo=none}\nmigrator phase rollback --yes\n```\n"+
		"```migrator {#no-command .check}\nmigrator phase frobnicate\n```\n"+
		"```http {#gone .action undo=none}\nPOST http://"+gone+"/purge\n```\n"+
		"```dns {#ttl .wait max_ttl=1m server="+server+"}\nslow.shop.example\n```\n"+
		"```text {#approver .approve role=empty_role}\nShall we?\n```\n"+
		"```promql {#prom .check below=1}\nup\n```\n"), nil)
	must(t, err)
	tools := b.executors(r, runbooks.Run{UID: "verify"})
	p := b.prober()
	got := map[string]string{}
	for _, c := range tools.Verify(t.Context(), p) {
		got[c.Name] = string(c.Result) + ": " + c.Detail
	}
	for id, want := range map[string]string{
		"programs": "ok: the shell reads it, and finds touch, grep", "no-program": "refused: no-such-program: no such program",
		"may": "ok: state can run it", "may-not": "refused: weak: permission denied for table things", "reads": "ok: weak can run it",
		"several": "warning: state answers; several statements", "no-table": `refused: state: relation "nothing" does not exist`,
		"command": "ok: ", "no-command": "refused: migrator phase frobnicate", "gone": "refused: ", "ttl": "refused: slow.shop.example has a TTL",
		"approver": "refused: the role empty_role has no member", "prom": "refused: the migration file names no Prometheus",
	} {
		if !strings.HasPrefix(got[id], want) {
			t.Errorf("%s: %q, want %q", id, got[id], want)
		}
	}
	var left int
	must(t, b.store.Pool().QueryRow(t.Context(), `SELECT count(*) FROM things`).Scan(&left))
	if _, err := os.Stat(filepath.Join(b.dir, "made")); err == nil || left != 1 {
		t.Errorf("a step ran: %v, %d things are left", err, left)
	}
}
