package daemontest

import (
	"html"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"

	"github.com/stranglerfig/migrator/internal/test/clitest"
	"github.com/stranglerfig/migrator/internal/test/testenv"
	"github.com/stranglerfig/migrator/phases"
)

// TestThePageIsServed where the settings say so, and never over an open network without TLS.
func TestThePageIsServed(t *testing.T) {
	t.Parallel()
	o, _ := served(t)
	settings := "file: " + o.Path("migration.yaml") + "\nstate_url: " + o.State + "\n"
	for setting, want := range map[string]string{"page: maybe": "true or false", "page: true\nlisten_anywhere: true": "needs TLS"} {
		o.Write("settings.yaml", settings+setting+"\n")
		if code, _, stderr := o.Try("serve", "--listen", "127.0.0.1:0"); code != clitest.Usage || !strings.Contains(stderr, want) {
			t.Errorf("%s: %d %s", setting, code, stderr)
		}
	}
	o.Write("settings.yaml", settings+"page: true\n")
	d := o.serve(t)
	d.awaits("the page", func() bool { code, _ := d.get("/page/m/items"); return code == http.StatusOK })
	if code, body := d.get("/page"); code != http.StatusOK || !strings.Contains(body, "items") {
		t.Errorf("the list: %d %s", code, body)
	}
	// The remedies are those of the commands.
	if _, body := d.get("/page/m/items/explain/gate/consistency"); !strings.Contains(body, "no evaluation of it is kept") {
		t.Errorf("what is not kept: %s", body)
	}
}

// visitor is a browser without scripts: it keeps cookies, and says that its forms are the page's own.
type visitor struct {
	t      *testing.T
	root   string
	client *http.Client
}

func (v *visitor) do(method, path string, form url.Values) (status int, body string) {
	v.t.Helper()
	r, err := http.NewRequestWithContext(v.t.Context(), method, v.root+path, strings.NewReader(form.Encode()))
	if err != nil {
		v.t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.Header.Set("Sec-Fetch-Site", "same-origin")
	answer, err := v.client.Do(r)
	if err != nil {
		v.t.Fatal(err)
	}
	defer func() { _ = answer.Body.Close() }()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		v.t.Fatal(err)
	}
	return answer.StatusCode, html.UnescapeString(string(text))
}

// once is do, again while the daemon has no answer of the state database.
func (v *visitor) once(method, path string, form url.Values) (body string) {
	v.t.Helper()
	testenv.Await(v.t, "an answer of "+path, func() (answered bool) {
		var status int
		status, body = v.do(method, path, form)
		return status != http.StatusServiceUnavailable
	})
	return body
}

func (v *visitor) signIn(token string) {
	v.t.Helper()
	if body := v.once(http.MethodPost, "/page/session", url.Values{"token": {token}, "next": {"/page/m/items"}}); !strings.Contains(body, "Signed in as") {
		v.t.Fatalf("sign in: %s", body)
	}
}

var (
	hiddenField = regexp.MustCompile(`<input type="hidden" name="([a-z]+)" value="([^"]*)">`)
	watchedPath = regexp.MustCompile(`data-watch="([^"]*)"`)
)

// presses opens a button's question, confirms it, and waits for its end in a phase.
func (v *visitor) presses(verb, to, says string, in phases.Phase) {
	v.t.Helper()
	path := "/page/m/items/do/" + verb
	body := v.once(http.MethodGet, path+"?to="+to, nil)
	if !strings.Contains(body, says) || strings.Contains(body, "It would be refused") {
		v.t.Fatalf("%s asks: %s", verb, body)
	}
	form := url.Values{"reason": {"pressed in a test"}}
	_, question, _ := strings.Cut(body, "<main")
	for _, field := range hiddenField.FindAllStringSubmatch(question, -1) {
		form.Set(field[1], field[2])
	}
	body = v.once(http.MethodPost, path, form)
	testenv.Await(v.t, verb+" to end", func() bool {
		running := watchedPath.FindStringSubmatch(body)
		if running == nil {
			return true
		}
		body = v.once(http.MethodGet, running[1], nil)
		return false
	})
	if !strings.Contains(body, `is now at <strong id="is">`+string(in)) {
		v.t.Fatalf("%s: %s", verb, body)
	}
}
