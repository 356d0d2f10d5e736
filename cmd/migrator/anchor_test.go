package main

import (
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"

	"github.com/stranglerfig/migrator/internal/test/clitest"
)

// TestAnAnchorShowsAHistoryThatWasWrittenAgain: the owner of the schema changes an entry and computes the chain again, which is
// then whole in itself.
func TestAnAnchorShowsAHistoryThatWasWrittenAgain(t *testing.T) {
	t.Parallel()
	o := clitest.New(t, "products", "  table: products\n", "  key: product:{id}\n", "")
	o.SQL(o.Legacy, `CREATE TABLE products (id bigint PRIMARY KEY)`)
	o.Keys("anchor")
	o.Keys("other")
	received := make(chan string, 1)
	hook := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		text, _ := io.ReadAll(r.Body)
		received <- string(text)
	}))
	defer hook.Close()
	anchor := "history anchor --key " + o.Path("anchor.key") + " --out " + o.Path("anchors")
	o.Does("init", "apply", "phase pause --reason lunch", anchor, "phase resume", anchor+" --webhook "+hook.URL)
	text, err := os.ReadFile(o.Path("anchors"))
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.SplitAfter(string(text), "\n")
	if len(lines) != 3 || <-received != lines[1] {
		t.Fatalf("anchors: %q", lines)
	}
	check := func(file, key string) (int, string) {
		code, stdout, stderr := o.Try("phase", "history", "--verify", "--anchor", o.Path(file), "--public-key", o.Path(key))
		return code, stdout + stderr
	}
	if code, answer := check("anchors", "anchor.pub"); code != exitDone || !strings.Contains(answer, "2 anchors agree") {
		t.Errorf("untouched: %d %s", code, answer)
	}
	o.Write("changed", strings.Replace(string(text), " 2 ", " 1 ", 1))
	o.Write("of another", strings.ReplaceAll(string(text), "products", "orders"))
	o.Write("nothing", "")
	for file, want := range map[string]string{"changed": "line 1 is not signed", "of another": "line 1 is not signed", "nothing": "line 1 is no anchor", "migration.yaml": "no anchor"} {
		if code, answer := check(file, "anchor.pub"); code != exitUsage || !strings.Contains(answer, want) {
			t.Errorf("%s: %d %s", file, code, answer)
		}
	}
	if code, answer := check("anchors", "other.pub"); code != exitUsage || !strings.Contains(answer, "not signed by the key") {
		t.Errorf("another key: %d %s", code, answer)
	}
	for _, bad := range []string{
		"history anchor", "history anchor --key " + o.Path("anchor.pub"), "history anchor --key " + o.Path("anchor.key") + " --webhook http://example.com/",
		"history verify --anchor " + o.Path("anchors"), "phase history --anchor " + o.Path("anchors"),
	} {
		if code, _, answer := o.Try(strings.Fields(bad)...); code != exitUsage {
			t.Errorf("%s: %d %s", bad, code, answer)
		}
	}
	// From the second entry on the history is made by the database once more, with another reason.
	o.SQL(o.State, `ALTER TABLE migrator.history DISABLE TRIGGER append_only;
		CREATE TEMP TABLE entries AS SELECT * FROM migrator.history WHERE seq >= 2; DELETE FROM migrator.history WHERE seq >= 2; DELETE FROM migrator.outbox;
		DO $$ DECLARE e migrator.history; BEGIN FOR e IN SELECT * FROM entries ORDER BY seq LOOP
			INSERT INTO migrator.history (migration, cause, from_phase, from_percent, from_epoch, to_phase, to_percent, to_epoch, reason, config_hash, evidence)
			VALUES (e.migration, e.cause, e.from_phase, e.from_percent, e.from_epoch, e.to_phase, e.to_percent, e.to_epoch, 'nothing was here', e.config_hash, e.evidence);
		END LOOP; END $$`)
	o.Does("history verify")
	if code, answer := check("anchors", "anchor.pub"); code != exitError || !strings.Contains(answer, "entry 2") || !strings.Contains(answer, "written again") {
		t.Errorf("written again: %d %s", code, answer)
	}
	o.SQL(o.State, `DELETE FROM migrator.history WHERE seq >= 2; UPDATE migrator.migrations SET history_seq = 1`)
	o.Does("history verify")
	if code, answer := check("anchors", "anchor.pub"); code != exitError || !strings.Contains(answer, "is missing") {
		t.Errorf("cut off: %d %s", code, answer)
	}
}
