package migration_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/stranglerfig/migrator/internal/openstore"
	"github.com/stranglerfig/migrator/migration"
)

// wrong is a migration file with a line replaced or added, and the error that it must give.
type wrong struct{ old, new, want string }

func TestErrorsHaveTheirLine(t *testing.T) {
	t.Parallel()
	const end = "  key: product:{id}\n" // line 9
	for _, c := range []wrong{
		{"  table: products", "  tabel: products", `m.yaml:5: unknown key "tabel" under legacy: did you mean "table"?`},
		{"name: products", "nam: products", `m.yaml:1: unknown key "nam": did you mean "name"?`},
		{"name: products", "Name: products", `m.yaml:1: unknown key "Name": did you mean "name"?`},
		{"  table: products", "  relation: products", `m.yaml:5: unknown key "relation" under legacy; the keys are store, url, url_file, table, key, version_column, standbys`},
		{"  table: products", "  table: products\n  standbys: 2", `m.yaml:6: legacy.standbys: want a list, such as [a, b], not a single value`},
		{"  table: products", "  table: products\n  standbys: [a, b,\n    a]", `m.yaml:7: legacy.standbys[2]: "a" is named twice`},
		{"  table: products", "  table: products\n  standbys: ['']", `m.yaml:6: legacy.standbys[0] is empty`},
		{end, end + "phases: {cutover: {step: [1, 100]}}", `m.yaml:10: unknown key "step" under phases.cutover: did you mean "steps"?`},
		{end, end + "compare:\n  - path: /x\n    ingore: y", `m.yaml:12: unknown key "ingore" under compare[0]: did you mean "ignore"?`},
		{end, end + "? [a, b]\n: c", `m.yaml:10: a key must be a single value`},
		{end, end + "<<: {name: x}", `m.yaml:10: unknown key "<<"`},
		{end, end + "name: other", `m.yaml:10: name is given twice, first on line 1`},
		{end, end + "target: {}", `m.yaml:10: target is given twice, first on line 6`},

		{end, end + "phases:\n  grace: {for: 30 days}", `m.yaml:11: phases.grace.for: duration "30 days": want something like 30d, 36h or 1d12h`},
		{end, end + "phases:\n  grace:\n    for: 7", `m.yaml:12: phases.grace.for: duration "7"`},
		{end, end + "phases:\n  grace:\n    for: [7d]", `m.yaml:12: phases.grace.for: want a single value, not a list`},
		{end, end + "phases:\n  cutover:\n    steps:\n      - 1\n      - 101", `m.yaml:14: phases.cutover.steps[1]: percentage "101": want a number above 0 and up to 100`},
		{end, end + "phases:\n  cutover: {steps: [1, 50%, 100]}", `m.yaml:11: phases.cutover.steps[1]: percentage "50%"`},
		{end, end + "phases:\n  cutover: {steps: [1, ~, 100]}", `m.yaml:11: phases.cutover.steps[1] is empty`},
		{end, end + "phases:\n  cutover: {steps: [50, 25, 100]}", `m.yaml:11: phases.cutover.steps[1]: 25 after 50: steps must rise`},
		{end, end + "phases:\n  cutover:\n    steps: [1, 50]", `m.yaml:12: phases.cutover.steps: the last step must be 100`},
		{end, end + "phases: {cutover: {steps: []}}", `m.yaml:10: phases.cutover.steps: the last step must be 100`},
		{end, end + "phases: {approval: {for: [cut]}}", `m.yaml:10: phases.approval.for[0]: unknown phase "cut"`},
		{end, end + "phases: {approval: {expires: -1h}}", `m.yaml:10: phases.approval.expires: must be above 0, such as 1d`},
		{end, end + "phases: 30d", `m.yaml:10: phases: want a mapping (key: value), not a single value`},
		{end, end + "phases: {retain: {reversible: yes please}}", `m.yaml:10: phases.retain.reversible: want true or false, not "yes please"`},
		{end, end + "phases: {retain: {reversible: 'true'}}", `m.yaml:10: phases.retain.reversible: want true or false`},
		{end, end + "compare: [{path: /x, precision: fine}]", `m.yaml:10: compare[0].precision: `},

		{end, end + "backfill: {rate: fast}", `m.yaml:10: backfill.rate: want a whole number, not "fast"`},
		{end, end + "backfill: {rate: '5'}", `m.yaml:10: backfill.rate: want a whole number, not "5"`},
		{end, end + "backfill: {rate: 1.5}", `m.yaml:10: backfill.rate: want a whole number, not "1.5"`},
		{end, end + "backfill: {rate: 010}", `m.yaml:10: backfill.rate: want a whole number, not "010"`},
		{end, end + "backfill: {rate: 99999999999999999999}", `m.yaml:10: backfill.rate: want a whole number`},
		{end, end + "backfill: {rate: -1}", `m.yaml:10: backfill.rate must be from 0 to 1000000000, not -1`},
		{end, end + "backfill: {chunk_rows: 1000001}", `m.yaml:10: backfill.chunk_rows must be from 1 to 1000000, not 1000001`},
		{end, end + "reconcile: {keep: 1h}", `m.yaml:10: reconcile.keep must be at least 1d, not 1h`},
		{end, end + "reconcile: {workers: 900}", `m.yaml:10: reconcile.workers must be from 1 to 64, not 900`},
		{end, end + "reconcile: {pause: 2h}", `m.yaml:10: reconcile.pause must be from 0s to 1h, not 2h`},
		{end, end + "gates: {shadow_writes: {min_samples: 2000000000}}", `m.yaml:10: gates.shadow_writes.min_samples: must be from 0 to 1000000000, not 2000000000`},
		{end, end + "triggers: {custom: [{name: x, command: [y], consecutive: 101}]}", `m.yaml:10: triggers.custom[0].consecutive: must be from 1 to 100, and 1 with alertmanager, not 101`},
		{end, end + "backfill: {workers: 0}", `m.yaml:10: backfill.workers must be from 1 to 64, not 0`},
		{end, end + "backfill: {lock_timeout: 0s}", `m.yaml:10: backfill.lock_timeout must be above 0`},
		{end, end + "exclude: [true]", `m.yaml:10: exclude[0]: want text; put true in quotes`},
		{end, end + "exclude: price", `m.yaml:10: exclude: want a list, such as [a, b], not a single value`},
		{end, end + "exclude: [a, '']", `m.yaml:10: exclude[1] is empty`},
		{end, end + "exclude: [a, a]", `m.yaml:10: exclude[1] "a" is named twice`},

		{"name: products", "name: Products", `m.yaml:1: name: "Products": want lower-case letters`},
		{"name: products", "name: " + strings.Repeat("x", 64), `63 at most`},
		{"name: products", "name: 1st", `m.yaml:1: name: "1st"`},
		{"name: products\n", "", `m.yaml:1: name is missing`},
		{"name: products", "name: products\nenvironment: ''", `m.yaml:2: environment: ""`},
		{"  store: postgres", "  store: oracle", `m.yaml:3: legacy.store: "oracle": want postgres`},
		{"  store: postgres\n", "", `m.yaml:2: legacy.store is missing: want postgres`},
		{"  store: redis\n", "", `m.yaml:6: target.store is missing: want redis or postgres`},
		{"  table: products\n", "", `m.yaml:2: legacy.table is missing`},
		{"  table: products", "  table: Order Items", `m.yaml:5: legacy.table: "Order Items": want a table`},
		{"  table: products", "  table: a.b.c", `m.yaml:5: legacy.table: "a.b.c"`},
		{"  table: products", `  table: '"a'`, `m.yaml:5: legacy.table`},
		{"  table: products", "  table: products\n  key: [id, id]", `m.yaml:6: legacy.key[1] "id" is named twice`},
		{"  url: postgres://app@db/shop\n", "", `m.yaml:2: legacy.url is missing: give it as ${VARIABLE}, or a file's name as legacy.url_file`},
		{"  url: postgres://app@db/shop", "  url: redis://db", `m.yaml:4: legacy.url is no URL of a PostgreSQL server`},
		{"  url: redis://cache:6379", "  url: cache:6379", `m.yaml:8: target.url is no URL of a Redis server`},
		{"  url: redis://cache:6379\n", "", `m.yaml:6: target.url is missing`},
		{"  key: product:{id}\n", "", `m.yaml:6: target.key is missing`},
		{"  key: product:{id}", "  key: product", `m.yaml:9: target.key: "product": it names no column`},
		{"  key: product:{id}", "  key: 'product:{id'", `m.yaml:9: target.key: "product:{id": { without }`},
		{"  key: product:{id}", "  key: 'product:id}'", `} without {`},
		{"  key: product:{id}", "  key: 'product:{}'", `want a column's name between the braces`},
		{"  key: product:{id}", "  key: 'product:{id}:{id}'", `{id} appears twice`},
		{"  key: product:{id}", "  key: 'product:{{id}}'", `it names no column`},
		{"  table: products", "  table: products\n  key: [id, region]", `m.yaml:10: target.key lacks {region}`},
		{"  table: products", "  table: products\n  key: [sku]", `m.yaml:10: target.key has {id}, which is no column of legacy.key`},
		{"  key: product:{id}", "  key: product:{id}\n  format: protobuf", `m.yaml:10: target.format: "protobuf": want hash or json`},
		{"  key: product:{id}", "  key: product:{id}\n  table: x", `m.yaml:10: target.table is for postgres; the target is redis`},

		{end, end + "fields: [{name: id}, {name: id}]", `m.yaml:10: fields[1].name "id" is named twice`},
		{end, end + "fields: [{name: id}, {target: x}]", `m.yaml:10: fields[1].name is missing`},
		{end, end + "fields: [{name: id}, {name: a, target: id}]", `m.yaml:10: fields[1] "a" would be written to "id", as "id" already is`},
		{end, end + "fields: [{name: id}, {name: _v}]", `m.yaml:10: fields[1] "_v" would be written to "_v", which holds the version`},
		{end, end + "fields: [{name: id}]\nexclude: [x]", `m.yaml:11: exclude and fields are both given`},
		{"  table: products", "  table: products\n  key: [id]\nexclude: [id]", `m.yaml:6: legacy.key[0] "id" is a column of the key: it can't be excluded`},
		{"  table: products", "  table: products\n  key: [id]\nfields: [{name: x}]", `m.yaml:6: legacy.key[0] "id" is a column of the key, so it must be among fields`},
		{end, end + "  expires: until\nexclude: [until]", `m.yaml:10: target.expires "until" says when a record ends: it can't be excluded`},
		{end, end + "compare:\n  - path: price\n    ignore: x", `m.yaml:11: compare[0]: path "price" must begin with a slash: "/price"`},
		{end, end + "compare:\n  - path: /price", `m.yaml:11: compare[0]: path "/price": the rule has no effect`},
		{end, end + "compare:\n  - {path: /a, show: true}\n  - {path: /a, tolerance: 1}", `m.yaml:12: compare[1]: path "/a": there are two rules`},
		{end, end + "compare: [{path: /a, tolerance: lots}]", `m.yaml:10: compare[0]: path "/a": tolerance "lots"`},
		{end, end + "compare: [{path: /a, as: guid}]", `m.yaml:10: compare[0]: path "/a": as: "guid": want one of boolean, date, double, int, json, jsonb, numeric, timestamp, timestamptz, uuid`},
		{end, end + "compare: [{path: /a/b, as: uuid}]", `m.yaml:10: compare[0]: path "/a/b": as is for whole fields`},
		{end, end + "compare: [{path: /a, zone: UTC}]", `m.yaml:10: compare[0]: path "/a": zone goes with as: timestamptz, or as: timestamp`},
		{end, end + "compare: [{path: /a, as: timestamptz, zone: Berlin}]", `m.yaml:10: compare[0]: path "/a": zone "Berlin": want a name of the time zone database`},
		{end, end + "compare: [{path: /a, as: timestamptz, zone: Local}]", `m.yaml:10: compare[0]: path "/a": zone "Local": want`},
		{end, end + "compare: [{path: /a, as: uuid, ignore: x}]", `m.yaml:10: compare[0]: path "/a": an ignored path can't have another rule`},
		{end, end + "compare: [{path: /a/b, show: true}]\nexclude: [a]", `m.yaml:10: compare[0]: path "/a/b": column "a" is excluded`},
		{end, end + "compare: [{path: /b, show: true}]\nfields: [{name: id}, {name: a, target: b}]", `m.yaml:10: compare[0]: path "/b": "b" is not among fields; rules use legacy's names`},

		{end, end + "writing:\n  on_target_failure: retry", `m.yaml:11: writing.on_target_failure: "retry": want rollback or degrade or fail`},
		{end, end + "writing:\n  deadline: 20s", `m.yaml:10: writing.not_after (10s) must be at least writing.deadline (20s)`},
		{end, end + "writing:\n  not_after: 1d\n  tombstones: 2d", `m.yaml:12: writing.tombstones (2d) must be at least ten times writing.not_after (1d)`},
		{end, end + "writing: {deadline: 0s}", `m.yaml:10: writing.deadline must be above 0`},
		{end, end + "writing: {queue: 0}", `m.yaml:10: writing.queue must be from 1`},
		{end, end + "fleet:\n  lease: 10s", `m.yaml:10: fleet.renew (5s) must be at most a third of fleet.lease (10s)`},
		{end, end + "fleet:\n  renew: 6s", `m.yaml:11: fleet.renew (6s) must be at most a third of fleet.lease (15s)`},
		{end, end + "reconcile: {rereads: 0}", `m.yaml:10: reconcile.rereads must be from 1 to 1000, not 0`},
		{end, end + "reconcile: {max_difference: 0%}", `m.yaml:10: reconcile.max_difference must be above 0%`},
		{end, end + "reconcile: {max_difference: 1}", `m.yaml:10: reconcile.max_difference: share "1": want a number from 0 to 100 with a percent sign`},
		{end, end + "reconcile: {window: 0s}", `m.yaml:10: reconcile.window must be above 0`},
		{end, end + "reconcile: {recent: {column: at, within: 0s}}", `m.yaml:10: reconcile.recent.within must be above 0`},
		{end, end + "reconcile: {sample: 0}", `m.yaml:10: reconcile.sample: percentage "0"`},

		{"  url: redis://cache:6379", "  url: ${NOT_SET}", `m.yaml:8: target.url: the environment variable NOT_SET is not set; set it, or write ${NOT_SET:-default}`},
		{"  url: redis://cache:6379", "  url: ${NOT SET}", `m.yaml:8: target.url: ${NOT SET}: want ${NAME} or ${NAME:-default}`},
		{"  url: redis://cache:6379", "  url: ${", `m.yaml:8: target.url: ${ without }`},
		{"  url: redis://cache:6379", "  url: ${A:-${B}}", `m.yaml:8: target.url: ${A}: a default can't contain a variable`},

		{"name: products", "name: [", `m.yaml:`},
		{"name: products", "\tname: products", `invalid YAML: `},
		{end, end + "name: *nobody", `invalid YAML: `},
		{end, end + "---\nname: other\n", `m.yaml:10: a second document begins here`},
	} {
		text := strings.Replace(least, c.old, c.new, 1)
		if text == least {
			t.Fatalf("%q is not in the migration file", c.old)
		}
		m, err := openstore.Parse("m.yaml", []byte(text), nil)
		if err == nil || !strings.Contains(err.Error(), c.want) || m != nil {
			t.Errorf("%s\n got %v\nwant %s", c.new, err, c.want)
		}
		var one *migration.Error
		if !errors.As(err, &one) || one.File != "m.yaml" {
			t.Errorf("%s: the error is a %T", c.new, err)
		}
	}
	for _, text := range []string{"", "# nothing", "---\n", "~", "null"} {
		if _, err := openstore.Parse("m.yaml", []byte(text), nil); err == nil || err.Error() != "m.yaml: the migration file is empty" {
			t.Errorf("%q: %v", text, err)
		}
	}
	if _, err := openstore.Parse("m.yaml", []byte("- a\n"), nil); err == nil || err.Error() != "m.yaml:1: the migration file: want a mapping (key: value), not a list" {
		t.Errorf("%v", err)
	}
}

func TestErrorsForPostgresTargets(t *testing.T) {
	t.Parallel()
	const base = "name: a\nlegacy: {store: postgres, url: postgres://db/x, table: t}\ntarget: {store: postgres, url: postgres://db/x, table: u}\n"
	if _, err := openstore.Parse("m.yaml", []byte(base), nil); err != nil {
		t.Fatal(err)
	}
	for _, c := range []wrong{
		{"table: u", "table: t", "m.yaml:3: target.table is the legacy table itself"},
		{"table: u", "tables: u", `m.yaml:3: unknown key "tables" under target: did you mean "table"?`},
		{", table: u", "", "m.yaml:3: target.table is missing"},
		{"table: u", "table: u, key: 'x:{id}'", "m.yaml:3: target.key is for redis; the target is postgres"},
		{"table: u", "table: u, format: hash", "target.format is for redis"},
		{"table: u", "table: u, expires: at", "target.expires is for redis"},
		{"table: u", "table: u, version_field: v", "target.version_field is for redis"},
		{"url: postgres://db/x, table: u", "url: redis://x, table: u", "m.yaml:3: target.url is no URL of a PostgreSQL server"},
	} {
		_, err := openstore.Parse("m.yaml", []byte(strings.Replace(base, c.old, c.new, 1)), nil)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %s", c.new, err, c.want)
		}
	}
}

// TestErrorsAreReportedTogether: an operator need not run again to see the next error.
func TestErrorsAreReportedTogether(t *testing.T) {
	t.Parallel()
	_, err := openstore.Parse("m.yaml", []byte(least+"backfill: {rate: fast, wokers: 1}\nphases: {grace: {for: long}}\nexclude: x\n"), nil)
	var all migration.Errors
	if !errors.As(err, &all) || len(all) != 4 {
		t.Fatalf("%v", err)
	}
	for i, line := range []int{10, 10, 11, 12} {
		if all[i].Line != line {
			t.Errorf("%d: %v", i, all[i])
		}
	}
	_, err = openstore.Parse("m.yaml", []byte("name: X\nlegacy: {store: a, table: b}\ntarget: {store: redis, url: b}\n"), nil)
	if !errors.As(err, &all) || len(all) != 4 {
		t.Errorf("%v", err)
	}
}

func TestErrorsContainNoSecrets(t *testing.T) {
	t.Parallel()
	const secret = "S3cr3t value"
	for _, c := range []wrong{
		{"name: products", "name: ${SECRET}", `name: "${SECRET}"`},
		{"  url: postgres://app@db/shop", "  url: mysql://x:${SECRET}@db", "legacy.url is no URL"},
		{"  url: redis://cache:6379", "  url: ${SECRET}", "target.url is no URL"},
		{"  key: product:{id}", "  key: product:{id}\nbackfill: {rate: '${SECRET}'}", `not "${SECRET}"`},
		{"  key: product:{id}", "  key: product:{id}\nphases: {grace: {for: '${SECRET}'}}", `duration "${SECRET}"`},
		{"  key: product:{id}", "  key: product:{id}\nphases: {cutover: {steps: ['${SECRET}']}}", `percentage "${SECRET}"`},
		{"  key: product:{id}", "  key: product:{id}\ncompare: [{path: /a, tolerance: '${SECRET}'}]", `tolerance "${SECRET}"`},
		{"  key: product:{id}", "  key: product:{id}\ncompare: [{path: /a, precision: '${SECRET}'}]", "compare[0].precision"},
		{"  key: product:{id}", "  key: '${SECRET}'", `target.key: "${SECRET}"`},
		{"  table: products", "  table: ${SECRET}", `legacy.table: "${SECRET}"`},
	} {
		_, err := openstore.Parse("m.yaml", []byte(strings.Replace(least, c.old, c.new, 1)), env("SECRET", secret))
		if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), secret) {
			t.Errorf("%s: %v", c.new, err)
		}
	}
}
