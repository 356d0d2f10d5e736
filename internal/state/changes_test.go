package state_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/stranglerfig/migrator/dual"
	"github.com/stranglerfig/migrator/dual/pgfleet"
	"github.com/stranglerfig/migrator/internal/hint"
	"github.com/stranglerfig/migrator/internal/state"
	"github.com/stranglerfig/migrator/phases"
)

// TestWhatMovesChangesInLegacyOnly: in every phase after it each such key is refused, with the way,
// and nothing of the file is stored; all else is stored in every phase, with a history entry.
func TestWhatMovesChangesInLegacyOnly(t *testing.T) {
	t.Parallel()
	s, _ := open(t)
	const before = `{"name":"products","legacy":{"store":"postgres","table":"products","key":["id"]},` +
		`"target":{"store":"redis","key":"p:{id}","format":"hash"},"exclude":["a","b"],"compare":[{"path":"/at","as":"timestamptz","zone":"UTC"},{"path":"/x","tolerance":"1"}],"fleet":{"lease":"15s","renew":"5s"},"writing":{"deadline":"1s"}}`
	moves := []string{
		`"store":"postgres"`, `"store":"mysql"`, `"table":"products"`, `"table":"goods"`, `"key":["id"]`, `"key":["id","part"]`, `"key":["id"]`, `"key":["id"],"version_column":"v"`,
		`"store":"redis"`, `"store":"postgres"`, `"key":"p:{id}"`, `"key":"q:{id}"`, `"format":"hash"`, `"format":"json"`,
		`"format":"hash"`, `"format":"hash","expires":"until"`,
		`"zone":"UTC"`, `"zone":"Europe/Berlin"`, `,"as":"timestamptz","zone":"UTC"`, `,"tolerance":"2"`,
	}
	// exclude and fields only name columns: what comes of them is compared with the columns themselves.
	a := applied()
	apply := func(config, hash string) (state.Stored, error) {
		a.Config, a.ConfigHash = []byte(config), hash
		_, done, err := s.Apply(t.Context(), a)
		return done, err
	}
	for i := 0; i < len(moves); i += 2 { // in legacy all is stored
		if done, err := apply(strings.Replace(before, moves[i], moves[i+1], 1), fmt.Sprint("of ", i)); err != nil || len(done.Changes) == 0 {
			t.Errorf("legacy: %s: %v, %v", moves[i+1], done, err)
		}
	}
	_, err := apply(before, "h9")
	must(t, err)
	lease := "15s"
	for _, to := range []phases.Route{shadowWrite, dualRead, cutover, grace, fencedRoute, retain, {Phase: phases.Complete}} {
		walk(t, s, nil, to)
		now := strings.Replace(before, `"15s"`, `"`+lease+`"`, 1)
		for i := 0; i < len(moves); i += 2 {
			done, err := apply(strings.Replace(strings.Replace(now, moves[i], moves[i+1], 1), `"deadline":"1s"`, `"deadline":"2s"`, 1), fmt.Sprint("of ", i, " at ", to))
			var refused *state.ChangeRefusedError
			h, _ := hint.Of(err)
			way := hint.RollbackToLegacy
			if to.Phase == phases.Complete {
				way = ""
			}
			if !errors.As(err, &refused) || len(refused.Changes) == 0 || done.Any() || h.Do != way || !strings.Contains(h.Text, "another name") {
				t.Errorf("%s: %s: %+v, %v, %v", to, moves[i+1], done, err, h)
			}
		}
		// Another order of rules gives no value another meaning.
		if _, err := apply(strings.Replace(now, `[{"path":"/at"`, `[{"path":"/y","tolerance":"1"},{"path":"/at"`, 1), "h3"); err != nil {
			t.Errorf("%s: %v", to, err)
		}
		if _, err := apply(now, "h9"); err != nil {
			t.Errorf("%s: %v", to, err)
		}
		// Another order of exclude is no other mapping.
		if _, err := apply(strings.Replace(now, `["a","b"]`, `["b","a"]`, 1), "h9"); err != nil {
			t.Errorf("%s: %v", to, err)
		}
		lease += "0"
		lease = strings.Replace(lease, "s0", "0s", 1)
		done, err := apply(strings.Replace(before, `"15s"`, `"`+lease+`"`, 1), "h9")
		if err != nil || done.Void || !strings.Contains(changeList(done), `fleet.lease: `) {
			t.Errorf("%s: tuned: %+v, %v", to, done, err)
		}
		entries, err := s.History(t.Context(), testMigration, 1)
		must(t, err)
		if e := entries[0]; e.Cause != phases.CauseConfig || e.Reason != "exclude, fleet.lease" || !strings.Contains(string(e.Evidence), lease) || strings.Contains(string(e.Evidence), "2s") {
			t.Errorf("%s: the history has %s: %s", to, e.Reason, e.Evidence)
		}
	}
}

// TestChangesOf: what a document has, had or no longer has, at every depth.
func TestChangesOf(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ before, after, want string }{
		{`{"a":1}`, `{"a":1.0}`, "a: 1 → 1.0"},
		{`{"a":{"b":true}}`, `{}`, "a.b: true → not set"},
		{`{}`, `{"a":{"b":[1,2]}}`, "a.b: not set → [1,2]"},
		{`{"a":[{"b":1},{"c":2}]}`, `{"a":[{"b":1,"d":""}]}`, `a[0].d: not set → "", a[1].c: 2 → not set`},
		{`{"a":[{"command":["x","secret"]}]}`, `{"a":[{"command":["x","other"]}]}`, `a[0].command: "(not shown)" → "(not shown)"`},
		{`{"a":false}`, `{}`, "a: false → not set"},
		{`{"a":[]}`, `{}`, "a: [] → not set"},
		{`{"b":1,"a":2}`, ` {"a": 2, "b": 1}`, ""},
		{`{"a":9007199254740993}`, `{"a":9007199254740992}`, "a: 9007199254740993 → 9007199254740992"},
		{`{"a":{"b":{}}}`, `{}`, ""}, // an empty section says nothing
	} {
		changes, err := state.ChangesOf([]byte(c.before), []byte(c.after))
		if got := changeList(state.Stored{Changes: changes}); err != nil || got != c.want {
			t.Errorf("%s to %s: %q, %v, want %q", c.before, c.after, got, err, c.want)
		}
	}
	if _, err := state.ChangesOf([]byte(`{`), []byte(`{}`)); err == nil {
		t.Error("half a document is compared")
	}
}

// TestComparedShareIsPartOfTheRoute: a change of it begins an epoch in its phase alone, and none where
// an epoch would hide a state loss, or pull the route from under a fence's attempt.
func TestComparedShareIsPartOfTheRoute(t *testing.T) {
	t.Parallel()
	s, _ := open(t)
	a := applied()
	apply := func(config string) (phases.Status, state.Stored, error) {
		a.Config = []byte(config)
		return s.Apply(t.Context(), a)
	}
	const both = `{"name":"products","phases":{"cutover":{"shadow":25},"grace":{"shadow":5}}}`
	fleet := pgfleet.New(s.Pool(), testMigration, pgfleet.Options{})
	walk(t, s, nil, shadowWrite, dualRead)
	if st, done, err := apply(both); err != nil || done.Epoch || len(done.Changes) != 2 || !st.Route.Shadow.IsZero() {
		t.Errorf("dual-read: %+v, %+v, %v", st.Route, done, err)
	}
	for _, c := range []struct {
		to   phases.Route
		want string
	}{{cutover, "25"}, {grace, "5"}, {dualRead, ""}, {cutover, "25"}, {grace, "5"}} {
		walk(t, s, nil, c.to)
		st, err := s.Status(t.Context(), testMigration)
		must(t, err)
		if st.Route.Shadow.String() != c.want {
			t.Errorf("%s: %q, want %q", c.to, st.Route.Shadow, c.want)
		}
		g, err := fleet.Join(t.Context(), dual.Identity{Instance: "web"})
		must(t, err)
		if g.Route != st.Route {
			t.Errorf("an instance is on %+v, the migration on %+v", g.Route, st.Route)
		}
		must(t, fleet.Leave(t.Context(), g.Lease))
	}
	at, err := s.Status(t.Context(), testMigration)
	must(t, err)
	st, done, err := apply(strings.Replace(both, `"shadow":25`, `"shadow":30`, 1)) // of another phase
	if err != nil || done.Epoch || st.Route != at.Route {
		t.Errorf("cutover's share in grace: %+v, %+v, %v", st.Route, done, err)
	}
	st, done, err = apply(strings.Replace(both, `"shadow":5`, `"shadow":0`, 1))
	if err != nil || !done.Epoch || done.Void || st.Route.Epoch != at.Route.Epoch+1 || st.Route.Shadow != phases.SetShadow(0) || st.PhaseSince != at.PhaseSince || st.LastCause != "config" {
		t.Errorf("grace's share in grace: %+v, %+v, %v", st, done, err)
	}
	if _, err := s.VerifyHistory(t.Context(), testMigration); err != nil {
		t.Error(err)
	}

	refused := func(when string) {
		t.Helper()
		var refused *state.ChangeRefusedError
		if _, done, err := apply(both); !errors.As(err, &refused) || done.Any() && err == nil {
			t.Errorf("%s: %+v, %v", when, done, err)
		}
		now, err := s.Status(t.Context(), testMigration)
		must(t, err)
		if now.Route != st.Route || now.StoredHash != st.StoredHash {
			t.Errorf("%s: %+v, was %+v", when, now.Route, st.Route)
		}
	}
	must(t, s.Intend(t.Context(), testMigration, st.Route, "attempt", func(phases.Snapshot) error { return nil }))
	refused("an attempt to fence")
	must(t, s.ForgetAttempt(t.Context(), testMigration, "attempt", "test"))
	must(t, s.ReportStateLoss(t.Context(), testMigration, "web", phases.Route{Phase: phases.Retain, Epoch: st.Route.Epoch + 7}))
	refused("a state loss")
}
