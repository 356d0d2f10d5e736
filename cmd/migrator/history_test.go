package main

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/stranglerfig/migrator/internal/test/clitest"
)

// TestHistoryVerify tampers as a superuser can, who bypasses the triggers.
func TestHistoryVerify(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, tamper string
		seq          int
		what         string
	}{
		{"changed", `UPDATE migrator.history SET actor = 'mallory' WHERE seq = 3`, 3, "its content does not match its hash"},
		{"removed", `DELETE FROM migrator.history WHERE seq = 2`, 2, "entry 3 follows entry 1"},
		{"cut off at the end", `DELETE FROM migrator.history WHERE seq = 4`, 4, "entry 4, the newest one written, is missing"},
		{"reordered", `UPDATE migrator.history SET seq = 99 WHERE seq = 2; UPDATE migrator.history SET seq = 2 WHERE seq = 3;
			UPDATE migrator.history SET seq = 3 WHERE seq = 99`, 2, "its previous hash is not that of the entry before it"},
		{"added", `INSERT INTO migrator.history SELECT migration, 5, at, actor, cause, from_phase, from_percent, from_epoch, to_phase, to_percent, to_epoch,
			'forged', config_hash, evidence, hash, sha256(hash) FROM migrator.history WHERE seq = 4`, 5, "its content does not match its hash"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			o := clitest.New(t, "products", "  table: products\n", "  key: product:{id}\n", "")
			o.SQL(o.Legacy, `CREATE TABLE products (id bigint PRIMARY KEY)`)
			o.Does("init", "apply", "phase advance", "phase pause --reason lunch", "phase resume")
			code, stdout, stderr := o.Try("history", "verify", "products")
			if code != exitDone || !strings.Contains(stdout, "4 entries, the chain is whole") {
				t.Fatalf("untouched: %d\n%s%s", code, stdout, stderr)
			}
			o.SQL(o.State, `ALTER TABLE migrator.history DISABLE TRIGGER USER; `+c.tamper)
			code, stdout, stderr = o.Try("history", "verify")
			line := fmt.Sprintf("entry %d: %s", c.seq, c.what)
			if code != exitError || !strings.Contains(stdout, line) || !strings.Contains(stderr, fmt.Sprintf("tampered with at entry %d", c.seq)) {
				t.Errorf("exit code %d, want %q\n%s%s", code, line, stdout, stderr)
			}
			code, stdout, _ = o.Try("history", "verify", "-o", "json")
			var v verified
			if err := json.Unmarshal([]byte(stdout), &v); err != nil || code != exitError || v.Broken == nil || v.Broken.Seq != int64(c.seq) || v.Verified != int64(c.seq-1) {
				t.Errorf("as JSON: %d %s %v", code, stdout, err)
			}
		})
	}
}
