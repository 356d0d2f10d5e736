package daemontest

import (
	"bufio"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/cespare/xxhash/v2"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/stranglerfig/migrator/dual"
	"github.com/stranglerfig/migrator/dual/kit"
	"github.com/stranglerfig/migrator/internal/openstore"
	"github.com/stranglerfig/migrator/internal/test/clitest"
	"github.com/stranglerfig/migrator/internal/test/testenv"
	"github.com/stranglerfig/migrator/phases"
	"github.com/stranglerfig/migrator/record"
)

// typescript is a process of examples/typescript.
type typescript struct {
	t   *testing.T
	cmd *exec.Cmd

	mu      sync.Mutex
	in      io.WriteCloser
	last    int
	waiting map[int]chan answerOfTypeScript
	ended   chan struct{}
}

type answerOfTypeScript struct {
	ID     int             `json:"id"`
	Value  json.RawMessage `json:"value"`
	Error  string          `json:"error"`
	Legacy bool            `json:"legacy"` // the write failed, and legacy has it
}

// newTypeScript skips unless make typescript has named the directory of the compiled files.
func newTypeScript(t *testing.T, options map[string]any) *typescript {
	t.Helper()
	text, err := json.Marshal(options)
	if err != nil {
		t.Fatal(err)
	}
	p := &typescript{t: t, waiting: map[int]chan answerOfTypeScript{}, ended: make(chan struct{})}
	p.cmd = exec.CommandContext(t.Context(), "node", filepath.Join(os.Getenv("MIGRATOR_TYPESCRIPT"), "main.js"))
	p.cmd.Env = append(os.Environ(), "OPTIONS="+string(text))
	p.cmd.Stderr = os.Stderr
	if p.in, err = p.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	joined := make(chan answerOfTypeScript, 1)
	p.waiting[0] = joined
	if err := testenv.Start(p.cmd); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(p.ended)
		for lines := bufio.NewScanner(out); lines.Scan(); {
			var a answerOfTypeScript
			if err := json.Unmarshal(lines.Bytes(), &a); err != nil {
				t.Errorf("%s: %v", lines.Text(), err)
				return
			}
			p.mu.Lock()
			waits := p.waiting[a.ID]
			delete(p.waiting, a.ID)
			p.mu.Unlock()
			waits <- a
		}
	}()
	t.Cleanup(func() { _ = p.in.Close(); <-p.ended; _ = p.cmd.Wait() })
	select {
	case <-joined:
	case <-p.ended:
		t.Fatal("it did not join")
	}
	return p
}

// do asks the process, and waits for its answer. Calls may overlap.
func (p *typescript) do(command map[string]any) (value json.RawMessage, legacy bool, err error) {
	waits := make(chan answerOfTypeScript, 1)
	p.mu.Lock()
	p.last++
	command["id"] = p.last
	p.waiting[p.last] = waits
	text, err := json.Marshal(command)
	if err == nil {
		_, err = p.in.Write(append(text, '\n'))
	}
	p.mu.Unlock()
	if err != nil {
		return nil, false, err
	}
	select {
	case a := <-waits:
		if a.Error != "" {
			return nil, a.Legacy, errors.New(a.Error)
		}
		return a.Value, false, nil
	case <-p.ended:
		return nil, false, errors.New("the process has ended")
	}
}

func (p *typescript) must(command map[string]any) string {
	p.t.Helper()
	value, _, err := p.do(command)
	if err != nil {
		p.t.Fatalf("%v: %v", command, err)
	}
	return string(value)
}

func (p *typescript) phase() (route phases.Route) {
	value, _, err := p.do(map[string]any{"do": "route"})
	if err == nil {
		err = json.Unmarshal(value, &route)
	}
	if err != nil {
		p.t.Error(err)
	}
	return route
}

// pairOfLanguages is one instance in Go and one in TypeScript over one table, and what both have acknowledged. Each key
// has one writer, whose values grow.
type pairOfLanguages struct {
	t      *testing.T
	ts     *typescript
	items  *kit.Records[int64, apiItem]
	legacy *pgxpool.Pool

	acked, tried [mixedKeys]atomic.Int64
	// By process: in Go, in TypeScript.
	reads, writes, unsure, refused [2]atomic.Int64
	stale, failed                  atomic.Int64
}

const (
	mixedKeys    = 20
	mixedWorkers = 4
)

// write returns whether legacy may have the write.
func (l *pairOfLanguages) write(ctx context.Context, in, key int, n int64) (legacy bool, err error) {
	if in == 1 {
		_, legacy, err = l.ts.do(map[string]any{"do": "write", "key": strconv.Itoa(key + 1), "column": "name", "value": strconv.FormatInt(n, 10)})
		return legacy, err
	}
	want := apiItem{int64(key + 1), sql.NullString{String: strconv.FormatInt(n, 10), Valid: true}}
	err = l.items.Put(ctx, want.ID, want, func(ctx context.Context) (v record.Version, err error) {
		err = l.legacy.QueryRow(ctx, `UPDATE items SET name = $2 WHERE id = $1 RETURNING `+l.items.Version, want.ID, want.Name).Scan(&v)
		return v, err
	})
	var failed *dual.TargetError
	return errors.As(err, &failed) && failed.Legacy, err
}

func (l *pairOfLanguages) read(ctx context.Context, in, key int) (n int64, err error) {
	var name string
	if in == 1 {
		value, _, err := l.ts.do(map[string]any{"do": "read", "key": strconv.Itoa(key + 1)})
		if err != nil {
			return 0, err
		}
		var row struct{ Name string }
		if err := json.Unmarshal(value, &row); err != nil {
			return 0, err
		}
		name = row.Name
	} else {
		got, found, err := l.items.Get(ctx, int64(key+1))
		if err != nil || !found {
			return 0, errors.Join(err, fmt.Errorf("found: %v", found))
		}
		name = got.Name.String
	}
	return strconv.ParseInt(name, 10, 64)
}

// work writes the keys of one worker and reads those of all, until ctx ends.
func (l *pairOfLanguages) work(ctx context.Context, w int) {
	for ctx.Err() == nil {
		key, in := w+mixedWorkers*rand.IntN(mixedKeys/mixedWorkers), rand.IntN(2)
		n := l.tried[key].Add(1)
		legacy, err := l.write(l.t.Context(), in, key, n)
		switch {
		case err == nil:
			l.acked[key].Store(n)
			l.writes[in].Add(1)
		case legacy:
			l.unsure[in].Add(1)
		default:
			l.refused[in].Add(1)
			l.t.Logf("a write, process %d: %v", in, err)
		}
		for range 2 {
			key, in := rand.IntN(mixedKeys), rand.IntN(2)
			least := l.acked[key].Load()
			got, err := l.read(l.t.Context(), in, key)
			switch {
			case err != nil:
				l.failed.Add(1)
				l.t.Logf("a read, process %d: %v", in, err)
			case got < least:
				l.stale.Add(1)
				l.t.Errorf("a stale read of key %d, process %d, %s: %d, and %d is acknowledged", key+1, in, l.items.Instance.Route(), got, least)
			}
			l.reads[in].Add(1)
		}
	}
}

// follows waits until both are in the phase, and each has then read and written.
func (l *pairOfLanguages) follows(phase phases.Phase) {
	l.t.Helper()
	testenv.Await(l.t, "both to be in "+string(phase), func() bool {
		return l.items.Instance.Route().Phase == phase && l.ts.phase().Phase == phase
	})
	var reads, writes [2]int64
	for in := range 2 {
		reads[in], writes[in] = l.reads[in].Load(), l.writes[in].Load()
	}
	testenv.Await(l.t, "both to read and write in "+string(phase), func() bool {
		for in := range 2 {
			if l.reads[in].Load() < reads[in]+50 || l.writes[in].Load() < writes[in]+25 {
				return false
			}
		}
		return true
	})
}

// TestAnInstanceInTypeScript: one process of examples/typescript and one in Go, over one table, go to cutover under load,
// back when the target fails, to cutover again, to retain and back. No acknowledged write is lost and no read is stale.
func TestAnInstanceInTypeScript(t *testing.T) {
	t.Parallel()
	if os.Getenv("MIGRATOR_TYPESCRIPT") == "" {
		t.Skip("for make typescript: it needs Node.js")
	}
	o := newOperator(t, "items", "  table: items\n", "  key: item:{id}\n", `phases:
  shadow_write: {for: 0s}
  dual_read: {steps: [100], over: 0s}
  cutover: {steps: [50, 100], over: 0s, auto: false}
  grace: {for: 0s}
  retain: {for: 0s}
  approval: {for: []}
gates: {off: the test has a ledger}
writing: {not_after: 3s, deadline: 1s, rollback_budget: 5s, fence_budget: 30s}
`)
	target := testenv.Redis(t, testenv.RedisOptions{AppendOnly: true, Config: []string{"appendfsync always"}})
	o.Target = target.URL()
	o.Write("target.url", o.Target)
	o.SQL(o.Legacy, `CREATE TABLE items (id bigint PRIMARY KEY, name text); INSERT INTO items SELECT i, '0' FROM generate_series(1, 20) i`)
	o.Does("init", "apply")
	token, _ := o.token("typescript_shop", "application")
	o.Write("settings.yaml", "file: "+o.Path("migration.yaml")+"\nstate_url: "+o.State+"\napi: true\n")
	d := o.serve(t)
	d.awaits("the lead", d.leads)

	ts := newTypeScript(t, map[string]any{
		"migration": "items", "daemons": []string{d.url}, "token": token, "legacy": o.Legacy, "target": o.Target,
		"scripts": filepath.Join(clitest.Root(), "store", "redis", "scripts"),
	})
	for n := range 80 {
		key := strings.Repeat("7é", n/3) + strconv.Itoa(n)
		if got, want := ts.must(map[string]any{"do": "hash", "key": key}), strconv.Quote(strconv.FormatUint(xxhash.Sum64String(key), 10)); got != want {
			t.Errorf("the hash of %q is %s, want %s", key, got, want)
		}
		p := phases.Percent(100 * n)
		if got, want := ts.must(map[string]any{"do": "takes", "key": key, "percent": float64(p) / 100}), p.Takes(xxhash.Sum64String(key)); got != strconv.FormatBool(want) {
			t.Errorf("%s %% take %q: %s, want %v", p, key, got, want)
		}
	}

	m, err := openstore.Load(o.Path("migration.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	l := &pairOfLanguages{t: t, ts: ts}
	if l.legacy, err = pgxpool.New(t.Context(), o.Legacy); err != nil {
		t.Fatal(err)
	}
	defer l.legacy.Close()
	l.items, err = kit.Open(t.Context(), m, kit.Options{StateURL: o.State, Strict: true}, kit.Binding[int64, apiItem]{
		Read: func(ctx context.Context, id int64) (i apiItem, found bool, err error) {
			err = l.legacy.QueryRow(ctx, `SELECT id, name FROM items WHERE id = $1`, id).Scan(&i.ID, &i.Name)
			if errors.Is(err, pgx.ErrNoRows) {
				return i, false, nil
			}
			return i, err == nil, err
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	running, stop := context.WithCancel(t.Context())
	defer stop()
	ended := make(chan error, 1)
	go func() { ended <- l.items.Instance.Run(running) }()
	working, done := context.WithCancel(t.Context())
	var work sync.WaitGroup
	defer func() { done(); work.Wait() }()
	for w := range mixedWorkers {
		work.Go(func() { l.work(working, w) })
	}
	l.follows(phases.Legacy)
	o.Does("phase advance")
	l.follows(phases.ShadowWrite)
	o.Does("backfill run", "phase advance")
	l.follows(phases.DualRead)
	o.Does("reconcile run --full", "phase advance")
	l.follows(phases.Cutover)
	if err := target.Kill(); err != nil {
		t.Fatal(err)
	}
	l.follows(phases.DualRead) // by the write that the target refused
	if err := target.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	d.awaits("an empty journal", func() bool {
		s := d.status().Status
		return s.Route.Phase == phases.DualRead && s.JournalKeys == 0
	})
	testenv.Await(t, "a reconcile that began after the last write of before the failure could land", func() bool {
		o.Does("reconcile run --full")
		code, _, _ := o.Try("phase", "advance")
		return code == clitest.Done
	})
	l.follows(phases.Cutover)
	o.Does("phase advance", "reconcile run --full", "phase advance")
	l.follows(phases.Grace)
	o.Does("reconcile run --full", "phase advance")
	l.follows(phases.Retain)
	o.Does("phase rollback --to grace --yes --reason test")
	l.follows(phases.Grace)
	done()
	work.Wait()

	for key := range mixedKeys {
		least, most := l.acked[key].Load(), l.tried[key].Load()
		for in := range 2 {
			if got, err := l.read(t.Context(), in, key); err != nil || got < least || got > most {
				t.Errorf("a lost write of key %d, process %d: %d, %v; want %d to %d", key+1, in, got, err, least, most)
			}
		}
	}
	ts.must(map[string]any{"do": "delete", "key": "1"})
	ts.must(map[string]any{"do": "delete", "key": "1"}) // finds nothing
	if _, found, err := l.items.Get(t.Context(), 1); err != nil || found {
		t.Errorf("a record that was deleted: %v, %v", found, err)
	}
	ts.must(map[string]any{"do": "leave"})
	if _, stdout, _ := o.Try("fleet", "list", "-o", "json"); strings.Contains(stdout, "Node.js") {
		t.Errorf("it has left: %s", stdout)
	}
	stop()
	if err := <-ended; err != nil {
		t.Errorf("run: %v", err)
	}
	for in, name := range []string{"Go", "TypeScript"} {
		t.Logf("%s: %d reads, %d writes acknowledged, %d in legacy alone, %d refused", name, l.reads[in].Load(), l.writes[in].Load(), l.unsure[in].Load(), l.refused[in].Load())
	}
	if l.failed.Load() > 0 {
		t.Errorf("%d reads failed", l.failed.Load())
	}
}
