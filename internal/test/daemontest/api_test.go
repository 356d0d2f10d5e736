package daemontest

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"syscall"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/stranglerfig/migrator/dual/httpfleet"
	"github.com/stranglerfig/migrator/dual/kit"
	"github.com/stranglerfig/migrator/internal/openstore"
	"github.com/stranglerfig/migrator/internal/test/testenv"
	"github.com/stranglerfig/migrator/phases"
	"github.com/stranglerfig/migrator/record"
)

type apiItem struct {
	ID   int64          `db:"id"`
	Name sql.NullString `db:"name"`
}

// TestAnApplicationByTheHTTPAPI: an application that has a token, and no session of the state database, goes through every
// phase with two daemons of which one is killed, and back. The daemons' own role is a server and an operator.
func TestAnApplicationByTheHTTPAPI(t *testing.T) {
	t.Parallel()
	o, _ := served(t)
	o.SQL(o.State, `DO $$ BEGIN IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'api_shop') THEN CREATE ROLE api_shop; END IF; END $$`)
	t.Cleanup(func() { o.SQL(o.State, `DROP OWNED BY api_shop CASCADE; DROP ROLE api_shop`) })
	o.Does("init --grant-application api_shop --migration items")
	var made struct {
		Token string `json:"token"`
	}
	code, stdout, stderr := o.Try("token", "create", "--role", "api_shop", "-o", "json")
	if err := json.Unmarshal([]byte(stdout), &made); err != nil || code != 0 {
		t.Fatalf("token create: %d %s %s", code, stdout, stderr)
	}
	o.Write("token", made.Token)
	settings := "file: " + o.Path("migration.yaml") + "\nstate_url: " + o.State + "\n"
	o.Write("settings.yaml", settings+"api: true\n")
	first, second := o.serve(t), o.serve(t)
	fleet, err := httpfleet.New("items", httpfleet.Options{URLs: []string{first.url, second.url}, TokenFile: o.Path("token")})
	if err != nil {
		t.Fatal(err)
	}
	defer fleet.Close()
	testenv.Await(t, "the daemons to know the token", func() bool { _, err := fleet.TargetRead(t.Context()); return err == nil })

	// What an instance in another language says of itself.
	ask := func(method, path, body string) (doc map[string]any) {
		t.Helper()
		r, err := http.NewRequestWithContext(t.Context(), method, first.url+"/api/v1/migrations/items"+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Authorization", "Bearer "+made.Token)
		r.Header.Set("Content-Type", "application/json")
		answer, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = answer.Body.Close() }()
		_ = json.NewDecoder(answer.Body).Decode(&doc) // of 204 there is none
		return doc
	}
	moves := ask(http.MethodGet, "/applied", "")["moves"]
	other := ask(http.MethodPost, "/leases", fmt.Sprintf(`{"lease":"one-in-another-language","instance":"other","moves":%q}`, moves))
	if other["other_moves"] != false || other["config_hash"] == "" {
		t.Errorf("an instance that moves what is applied (%v): %v", moves, other)
	}
	ask(http.MethodDelete, "/leases/one-in-another-language", "")

	m, err := openstore.Load(o.Path("migration.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	legacy, err := pgxpool.New(t.Context(), o.Legacy)
	if err != nil {
		t.Fatal(err)
	}
	defer legacy.Close()
	items, err := kit.Open(t.Context(), m, kit.Options{Fleet: fleet, Strict: true}, kit.Binding[int64, apiItem]{
		Read: func(ctx context.Context, id int64) (i apiItem, found bool, err error) {
			err = legacy.QueryRow(ctx, `SELECT id, name FROM items WHERE id = $1`, id).Scan(&i.ID, &i.Name)
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
	ended := make(chan error, 1)
	go func() { ended <- items.Instance.Run(running) }()
	n := 0
	follows := func(phase phases.Phase) {
		t.Helper()
		testenv.Await(t, "the instance to be in "+string(phase), func() bool { return items.Instance.Route().Phase == phase })
		for id := range int64(3) {
			n++
			want := apiItem{id + 1, sql.NullString{String: fmt.Sprintf("written %d", n), Valid: true}}
			err := items.Put(t.Context(), want.ID, want, func(ctx context.Context) (v record.Version, err error) {
				err = legacy.QueryRow(ctx, `UPDATE items SET name = $2 WHERE id = $1 RETURNING `+items.Version, want.ID, want.Name).Scan(&v)
				return v, err
			})
			if err != nil {
				t.Fatalf("in %s: %v", phase, err)
			}
			if got, found, err := items.Get(t.Context(), want.ID); err != nil || !found || got != want {
				t.Errorf("in %s: %+v, %v, %v; want %+v", phase, got, found, err, want)
			}
		}
	}
	follows(phases.Legacy)
	o.Does("phase advance")
	follows(phases.ShadowWrite)
	first.end(syscall.SIGKILL)
	o.Does("backfill run", "phase advance")
	follows(phases.DualRead)
	for _, phase := range []phases.Phase{phases.Cutover, phases.Grace, phases.Retain} {
		o.Does("reconcile run --full", "phase advance")
		follows(phase)
	}
	o.Does("phase rollback --to grace --yes --reason test")
	follows(phases.Grace)
	o.Does("phase rollback --to legacy --yes --reason test")
	follows(phases.Legacy)
	stop()
	if err := <-ended; err != nil {
		t.Errorf("run: %v", err)
	}
	for _, d := range []*daemonProcess{first, second} {
		if log := d.logText(); strings.Contains(log, made.Token) {
			t.Errorf("the token is in a log: %s", log)
		}
	}
	for setting, want := range map[string]string{
		"api: maybe":                       "true or false",
		"api_rate: 10":                     "which is not served",
		"api: true\napi_rate: 0":           "from 1 to",
		"api: true\nlisten_anywhere: true": "needs TLS",
	} {
		o.Write("settings.yaml", settings+setting+"\n")
		if code, _, stderr := o.Try("serve", "--listen", "127.0.0.1:0"); code != 2 || !strings.Contains(stderr, want) {
			t.Errorf("%s: %d %s", setting, code, stderr)
		}
	}
}
