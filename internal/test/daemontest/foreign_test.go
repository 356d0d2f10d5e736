package daemontest

import (
	"strings"
	"testing"

	goredis "github.com/redis/go-redis/v9"

	"github.com/stranglerfig/migrator/internal/test/clitest"
	"github.com/stranglerfig/migrator/internal/test/testenv"
)

// TestWhatOtherProgramsWroteStays: plan warns of what the target has, backfill and repairs keep what legacy
// lacks and list it, and a record that a writer deleted past the application is removed all the same.
func TestWhatOtherProgramsWroteStays(t *testing.T) {
	t.Parallel()
	for _, into := range []string{"redis", "postgres"} {
		t.Run(into, func(t *testing.T) {
			t.Parallel()
			o := newOperator(t, "items", "  table: items\n", "  key: item:{id}\n", clitest.Served)
			o.SQL(o.Legacy, `CREATE TABLE items (id bigint PRIMARY KEY, name text);
				INSERT INTO items SELECT i, 'item ' || i FROM generate_series(1, 20) i`)
			var puts func(id string)
			var removes func(id string)
			var has func() int64 // keys of other programs
			if into == "postgres" {
				o.Target = testenv.PostgresURL(t)
				o.Write("target.url", o.Target)
				o.Write("migration.yaml", "name: items\nlegacy:\n  store: postgres\n  url_file: legacy.url\n  table: items\ntarget: {store: postgres, url_file: target.url, table: goods}\n"+clitest.Served)
				o.SQL(o.Target, `CREATE TABLE goods (id bigint PRIMARY KEY, name text)`)
				puts = func(id string) { o.SQL(o.Target, `INSERT INTO goods VALUES (`+id+`, 'another program''s')`) }
				removes = func(id string) { o.SQL(o.Target, `DELETE FROM goods WHERE id = `+id) }
				has = func() int64 {
					return o.number(t, o.Target, `SELECT count(*) FROM goods WHERE name = 'another program''s'`)
				}
			} else {
				options, err := goredis.ParseURL(o.Target)
				if err != nil {
					t.Fatal(err)
				}
				client := goredis.NewClient(options)
				t.Cleanup(func() { _ = client.Close() })
				puts = func(id string) { o.Redis("HSET", "item:"+id, "name", "another program's") }
				removes = func(id string) { o.Redis("DEL", "item:"+id) }
				has = func() (n int64) {
					names, err := client.Keys(t.Context(), "item:*").Result()
					if err != nil {
						t.Fatal(err)
					}
					for _, name := range names {
						if client.HGet(t.Context(), name, "name").Val() == "another program's" {
							n++
						}
					}
					return n
				}
			}
			says := func(code int, command string, words ...string) {
				t.Helper()
				got, out, errs := o.Try(strings.Fields(command)...)
				for _, word := range words {
					if got != code || !strings.Contains(out+errs, word) {
						t.Errorf("%s: exit code %d, want %d and %q in\n%s%s", command, got, code, word, out, errs)
					}
				}
			}
			keeps := func(want int64) {
				t.Helper()
				if n := has(); n != want {
					t.Errorf("of what other programs wrote, %d are there, want %d", n, want)
				}
			}
			const why = "legacy has no such record  not repaired: another program wrote it"

			puts("5") // legacy has it: it is replaced
			puts("9001")
			o.Does("init")
			for _, command := range []string{"plan", "apply"} {
				says(clitest.Done, command, "a backfill and a repair replace those", "the others stay, and reconcile lists them")
			}
			o.Does("phase advance")
			says(clitest.Done, "backfill run", "0 swept", "1 value of other programs under keys that legacy lacks: they stay")
			keeps(1)
			puts("9002")
			o.SQL(o.Legacy, `DELETE FROM items WHERE id = 20`) // past the application
			says(clitest.NotYet, "reconcile run --full --repair=plan",
				`foreign  "9002"  nothing: another program wrote the value, and legacy has no such record (now unowned)`, `extra    "20"  remove the record, leave a tombstone`)
			says(clitest.NotYet, "reconcile run --full --repair", `foreign  "9001"`, `foreign  "9002"`, why, `extra    "20"  repaired: replaced by a tombstone`)
			keeps(2)
			says(clitest.NotYet, "reconcile run --full", "foreign             2", `foreign  "9001"`, "legacy has no such record")
			says(clitest.Done, "reconcile explain 9001", "another program wrote the value")
			says(clitest.Done, "backfill run --again", "2 values of other programs")
			says(clitest.Done, "forget items --dry-run", "")
			keeps(2)
			removes("9001")
			removes("9002")
			says(clitest.Done, "reconcile run --full", "")
		})
	}
}
