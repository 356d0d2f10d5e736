package zoo

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/stranglerfig/migrator/internal/backfill"
	"github.com/stranglerfig/migrator/internal/test/pairtest"
	"github.com/stranglerfig/migrator/internal/test/testenv"
	"github.com/stranglerfig/migrator/migration"
	"github.com/stranglerfig/migrator/phases"
	"github.com/stranglerfig/migrator/reconcile"
	"github.com/stranglerfig/migrator/record"
	"github.com/stranglerfig/migrator/store"
	"github.com/stranglerfig/migrator/store/postgres"
	"github.com/stranglerfig/migrator/store/redis"
)

// damager is what a test does to a target beside migrator.
type damager struct {
	store.Target
	// swap gives the row of one id the value that another row has in a column; other 0: NULL.
	swap func(a animal, id, other int)
	// look remembers what the rows have, for swap.
	look func()
}

func TestZooThroughPostgres(t *testing.T) {
	t.Parallel()
	move(t, func(z *zoo, m *migration.Config, schema *record.Schema) damager {
		z.exec("CREATE SCHEMA away; CREATE TABLE away.zoo (LIKE zoo INCLUDING ALL)")
		m.Target = migration.Target{Store: postgres.KindName, Part: &postgres.TargetConfig{Table: "away.zoo"}}
		target, err := postgres.OpenTarget(z.Context(), m, z.url, schema)
		if err != nil {
			z.Fatal(err)
		}
		z.Cleanup(func() { _ = target.Close() })
		if err := target.Prepare(z.Context()); err != nil {
			z.Fatal(err)
		}
		return damager{target, func(a animal, id, other int) {
			z.exec(fmt.Sprintf("UPDATE away.zoo SET %[1]s = (SELECT %[1]s FROM zoo WHERE id = %[3]d) WHERE id = %[2]d", a.name, id, other))
		}, func() {}}
	})
}

func TestZooThroughRedisHashes(t *testing.T) {
	t.Parallel()
	move(t, func(z *zoo, m *migration.Config, schema *record.Schema) damager {
		target := redisTarget(z, m, schema, "hash")
		whole := map[int]map[string]string{}
		do := func(args ...any) {
			z.Helper()
			if err := target.Client().Do(z.Context(), args...).Err(); err != nil {
				z.Fatal(err)
			}
		}
		return damager{target, func(a animal, id, other int) {
			text, there := whole[other][a.name]
			if there {
				do("HSET", name(id), a.name, text)
			} else {
				do("HDEL", name(id), a.name)
			}
		}, func() {
			for id := range z.values {
				whole[id+1] = target.Client().HGetAll(z.Context(), name(id+1)).Val()
			}
		}}
	})
}

func TestZooThroughRedisJSON(t *testing.T) {
	t.Parallel()
	move(t, func(z *zoo, m *migration.Config, schema *record.Schema) damager {
		target := redisTarget(z, m, schema, "json")
		whole := map[int]map[string]json.RawMessage{}
		return damager{target, func(a animal, id, other int) {
			members, from := whole[id], whole[other]
			text := `{"_v":` + string(members["_v"])
			for _, f := range schema.Fields {
				value, there := members[f.Name]
				if f.Name == a.name {
					value, there = from[f.Name]
				}
				if there {
					text += `,"` + f.Name + `":` + string(value)
				}
			}
			if err := target.Client().Set(z.Context(), name(id), text+"}", 0).Err(); err != nil {
				z.Fatal(err)
			}
		}, func() {
			for id := range z.values {
				whole[id+1] = map[string]json.RawMessage{}
				members := whole[id+1]
				if err := json.Unmarshal([]byte(target.Client().Get(z.Context(), name(id+1)).Val()), &members); err != nil {
					z.Fatal(err)
				}
			}
		}}
	})
}

func name(id int) string { return "zoo:" + strconv.Itoa(id) }

func redisTarget(z *zoo, m *migration.Config, schema *record.Schema, format string) *redis.Target {
	z.Helper()
	m.Target = migration.Target{Store: redis.KindName, Part: &redis.TargetConfig{KeyTemplate: "zoo:{id}", Format: format}}
	target, err := redis.Open(z.Context(), m, testenv.RedisURL(z), schema)
	if err != nil {
		z.Fatal(err)
	}
	z.Cleanup(func() { _ = target.Close() })
	return target
}

// move moves the zoo to a target; damages one field of each row there, all of which a full
// comparison must find and repair; and returns all to legacy, where each value must be what it was.
func move(t *testing.T, target func(*zoo, *migration.Config, *record.Schema) damager) {
	z := open(t)
	z.create("zoo", z.types(movable))
	z.exec("CREATE TABLE before AS TABLE zoo")
	if whole && len(z.lacking) == 0 && (len(z.columns) < 130 || z.values < 290) {
		t.Errorf("the zoo has %d columns and %d values", len(z.columns), z.values)
	}
	m := config("zoo")
	l := z.legacy(m)
	checks, err := l.Check(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range checks {
		if c.Result == store.Refused {
			t.Errorf("plan refuses: %s: %s", c.Name, c.Detail)
		}
	}
	if err := l.Install(t.Context()); err != nil {
		t.Fatal(err)
	}
	k := target(z, m, l.Schema())
	done, err := (&backfill.Backfill{
		Legacy: l, Barrier: l, Locker: l, Target: k.Target, NotAfter: time.Second,
		Ledger: &pairtest.Backfills{Path: filepath.Join(t.TempDir(), "progress")},
	}).Run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	compare, err := record.NewComparer(l.Schema(), nil)
	if err != nil {
		t.Fatal(err)
	}
	rc := &reconcile.Reconciler{
		Legacy: l, Locker: l, Target: k.Target, Ledger: &pairtest.Reconciles{}, Compare: compare,
		Options: reconcile.Options{Barrier: done.Barrier, Pause: 10 * time.Millisecond, NotAfter: time.Second, MaxDifference: phases.Whole, MaxRepairs: 10 * z.values, Findings: 10 * z.values},
	}
	z.wants(rc, 0, false)
	damaged := z.damage(l, k, compare)
	if found := z.wants(rc, len(damaged), true); found != nil {
		for id, a := range damaged {
			if _, ok := found[record.MakeKey(strconv.Itoa(id))]; !ok {
				t.Errorf("row %d (%s) was damaged, and is not found", id, a.typ)
			}
		}
	}
	z.wants(rc, 0, false)
	z.comeBack(l, k.Target)
}

// wants runs a full comparison, which must find so many differences. It returns the findings if
// it found another number, or, with repair, if some were not repaired.
func (z *zoo) wants(rc *reconcile.Reconciler, n int, repair bool) map[record.Key]reconcile.Finding {
	z.Helper()
	run, list, err := rc.Run(z.Context(), reconcile.RunOptions{Full: true, TwoWay: true, Repair: repair})
	if err != nil {
		z.Fatal(err)
	}
	found := map[record.Key]reconcile.Finding{}
	for _, f := range list {
		found[f.Key] = f
		if repair && !f.Repaired {
			z.Errorf("key %s %s: not repaired: %s", f.Key, z.typeOf(f.Key), f.Repair)
		}
	}
	if run.Differences == int64(n) {
		return nil
	}
	z.Errorf("%d differ, %d should", run.Differences, n)
	for k, f := range found {
		if n == 0 {
			z.Errorf("key %s %s: %+v", k, z.typeOf(k), f)
		}
	}
	return found
}

func (z *zoo) typeOf(k record.Key) string {
	id, _ := strconv.Atoi(string(k))
	for _, a := range z.columns {
		if slices.Contains(a.rows, id) {
			return a.typ
		}
	}
	return ""
}

// damage gives each row of the target another value in its column: one that is most like it, and
// not the same, or NULL.
func (z *zoo) damage(l *postgres.Legacy, k damager, compare *record.Comparer) map[int]animal {
	z.Helper()
	k.look()
	rows, damaged := z.read(l), map[int]animal{}
	for n, a := range z.columns {
		for i, id := range a.rows {
			other := 0
			for _, near := range []int{i + 1, i - 1} {
				if near < 0 || near >= len(a.rows) {
					continue
				}
				swapped := slices.Clone(rows[id])
				swapped[n+1] = rows[a.rows[near]][n+1]
				if !compare.Equal(rows[id], swapped) {
					other = a.rows[near]
				}
			}
			k.swap(a, id, other)
			damaged[id] = a
		}
	}
	return damaged
}

// comeBack takes all records out of legacy, behind its fence, and brings them back from the
// target.
func (z *zoo) comeBack(l *postgres.Legacy, target store.Target) {
	z.Helper()
	ctx := z.Context()
	if _, err := l.RaiseFence(ctx, "A", time.Minute); err != nil {
		z.Fatal(err)
	}
	run, err := l.BeginReplay(ctx, "A")
	if err != nil {
		z.Fatal(err)
	}
	var keys []record.Key
	var gone, back []store.Row
	for id := range z.values {
		k := record.MakeKey(strconv.Itoa(id + 1))
		keys, gone = append(keys, k), append(gone, store.Row{Key: k})
	}
	entries, err := target.Get(ctx, keys)
	if err != nil {
		z.Fatal(err)
	}
	for _, e := range entries {
		back = append(back, store.Row{Key: e.Key, Found: e.Presence == store.Live, Record: e.Record})
	}
	for _, rows := range [][]store.Row{gone, back} {
		done, err := l.Replay(ctx, run, rows)
		if err != nil {
			z.Fatal(err)
		}
		for _, r := range done.Refused {
			z.Errorf("legacy does not take key %s %s back: %s", r.Key, z.typeOf(r.Key), r)
		}
	}
	var tests []string
	for _, a := range z.columns {
		tests = append(tests, fmt.Sprintf("(%s, record_image_ne(ROW(b.%[2]s), ROW(z.%[2]s)), b.%[2]s::text, z.%[2]s::text)", quoted(a.typ), a.name))
	}
	rows, err := z.sql.Query(ctx, "SELECT b.id, c.typ, c.was, c.now FROM before b LEFT JOIN zoo z USING (id) CROSS JOIN LATERAL (VALUES "+strings.Join(tests, ", ")+
		") c (typ, differs, was, now) WHERE c.differs OR z.id IS NULL")
	if err != nil {
		z.Fatal(err)
	}
	var id int
	var typ string
	var was, is *string
	if _, err := pgx.ForEachRow(rows, []any{&id, &typ, &was, &is}, func() error {
		z.Errorf("row %d: %s came back as another value: %s was %s", id, typ, show(is), show(was))
		return nil
	}); err != nil {
		z.Fatal(err)
	}
	z.Logf("%d columns, %d values", len(z.columns), z.values)
}

func quoted(s string) string { return "'" + strings.ReplaceAll(s, "'", "''") + "'" }

func show(s *string) string {
	if s == nil {
		return "NULL"
	}
	return strconv.Quote(*s)
}
