package main

import (
	"os/exec"
	"strings"
	"testing"
)

// TestTheProgramLinksNoTestHelper: only tests and the demo need private servers and
// faulty networks. They would enlarge the operator's binary and let it start them.
func TestTheProgramLinksNoTestHelper(t *testing.T) {
	t.Parallel()
	out, err := exec.Command("go", "list", "-deps", ".").Output()
	if err != nil {
		t.Fatal(err)
	}
	deps := strings.Fields(string(out))
	if len(deps) < 100 {
		t.Fatalf("only %d packages: %s", len(deps), out)
	}
	for _, dep := range deps {
		for _, unwanted := range []string{"github.com/stranglerfig/migrator/internal/test", "github.com/stranglerfig/migrator/examples", "toxiproxy"} {
			if strings.Contains(dep, unwanted) {
				t.Errorf("the program links %s", dep)
			}
		}
	}
}

// TestOnlyTheCommandLineReachesCobra: all other packages work without it.
func TestOnlyTheCommandLineReachesCobra(t *testing.T) {
	t.Parallel()
	out, err := exec.Command("go", "list", "-deps", "../../internal/daemon", "../../internal/app", "../../internal/preflight").Output()
	if err != nil {
		t.Fatal(err)
	}
	for _, dep := range strings.Fields(string(out)) {
		if strings.HasPrefix(dep, "github.com/spf13/") {
			t.Errorf("the daemon links %s", dep)
		}
	}
}
