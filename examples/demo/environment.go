package main

import (
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"

	"github.com/stranglerfig/migrator/examples/storefront/command"
	"github.com/stranglerfig/migrator/examples/storefront/load"
	"github.com/stranglerfig/migrator/internal/hint"
	"github.com/stranglerfig/migrator/internal/state"
	"github.com/stranglerfig/migrator/internal/test/testenv"
	"github.com/stranglerfig/migrator/migration"
	"github.com/stranglerfig/migrator/phases"
)

//go:embed products.yaml
var migrationFile []byte

// migrationName is the migration's name in the file.
const migrationName = "products"

// demo is the state of one demo.
type demo struct {
	options
	fail        context.CancelCauseFunc // ends the demo with a reason
	interrupted func() bool             // reports whether the user ended the demo
	program     string                  // migrator
	self        string                  // this program
	dir         string
	file        string // the migration file
	scene       int
	began       time.Time

	postgres *testenv.PostgresServer
	redis    *testenv.RedisServer
	legacy   string // URL
	stateURL string

	state     *state.Store
	settings  phases.Settings
	shops     []*child
	daemon    *child
	traffic   *load.Generator
	unaware   *unaware // in place of shops and traffic, where changes are captured
	mark      load.Mark
	answered  answered // at the last output
	stopLoad  func() error
	automatic *Automatic // the trigger's rollback
}

// open starts the servers and fills the shop's database.
func (d *demo) open(ctx context.Context) (err error) {
	d.title("A shop with %s products in PostgreSQL, and an empty Redis", load.Count(int64(d.Products)))
	if d.self, err = os.Executable(); err != nil {
		return err
	}
	if err := testenv.Scratch(); err != nil { // the next run removes what a killed one leaves
		return err
	}
	if d.dir, err = os.MkdirTemp("", "migrator-demo-"); err != nil {
		return err
	}
	if err := d.build(ctx); err != nil {
		return err
	}
	d.file = filepath.Join(d.dir, "products.yaml")
	if err := os.WriteFile(d.file, d.migrationText(), 0o600); err != nil {
		return err
	}
	var group errgroup.Group
	group.Go(func() (err error) {
		d.postgres, err = testenv.StartPostgres(ctx, testenv.PostgresOptions{})
		return err
	})
	group.Go(func() (err error) {
		d.redis, err = testenv.StartRedis(ctx, testenv.RedisOptions{AppendOnly: true})
		return err
	})
	if err := group.Wait(); err != nil {
		return err
	}
	if d.legacy, err = d.database(ctx, "shop"); err != nil {
		return err
	}
	if d.stateURL, err = d.database(ctx, "migrator"); err != nil {
		return err
	}
	d.say("%s and %s, started for this demo alone", short(d.postgres.Version()), short(d.redis.Version()))
	return d.storefront(ctx, "seed", "--products", fmt.Sprint(d.Products))
}

// build builds migrator, unless a path is given.
func (d *demo) build(ctx context.Context) (err error) {
	if d.Migrator != "" {
		d.program, err = filepath.Abs(d.Migrator)
		return err
	}
	d.program = filepath.Join(d.dir, "migrator")
	d.say("go build -o %s ./cmd/migrator", d.program)
	cmd := exec.CommandContext(ctx, "go", "build", "-o", d.program, "github.com/stranglerfig/migrator/cmd/migrator") //nolint:gosec // a path of our own
	if out, err := cmd.CombinedOutput(); err != nil {
		return hint.Errorf(hint.Hint{Text: "run it in the module's folder, or with --migrator PATH"}, "build migrator: %w: %s", err, out)
	}
	return nil
}

// database creates a database and returns its URL.
func (d *demo) database(ctx context.Context, name string) (string, error) {
	conn, err := pgx.Connect(ctx, d.postgres.URL())
	if err != nil {
		return "", err
	}
	defer func() { _ = conn.Close(ctx) }()
	if _, err := conn.Exec(ctx, "CREATE DATABASE "+pgx.Identifier{name}.Sanitize()+" TEMPLATE template0 ENCODING 'UTF8'"); err != nil {
		return "", err
	}
	u, err := url.Parse(d.postgres.URL())
	if err != nil {
		return "", err
	}
	u.Path = "/" + name
	return testenv.Patient(u.String()), nil
}

// short shortens the output of --version to the name and the number.
func short(version string) string {
	words := strings.Fields(version)
	for i, w := range words {
		if strings.HasPrefix(w, "v=") {
			return "Redis " + strings.TrimPrefix(w, "v=")
		}
		if i > 0 && w != "" && w[0] >= '0' && w[0] <= '9' {
			return "PostgreSQL " + w
		}
	}
	return version
}

type variable struct{ name, value string }

// exports are the variables that the commands need; some contain secrets.
func (d *demo) exports() []variable {
	return []variable{
		{"MIGRATOR_STATE_URL", d.stateURL},
		{"MIGRATOR_FILE", d.file},
		{command.EnvDatabase, d.legacy},
		{command.EnvCache, d.redis.URL()},
	}
}

// environment is the environment of the demo's child processes. It has none of the user's
// own settings: a child must not connect to another state database.
func (d *demo) environment() []string {
	var env []string
	for _, v := range os.Environ() {
		if !strings.HasPrefix(v, "MIGRATOR_") && !strings.HasPrefix(v, "STOREFRONT_") && !strings.HasPrefix(v, "PG") {
			env = append(env, v)
		}
	}
	for _, v := range d.exports() {
		env = append(env, v.name+"="+v.value)
	}
	return env
}

// deploy starts the shop's instances and the load.
func (d *demo) deploy(ctx context.Context) (err error) {
	d.title("The shop is deployed with package dual: two instances, and customers")
	if d.state, err = state.Open(ctx, d.stateURL); err != nil {
		return err
	}
	applied, err := d.state.Config(ctx, migrationName)
	if err != nil {
		return err
	}
	var file migration.Config
	if err := json.Unmarshal(applied.Config, &file); err != nil {
		return err
	}
	d.settings = file.Settings()
	for _, name := range []string{"shop-a", "shop-b"} {
		s, err := d.startShop(ctx, name)
		if err != nil {
			return err
		}
		d.shops = append(d.shops, s)
	}
	d.startLoad(ctx)
	if err := d.acknowledged(ctx, 100); err != nil {
		return err
	}
	if err := d.migrator(ctx, exitDone, "fleet", "list"); err != nil {
		return err
	}
	d.say("the daemon evaluates gates and triggers from the instances' telemetry")
	d.daemon, err = d.startDaemon(ctx)
	return err
}

// end stops and removes everything that was started, also if the demo's context has
// ended.
func (d *demo) end() error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	var errs []error
	if d.redis != nil {
		_ = d.redis.Resume() // a frozen Redis would block every process
	}
	if d.stopLoad != nil {
		errs = append(errs, d.stopLoad())
	}
	children := d.shops
	if d.daemon != nil {
		children = append(children, d.daemon)
	}
	errs = append(errs, each(children, (*child).stop))
	if d.state != nil {
		d.state.Close()
	}
	var servers []func(context.Context) error
	if d.redis != nil {
		servers = append(servers, d.redis.Stop)
	}
	if d.postgres != nil {
		servers = append(servers, d.postgres.Stop)
	}
	errs = append(errs, each(servers, func(stop func(context.Context) error) error { return stop(ctx) }))
	return errors.Join(append(errs, testenv.RemoveScratch())...)
}

// each calls do for all concurrently, and joins the errors.
func each[T any](all []T, do func(T) error) error {
	errs := make([]error, len(all))
	var group sync.WaitGroup
	for i, one := range all {
		group.Go(func() { errs[i] = do(one) })
	}
	group.Wait()
	return errors.Join(errs...)
}
