package command

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"golang.org/x/sync/errgroup"

	"github.com/stranglerfig/migrator/examples/storefront/load"
	"github.com/stranglerfig/migrator/examples/storefront/shop"
	"github.com/stranglerfig/migrator/internal/openstore"
	"github.com/stranglerfig/migrator/internal/state"
	"github.com/stranglerfig/migrator/internal/test/statetest"
	"github.com/stranglerfig/migrator/internal/test/testenv"
	"github.com/stranglerfig/migrator/phases"
)

// roleEnv makes this binary the storefront itself, so that a test can kill it.
const roleEnv = "STOREFRONT_TEST_ROLE"

func TestMain(m *testing.M) {
	if os.Getenv(roleEnv) != "" {
		if err := Run(context.Background(), os.Args[1:], IO{Out: os.Stdout, Err: os.Stderr, Getenv: os.Getenv}); err != nil {
			_, _ = os.Stderr.WriteString(err.Error() + "\n")
			os.Exit(1)
		}
		os.Exit(0)
	}
	testenv.Main(m)
}

const migrationFile = `
name: products
legacy: {store: postgres, url: "${STOREFRONT_DATABASE_URL}", table: products}
target: {store: redis, url: "${STOREFRONT_CACHE_URL}", key: "product:{id}"}
fleet: {lease: 3s, renew: 1s}
`

// place is an empty shop with its migration in the phase in which all reads come from Redis.
type place struct {
	t    *testing.T
	env  map[string]string
	file string
}

func newPlace(t *testing.T) *place {
	t.Helper()
	ctx := t.Context()
	p := &place{t: t, file: filepath.Join(t.TempDir(), "products.yaml"), env: map[string]string{
		EnvDatabase: testenv.PostgresURL(t), EnvCache: testenv.RedisURL(t), EnvState: statetest.URL(t),
	}}
	if err := os.WriteFile(p.file, []byte(migrationFile), 0o600); err != nil {
		t.Fatal(err)
	}
	m, err := openstore.Parse("products.yaml", []byte(migrationFile), func(name string) (string, bool) { v, ok := p.env[name]; return v, ok })
	if err != nil {
		t.Fatal(err)
	}
	if err := Run(ctx, []string{"seed", "--products", "0"}, p.io(io.Discard)); err != nil {
		t.Fatal(err)
	}
	legacy, err := m.OpenLegacy(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer legacy.Close()
	if err := legacy.Install(ctx); err != nil {
		t.Fatal(err)
	}
	config, err := m.Public()
	if err != nil {
		t.Fatal(err)
	}
	schema, err := json.Marshal(legacy.Schema())
	if err != nil {
		t.Fatal(err)
	}
	store, err := state.Open(ctx, p.env[EnvState])
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	at, _, err := store.Apply(ctx, state.Applied{Migration: m.Name, Config: config, ConfigHash: m.Hash(), Schema: schema, Reversible: true})
	if err != nil {
		t.Fatal(err)
	}
	// There is nothing to copy and no instance has joined, so every gate is open.
	for _, to := range []phases.Route{{Phase: phases.ShadowWrite}, {Phase: phases.DualRead, Percent: phases.All}, {Phase: phases.Cutover, Percent: phases.All}} {
		if _, err := store.Approve(ctx, m.Name, to.Phase, "", time.Hour, "a test"); err != nil {
			t.Fatal(err)
		}
		at, err = store.Transition(ctx, m.Name, func(phases.Snapshot) (phases.Move, error) {
			return phases.Move{From: at.Route, To: to, Cause: phases.CauseAdvance, Reason: "a test"}, nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return p
}

func (p *place) io(out io.Writer) IO {
	return IO{Out: out, Err: out, Getenv: func(name string) string { return p.env[name] }}
}

// start runs an instance as a process of its own, and returns when it serves.
func (p *place) start(name, listen string) (url string, process *exec.Cmd) {
	p.t.Helper()
	cmd := exec.CommandContext(p.t.Context(), os.Args[0], "serve", "--listen", listen, "--migration", p.file, "--instance", name)
	cmd.Env = append(os.Environ(), roleEnv+"=serve")
	for k, v := range p.env {
		cmd.Env = append(cmd.Env, k+"="+v)
	}
	var logs bytes.Buffer
	cmd.Stderr = &logs
	out, err := cmd.StdoutPipe()
	if err != nil {
		p.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		p.t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		if _, url, ok := strings.Cut(lines.Text(), "serving on "); ok {
			return url, cmd
		}
	}
	_ = cmd.Wait()
	p.t.Fatalf("the instance %s did not start: %s", name, logs.String())
	return "", nil
}

// A killed instance may have written legacy and not the target, and its lease is still live.
// No acknowledged write may be affected.
func TestKilledInstancesLoseNoWrite(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	steady, a := p.start("a", "127.0.0.1:0")
	victim, b := p.start("b", "127.0.0.1:0")
	g := load.New(load.Config{URLs: []string{steady, victim}, Rate: 1000})
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var group errgroup.Group
	group.Go(func() error { return g.Run(ctx) })
	more := func(n int64) {
		t.Helper()
		from, deadline := g.Report().Acknowledged, time.After(2*time.Minute)
		tick := time.NewTicker(10 * time.Millisecond)
		defer tick.Stop()
		for g.Report().Acknowledged < from+n {
			select {
			case <-deadline:
				t.Fatalf("no %d more acknowledged writes: %+v", n, g.Report())
			case <-tick.C:
			}
		}
	}
	for range 3 {
		more(100)
		if err := b.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		_ = b.Wait()
		more(50) // the other instance continues
		_, b = p.start("b", strings.TrimPrefix(victim, "http://"))
	}
	more(100)
	stop()
	if err := group.Wait(); err != nil {
		t.Fatal(err)
	}
	if err := g.Verify(t.Context()); err != nil {
		t.Fatal(err)
	}
	if r := g.Report(); !r.OK() || r.Failed == 0 {
		t.Errorf("%+v", r)
	}
	for _, cmd := range []*exec.Cmd{a, b} {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}
}

func TestSeedAndLoadCommands(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	var out bytes.Buffer
	if err := Run(t.Context(), []string{"seed", "--products", "20"}, p.io(&out)); err != nil || !strings.Contains(out.String(), "made 20 products") {
		t.Fatalf("%v %q", err, out.String())
	}
	pool, err := pgxpool.New(t.Context(), p.env[EnvDatabase])
	if err != nil {
		t.Fatal(err)
	}
	defer pool.Close()
	var n, revision int
	if err := pool.QueryRow(t.Context(), "SELECT count(*), max(revision) FROM products").Scan(&n, &revision); err != nil || n != 20 || revision != shop.SeedRevision {
		t.Fatal(n, revision, err)
	}
	url, cmd := p.start("a", "127.0.0.1:0")
	for _, c := range []struct {
		products string
		want     error
	}{{"0", nil}, {"20", ErrViolations}} {
		out.Reset()
		if c.want != nil { // seeded products are missing: the load must detect it
			if _, err := pool.Exec(t.Context(), "DELETE FROM products WHERE id <= 10"); err != nil {
				t.Fatal(err)
			}
		}
		err := Run(t.Context(), []string{"load", "--url", url + "/", "--products", c.products, "--duration", "300ms", "--json"}, p.io(&out))
		var fields map[string]any
		if jsonErr := json.Unmarshal(out.Bytes(), &fields); jsonErr != nil || !errors.Is(err, c.want) {
			t.Fatalf("products %s: %v, %v in %q", c.products, err, jsonErr, out.String())
		}
		if fields["acknowledged_writes"].(float64) == 0 || (fields["lost"].(float64) > 0) != (c.want != nil) {
			t.Errorf("products %s: %s", c.products, out.String())
		}
	}
	if err := cmd.Process.Signal(os.Kill); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
}

func TestBadCommandLines(t *testing.T) {
	t.Parallel()
	empty := IO{Out: io.Discard, Err: io.Discard, Getenv: func(string) string { return "" }}
	for _, c := range []struct {
		args  []string
		usage bool
		want  string
	}{
		{[]string{"sell"}, true, "unknown command"},
		{[]string{"serve", "--colour"}, true, "not defined"},
		{[]string{"serve", "now"}, true, "takes no arguments"},
		{[]string{"serve"}, false, EnvState},
		{[]string{"seed"}, false, EnvDatabase},
		{[]string{"load"}, true, "--url is missing"},
		{[]string{"load", "--rate", "fast"}, true, "invalid value"},
	} {
		err := Run(t.Context(), c.args, empty)
		if err == nil || errors.Is(err, ErrUsage) != c.usage || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v: %v, want %q", c.args, err, c.want)
		}
	}
	secret := IO{Out: io.Discard, Err: io.Discard, Getenv: func(string) string { return "postgres://u:s3cret@[::1" }}
	if err := Run(t.Context(), []string{"seed"}, secret); err == nil || strings.Contains(err.Error(), "s3cret") {
		t.Errorf("a URL that can't be read: %v", err)
	}
	var out bytes.Buffer
	for _, args := range [][]string{nil, {"--help"}, {"help"}} {
		out.Reset()
		if err := Run(t.Context(), args, IO{Out: &out, Err: &out}); err != nil || !strings.Contains(out.String(), "storefront serve") {
			t.Errorf("%v: %v %q", args, err, out.String())
		}
	}
}
