package importrule

import (
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// Modules that this module may add to an application.
const (
	apd      = "github.com/cockroachdb/apd/v3"
	jsontext = "github.com/go-json-experiment/json"
	xtext    = "golang.org/x/text"
	xxhash   = "github.com/cespare/xxhash/v2"
	yaml     = "go.yaml.in/yaml/v3"

	pgx   = "github.com/jackc/pgx/v5/pgxpool"
	redis = "github.com/redis/go-redis/v9"
	prom  = "github.com/prometheus/client_golang/prometheus"
)

// links is what each public package may link, in its whole closure: modules beside
// those of base, and packages of ours.
var links = []struct {
	packages, base string
	modules        []string
	ours           string
}{
	{"phases", "", nil, "internal/hint internal/humanize"},
	{"record", "", []string{apd, jsontext, xtext}, ""},
	{"store", "", []string{apd, jsontext, xtext}, "record internal/hint"},
	{"migration", "", []string{apd, jsontext, xtext, yaml}, "phases record store internal/hint internal/humanize internal/infile internal/oneline"},
	{"dual/telemetry", "", nil, "internal/stats/sketch"},
	{"store/memory", "", []string{apd, jsontext, xtext, yaml}, "phases record store migration internal/hint internal/humanize internal/infile internal/oneline"},
	{"dual", "", []string{apd, jsontext, xtext, xxhash}, embedded},
	{"dual/pgfleet", pgx, []string{apd, jsontext, xxhash}, embedded + " internal/statedb internal/pgfail"},
	{"dual/httpfleet", "", []string{apd, jsontext, xtext, xxhash}, embedded + " internal/infile internal/leasewire"},
	{"store/redis", redis, []string{apd, jsontext, xtext, yaml, "golang.org/x/sync"}, "phases record store migration internal/hint internal/humanize internal/infile internal/oneline"},
	{"store/postgres", pgx, []string{apd, jsontext, yaml}, "phases record store migration internal/failpoint internal/hint internal/humanize internal/infile internal/oneline internal/pgfail internal/pgserver"},
	{"metrics", prom, nil, "phases dual/telemetry internal/hint internal/humanize internal/stats/sketch"},
	{
		"dual/kit", pgx,
		[]string{apd, jsontext, xxhash, yaml},
		embedded + " dual/httpfleet dual/pgfleet migration internal/infile internal/leasewire internal/oneline internal/statedb internal/pgfail",
	},
	// The application that docs/embedding.md describes: four modules beside its own drivers.
	{
		"dual/kit store/redis store/postgres migration", pgx + " " + redis,
		[]string{apd, jsontext, yaml},
		embedded + " dual/httpfleet dual/pgfleet migration internal/infile internal/leasewire internal/oneline internal/statedb internal/pgfail internal/pgserver",
	},
}

const embedded = "phases record store dual dual/telemetry internal/stats/sketch internal/failpoint internal/hint internal/humanize"

// deps lists the modules and our packages in the closure of packages.
func deps(t *testing.T, packages ...string) (modules, ours []string) {
	t.Helper()
	cmd := exec.Command("go", append([]string{"list", "-deps", "-f", "{{with .Module}}{{.Path}}{{end}} {{.ImportPath}}"}, packages...)...)
	cmd.Dir = root
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v: %v", cmd, err)
	}
	for line := range strings.Lines(string(out)) {
		mod, pkg, _ := strings.Cut(strings.TrimSpace(line), " ")
		switch {
		case mod == module:
			ours = append(ours, strings.TrimPrefix(pkg, module+"/"))
		case mod != "" && pkg != "":
			modules = append(modules, mod)
		}
	}
	slices.Sort(modules)
	return slices.Compact(modules), ours
}

func TestAnApplicationLinksNoMoreThanTheTableSays(t *testing.T) {
	t.Parallel()
	base := map[string][]string{}
	for _, c := range links {
		var packages []string
		for _, p := range strings.Fields(c.packages) {
			packages = append(packages, "./"+p)
		}
		modules, ours := deps(t, packages...)
		if _, ok := base[c.base]; !ok && c.base != "" {
			base[c.base], _ = deps(t, strings.Fields(c.base)...)
		}
		for _, m := range modules {
			if !slices.Contains(c.modules, m) && !slices.Contains(base[c.base], m) {
				t.Errorf("%s links %s", c.packages, m)
			}
		}
		for _, m := range c.modules {
			if !slices.Contains(modules, m) {
				t.Errorf("%s no longer links %s: remove it from the table", c.packages, m)
			}
		}
		for _, p := range ours {
			if !slices.Contains(strings.Fields(c.ours+" "+c.packages), p) {
				t.Errorf("%s links %s", c.packages, p)
			}
		}
	}
}
