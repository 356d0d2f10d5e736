package reconcile_test

import (
	"context"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"github.com/stranglerfig/migrator/internal/test/pairtest"
	"github.com/stranglerfig/migrator/phases"
	"github.com/stranglerfig/migrator/reconcile"
	"github.com/stranglerfig/migrator/record"
)

// corruption is one way to damage an item. prepare, if any, is SQL for the items
// that it will befall, before they are copied.
type corruption struct {
	kind    string
	class   reconcile.Class
	prepare string
	expires bool // only where records expire
	stays   bool // no repair removes it
	do      func(c *corrupter, id int)
}

var corruptions = []corruption{
	{kind: "removed", class: reconcile.Missing, do: func(c *corrupter, id int) { c.redis("DEL", c.name(id)) }},
	{kind: "changed", class: reconcile.FieldDiff, do: func(c *corrupter, id int) { c.redis("HSET", c.name(id), "amount", "-1") }},
	{kind: "nulled", class: reconcile.FieldDiff, do: func(c *corrupter, id int) { c.redis("HDEL", c.name(id), "amount") }},
	{kind: "set back", class: reconcile.Stale, do: func(c *corrupter, id int) {
		old := pairtest.Shift(c.barrier, 0, -1-rand.Int64N(1000))
		c.redis("HSET", c.name(id), "amount", "-1", "_v", old.String())
	}},
	{kind: "set ahead", class: reconcile.Ahead, do: func(c *corrupter, id int) {
		beyond := pairtest.Shift(c.barrier, 0, 1<<40+rand.Int64N(1000))
		c.redis("HSET", c.name(id), "_v", beyond.String())
	}},
	{kind: "re-encoded", class: reconcile.Encoding, prepare: "name = 'e\u0301' || id", do: func(c *corrupter, id int) {
		c.redis("HSET", c.name(id), "name", "\u00e9"+strconv.Itoa(id))
	}},
	{kind: "version broken", class: reconcile.Encoding, do: func(c *corrupter, id int) { c.redis("HSET", c.name(id), "_v", "none") }},
	{kind: "of another type", class: reconcile.Type, do: func(c *corrupter, id int) {
		c.redis("DEL", c.name(id))
		c.redis("RPUSH", c.name(id), "a", "list")
	}},
	{kind: "version removed", class: reconcile.ForeignClass, do: func(c *corrupter, id int) { c.redis("HDEL", c.name(id), "_v") }},
	{kind: "another owner's", class: reconcile.ForeignClass, stays: true, do: func(c *corrupter, id int) {
		c.redis("HSET", c.beside(id), "name", "unowned")
	}},
	{kind: "ours, and too many", class: reconcile.Extra, do: func(c *corrupter, id int) {
		c.redis("HSET", c.beside(id), "_v", c.barrier.String(), "id", strconv.Itoa(id), "name", "ghost")
	}},
	{kind: "kept for ever", class: reconcile.Expiry, prepare: "expires_at = now() + interval '1 day'", expires: true, do: func(c *corrupter, id int) {
		c.redis("PERSIST", c.name(id))
	}},
}

// corrupter damages items and remembers what it did.
type corrupter struct {
	t       *testing.T
	rows    int
	pipe    goredis.Pipeliner
	barrier record.Version
	picked  map[int]bool // the load does not write them
	plan    map[string][]int
	key     record.Key // of the corruption under way
	truth   map[record.Key]corruption
}

func (c *corrupter) name(id int) string {
	c.key = record.MakeKey(strconv.Itoa(id))
	return "item:" + strconv.Itoa(id)
}

// beside is a key that legacy does not have.
func (c *corrupter) beside(id int) string { return c.name(c.rows + id) }

func (c *corrupter) redis(args ...any) {
	c.pipe.Do(c.t.Context(), args...)
}

// pick decides what befalls which items.
func (c *corrupter) pick(of []corruption, n int) {
	c.picked, c.plan, c.truth = map[int]bool{}, map[string][]int{}, map[record.Key]corruption{}
	for len(c.picked) < n {
		id := 1 + rand.IntN(c.rows)
		if c.picked[id] {
			continue
		}
		kind := of[len(c.picked)%len(of)].kind
		c.picked[id] = true
		c.plan[kind] = append(c.plan[kind], id)
	}
}

func (c *corrupter) corrupt(of []corruption) {
	c.t.Helper()
	for _, k := range of {
		for _, id := range c.plan[k.kind] {
			k.do(c, id)
			c.truth[c.key] = k
			if c.pipe.Len() >= 1000 {
				c.flush()
			}
		}
	}
	c.flush()
}

func (c *corrupter) flush() {
	if _, err := c.pipe.Exec(c.t.Context()); err != nil {
		c.t.Fatal(err)
	}
}

// load is an application that writes items.
type load struct {
	write  func(ctx context.Context, id int) error
	behind func(record.Key) bool // its target write was lost: a difference that the test did not make
	wait   func()                // until all its writes have arrived
}

// loaded is the load of a writer that follows the protocol, a tenth of whose target
// writes are late.
func loaded(t *testing.T, p *pairtest.Pair, rc *reconcile.Reconciler) load {
	w := &writer{t: t, p: p, ledger: rc.Ledger.(*pairtest.Reconciles), delay: rc.NotAfter / 4, late: 10, within: rc.NotAfter}
	return load{write: w.write, wait: w.under.Wait, behind: func(k record.Key) bool {
		_, lost := w.lost.Load(k)
		return lost
	}}
}

// load writes items all the time, but those that are corrupted: of these the test
// knows what is wrong. stop ends it once all its writes have arrived.
func (c *corrupter) load(l load, writers int) (written *atomic.Int64, stop func()) {
	ctx, cancel := context.WithCancel(c.t.Context())
	written = new(atomic.Int64)
	var all sync.WaitGroup
	for range writers {
		all.Go(func() {
			for range paced(ctx, 5*time.Millisecond) { // all processors for themselves would prove no more
				id := 1 + rand.IntN(c.rows)
				if c.picked[id] {
					continue
				}
				if err := l.write(context.WithoutCancel(ctx), id); err != nil {
					c.t.Error(err)
					return
				}
				written.Add(1)
			}
		})
	}
	return written, func() {
		cancel()
		all.Wait()
		l.wait()
	}
}

// withCorruptions damages so many of so many rows, by every kind, beside live
// writes: all is found and called by its name, nothing else is, all is repaired,
// and the next run is clean.
func withCorruptions(t *testing.T, rows, n int, expires bool, by func(*testing.T, *pairtest.Pair, *reconcile.Reconciler) load) {
	kinds := slices.DeleteFunc(slices.Clone(corruptions), func(k corruption) bool { return k.expires && !expires })
	o := pairtest.Options{}
	if expires {
		o.Expires = "expires_at"
	}
	p := pairtest.New(t, o)
	p.FillSimple(t, 1, rows)
	c := &corrupter{t: t, rows: rows, pipe: p.Redis.Pipeline()}
	c.pick(kinds, n)
	for _, k := range kinds {
		if k.prepare != "" {
			p.Exec(t, "UPDATE items SET "+k.prepare+" WHERE id = ANY ($1)", c.plan[k.kind])
		}
	}
	p.Exec(t, "ANALYZE items")
	began := time.Now()
	c.barrier = runBackfill(t, p).Barrier
	t.Logf("backfill of %d rows: %v", rows, time.Since(began))

	// Longer than a write can take on a busy machine: what misses it is a difference.
	const within = 2 * time.Second
	rc, _ := reconciler(p)
	rc.Barrier, rc.NotAfter, rc.ChunkRows = c.barrier, within, 5000
	rc.Findings, rc.MaxRepairs, rc.MaxDifference = 100*n, 2*n, phases.Whole
	l := by(t, p, rc)
	written, stop := c.load(l, 3)
	defer stop()
	c.corrupt(kinds)

	began, before := time.Now(), written.Load()
	r, found := run(t, rc, repaired)
	t.Logf("%d checked, %d scanned, %d suspects, %d differences %v, %d repaired, %d unsettled in %v beside %d writes",
		r.Checked, r.Scanned, r.Suspects, r.Differences, r.Classes, r.Repaired, r.Unsettled, time.Since(began), written.Load()-before)
	if written.Load() == before {
		t.Error("nothing was written meanwhile: this shows nothing")
	}
	began = time.Now()
	next, after := run(t, rc, full)
	t.Logf("the next run: %d checked, %d differences in %v", next.Checked, next.Differences, time.Since(began))
	stop() // only now each write has returned, and its error says what it has lost
	invented, journaled := 0, 0
	for k, f := range found {
		truth, ok := c.truth[k]
		switch {
		case ok && f.Class != truth.class:
			t.Errorf("%s is called %s, want %s: %+v", truth.kind, f.Class, truth.class, f)
		case ok && f.Repaired == truth.stays:
			t.Errorf("%s is repaired, or not: %+v", truth.kind, f)
		case ok:
		case l.behind(k): // a write that came too late: it is one
			journaled++
		default:
			invented++
			t.Errorf("invented: %+v", f)
		}
		if t.Failed() && invented > 10 {
			t.FailNow()
		}
	}
	missed := map[string]int{}
	for k, truth := range c.truth {
		if _, ok := found[k]; !ok {
			missed[truth.kind]++
		}
	}
	if len(missed) > 0 || len(c.truth) != n {
		t.Errorf("not found: %v of %d", missed, len(c.truth))
	}
	stayed := 0
	for k, f := range after {
		if truth, ok := c.truth[k]; ok && truth.stays {
			stayed++
		} else if !l.behind(k) {
			t.Errorf("after the repair: %+v", f)
		}
	}
	others := c.plan["another owner's"]
	if stayed != len(others) {
		t.Errorf("the next run finds %d values of another owner, want all %d", stayed, len(others))
	}
	for _, id := range others {
		name := c.beside(id)
		if p.Redis.HGet(t.Context(), name, "name").Val() != "unowned" {
			t.Errorf("%s is gone", name)
		}
		c.redis("DEL", name)
	}
	c.flush()
	t.Logf("%d differences of the first run were lost by the load", journaled)
	if _, err := rc.RepairJournal(t.Context()); err != nil {
		t.Fatal(err)
	}
	p.WantSame(t)
	wantClean(t, rc)
}

func TestCorruptionsAreFoundAndRepairedBesideLiveWrites(t *testing.T) {
	t.Parallel()
	t.Run("in place", func(t *testing.T) {
		t.Parallel()
		withCorruptions(t, 20_000, 440, false, loaded)
	})
	t.Run("records that expire", func(t *testing.T) {
		t.Parallel()
		withCorruptions(t, 10_000, 240, true, loaded)
	})
	t.Run("an application", func(t *testing.T) {
		t.Parallel()
		withCorruptions(t, 10_000, 220, false, application)
	})
}

// The long form: 10,000 of 1,000,000.
func TestTortureCorruptions(t *testing.T) {
	if os.Getenv("MIGRATOR_TORTURE") == "" {
		t.Skip("MIGRATOR_TORTURE is not set")
	}
	withCorruptions(t, 1_000_000, 10_000, false, loaded)
}
