package main

import (
	"encoding/json"
	"os"
	"strings"
	"testing"

	"github.com/stranglerfig/migrator/internal/app"
	"github.com/stranglerfig/migrator/internal/test/clitest"
)

// TestApplySaysWhatItStored: each changed key, what it refuses with the way, and that nothing
// changed.
func TestApplySaysWhatItStored(t *testing.T) {
	t.Parallel()
	o := clitest.New(t, "loans", "  table: loans\n", "  key: loan:{id}\n", strings.Replace(clitest.Staged, "pause: 100ms", "pause: 100ms, workers: 3", 1))
	o.SQL(o.Legacy, `CREATE TABLE loans (id bigint PRIMARY KEY, note text)`)
	o.Does("init", "apply", "phase advance")
	file, err := os.ReadFile(o.Path("migration.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	says := func(code int, args string, words ...string) string {
		t.Helper()
		got, stdout, stderr := o.Try(strings.Fields(args)...)
		for _, word := range words {
			if got != code || !strings.Contains(stdout+stderr, word) {
				t.Errorf("%s: %d, want %d and %q in\n%s%s", args, got, code, word, stdout, stderr)
			}
		}
		return stdout
	}
	edit := func(old, text string) {
		t.Helper()
		if !strings.Contains(string(file), old) {
			t.Fatalf("the file has no %q", old)
		}
		o.Write("migration.yaml", strings.Replace(string(file), old, text, 1))
	}
	says(exitDone, "apply", "Nothing changed: the file is as it was last applied")

	edit("workers: 3", "workers: 4, rate: 500")
	says(exitDone, "plan", "the file differs from the applied one: reconcile.rate, reconcile.workers")
	says(exitDone, "doctor", "the file differs from the applied one: reconcile.rate, reconcile.workers")
	says(exitDone, "reconcile run", "changes that are not applied, and have no effect before: reconcile.rate, reconcile.workers")
	says(exitDone, "apply", "stored reconcile.rate: not set → 500", "stored reconcile.workers: 3 → 4", "Older evidence stays")
	says(exitDone, "phase history", "reconcile.rate, reconcile.workers")
	says(exitDone, "apply", "Nothing changed")

	edit("workers: 3", "workers: 4, rereads: 7") // a key that is gone has its default again
	var a app.ApplyResult
	if err := json.Unmarshal([]byte(says(exitDone, "apply -o json")), &a); err != nil || !a.EvidenceVoid || a.Created || len(a.Changes) != 2 ||
		a.Changes[0].Key != "reconcile.rate" || string(a.Changes[0].Before) != "500" || a.Changes[0].After != nil || string(a.Changes[1].After) != "7" {
		t.Errorf("%+v, %v", a, err)
	}
	for key, text := range map[string]string{
		"legacy.table: \"loans\" → \"others\"": "table: others", `target.key: "loan:{id}" → "l:{id}"`: "key: l:{id}", `target.format: "hash" → "json"`: "key: loan:{id}\n  format: json",
	} {
		old := "table: loans"
		if strings.HasPrefix(key, "target") {
			old = "key: loan:{id}"
		}
		edit(old, text)
		for _, command := range []string{"plan", "apply"} {
			says(exitUsage, command, key, "is at shadow-write, where this can't change", "migrator phase rollback --to legacy", "another name")
		}
	}
	if st := says(exitDone, "status", "config"); strings.Contains(st, "others") {
		t.Errorf("a refused file was stored:\n%s", st)
	}
}
