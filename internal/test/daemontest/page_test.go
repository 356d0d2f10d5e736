package daemontest

import (
	"net/http"
	"strings"
	"testing"

	"github.com/stranglerfig/migrator/internal/test/clitest"
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
