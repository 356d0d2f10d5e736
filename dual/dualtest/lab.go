// Package dualtest tests an application's writes against a private PostgreSQL: that both forms
// of each write agree, that the legacy form returns what it wrote, at a version of its own, and
// that a failed COMMIT is an error.
//
//	lab := dualtest.New(t, m) // m.Legacy.URL: a database of the test's own, with the table
//	sessions, err := sessions.Open(t.Context(), db, m, lab.Options())
//	lab.Serve(sessions)
//	lab.Check("extend", func(ctx context.Context) error { return sessions.Extend(ctx, "a", time.Hour) })
//
// The target is a memory.Target and the fleet a dual.MemoryFleet: there is neither Redis nor a
// state database. New installs migrator's functions in the legacy database, and Check creates a
// trigger there for a moment: never use a database that others use.
package dualtest

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stranglerfig/migrator/dual"
	"github.com/stranglerfig/migrator/dual/kit"
	"github.com/stranglerfig/migrator/migration"
	"github.com/stranglerfig/migrator/phases"
	"github.com/stranglerfig/migrator/record"
	"github.com/stranglerfig/migrator/store"
	"github.com/stranglerfig/migrator/store/memory"
)

// MaxRows is how many rows legacy's table may have in a test: Check reads all of them.
const MaxRows = 10_000

// Lab is one migration with one instance, in a test.
type Lab struct {
	Fleet *dual.MemoryFleet

	t      *testing.T
	m      *migration.Config
	legacy store.Legacy
	probe  *probe // nil: legacy is no PostgreSQL
	target target
}

// New opens legacy and prepares it for versions. The test ends with an error where it can't.
func New(t *testing.T, m *migration.Config) *Lab {
	t.Helper()
	legacy, err := m.OpenLegacy(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(legacy.Close)
	if err := legacy.Install(t.Context()); err != nil {
		t.Fatal(err)
	}
	l := &Lab{
		Fleet: dual.NewMemoryFleet(phases.Route{Phase: phases.Legacy}),
		t:     t, m: m, legacy: legacy,
	}
	if m.Legacy.Store == "postgres" {
		if l.probe, err = newProbe(t.Context(), m); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(l.probe.close)
	}
	l.seed(nil)
	return l
}

// Options are for kit.Open.
func (l *Lab) Options() kit.Options {
	return kit.Options{
		Fleet: l.Fleet, Target: &l.target, Schema: l.legacy.Schema(), Strict: true,
		Logger: slog.New(slog.NewTextHandler(l.t.Output(), nil)),
	}
}

// Serve runs an application until the test ends. kit.Records has the method, and so has what
// embeds it.
func (l *Lab) Serve(app interface {
	Serve(ctx context.Context, serve func(context.Context) error) error
},
) {
	ctx, stop := context.WithCancel(context.WithoutCancel(l.t.Context()))
	served := make(chan error, 1)
	go func() {
		served <- app.Serve(ctx, func(ctx context.Context) error {
			<-ctx.Done()
			return nil
		})
	}()
	l.t.Cleanup(func() {
		stop()
		if err := <-served; err != nil {
			l.t.Errorf("the application did not leave cleanly: %v", err)
		}
	})
}

// Option changes a Check.
type Option func(*check)

// Ignore names columns whose values differ from run to run, such as the time of the last
// change: only NULL is compared. Their legacy value and what the closure returned still must
// be the same.
func Ignore(columns ...string) Option {
	return func(c *check) { c.ignored = append(c.ignored, columns...) }
}

type check struct {
	ignored []string
}

// rows are records by key.
type rows map[record.Key]record.Record

// Check makes a write in both forms, each from legacy's present rows, and compares. It is a
// subtest of the Lab's test. The forms agree if both return an error, or none, and leave the
// same records.
//
// It calls the write three times: in complete; in grace while every COMMIT fails, unless the
// write changed nothing; and in grace, where the legacy form stays. So the write must be the same
// each time (fix random keys outside of it), and what it does to other tables happens each time.
// These are not compared. Afterwards the instance is in grace, and both stores have the rows.
func (l *Lab) Check(name string, write func(context.Context) error, options ...Option) bool {
	l.t.Helper()
	return l.t.Run(name, func(t *testing.T) {
		t.Helper()
		var c check
		for _, o := range options {
			o(&c)
		}
		l.check(t, &c, write)
	})
}

// Move takes the instance to a phase, with legacy's present rows in the target: for tests of the
// application in one phase. It raises no fence in legacy.
func (l *Lab) Move(p phases.Phase) {
	l.t.Helper()
	l.seed(l.legacyRows(l.t))
	l.move(l.t, p)
}

func (l *Lab) check(t testing.TB, c *check, write func(context.Context) error) {
	t.Helper()
	for _, name := range c.ignored {
		if l.legacy.Schema().Index(name) < 0 {
			t.Fatalf("Ignore: the records have no column %q", name)
		}
	}
	before := l.legacyRows(t)

	// The second form, as after the fence: only the target is written.
	l.seed(before)
	l.move(t, phases.Complete)
	updateErr := write(t.Context())
	updated, _ := l.targetRows(t)
	changes := len(differing(before, updated)) > 0

	if changes && l.probe != nil {
		l.checkCommitError(t, before, write)
	}

	l.seed(before)
	l.move(t, phases.Grace)
	held, legacyErr := l.writeWhileHeld(t, changes, write)
	after := l.legacyRows(t)
	returned, versions := l.targetRows(t)

	switch {
	case errors.Is(legacyErr, dual.ErrChanges):
		t.Errorf("%v", legacyErr)
	case (legacyErr == nil) != (updateErr == nil):
		t.Errorf("the forms disagree: the legacy form returns %s, Update %s", outcome(legacyErr), outcome(updateErr))
	}
	for _, key := range differing(after, returned) {
		if l.compare(&check{}, after[key], returned[key]) == "" {
			continue // the same by meaning: jsonb prints spaces
		}
		t.Errorf("record %q: legacy has %s, but the closure returned %s", key, l.describe(after[key]), l.describe(returned[key]))
	}
	for _, key := range differing(after, updated) {
		if found := l.compare(c, after[key], updated[key]); found != "" {
			t.Errorf("record %q: the legacy form and Update differ in %s: legacy has %s, Update made %s", key, found, l.describe(after[key]), l.describe(updated[key]))
		}
	}
	for key, version := range versions {
		if _, existed := before[key]; existed && held.waited && !held.version.IsZero() && version.Era() > 0 && !version.NewerThan(held.version) {
			t.Errorf("record %q: its version was taken before the write had the row's lock: a concurrent write could have committed in between with a newer version and an older state; take it in the RETURNING of the statement that writes the row, or after that statement", key)
		}
	}
}

// checkCommitError makes the write while every COMMIT that changes the table fails.
func (l *Lab) checkCommitError(t testing.TB, before rows, write func(context.Context) error) {
	t.Helper()
	l.seed(before)
	l.move(t, phases.Grace)
	if err := l.probe.refuseCommits(t.Context()); err != nil {
		t.Errorf("whether COMMIT's error is returned could not be checked: %v", err)
		return
	}
	err := write(t.Context())
	if undo := l.probe.allowCommits(context.WithoutCancel(t.Context())); undo != nil {
		t.Fatal(undo)
	}
	if err == nil {
		t.Errorf("the write returned no error although its COMMIT failed: return the error of Commit")
	}
	got, _ := l.targetRows(t)
	for _, key := range differing(before, got) {
		t.Errorf("record %q: the target was written although legacy's COMMIT failed", key)
	}
}

// held is what is known of a write that had to wait for the rows that it changes.
type held struct {
	waited  bool
	version record.Version // of the last moment before the rows were free
}

// writeWhileHeld makes the write while another transaction holds the table's rows, and lets it
// go on as soon as it waits for them.
func (l *Lab) writeWhileHeld(t testing.TB, changes bool, write func(context.Context) error) (held, error) {
	t.Helper()
	if !changes || l.probe == nil {
		return held{}, write(t.Context())
	}
	release, err := l.probe.hold(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	written := make(chan error, 1)
	go func() { written <- write(t.Context()) }()
	h, err := release(written)
	if err != nil {
		t.Fatal(err)
	}
	return h, <-written
}

func (l *Lab) move(t testing.TB, p phases.Phase) {
	t.Helper()
	if err := l.Fleet.Move(t.Context(), p, phases.All); err != nil {
		t.Fatalf("%v: call Lab.Serve before Check", err)
	}
}

func (l *Lab) legacyRows(t testing.TB) rows {
	t.Helper()
	found := rows{}
	chunks, err := l.legacy.Chunks(t.Context(), MaxRows)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range chunks {
		if err := l.legacy.Scan(t.Context(), c, func(r store.Row) error {
			found[r.Key] = r.Record.Clone()
			if len(found) > MaxRows {
				return fmt.Errorf("legacy has more than %d rows: check writes on a smaller table", MaxRows)
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
	}
	return found
}

// seed makes the target hold the rows, at versions older than every write.
func (l *Lab) seed(r rows) {
	fresh := memory.New(l.legacy.Schema(), nil)
	writes := make([]store.Write, 0, len(r))
	for key, rec := range r {
		writes = append(writes, store.Write{Key: key, Record: rec, Version: record.FirstOf(0)})
	}
	results, err := fresh.Apply(l.t.Context(), writes)
	for _, r := range results {
		err = errors.Join(err, r.Err)
	}
	if err != nil {
		l.t.Fatal(err)
	}
	l.target.Pointer.Store(fresh)
}

func (l *Lab) targetRows(t testing.TB) (rows, map[record.Key]record.Version) {
	t.Helper()
	found, versions := rows{}, map[record.Key]record.Version{}
	if err := l.target.Scan(t.Context(), func(entries []store.Entry) error {
		for _, e := range entries {
			versions[e.Key] = e.Version
			if e.Presence == store.Live {
				found[e.Key] = e.Record
			}
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return found, versions
}

// differing are the keys whose records are not the same texts.
func differing(a, b rows) (keys []record.Key) {
	for key := range maps.Keys(a) {
		if other, ok := b[key]; !ok || !slices.Equal(a[key], other) {
			keys = append(keys, key)
		}
	}
	for key := range maps.Keys(b) {
		if _, ok := a[key]; !ok {
			keys = append(keys, key)
		}
	}
	slices.Sort(keys)
	return keys
}

// compare lists the columns in which two records differ, but for what is ignored.
func (l *Lab) compare(c *check, a, b record.Record) string {
	if a == nil || b == nil {
		return "whether the record exists"
	}
	schema := l.legacy.Schema()
	comparer, err := record.NewComparer(schema, l.m.Compare)
	if err != nil {
		l.t.Fatal(err)
	}
	a, b = a.Clone(), b.Clone()
	for _, name := range c.ignored {
		at := schema.Index(name)
		if a[at].State == b[at].State {
			b[at] = a[at]
		}
	}
	var found []string
	for _, d := range comparer.Compare(a, b) {
		found = append(found, d.Path)
	}
	return strings.Join(found, ", ")
}

// describe prints a record: a test's values are no secrets.
func (l *Lab) describe(r record.Record) string {
	if r == nil {
		return "no such record"
	}
	var b strings.Builder
	for i, f := range l.legacy.Schema().Fields {
		if i > 0 {
			b.WriteString(", ")
		}
		if r[i].State == record.Null {
			fmt.Fprintf(&b, "%s NULL", f.Name)
		} else {
			fmt.Fprintf(&b, "%s %q", f.Name, r[i].Text)
		}
	}
	return b.String()
}

func outcome(err error) string {
	if err == nil {
		return "no error"
	}
	return fmt.Sprintf("%q", err.Error())
}

// target is a memory.Target that Check replaces.
type target struct {
	atomic.Pointer[memory.Target]
}

func (t *target) Apply(ctx context.Context, w []store.Write) ([]store.Result, error) {
	return t.Load().Apply(ctx, w)
}

func (t *target) Get(ctx context.Context, keys []record.Key) ([]store.Entry, error) {
	return t.Load().Get(ctx, keys)
}

func (t *target) Scan(ctx context.Context, yield func([]store.Entry) error) error {
	return t.Load().Scan(ctx, yield)
}

func (t *target) Now(ctx context.Context) (time.Time, error) { return t.Load().Now(ctx) }
