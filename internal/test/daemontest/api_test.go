package daemontest

import (
	"context"
	"crypto/tls"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/cookiejar"
	"strings"
	"syscall"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/stranglerfig/migrator/dual"
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

// TestAnApplicationByTheHTTPAPI: an application of the kit that has a token, and no session of the state database, goes
// through every phase with two daemons of which one is killed, and back. The daemons have certificates of a private
// authority. Their own role is a server and an operator. Authority moves to the target and back by the page's buttons.
func TestAnApplicationByTheHTTPAPI(t *testing.T) {
	t.Parallel()
	o, _ := served(t)
	token, id := o.token("api_shop", "application")
	o.Write("token", token)
	authority := testenv.NewAuthority(t)
	cert, key := authority.Sign("daemon")
	for name, text := range map[string][]byte{"ca.pem": authority.PEM, "tls.crt": cert, "tls.key": key, "other.pem": testenv.NewAuthority(t).PEM} {
		o.Write(name, string(text))
	}
	settings := "file: " + o.Path("migration.yaml") + "\nstate_url: " + o.State + "\n"
	o.Write("settings.yaml", settings+"api: true\npage: true\ntls_cert_file: "+o.Path("tls.crt")+"\ntls_key_file: "+o.Path("tls.key")+"\n")
	first, second := o.serve(t), o.serve(t)
	daemons := httpfleet.Options{CAFile: o.Path("ca.pem"), TokenFile: o.Path("token")}
	for _, d := range []*daemonProcess{first, second} {
		daemons.URLs = append(daemons.URLs, strings.Replace(d.url, "http:", "https:", 1))
	}

	m, err := openstore.Load(o.Path("migration.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	legacy, err := pgxpool.New(t.Context(), o.Legacy)
	if err != nil {
		t.Fatal(err)
	}
	defer legacy.Close()
	open := func(with httpfleet.Options) (*kit.Records[int64, apiItem], error) {
		return kit.Open(t.Context(), m, kit.Options{Daemons: &with, Strict: true}, kit.Binding[int64, apiItem]{
			Read: func(ctx context.Context, id int64) (i apiItem, found bool, err error) {
				err = legacy.QueryRow(ctx, `SELECT id, name FROM items WHERE id = $1`, id).Scan(&i.ID, &i.Name)
				if errors.Is(err, pgx.ErrNoRows) {
					return i, false, nil
				}
				return i, err == nil, err
			},
		})
	}
	// refused checks an error, and what it says to do.
	refused := func(with httpfleet.Options, says, do string) {
		t.Helper()
		_, err := open(with)
		if h, _ := dual.HintOf(err); err == nil || !strings.Contains(err.Error(), says) || !strings.Contains(h.String(), do) || strings.Contains(err.Error(), token) {
			t.Errorf("%v (%s): want %q and %q", err, h, says, do)
		}
	}
	refused(httpfleet.Options{URLs: daemons.URLs, CAFile: o.Path("other.pem"), TokenFile: daemons.TokenFile}, "the daemon's certificate is not trusted", "Options.CAFile")
	refused(httpfleet.Options{URLs: []string{first.url}, TokenFile: daemons.TokenFile}, "the daemon answered 400", "the address of a daemon")
	var items *kit.Records[int64, apiItem]
	testenv.Await(t, "the daemons to know the token", func() bool { items, err = open(daemons); return err == nil })
	refused(httpfleet.Options{URLs: daemons.URLs, CAFile: daemons.CAFile, Token: "mgt_another"}, "expired or revoked", "migrator token create makes one")

	// What an instance in another language says of itself.
	cookies, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	client := &http.Client{Jar: cookies, Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: authority.Pool(), MinVersion: tls.VersionTLS12}}}
	defer client.CloseIdleConnections()
	ask := func(method, path, body string) (doc map[string]any) {
		t.Helper()
		r, err := http.NewRequestWithContext(t.Context(), method, daemons.URLs[0]+"/api/v1/migrations/items"+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Authorization", "Bearer "+token)
		r.Header.Set("Content-Type", "application/json")
		answer, err := client.Do(r)
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
	for _, phase := range []phases.Phase{phases.Cutover, phases.Grace} {
		o.Does("reconcile run --full", "phase advance")
		follows(phase)
	}
	// The fence and the return are a browser's buttons.
	operators, _ := o.token("api_operator", "operator")
	v := &visitor{t: t, root: daemons.URLs[1], client: client}
	v.signIn(operators)
	o.Does("reconcile run --full")
	v.presses("advance", "", "Then reads come from the target, writes go to the target alone", "retain")
	follows(phases.Retain)
	v.presses("rollback", "grace", "Then reads come from the target, with legacy behind it, writes go to both stores", "grace")
	follows(phases.Grace)
	if body := v.once(http.MethodGet, "/page/m/items", nil); !strings.Contains(body, "rollback by api_operator: pressed in a test") {
		t.Errorf("the timeline does not name who led back: %s", body)
	}
	o.Does("phase rollback --to legacy --yes --reason test")
	follows(phases.Legacy)
	stop()
	if err := <-ended; err != nil {
		t.Errorf("run: %v", err)
	}
	o.Does(fmt.Sprintf("token revoke %d", id))
	testenv.Await(t, "the daemon to know that the token is revoked", func() bool {
		_, err := open(daemons)
		return err != nil && strings.Contains(err.Error(), "expired or revoked")
	})
	for _, d := range []*daemonProcess{first, second} {
		if log := d.logText(); strings.Contains(log, token) {
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
