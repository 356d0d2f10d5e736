package daemontest

import (
	"archive/tar"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/stranglerfig/migrator/dual"
	"github.com/stranglerfig/migrator/dual/kit"
	"github.com/stranglerfig/migrator/dual/pgfleet"
	"github.com/stranglerfig/migrator/internal/openstore"
	"github.com/stranglerfig/migrator/internal/test/clitest"
	"github.com/stranglerfig/migrator/internal/test/testenv"
	"github.com/stranglerfig/migrator/record"
	"github.com/stranglerfig/migrator/store"
)

// TestTortureNoValueLeavesOnTheWayBack: a program writes legacy past the application, with values, and reconcile refuses to
// repair what differs. Behind the fence an application writes, deletes, and writes what a store refuses; the return is
// rehearsed, refused by legacy, which quotes the values, and made with the refused rows set aside. No value is anywhere but
// in the stores.
func TestTortureNoValueLeavesOnTheWayBack(t *testing.T) {
	t.Parallel()
	onlyLong(t)
	url, sent := hooked(t)
	o := newOperator(t, "people", "", "", "")
	o.debugged()
	o.describesPeople(url, clitest.Served)
	o.SQL(o.Legacy, peopleTable+fmt.Sprintf(`INSERT INTO people SELECT '%s' || i, '%s' || i, jsonb_build_object('note', '%[2]s') FROM generate_series(1, 1200) i;
		CREATE TRIGGER bad BEFORE INSERT OR UPDATE ON people FOR EACH ROW EXECUTE FUNCTION bad()`, canaryKey, canary))
	o.SQL(o.Target, peopleTable)
	c := &canaries{operator: o, t: t}
	o.Does("init", "apply", "phase advance")
	d := o.serve(t)
	d.awaits("the lead", d.leads)
	a := joinPeople(t, o)
	o.Does("backfill run", "phase advance")

	o.SQL(o.Legacy, fmt.Sprintf(`SET application_name = 'nightly import'; UPDATE people SET email = '%[1]s' || email || 'x', doc = '{"note": ["%[1]s"]}'`, canary))
	d.awaits("the bypass to be found", func() bool { return strings.Contains(d.logText(), "past the application") })
	c.try("status", "doctor", "gate list", "gate explain bypass", "trigger list", "phase history", "phase advance --dry-run", "fleet list")
	if out := c.once("text", strings.Fields("reconcile run --full --repair --yes")...); !strings.Contains(out, "past the application") {
		t.Errorf("reconcile does not name the bypass: %s", out)
	}
	c.try("reconcile list", "reconcile show", "reconcile explain "+canaryKey+"7")
	c.bundle()
	c.answers(d)
	o.Try(strings.Fields("reconcile run --full --repair --max-repairs 5000 --yes --force x")...)
	o.Does("reconcile run --full", "phase advance", "reconcile run --full", "phase advance", "reconcile run --full", "phase advance")

	a.put("1", canary+"1")
	a.put("born", canary+"-born")
	a.put("2", canary+"7") // legacy will refuse it
	if err := a.writer.Delete(t.Context(), canaryKey+"3", a.noClosure); err != nil {
		t.Fatal(err)
	}
	o.SQL(o.Target, `CREATE TRIGGER bad BEFORE INSERT OR UPDATE ON people FOR EACH ROW EXECUTE FUNCTION bad()`)
	err := a.writer.Put(t.Context(), canaryKey+"4", person{canaryKey + "4", canary + "7", "{}"}, a.noClosure)
	if err == nil {
		t.Fatal("the target's trigger refused nothing")
	}
	c.check("the application's error", err.Error(), true)
	o.SQL(o.Target, `DROP TRIGGER bad ON people`)
	c.try("status", "doctor", "fleet list", "phase history", "phase rollback --rehearse", "reconcile run --full", "reconcile show", "reconcile explain "+canaryKey+"2")
	if out := c.once("text", strings.Fields("phase rollback --yes --reason x")...); !strings.Contains(out, canaryKey+"2") {
		t.Errorf("legacy refused nothing: %s", out)
	}
	o.dumpState(c.check)
	c.bundle()
	if out := c.once("text", strings.Fields("phase rollback --yes --set-aside --to dual-read --reason x")...); !strings.Contains(out, "dual-read") {
		t.Fatalf("no return: %s", out)
	}
	c.try("status", "doctor", "phase history", "history verify", "reconcile run --full", "reconcile show")
	c.bundle()
	c.answers(d)
	a.leave()
	c.check("the application's log", a.log.String(), true)
	d.end(syscall.SIGTERM)
	c.check("the daemon's log", d.logText(), false)
	o.dumpState(c.check)
	c.check("the webhooks", sent(), false)
	if c.printed < 50_000 {
		t.Errorf("%d bytes were looked at: too few", c.printed)
	}
}

// bundle looks at all that doctor writes for support.
func (c *canaries) bundle() {
	c.t.Helper()
	path := c.Path("support.tar.gz")
	c.once("text", "doctor", "--bundle", path)
	f, err := os.Open(path)
	if err != nil {
		c.t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	unpacked, err := gzip.NewReader(f)
	if err != nil {
		c.t.Fatal(err)
	}
	for in := tar.NewReader(unpacked); ; {
		h, err := in.Next()
		if errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			c.t.Fatal(err)
		}
		text, err := io.ReadAll(in)
		if err != nil {
			c.t.Fatal(err)
		}
		c.check("the bundle's "+h.Name, string(text), false)
	}
	if err := os.Remove(path); err != nil {
		c.t.Fatal(err)
	}
}

type person struct{ ID, Email, Doc string }

// people is an application that writes people.
type people struct {
	t      *testing.T
	writer *dual.Writer[string, person]
	log    testenv.Buffer
	leave  func()
}

func joinPeople(t *testing.T, o *operator) *people {
	t.Helper()
	a := &people{t: t}
	ctx := t.Context()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	m, err := openstore.Load(o.Path("migration.yaml"))
	must(err)
	fleet, err := pgfleet.Open(ctx, o.State, m.Name, pgfleet.Options{})
	must(err)
	t.Cleanup(fleet.Close)
	m, err = kit.Described(ctx, m, fleet)
	must(err)
	legacy, err := m.OpenLegacy(ctx)
	must(err)
	t.Cleanup(legacy.Close)
	target, err := m.OpenTarget(ctx, legacy.Schema())
	must(err)
	t.Cleanup(func() { _ = target.Close() })
	db, err := pgxpool.New(ctx, o.Legacy)
	must(err)
	t.Cleanup(db.Close)
	i, err := dual.Join(ctx, dual.Config{
		Fleet: fleet, Marks: target.(store.Marker), Moves: m.Moves(), Identity: dual.Identity{Instance: "web"}, ReportEvery: handIn,
		Logger:  slog.New(slog.NewTextHandler(&a.log, &slog.HandlerOptions{Level: slog.LevelDebug})),
		Writing: dual.Writing{Deadline: time.Duration(m.Writing.Deadline), NotAfter: time.Duration(m.Writing.NotAfter)},
	})
	must(err)
	text := func(of func(*person) *string, name string) dual.Column[person] {
		return dual.Column[person]{
			Name: name,
			Get:  func(p *person) record.Value { return record.TextValue(*of(p)) },
			Set:  func(p *person, v record.Value) error { *of(p) = v.Text; return nil },
		}
	}
	codec, err := dual.NewCodec(legacy.Schema(), func(id string) record.Key { return record.MakeKey(id) }, []dual.Column[person]{
		text(func(p *person) *string { return &p.ID }, "id"),
		text(func(p *person) *string { return &p.Email }, "email"),
		text(func(p *person) *string { return &p.Doc }, "doc"),
	})
	must(err)
	a.writer, err = dual.NewWriter(dual.WriterConfig[string, person]{
		Instance: i, Target: dual.Bind(target, codec), Key: codec.Key, Locked: kit.Locked(legacy, codec),
		Legacy: func(ctx context.Context, id string) (p person, found bool, err error) {
			err = db.QueryRow(ctx, `SELECT id, email, doc FROM people WHERE id = $1`, id).Scan(&p.ID, &p.Email, &p.Doc)
			if errors.Is(err, pgx.ErrNoRows) {
				return p, false, nil
			}
			return p, err == nil, err
		},
	})
	must(err)
	stay, leave := context.WithCancel(context.WithoutCancel(ctx))
	done := make(chan error, 1)
	go func() { done <- i.Run(stay) }()
	left := false
	a.leave = func() {
		leave()
		if !left {
			left = true
			<-done
		}
	}
	t.Cleanup(a.leave)
	return a
}

// noClosure is of writes behind the fence, which do not reach legacy.
func (a *people) noClosure(context.Context) (record.Version, error) {
	return record.Version{}, errors.New("a write behind the fence runs its closure")
}

func (a *people) put(id, email string) {
	a.t.Helper()
	p := person{canaryKey + id, email, `{"note": "` + canary + `"}`}
	if err := a.writer.Put(a.t.Context(), p.ID, p, a.noClosure); err != nil {
		a.t.Fatal(err)
	}
}

// TestTortureNoValueLeavesInADrill: its output, its reports, what is stored of it. The load writes a column of values, its
// writes are corrupted, and the stores differ before another one.
func TestTortureNoValueLeavesInADrill(t *testing.T) {
	t.Parallel()
	onlyLong(t)
	s := newSeeded(t, `UPDATE products SET name = '`+canary+`' || id, description = '`+canary+`', tags = '{`+canary+`}', attributes = '{"note": "`+canary+`"}'`, stagedTriggers, "--faults")
	s.debugged()
	c := &canaries{operator: s.operator, t: t}
	looks := func(number int64, printed string) {
		t.Helper()
		c.check("the drill", printed, true)
		for _, kind := range []string{"json", "md", "html"} {
			name := fmt.Sprintf("drill-products-%d.%s", number, kind)
			text, err := os.ReadFile(s.Path(name))
			if err != nil {
				t.Fatal(err)
			}
			c.check(name, string(text), true)
		}
		c.try("drill list", "drill show "+strconv.FormatInt(number, 10), "status", "trigger list", "gate list", "doctor", "reconcile show")
		c.bundle()
		s.dumpState(c.check)
	}
	stop := s.customers("20")
	defer stop()
	r, printed := s.drills(clitest.Done, "--load-column", "description")
	looks(r.Drill, printed)
	s.Does("trigger acknowledge --reason drilled", "reconcile run --full", "phase advance")
	r, printed = s.drills(clitest.Done, "--fault", "corrupt", "--load-keys", "60")
	looks(r.Drill, printed)
	stop()
	s.Does("trigger acknowledge --reason drilled", "reconcile run --full", "phase advance")
	s.Redis("HSET", "product:7", "name", canary+"-other")
	r, printed = s.drills(clitest.NotYet)
	if len(r.Reasons) != 1 || !strings.Contains(r.Reasons[0], "the stores differ before the drill") {
		t.Errorf("%q", r.Reasons)
	}
	looks(r.Drill, printed)
	if out := c.once("text", "drill", "rollback", "--keep-daemon", "--reports", s.Dir); !strings.Contains(out, "the stores differ before the drill") {
		t.Errorf("as text: %s", out)
	}
	if c.printed < 50_000 {
		t.Errorf("%d bytes were looked at: too few", c.printed)
	}
}
