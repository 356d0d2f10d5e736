package daemontest

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/stranglerfig/migrator/dual/kit"
	"github.com/stranglerfig/migrator/internal/openstore"
	"github.com/stranglerfig/migrator/internal/test/clitest"
	"github.com/stranglerfig/migrator/internal/test/testenv"
	"github.com/stranglerfig/migrator/record"
)

const (
	pgbenchRate    = 800    // transactions of pgbench per second: it leaves the processors to what finds them
	pgbenchChanged = 25_000 // of 1,000,000 accounts: more than the 1 % that reconcile.max_difference allows
	lookEvery      = 5 * time.Second
	looksOfAMinute = int64(time.Minute / lookEvery)
)

// TestTorturePgbenchBypasses an application that serves: pgbench changes 1,000,000 accounts past it.
// Status names the changes within a minute, and reconcile names them first where it refuses to
// repair so many.
func TestTorturePgbenchBypasses(t *testing.T) {
	onlyLong(t)
	pgbench, err := exec.LookPath("pgbench")
	if err != nil {
		t.Skip(err)
	}
	for name, target := range map[string]string{
		"redis":    "  store: redis\n  url_file: target.url\n  key: account:{aid}\n",
		"postgres": "  store: postgres\n  url_file: target.url\n  table: accounts\n",
	} {
		t.Run(name, func(t *testing.T) { pgbenchBypasses(t, pgbench, name, target) })
	}
}

func pgbenchBypasses(t *testing.T, pgbench, into, target string) {
	o := newOperator(t, "accounts", "", "", "")
	if into == "postgres" {
		o.Target = testenv.PostgresURL(t)
		o.Write("target.url", o.Target)
		o.SQL(o.Target, `CREATE TABLE accounts (aid integer PRIMARY KEY, bid integer, abalance integer, filler character(84))`)
	}
	o.Write("migration.yaml", "name: accounts\nlegacy: {store: postgres, url_file: legacy.url, table: pgbench_accounts}\ntarget:\n"+target+
		"phases: {shadow_write: {for: 0s}}\nwriting: {not_after: 2s, deadline: 2s}\n")
	if out, err := exec.CommandContext(t.Context(), pgbench, "-i", "-q", "-s", "10", o.Legacy).CombinedOutput(); err != nil {
		t.Fatalf("pgbench -i: %v\n%s", err, out)
	}
	o.Does("init", "apply", "phase advance")
	app := serveAccounts(t, o)
	o.Does("backfill run")
	d := o.serve(t)
	d.awaits("the lead", d.leads)

	// The state's own record of the looks at legacy's counters: see below.
	o.SQL(o.State, `CREATE TABLE public.looks (at timestamptz, first_at timestamptz, least bigint);
		CREATE FUNCTION public.look() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
			INSERT INTO public.looks VALUES (NEW.looked_at, NEW.first_at, NEW.least); RETURN NULL;
		END $$;
		CREATE TRIGGER look AFTER INSERT OR UPDATE ON migrator.bypass FOR EACH ROW EXECUTE FUNCTION public.look()`)
	d.awaits("legacy's counters to be compared", func() bool {
		return o.number(t, o.State, `SELECT count(*) FROM public.looks`) > 1 && o.number(t, o.State, `SELECT count(*) FROM migrator.bypass WHERE why = ''`) == 1
	})
	if n := o.number(t, o.State, `SELECT count(*) FROM public.looks WHERE least > 0`); n != 0 {
		t.Fatal("the application's own writes are found as a bypass")
	}
	loading, stop := context.WithCancel(t.Context())
	t.Cleanup(stop)
	load := exec.CommandContext(loading, pgbench, "-n", "-N", "-c", "4", "-R", fmt.Sprint(pgbenchRate), "-T", "3600", o.Legacy)
	if err := testenv.Start(load); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() { defer close(ended); _ = load.Wait() }()
	end := func() { stop(); <-ended }
	t.Cleanup(end)
	d.awaits("pgbench to write", func() bool {
		return o.number(t, o.Legacy, `SELECT count(*) FROM (SELECT FROM pgbench_history LIMIT 1) one`) > 0
	})
	o.SQL(o.State, `CREATE TABLE public.loaded AS SELECT clock_timestamp() AS at`)
	d.awaits("the bypass to be found", func() bool { return o.number(t, o.State, `SELECT count(*) FROM public.looks WHERE least > 0`) > 0 })
	if code, out, errs := o.Try("status"); code != clitest.Done || !strings.Contains(out, "changes of legacy's table that no instance reported") {
		t.Errorf("exit code %d: %s%s", code, out, errs)
	}

	// Within a minute: the daemon looks every five seconds, so a minute is twelve looks. They are counted,
	// by the state: on a machine that is too busy a look comes late, and the count stays as it is. It begins at
	// the last look before pgbench wrote, as the finding itself says.
	if n := o.number(t, o.State, `SELECT count(*) FROM (SELECT first_at FROM public.looks WHERE least > 0 ORDER BY at LIMIT 1) found, public.loaded WHERE first_at <= loaded.at`); n != 1 {
		t.Error("the finding begins after pgbench did")
	}
	const lookedAt = `FROM public.looks, (SELECT at, first_at FROM public.looks WHERE least > 0 ORDER BY at LIMIT 1) found WHERE looks.at > found.first_at AND looks.at <= found.at`
	looks := o.number(t, o.State, `SELECT count(*) `+lookedAt)
	t.Logf("found at look %d, %d s after the last one before it", looks, o.number(t, o.State, `SELECT extract(epoch FROM max(found.at - found.first_at))::bigint `+lookedAt))
	if looks > looksOfAMinute {
		t.Errorf("found at look %d since pgbench began; a minute has %d", looks, looksOfAMinute)
	}

	d.awaits("enough changes", func() bool { return o.number(t, o.Legacy, `SELECT count(*) FROM pgbench_history`) >= pgbenchChanged })
	code, out, errs := o.Try("reconcile", "run", "--full", "--repair", "--max-repairs", "1000000")
	if says := "than the 1% that reconcile.max_difference allows: programs write legacy past the application ("; code != clitest.NotYet || !strings.Contains(out+errs, says) {
		t.Errorf("exit code %d, no %q in\n%s%s", code, says, out, errs)
	}
	select {
	case <-ended:
		t.Error("pgbench has ended before")
	default:
	}
	end()
	if n := app.writes.Load(); n == 0 || app.failed.Load() != nil {
		t.Errorf("the application made %d writes: %v", n, app.failed.Load())
	}
	if code := d.end(syscall.SIGTERM); code != clitest.Done {
		t.Errorf("on SIGTERM it exited with %d", code)
	}
}

// account is a row of pgbench_accounts.
type account struct {
	AID     int64   `db:"aid"`
	BID     *int64  `db:"bid"`
	Balance *int64  `db:"abalance"`
	Filler  *string `db:"filler"`
}

// accounts is an application that writes accounts by package dual.
type accounts struct {
	writes atomic.Int64
	failed atomic.Pointer[error]
}

// serveAccounts runs one until the test ends.
func serveAccounts(t *testing.T, o *operator) *accounts {
	t.Helper()
	m, err := openstore.Load(o.Path("migration.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	db, err := pgxpool.New(t.Context(), o.Legacy)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(db.Close)
	records, err := kit.Open(t.Context(), m, kit.Options{StateURL: o.State}, kit.Binding[int64, account]{
		Read: func(ctx context.Context, aid int64) (a account, found bool, err error) {
			err = db.QueryRow(ctx, `SELECT aid, bid, abalance, filler FROM pgbench_accounts WHERE aid = $1`, aid).Scan(&a.AID, &a.BID, &a.Balance, &a.Filler)
			if errors.Is(err, pgx.ErrNoRows) {
				return a, false, nil
			}
			return a, err == nil, err
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	a := &accounts{}
	visit := func(ctx context.Context) error {
		aid, amount := 1+rand.Int64N(1_000_000), rand.Int64N(1000)
		now, _, err := records.Get(ctx, aid)
		if err != nil {
			return err
		}
		now.Balance = &amount
		return records.Put(ctx, aid, now, func(ctx context.Context) (v record.Version, err error) {
			err = db.QueryRow(ctx, `UPDATE pgbench_accounts SET abalance = $2 WHERE aid = $1 RETURNING `+records.Version, aid, amount).Scan(&v)
			return v, err
		})
	}
	ctx, stop := context.WithCancel(context.WithoutCancel(t.Context()))
	var serving sync.WaitGroup
	serving.Go(func() {
		err := records.Serve(ctx, func(ctx context.Context) error {
			for ctx.Err() == nil {
				if err := visit(context.WithoutCancel(ctx)); err != nil {
					a.failed.CompareAndSwap(nil, &err)
				}
				a.writes.Add(1)
				_ = underway(ctx, 20*time.Millisecond)
			}
			return nil
		})
		if err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(func() { stop(); serving.Wait(); records.Close() })
	return a
}
