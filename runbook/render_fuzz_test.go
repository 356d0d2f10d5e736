package runbook_test

import (
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stranglerfig/migrator/internal/openstore"
	"github.com/stranglerfig/migrator/migration"
	"github.com/stranglerfig/migrator/runbook"
)

// around is a migration file whose section runbook has these texts.
func around(contact, role, region, database, host, query, url, command string) string {
	q := func(s string) string {
		return strings.ReplaceAll(strconv.QuoteToASCII(strings.ToValidUTF8(s, "?")), "$", "$$")
	}
	return "name: products\nenvironment: staging\nlegacy: {store: postgres, url: 'postgres://h/db', table: products}\n" +
		"target: {store: redis, url: 'redis://h', key: 'product:{id}', format: hash}\n" +
		"prometheus: {url: 'http://p:9090'}\nphases: {approval: {role: " + q(role) + "}}\n" +
		"runbook:\n  contact: " + q(contact) + "\n  regions: [" + q(region) + "]\n" +
		"  pgbouncers: [{name: pool, region: " + q(region) + ", url_file: /x, pause: true, databases: [" + q(database) + "]}]\n" +
		"  services: [{name: checkout, region: " + q(region) + ", drain: " + q(command) + ", health: " + q(url) + "}]\n" +
		"  caches: [{name: cdn, url: " + q(url) + "}]\n" +
		"  dns: {hosts: [" + q(host) + "], max_ttl: 60s}\n" +
		"  success: [{name: low, promql: " + q(query) + ", below: 0.5}]\n"
}

// steps are the rendered runbooks' steps, with what a shell would run.
func steps(t *testing.T, m *migration.Config, f runbook.Facts) (all []string) {
	t.Helper()
	for _, name := range runbook.Rendered {
		out, err := runbook.Render(name, m, f)
		if err != nil {
			t.Fatal(err)
		}
		b, err := runbook.Parse(name+".md", out, runbook.Values(m))
		if err != nil {
			t.Fatalf("a valid migration file renders a runbook that is refused: %v\n%s", err, out)
		}
		for _, s := range b.Steps {
			text := name + " " + string(s.Kind) + " " + s.Language
			if s.Language == "sh" {
				text += " " + s.Body
			}
			all = append(all, text)
		}
	}
	return all
}

// FuzzRender: no text that a migration file may hold, no role's name and no answer of a DNS
// server adds a step to a rendered runbook, or changes what a step runs.
func FuzzRender(f *testing.F) {
	f.Add("#shop", "deciders", "eu", "shop", "host.example", "ann", "up", "http://x/y", "true", "why")
	f.Add("a\n\n```sh {#x .action undo=none}\nid\n```\n", "r", "eu", "sho'p", "h", "b`ob", "up", "http://x/ y", "true", "x\n```")
	f.Add("c", "r\n\n```sh {#r .action undo=none}\nid\n```\n", "eu", "shop", "h.example", "z\n```sh {#e .action undo=none}\nid\n```\n", "up", "http://x/y", "true", "")
	f.Add("c\n\n~~~sh {#e .action undo=none}\nid\n~~~\n", "`${legacy.table}`", "eu", "shop", "h.example", "ann", "up", "http://x/y", "true", "")
	f.Add("c", "r", "eu", "shop", "h.example", "ann", "up", "http://x/y", "true\n~~~\n#", "the server says\n\n```sh {#e .action undo=none}\nid\n```\n")
	f.Add("${state.url}", "r", "eu", "shop", "h.example", "$${x}", "up{a=\"${b}\"}", "http://x/${y}", "echo ${HOME}", "\u2028```sh {#e .action undo=none}\u2028id\u2028```")
	f.Fuzz(func(t *testing.T, contact, role, region, database, host, member, query, url, command, failure string) {
		m, err := openstore.Parse("m.yaml", []byte(around(contact, role, region, database, host, query, url, command)), nil)
		if err != nil {
			return
		}
		plain, err := openstore.Parse("m.yaml", []byte(around("c", "r", "eu", "shop", "h.example", "up", "http://x/y", "true")), nil)
		if err != nil {
			t.Fatal(err)
		}
		want := steps(t, plain, runbook.Facts{})
		got := steps(t, m, runbook.Facts{Deciders: []string{member}, TTLs: []runbook.TTL{{Host: host, TTL: time.Minute}}, TTLErrors: []string{failure}})
		if len(got) != len(want) {
			t.Fatalf("the steps changed:\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
		for n := range want {
			kind, body, shell := strings.Cut(got[n], " sh ")
			if !shell && got[n] != want[n] || shell && (!strings.HasPrefix(want[n], kind+" sh ") || strings.TrimSpace(body) != strings.TrimSpace(m.Runbook.Services[0].Drain)) {
				t.Fatalf("step %d is %q, want %q", n, got[n], want[n])
			}
		}
	})
}
