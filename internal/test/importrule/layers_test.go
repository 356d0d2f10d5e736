// Package importrule tests the layering: which package may import which, and which modules
// an application links when it embeds dual.
package importrule

import "strings"

const module = "github.com/stranglerfig/migrator"

// Packages that many rows name.
const (
	words = "phases record internal/hint" // the types that all packages share: no I/O, no store
	tool  = words + " store migration internal/failpoint internal/logs internal/oneline internal/sleep"
)

// may lists, for each package, those of this module that its code may import. A
// package without a row is refused. Since every package has a row, also below internal/,
// no import can pass through an unchecked package.
var may = rows(map[string]string{
	// The types that all packages share.
	"record": "", "internal/hint": "", "phases": "internal/hint internal/humanize",
	"store":     "record internal/hint",
	"migration": words + " store internal/infile internal/oneline",

	// What an application embeds.
	"dual/telemetry": "internal/stats/sketch",
	"dual":           words + " store dual/telemetry internal/failpoint internal/humanize internal/stats/sketch",
	"dual/pgfleet":   words + " dual dual/telemetry internal/failpoint internal/statedb",
	"dual/httpfleet": words + " dual dual/telemetry internal/infile internal/leasewire",
	"dual/kit":       "dual dual/httpfleet dual/pgfleet migration record store",
	"store/redis":    "record store migration internal/hint",
	"store/postgres": "record store migration internal/failpoint internal/hint internal/humanize internal/oneline internal/pgfail internal/pgserver",
	"store/memory":   "record store migration internal/hint",
	"metrics":        "phases dual/telemetry internal/stats/sketch",

	// Small tools that know nothing of migrations.
	"internal/failpoint": "", "internal/infile": "", "internal/oneline": "", "internal/pgfail": "internal/hint", "internal/pgserver": "store internal/hint internal/oneline internal/pgfail", "internal/procgroup": "",
	"internal/logs": "", "internal/schedule": "", "internal/sleep": "", "internal/humanize": "",
	"internal/stats/sketch": "", "internal/stats": "internal/stats/sketch",

	// Capabilities: each works on its arguments, and none knows another.
	"reconcile":               tool + " internal/humanize internal/repair internal/stats",
	"runbook":                 tool + " internal/infile internal/procgroup",
	"internal/repair":         tool,
	"internal/throttle":       "store internal/humanize internal/sleep",
	"internal/backfill":       tool + " internal/humanize internal/repair internal/throttle",
	"internal/capture":        tool + " internal/humanize internal/pgfail internal/repair internal/throttle store/postgres", // its source is PostgreSQL's log
	"internal/control":        tool + " internal/humanize",
	"internal/judge":          tool + " dual/telemetry internal/stats internal/stats/sketch",
	"internal/drill":          tool + " dual internal/humanize", // its load is an instance
	"internal/sources":        tool + " internal/infile internal/judge internal/procgroup",
	"internal/notify/secrets": "internal/hint internal/infile",
	"internal/notify":         tool + " internal/notify/secrets internal/state internal/state/outbox",
	"internal/openstore":      tool + " store/memory store/postgres store/redis internal/schedule",

	// What stores state.
	"internal/statedb":          words + " dual dual/telemetry internal/pgfail internal/stats/sketch",
	"internal/state":            tool + " dual dual/telemetry internal/drill internal/humanize internal/pgfail internal/pgserver internal/statedb",
	"internal/state/backfills":  tool + " internal/backfill internal/statedb",
	"internal/state/captures":   tool + " internal/capture internal/statedb",
	"internal/state/drills":     tool + " internal/drill internal/statedb",
	"internal/state/outbox":     tool + " internal/state internal/state/queue internal/statedb",
	"internal/state/queue":      "internal/statedb",
	"internal/state/reconciles": tool + " reconcile internal/state/queue internal/statedb",
	"internal/state/runbooks":   tool + " runbook internal/pgfail internal/statedb",

	// What the command line and the daemon share, the servers, and monitoring.
	"internal/app": tool + " dual dual/pgfleet dual/telemetry reconcile runbook internal/backfill internal/capture internal/control internal/drill internal/humanize internal/judge" +
		" internal/openstore internal/schedule internal/sources internal/sqlconsole" +
		" internal/state internal/state/backfills internal/state/captures internal/state/drills internal/state/reconciles internal/state/runbooks internal/statedb internal/throttle",
	"internal/preflight": tool + " internal/capture internal/humanize internal/infile internal/notify/secrets internal/state internal/statedb reconcile",
	"internal/daemon": tool + " metrics reconcile internal/app internal/api internal/capture internal/control internal/judge internal/notify internal/openstore internal/schedule" +
		" internal/page internal/server internal/state internal/state/captures internal/state/outbox internal/state/reconciles internal/statedb",
	"internal/page": tool + " reconcile runbook internal/app internal/backfill internal/control internal/humanize internal/judge internal/state" +
		" internal/state/backfills internal/state/drills internal/state/reconciles internal/state/runbooks internal/statedb",
	"internal/server":     "phases internal/hint internal/infile internal/logs internal/oneline",
	"internal/leasewire":  "dual dual/telemetry internal/stats/sketch phases record store", // what an instance and the server send each other
	"internal/api":        words + " dual dual/pgfleet migration internal/app internal/control internal/leasewire internal/oneline internal/openstore internal/pgfail internal/server internal/state internal/state/reconciles internal/statedb",
	"internal/sqlconsole": "record runbook internal/pgfail",

	"internal/configschema":     words + " migration runbook",
	"internal/configschema/gen": "internal/configschema internal/openstore",

	// What tests share. The model is the protocol in small and imports no product code but the shared types.
	"dual/dualtest":              "dual dual/kit phases migration record store store/memory store/postgres",
	"store/storetest":            "record store internal/test/testenv",
	"internal/test/badinput":     "",
	"internal/test/model":        words + " internal/test/model/search",
	"internal/test/model/search": "",
	"internal/test/model/loss":   "internal/test/model/search",
	"internal/test/testenv":      "",
	"internal/test/pairtest":     "*",
	"internal/test/statetest":    "internal/state internal/test/testenv",
	"internal/test/apitest":      "internal/api internal/server internal/state internal/statedb",
	"internal/test/bench":        "*",
	"internal/test/cases":        "*",
	"internal/test/crash":        "*",
	"internal/test/crash/app":    "*",
	"internal/test/torture":      "*",
	"internal/test/zoo":          "*",
	"internal/test/importrule":   "",
	"internal/test/citerule":     "", "internal/test/wordrule": "", "internal/test/mutate": "",
	"internal/test/clitest": "*", "internal/test/docstest": "*", "internal/test/daemontest": "*",

	// Programs may import everything except each other's internals.
	"cmd/migrator": "*", "examples/demo": "*", "examples/embedding": "*", "examples/sessions": "*", "examples/sessions/server": "*",
	"examples/storefront":         "*",
	"examples/storefront/command": "*", "examples/storefront/load": "*", "examples/storefront/shop": "*",
})

// pure packages do no I/O, and their tests need none: these import no more than
// the package may.
var pure = map[string]bool{"record": true, "phases": true, "store": true, "internal/hint": true, "internal/repair": true, "internal/stats": true}

func rows(m map[string]string) map[string]map[string]bool {
	sets := make(map[string]map[string]bool, len(m))
	for name, list := range m {
		sets[name] = map[string]bool{}
		for _, p := range strings.Fields(list) {
			sets[name][p] = true
		}
	}
	return sets
}

// only lists libraries that have one place.
var only = map[string]string{
	"github.com/spf13/cobra": "cmd/migrator",
	"github.com/spf13/viper": "cmd/migrator",
}
