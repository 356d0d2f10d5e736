package clitest

import (
	"strings"
	"testing"
)

func TestShellWords(t *testing.T) {
	t.Parallel()
	for line, want := range map[string]string{
		"":                                     "",
		"migrator  status   # look":            "migrator|status",
		"a --reason 'p99 of #1' \"x y\" b#c":   "a|--reason|p99 of #1|x y|b#c",
		"a --override soak-time='x y' '' # it": "a|--override|soak-time=x y|",
	} {
		if got := strings.Join(ShellWords(line), "|"); got != want {
			t.Errorf("%q: %q, want %q", line, got, want)
		}
	}
}
