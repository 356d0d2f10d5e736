package main

import (
	"errors"
	"fmt"
	"strings"
	"syscall"
	"testing"

	"github.com/stranglerfig/migrator/internal/test/testenv"
)

// failing is a stream whose writes fail.
type failing struct{ err error }

func (b failing) Write([]byte) (int, error) { return 0, fmt.Errorf("write: %w", b.err) }

// TestAReaderThatLeavesIsNoFailure: after | head, the exit code is that of what was done. A disk that is
// full is a failure: the result is lost.
func TestAReaderThatLeavesIsNoFailure(t *testing.T) {
	t.Parallel()
	for of, want := range map[error]int{syscall.EPIPE: exitDone, syscall.ENOSPC: exitError} {
		for _, line := range []string{"version", "version -o json", "config schema", "runbook schema"} {
			var stderr testenv.Buffer
			if code := run(t.Context(), strings.Fields(line), streams{in: strings.NewReader(""), out: failing{of}, err: &stderr}); code != want {
				t.Errorf("%s with %v: exit code %d, want %d: %s", line, of, code, want, stderr.String())
			}
		}
	}
}

func TestQuietPrintsNothingUnlessItFails(t *testing.T) {
	t.Parallel()
	var out, stderr testenv.Buffer
	if code := run(t.Context(), []string{"version", "--quiet"}, streams{in: strings.NewReader(""), out: &out, err: &stderr}); code != exitDone || out.String()+stderr.String() != "" {
		t.Errorf("exit code %d, %q, %q", code, out.String(), stderr.String())
	}
	c := &cli{streams: streams{out: &out, err: &stderr}, quiet: true}
	c.beQuiet()
	c.printf("result %d\n", 1)
	c.note("note %d", 2)
	if out.String()+stderr.String() != "" {
		t.Error("it is printed at once")
	}
	c.release()
	if code := c.fail(errors.New("it failed")); code != exitError || out.String() != "result 1\n" || stderr.String() != "note 2\nError: it failed\n" {
		t.Errorf("after a failure: %d, %q, %q", code, out.String(), stderr.String())
	}
	c.beQuiet()
	for range 3 {
		c.printf("%s", written(strings.Repeat("x", mostHeld/2)))
	}
	if c.holder.size > mostHeld {
		t.Errorf("%d bytes are kept", c.holder.size)
	}
}

func TestAFlagIsNoValueOfAnother(t *testing.T) {
	t.Parallel()
	for line, want := range map[string]string{
		"reconcile run --repair --force --full": "--force has taken --full",
		"phase pause --reason --migration":      "", // no flag of it
		"fleet evict x --reason --force":        "--reason has taken --force",
		"rollback --reason --to=legacy":         "--reason has taken --to",
	} {
		var stderr testenv.Buffer
		code := run(t.Context(), strings.Fields(line+" --settings /dev/null"), streams{in: strings.NewReader(""), out: &testenv.Buffer{}, err: &stderr})
		if code == exitDone || want != "" && (code != exitUsage || !strings.Contains(stderr.String(), want)) || want == "" && strings.Contains(stderr.String(), "has taken") {
			t.Errorf("%s: exit code %d, %s", line, code, stderr.String())
		}
	}
}

func TestAnUnknownCommandNamesASimilarOne(t *testing.T) {
	t.Parallel()
	for line, want := range map[string]string{
		"statsu": "migrator status", "advance": "migrator phase advance", "gate lst": "migrator gate list", "nosuchthing": "migrator --help",
	} {
		var stderr testenv.Buffer
		code := run(t.Context(), strings.Fields(line), streams{in: strings.NewReader(""), out: &testenv.Buffer{}, err: &stderr})
		if code != exitUsage || !strings.Contains(stderr.String(), "Try: "+want) {
			t.Errorf("%s: exit code %d, %s", line, code, stderr.String())
		}
	}
}
