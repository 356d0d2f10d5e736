package main

import (
	"os"
	"slices"
	"strings"
	"testing"
)

// TestSystemdUnit: the unit starts what there is, restarts it only where that may
// help, and keeps secrets out of itself.
func TestSystemdUnit(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../../configs/systemd/migrator.service")
	if err != nil {
		t.Fatal(err)
	}
	unit := map[string][]string{}
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' || line[0] == '[' {
			continue
		}
		key, value, ok := strings.Cut(line, "=")
		if !ok {
			t.Errorf("what is %q?", line)
		}
		unit[key] = append(unit[key], value)
	}
	start := strings.Fields(strings.Join(unit["ExecStart"], " "))
	if err := understood(start); err != nil || !slices.Contains(start, "serve") {
		t.Errorf("ExecStart %q: %v", start, err)
	}
	for key, want := range map[string]string{
		"Restart": "on-failure", "RestartPreventExitStatus": "2", "DynamicUser": "yes", "NoNewPrivileges": "yes",
		"ProtectSystem": "strict", "CapabilityBoundingSet": "", "EnvironmentFile": "/etc/migrator/environment",
	} {
		if !slices.Equal(unit[key], []string{want}) {
			t.Errorf("%s is %q, want %q", key, unit[key], want)
		}
	}
	for _, e := range unit["Environment"] {
		if strings.Contains(e, "URL") {
			t.Errorf("a URL in the unit, which everybody may read: %s", e)
		}
	}
}
