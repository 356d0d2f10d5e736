package state_test

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/stranglerfig/migrator/internal/hint"
	"github.com/stranglerfig/migrator/internal/state"
	"github.com/stranglerfig/migrator/internal/statedb"
	"github.com/stranglerfig/migrator/internal/test/testenv"
	"github.com/stranglerfig/migrator/store"
)

func TestMigrateManyAtOnceAndAgain(t *testing.T) {
	t.Parallel()
	dbURL := testenv.PostgresURL(t)
	var wg sync.WaitGroup
	first := make(chan int64, 6)
	for range cap(first) {
		wg.Go(func() {
			from, to, err := state.Migrate(t.Context(), dbURL)
			if err != nil || to < 8 {
				t.Errorf("from %d to %d: %v", from, to, err)
			}
			first <- from
		})
	}
	wg.Wait()
	close(first)
	created := 0
	for from := range first {
		if from == 0 {
			created++
		}
	}
	if created != 1 {
		t.Errorf("%d of the runs found an empty database", created)
	}
	from, to, err := state.Migrate(t.Context(), dbURL)
	if err != nil || from != to {
		t.Errorf("again: from %d to %d: %v", from, to, err)
	}
}

// does is the action that an error's hint names.
func does(err error) hint.Action {
	h, _ := hint.Of(err)
	return h.Do
}

func TestOpenNamesWhatIsWrongWithTheSchema(t *testing.T) {
	t.Parallel()
	dbURL := testenv.PostgresURL(t)
	if _, err := state.Open(t.Context(), dbURL); !errors.Is(err, statedb.ErrNoSchema) || does(err) != hint.Init {
		t.Errorf("without schema: %v", err)
	}
	s := openAt(t, dbURL)
	_, known, err := state.Migrate(t.Context(), dbURL)
	if err != nil {
		t.Fatal(err)
	}
	exec(t, s, `INSERT INTO migrator.schema_version (version_id, is_applied) VALUES (999, true)`)
	if _, err := state.Open(t.Context(), dbURL); !errors.Is(err, state.ErrNewer) || !strings.Contains(err.Error(), "999") || !strings.Contains(err.Error(), fmt.Sprintf("knows %d", known)) {
		t.Errorf("newer: %v", err)
	}
	from, to, err := state.Migrate(t.Context(), dbURL)
	if !errors.Is(err, state.ErrNewer) || from != 999 || to != 999 {
		t.Errorf("migrate a newer one: from %d to %d: %v", from, to, err)
	}
	exec(t, s, fmt.Sprintf(`DELETE FROM migrator.schema_version WHERE version_id IN (%d, 999)`, known))
	if _, err := state.Open(t.Context(), dbURL); !errors.Is(err, state.ErrOlder) || does(err) != hint.Init {
		t.Errorf("older: %v", err)
	}
}

func TestErrorsNeverContainThePassword(t *testing.T) {
	t.Parallel()
	const secret = "s3cr3t"
	server := testenv.PostgresURL(t)
	for _, bad := range []string{
		"postgres://u:" + secret + "@localhost:notaport/db",
		"postgres://u:" + secret + "%zz@localhost/db",
		"postgres://u:" + secret + "@x@[::1/db",
		"postgres://u:" + secret + "/@localhost:1/db",
		"postgres://u:" + secret + "@localhost/db?sslmode=nonsense",
		"postgres://localhost/db?password=" + secret + "&sslmode=nonsense",
		"host=localhost password=" + secret + " port=x",
		"host=localhost password='" + secret + " port=1",
		"u:" + secret + "@localhost",
		"postgres://u:" + secret + "@127.0.0.1:1/db?connect_timeout=1",
		"mysql://u:" + secret + "@localhost/db",
		as(t, server, "postgres", secret),
		as(t, server, "nobody_"+"x", secret),
		"",
	} {
		_, openErr := state.Open(t.Context(), bad)
		_, _, migrateErr := state.Migrate(t.Context(), bad)
		for _, err := range []error{openErr, migrateErr} {
			if err == nil || strings.Contains(err.Error(), secret) {
				t.Errorf("%q: %v", bad, err)
			}
		}
		for _, c := range state.Check(t.Context(), bad) {
			if strings.Contains(c.Detail+c.Hint.String(), secret) {
				t.Errorf("%q: %+v", bad, c)
			}
		}
	}
}

func TestASchemaMadeByTheOwnerNeedsNoCreateOnTheDatabase(t *testing.T) {
	t.Parallel()
	dbURL := testenv.PostgresURL(t)
	role, roleURL := newRole(t, dbURL)
	_, _, err := state.Migrate(t.Context(), roleURL)
	if err == nil || !strings.Contains(err.Error(), "privilege") {
		t.Fatalf("without CREATE: %v", err)
	}
	if c := find(state.Check(t.Context(), roleURL), "schema"); c.Result != store.Refused || !strings.Contains(c.Hint.Text, "GRANT CREATE ON DATABASE") {
		t.Errorf("check: %+v", c)
	}
	conn, err := pgx.Connect(t.Context(), dbURL)
	must(t, err)
	defer conn.Close(t.Context())
	_, err = conn.Exec(t.Context(), `CREATE SCHEMA migrator AUTHORIZATION `+role+`; CREATE SCHEMA migrator_river AUTHORIZATION `+role)
	must(t, err)
	_, _, err = state.Migrate(t.Context(), roleURL)
	must(t, err)
}

func find(checks []store.Check, name string) store.Check {
	for _, c := range checks {
		if c.Name == name {
			return c
		}
	}
	return store.Check{}
}

func TestCheck(t *testing.T) {
	t.Parallel()
	dbURL := testenv.PostgresURL(t)
	if c := find(state.Check(t.Context(), dbURL), "schema"); c.Result != store.Refused || c.Hint.Do != hint.Init {
		t.Errorf("without schema: %+v", c)
	}
	openAt(t, dbURL)
	for _, name := range []string{"connection", "primary", "schema", "privileges", "clock"} {
		if c := find(state.Check(t.Context(), dbURL), name); c.Result != store.Good {
			t.Errorf("%s: %+v", name, c)
		}
	}
	// The tests' shared server runs with synchronous_commit off.
	if c := find(state.Check(t.Context(), dbURL), "durability"); c.Result != store.Warned {
		t.Errorf("durability: %+v", c)
	}
	_, stranger := newRole(t, dbURL)
	if c := find(state.Check(t.Context(), stranger), "schema"); c.Result != store.Refused {
		t.Errorf("a role without privileges: %+v", c)
	}
}

func TestAReadOnlyDatabaseIsNamed(t *testing.T) {
	t.Parallel()
	dbURL := testenv.PostgresURL(t)
	_, _, err := state.Migrate(t.Context(), dbURL+"&default_transaction_read_only=on")
	if h, _ := hint.Of(err); err == nil || !strings.HasPrefix(h.Text, "the URL of the primary") {
		t.Error(err)
	}
}
