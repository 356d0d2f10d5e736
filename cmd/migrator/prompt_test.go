//go:build unix

package main

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/stranglerfig/migrator/internal/test/testenv"
)

// asking is a command whose input is a pipe, and the end of it that the test types into.
func asking(t *testing.T) (c *cli, typed *io.PipeWriter, stderr *testenv.Buffer) {
	t.Helper()
	in, typed := io.Pipe()
	t.Cleanup(func() { _ = typed.Close() })
	stderr = &testenv.Buffer{}
	return &cli{streams: streams{in: in, err: stderr}}, typed, stderr
}

// TestAQuestionEndsWithTheCommand: Ctrl-C ends a question without an Enter.
func TestAQuestionEndsWithTheCommand(t *testing.T) {
	t.Parallel()
	c, _, stderr := asking(t)
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		_, err := c.ask(ctx, "Continue? ")
		ended <- err
	}()
	testenv.Await(t, "it asks", func() bool { return strings.Contains(stderr.String(), "Continue? ") })
	stop()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

func TestEachQuestionTakesItsOwnLine(t *testing.T) {
	t.Parallel()
	c, typed, _ := asking(t)
	go func() {
		_, _ = io.WriteString(typed, " Yes \nn\n\nlast")
		_ = typed.Close()
	}()
	for _, want := range []string{"yes", "n", "", "last", "", ""} {
		if got, err := c.ask(t.Context(), "? "); err != nil || got != want {
			t.Errorf("%q, want %q: %v", got, want, err)
		}
	}
}
