package runbook_test

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"testing"

	"github.com/stranglerfig/migrator/internal/sqlconsole"
	"github.com/stranglerfig/migrator/internal/state"
	"github.com/stranglerfig/migrator/internal/state/runbooks"
	"github.com/stranglerfig/migrator/internal/test/statetest"
	"github.com/stranglerfig/migrator/internal/test/testenv"
	"github.com/stranglerfig/migrator/migration"
	"github.com/stranglerfig/migrator/runbook"
)

func TestMain(m *testing.M) { testenv.Main(m) }

const testConfig = "products"

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// front is the front matter of test runbooks.
const front = "---\nname: test\ntitle: A test\n---\n\n# Test\n\n"

func parse(t testing.TB, text string) *runbook.Runbook {
	t.Helper()
	r, err := runbook.Parse("test.md", []byte(front+text), map[string]string{"migration": testConfig})
	must(t, err)
	return r
}

// wrong parses a runbook that must be refused.
func wrong(t testing.TB, text string) migration.Errors {
	t.Helper()
	_, err := runbook.Parse("test.md", []byte(text), map[string]string{"migration": testConfig, "odd": "a b; c"})
	var all migration.Errors
	if !errors.As(err, &all) {
		t.Fatalf("%q is accepted: %v", text, err)
	}
	return all
}

// bench is a state database with a migration, and a directory for what steps write.
type bench struct {
	t     *testing.T
	url   string
	store *state.Store
	runs  *runbooks.Runs
	dir   string
}

func newBench(t *testing.T) *bench {
	t.Helper()
	b := &bench{t: t, url: statetest.URL(t), dir: t.TempDir()}
	var err error
	b.store, err = state.Open(t.Context(), b.url)
	must(t, err)
	t.Cleanup(b.store.Close)
	_, _, err = b.store.Apply(t.Context(), state.Applied{
		Migration: testConfig, Environment: "test", Config: []byte(`{"name":"products"}`), ConfigHash: "h1", Schema: []byte(`{}`), Reversible: true,
	})
	must(t, err)
	b.runs = runbooks.New(b.store.Pool(), testConfig)
	return b
}

// begin records a run.
func (b *bench) begin(r *runbook.Runbook) runbooks.Run {
	b.t.Helper()
	run, err := b.runs.Begin(b.t.Context(), r, "", true)
	must(b.t, err)
	return run
}

func (b *bench) executors(r *runbook.Runbook, run runbooks.Run) *runbook.Executors {
	t := &runbook.Executors{
		Book: r, Run: run.ID, Dir: b.dir, Env: []string{"PATH=/usr/local/bin:/usr/bin:/bin", "SECRET_URL=postgres://u:geheim@h/d"},
		Redact: runbook.NewRedactor("postgres://u:geheim@h/d"), Mark: b.dir + "/mark-" + run.UID,
		SQL: &sqlconsole.Console{URL: func(string) (string, error) { return b.url, nil }},
	}
	b.t.Cleanup(func() { _ = t.Close() })
	return t
}

// resume runs the rest of a run, as a process that takes the run over does.
func (b *bench) resume(r *runbook.Runbook, run runbooks.Run, change func(*runbook.Runner)) error {
	b.t.Helper()
	log, err := b.runs.Take(b.t.Context(), run.ID)
	must(b.t, err)
	defer log.Release()
	tools := b.executors(r, run)
	defer func() { _ = tools.Close() }()
	runner := &runbook.Runner{Book: r, Log: log, Do: tools}
	if change != nil {
		change(runner)
	}
	return runner.Run(b.t.Context())
}

// outcomes lists the attempts in their order, as block:outcome.
func (b *bench) outcomes(run runbooks.Run) string {
	b.t.Helper()
	records, err := b.runs.Records(b.t.Context(), run.ID)
	must(b.t, err)
	var words []string
	for _, r := range records {
		outcome := string(r.Outcome)
		if outcome == "" {
			outcome = "?"
		}
		words = append(words, fmt.Sprintf("%s:%s", r.Block, outcome))
	}
	return strings.Join(words, " ")
}

func (b *bench) status(run runbooks.Run) runbook.Status {
	b.t.Helper()
	now, err := b.runs.Run(b.t.Context(), run.ID)
	must(b.t, err)
	return now.Status
}

// role is a login role of this test alone.
func (b *bench) role() string { return "weak_" + b.store.Pool().Config().ConnConfig.Database }

func (b *bench) dropRole() {
	_, err := b.store.Pool().Exec(context.WithoutCancel(b.t.Context()), `DROP OWNED BY `+b.role()+`; DROP ROLE `+b.role())
	if err != nil {
		b.t.Error(err)
	}
}

// prober connects to the state database as its owner, and as the weak role.
func (b *bench) prober() prober {
	u, err := url.Parse(b.url)
	must(b.t, err)
	u.User = url.UserPassword(b.role(), "pw")
	return prober{&sqlconsole.Console{URL: func(connection string) (string, error) {
		if connection == "weak" {
			return u.String(), nil
		}
		return b.url, nil
	}}, b.store}
}

type prober struct {
	*sqlconsole.Console
	*state.Store
}

func (prober) Command(words []string) error {
	if words[len(words)-1] == "frobnicate" {
		return errors.New("there is no such command")
	}
	return nil
}
