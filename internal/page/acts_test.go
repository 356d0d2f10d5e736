package page_test

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/stranglerfig/migrator/internal/state"
	"github.com/stranglerfig/migrator/phases"
)

// role makes a role for the test, and grants.
func role(t *testing.T, owner *state.Store, grants ...state.Kind) string {
	t.Helper()
	name := "page_test_" + strings.ToLower(rand.Text()[:10])
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	_, err := owner.Pool().Exec(t.Context(), `CREATE ROLE `+name+` LOGIN PASSWORD 'pw'`)
	must(err)
	cfg := owner.Pool().Config().ConnConfig.Copy()
	t.Cleanup(func() {
		ctx := context.WithoutCancel(t.Context())
		conn, err := pgx.ConnectConfig(ctx, cfg)
		must(err)
		defer func() { _ = conn.Close(ctx) }()
		_, err = conn.Exec(ctx, `DROP OWNED BY `+name+` CASCADE; DROP ROLE `+name)
		must(err)
	})
	for _, kind := range grants {
		must(owner.Grant(t.Context(), state.Grant{Kind: kind, Role: name}))
	}
	return name
}

// hall is a page whose process has a role of its own, as a daemon has, with its owner beside it.
type hall struct {
	*served
	owner *state.Store
}

func newHall(t *testing.T) *hall {
	t.Helper()
	return newHallWith(t, func(*state.Store) []string { return nil })
}

// newHallWith applies a migration whose approvals are given.
func newHallWith(t *testing.T, approval func(owner *state.Store) []string) *hall {
	t.Helper()
	at := stateURL(t)
	owner, err := state.Open(t.Context(), at)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(owner.Close)
	apply(t, owner, "items", approval(owner)...)
	u, err := url.Parse(at)
	if err != nil {
		t.Fatal(err)
	}
	u.User = url.UserPassword(role(t, owner, state.Operator, state.Server), "pw")
	return &hall{serveOnly(t, u.String()), owner}
}

// token makes one for a new role.
func (h *hall) token(grants ...state.Kind) (name, token string, id int64) {
	h.t.Helper()
	name = role(h.t, h.owner, grants...)
	token, made, err := h.owner.CreateToken(h.t.Context(), state.NewToken{Role: name, Lives: time.Hour})
	if err != nil {
		h.t.Fatal(err)
	}
	return name, token, made.ID
}

// visitor is a browser: it keeps cookies, and says where its forms are from.
type visitor struct {
	*hall
	client *http.Client
	jar    *cookiejar.Jar
	origin map[string]string
}

func (h *hall) visitor() *visitor {
	jar, err := cookiejar.New(nil)
	if err != nil {
		h.t.Fatal(err)
	}
	return &visitor{h, &http.Client{Jar: jar}, jar, map[string]string{"Sec-Fetch-Site": "same-origin"}}
}

func (v *visitor) do(method, path string, form url.Values) (status int, header http.Header, body string) {
	v.t.Helper()
	r, err := http.NewRequestWithContext(v.t.Context(), method, v.http.URL+path, strings.NewReader(form.Encode()))
	if err != nil {
		v.t.Fatal(err)
	}
	if method == http.MethodPost {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		for name, value := range v.origin {
			r.Header.Set(name, value)
		}
	}
	answer, err := v.client.Do(r)
	if err != nil {
		v.t.Fatal(err)
	}
	defer func() { _ = answer.Body.Close() }()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		v.t.Fatal(err)
	}
	return answer.StatusCode, answer.Header, string(text)
}

func (v *visitor) signIn(token string) {
	v.t.Helper()
	if status, _, body := v.do(http.MethodPost, "/page/session", url.Values{"token": {token}, "next": {"/page/m/items"}}); status != http.StatusOK || !strings.Contains(body, "Signed in as") {
		v.t.Fatalf("sign in: %d %s", status, body)
	}
}

var hidden = regexp.MustCompile(`<input type="hidden" name="([a-z]+)" value="([^"]*)">`)

// asks opens a button's question, and returns the form that confirms it.
func (v *visitor) asks(verb string) (form url.Values, body string) {
	v.t.Helper()
	status, _, body := v.do(http.MethodGet, "/page/m/items/do/"+verb, nil)
	if status != http.StatusOK {
		v.t.Fatalf("%s: %d %s", verb, status, body)
	}
	form = url.Values{}
	_, question, _ := strings.Cut(body, "<main")
	for _, m := range hidden.FindAllStringSubmatch(question, -1) {
		form.Set(m[1], m[2])
	}
	return form, body
}

// confirms takes the act, and waits until it has ended.
func (v *visitor) confirms(verb string, form url.Values, reason string) (status int, body string) {
	v.t.Helper()
	form.Set("reason", reason)
	status, header, body := v.do(http.MethodPost, "/page/m/items/do/"+verb, form)
	_ = header
	for strings.Contains(body, "data-watch") { // until it has ended; the test's own limit ends it
		path := regexp.MustCompile(`data-watch="([^"]*)"`).FindStringSubmatch(body)[1]
		status, _, body = v.do(http.MethodGet, path, nil)
	}
	return status, body
}

func (h *hall) newest() state.Entry {
	h.t.Helper()
	all, err := h.owner.History(h.t.Context(), "items", 1)
	if err != nil || len(all) != 1 {
		h.t.Fatal(all, err)
	}
	return all[0]
}

// TestAButtonSaysWhatItDoesAndDoesIt: each verb asks first and changes nothing, then does it for the token's role.
func TestAButtonSaysWhatItDoesAndDoesIt(t *testing.T) {
	t.Parallel()
	h := newHall(t)
	who, token, id := h.token(state.Operator, state.Decider)
	v := h.visitor()
	v.signIn(token)
	for _, c := range []struct {
		verb, says, did, cause string
	}{
		{"advance", "Then reads come from legacy, writes go to legacy, and to the target in the background", `is now at <strong id="is">shadow-write</strong>`, "advance"},
		{"pause", "Blocks every advance", "paused: because of the test", "pause"},
		{"resume", "Ends the pause", "<strong>Done.</strong>", "resume"},
	} {
		before := h.newest()
		form, body := v.asks(c.verb)
		if !strings.Contains(body, c.says) || !strings.Contains(body, "lossless now") || !strings.Contains(body, "writes do not stop") || strings.Contains(body, "It would be refused") {
			t.Errorf("%s asks: %s", c.verb, body)
		}
		if now := h.newest(); now.Seq != before.Seq {
			t.Errorf("%s: the question has changed something: %+v", c.verb, now)
		}
		status, body := v.confirms(c.verb, form, "because of the test")
		entry := h.newest()
		if status != http.StatusOK || !strings.Contains(body, c.did) {
			t.Errorf("%s: %d %s", c.verb, status, body)
		}
		var evidence struct {
			Via struct {
				Token int64 `json:"token"`
			} `json:"via"`
		}
		_ = json.Unmarshal(entry.Evidence, &evidence)
		if string(entry.Cause) != c.cause || entry.Actor != who || entry.Reason != "because of the test" || evidence.Via.Token != id {
			t.Errorf("%s: the history has %+v", c.verb, entry)
		}
	}
	form, body := v.asks("rollback")
	if form.Get("csrf") != "" && !strings.Contains(body, "a rollback changes nothing") {
		t.Errorf("where reads come from legacy: %s", body)
	}
	_, _, body = v.do(http.MethodGet, "/page/m/items/do/rollback?to=legacy", nil)
	if !strings.Contains(body, "Roll back to legacy") {
		t.Errorf("to legacy: %s", body)
	}
	form = url.Values{}
	for _, m := range hidden.FindAllStringSubmatch(body, -1) {
		form.Set(m[1], m[2])
	}
	if _, body := v.confirms("rollback", form, ""); !strings.Contains(body, `is now at <strong id="is">legacy</strong>`) {
		t.Errorf("rollback: %s", body)
	}
}

// TestARefusedButtonSaysWhy: a closed gate, a role without the right, an act on what has moved since.
func TestARefusedButtonSaysWhy(t *testing.T) {
	t.Parallel()
	h := newHall(t)
	_, token, _ := h.token(state.Operator)
	v := h.visitor()
	v.signIn(token)
	old, _ := v.asks("advance")
	h.advance()
	if _, body := v.confirms("advance", old, ""); !strings.Contains(body, "has moved since this was asked") {
		t.Errorf("what has moved: %s", body)
	}
	form, body := v.asks("advance")
	if !strings.Contains(body, "It would be refused") || !strings.Contains(body, "backfill-done") || form.Get("seen") != "" {
		t.Errorf("a closed gate: %s", body)
	}
	if entry := h.newest(); entry.To.Phase != phases.ShadowWrite {
		t.Errorf("it moved: %+v", entry)
	}
	_, token, _ = h.token(state.Viewer)
	viewer := h.visitor()
	viewer.signIn(token)
	form, body = viewer.asks("pause")
	if !strings.Contains(body, "It would be refused") || form.Get("seen") != "" {
		t.Errorf("a viewer pauses: %s", body)
	}
	// Before the stores are touched.
	if _, body := viewer.asks("advance"); !strings.Contains(body, "has no grant of the kind operator") || strings.Contains(body, "backfill-done</strong>: no backfill has begun since the migration was last in legacy</li>") {
		t.Errorf("a viewer advances: %s", body)
	}
	form.Set("csrf", regexp.MustCompile(`name="csrf" value="([^"]*)"`).FindStringSubmatch(body)[1])
	form.Set("seen", "2")
	if _, body := viewer.confirms("pause", form, "no"); !strings.Contains(body, "Refused or failed") {
		t.Errorf("a viewer pauses all the same: %s", body)
	}
	if st, err := h.owner.Status(t.Context(), "items"); err != nil || st.Paused != "" {
		t.Errorf("%+v %v", st, err)
	}
}

// TestTwoPeople: one who approves is not the second person, whichever browser asks.
func TestTwoPeople(t *testing.T) {
	t.Parallel()
	var group string
	h := newHallWith(t, func(owner *state.Store) []string {
		group = role(t, owner)
		return []string{"{for: [shadow-write], two_people: [shadow-write], role: " + group + ", expires: 1h}"}
	})
	approver, one, _ := h.token(state.Operator)
	advancer, other, _ := h.token(state.Operator)
	if _, err := h.owner.Pool().Exec(t.Context(), `GRANT `+group+` TO `+approver+`, `+advancer); err != nil {
		t.Fatal(err)
	}
	first, second := h.visitor(), h.visitor()
	first.signIn(one)
	second.signIn(other)
	form, _ := first.asks("approve")
	if _, body := first.confirms("approve", form, ""); !strings.Contains(body, "approves shadow-write") {
		t.Fatalf("approve: %s", body)
	}
	if _, body := first.asks("advance"); !strings.Contains(body, "It would be refused") || !strings.Contains(body, "two people") {
		t.Errorf("the approver advances: %s", body)
	}
	form, body := second.asks("advance")
	if strings.Contains(body, "It would be refused") {
		t.Fatalf("the other one: %s", body)
	}
	if _, body := second.confirms("advance", form, ""); !strings.Contains(body, `is now at <strong id="is">shadow-write</strong>`) {
		t.Errorf("the other one: %s", body)
	}
}

// TestASessionIsTheBrowsersAlone: its cookie, its form and its pages; and it ends with its token.
func TestASessionIsTheBrowsersAlone(t *testing.T) {
	t.Parallel()
	h := newHall(t)
	_, token, id := h.token(state.Operator)
	v := h.visitor()
	if status, _, body := v.do(http.MethodPost, "/page/session", url.Values{"token": {"mgt_guess"}}); status != http.StatusForbidden || !strings.Contains(body, "unknown") {
		t.Errorf("a guess: %d", status)
	}
	if status, _, _ := v.do(http.MethodPost, "/page/m/items/do/pause", url.Values{"reason": {"x"}}); status != http.StatusUnauthorized {
		t.Errorf("without a session: %d", status)
	}
	v.client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	status, header, _ := v.do(http.MethodPost, "/page/session", url.Values{"token": {token}, "next": {"https://evil.example/"}})
	if status != http.StatusSeeOther || header.Get("Location") != "/page" {
		t.Errorf("the redirect: %d %s", status, header.Get("Location"))
	}
	cookie := header.Get("Set-Cookie")
	for _, want := range []string{"HttpOnly", "SameSite=Strict", "Path=/"} {
		if !strings.Contains(cookie, want) {
			t.Errorf("the cookie lacks %s: %s", want, cookie)
		}
	}
	if strings.Contains(cookie, token) {
		t.Error("the token is in the cookie")
	}
	v.client.CheckRedirect = nil
	form, body := v.asks("pause")
	if strings.Contains(body, token) {
		t.Error("the token is in the page")
	}
	good := form.Get("csrf")
	for name, change := range map[string]func(){
		"another form":      func() { form.Set("csrf", "-"+good) },
		"no form":           func() { form.Del("csrf") },
		"another site":      func() { v.origin = map[string]string{"Sec-Fetch-Site": "cross-site"} },
		"a sibling":         func() { v.origin = map[string]string{"Sec-Fetch-Site": "same-site"} },
		"another origin":    func() { v.origin = map[string]string{"Origin": "https://evil.example"} },
		"no word of origin": func() { v.origin = nil },
	} {
		form.Set("csrf", good)
		v.origin = map[string]string{"Sec-Fetch-Site": "same-origin"}
		change()
		form.Set("reason", name)
		if status, _, _ := v.do(http.MethodPost, "/page/m/items/do/pause", form); status != http.StatusForbidden {
			t.Errorf("%s: %d", name, status)
		}
	}
	v.origin = map[string]string{"Sec-Fetch-Site": "same-origin"}
	if st, err := h.owner.Status(t.Context(), "items"); err != nil || st.Paused != "" {
		t.Errorf("paused: %q %v", st.Paused, err)
	}
	if _, err := h.owner.RevokeToken(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	form.Set("csrf", good)
	if _, body := v.confirms("pause", form, "after the end"); !strings.Contains(body, "not valid any more") && !strings.Contains(body, "not signed in") {
		t.Errorf("a revoked token: %s", body)
	}
	for {
		if status, _, _ := v.do(http.MethodPost, "/page/session/end", url.Values{"csrf": {good}}); status == http.StatusUnauthorized {
			break // the review has ended the session, or this did
		}
	}
	if st, err := h.owner.Status(t.Context(), "items"); err != nil || st.Paused != "" {
		t.Errorf("paused: %q %v", st.Paused, err)
	}
}
