package main

import (
	"archive/tar"
	"compress/gzip"
	"errors"
	"io"
	"os"
	"path"
	"strings"
	"testing"

	"github.com/stranglerfig/migrator/internal/test/clitest"
)

// TestABundleHasAllButSecretsAndRecords: no password, no token, no value and no key of a record is in it, also
// where records differ and a key is journaled.
func TestABundleHasAllButSecretsAndRecords(t *testing.T) {
	t.Parallel()
	const secret, key, value = "CANARYSECRET", "CANARYKEY", "CANARYVALUE"
	o := clitest.New(t, "people", "  table: people\n", "  key: person:{id}\n", clitest.Staged)
	o.SQL(o.Legacy, `CREATE ROLE bundled LOGIN SUPERUSER PASSWORD '`+secret+`'`)
	t.Cleanup(func() { o.SQL(o.Legacy, `REASSIGN OWNED BY bundled TO CURRENT_USER; DROP ROLE bundled`) })
	o.Write("legacy.url", clitest.AsRole(o.Legacy, "bundled", secret))
	settings, err := os.ReadFile(o.Path("settings.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	o.Write("settings.yaml", string(settings)+"alerts_token: "+secret+"-of-sixteen\n")
	o.SQL(o.Legacy, `CREATE TABLE people (id text PRIMARY KEY, note text); INSERT INTO people SELECT '`+key+`' || n, '`+value+`' || n FROM generate_series(1, 20) n`)
	o.Does("init", "apply", "phase advance", "backfill run")
	o.SQL(o.Legacy, `UPDATE people SET note = note || 'x' WHERE id = '`+key+`7'`)
	o.SQL(o.State, `INSERT INTO migrator.journal (migration, key, version, changes, reason, first_at, last_at)
		VALUES ('people', '`+key+`8', repeat('0', 32), 1, 'a test', now(), now())`)
	if code, out, stderr := o.Try("reconcile", "run", "--full"); code != exitNotYet || !strings.Contains(out, "1 differ") && !strings.Contains(out, "different") {
		t.Fatalf("a reconcile: %d\n%s%s", code, out, stderr)
	}
	to := o.Path("support.tar.gz")
	if code, out, stderr := o.Try("doctor", "--bundle", to); code != exitDone || !strings.Contains(stderr, "wrote "+to) {
		t.Fatalf("doctor: %d\n%s%s", code, out, stderr)
	}
	if code, _, stderr := o.Try("doctor", "--bundle", to); code != exitUsage {
		t.Errorf("over a file that exists: exit code %d\n%s", code, stderr)
	}
	files := unpacked(t, to)
	for _, want := range []string{
		"version.json", "settings.json", "doctor.json", "migration-file.json", "sessions.json", "metrics.txt", "errors.json", "people/applied.json",
		"people/status.json", "people/history.json", "people/epochs.json", "people/fleet.json", "people/evaluations.json", "people/triggers.json", "people/reconcile.json", "people/runbooks.json",
	} {
		if len(files[path.Join("migrator-support", want)]) == 0 {
			t.Errorf("it lacks %s", want)
		}
	}
	for name, text := range files {
		for _, canary := range []string{secret, key, value} {
			if at := strings.Index(text, canary); at >= 0 {
				t.Errorf("%s has %s: %s", name, canary, text[max(at-100, 0):min(at+100, len(text))])
			}
		}
	}
	if got := strings.TrimSpace(files["migrator-support/errors.json"]); got != "{}" {
		t.Errorf("what can't be read: %s", got)
	}
	if text := files["migrator-support/people/reconcile.json"]; !strings.Contains(text, `"differences": 1`) {
		t.Errorf("runs: %s", text)
	}
	if text := files["migrator-support/metrics.txt"]; !strings.Contains(text, `migrator_state_up 1`) {
		t.Errorf("metrics: %.500s", text)
	}
}

func unpacked(t *testing.T, file string) map[string]string {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	zip, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]string{}
	for in := tar.NewReader(zip); ; {
		head, err := in.Next()
		if errors.Is(err, io.EOF) {
			return files
		}
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(in)
		if err != nil {
			t.Fatal(err)
		}
		files[head.Name] = string(text)
	}
}
