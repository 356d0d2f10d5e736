package daemon

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"go.yaml.in/yaml/v3"

	"github.com/stranglerfig/migrator/dual"
	"github.com/stranglerfig/migrator/dual/kit"
	"github.com/stranglerfig/migrator/dual/pgfleet"
	"github.com/stranglerfig/migrator/internal/app"
	"github.com/stranglerfig/migrator/internal/hint"
	"github.com/stranglerfig/migrator/internal/openstore"
	"github.com/stranglerfig/migrator/internal/state"
	"github.com/stranglerfig/migrator/internal/test/statetest"
	"github.com/stranglerfig/migrator/internal/test/testenv"
	"github.com/stranglerfig/migrator/migration"
	"github.com/stranglerfig/migrator/phases"
	"github.com/stranglerfig/migrator/reconcile"
	"github.com/stranglerfig/migrator/store"
)

// keysFile is a migration file in which every key can be changed alone, but for those that exclude
// each other.
const keysFile = `
name: items
environment: production
legacy: {store: postgres, url: %q, table: items}
target: {store: redis, url: %q, key: "item:{id}"}
exclude: [unused]
compare: [{path: /seen, precision: 1ms}]
gates:
  custom: [{name: own, promql: up, below: 1, before: [cutover]}]
triggers:
  custom: [{name: own, promql: up, below: 1}, {name: paged, alertmanager: {labels: {severity: page}}}]
capture: {mode: beside}
reconcile:
  stop_on: {promql: up, above: 5}
prometheus: {url: "http://127.0.0.1:1"}
fleet: {lease: 5m} # the instance renews it now and then
webhooks: [{url: "http://127.0.0.1:1", secret_file: secret}]
runbook:
  regions: [north]
  pgbouncers: [{name: pooler, url_file: secret, databases: [shop]}]
  services: [{name: shop}]
  caches: [{name: cache, purge: "true"}]
  success: [{name: good, promql: up, above: 1}]
`

// keyChange is another value of one key.
type keyChange struct {
	value any
	// with are values of other keys that the file needs with it; nil removes one.
	with map[string]any
	seen string // by which observer; "": by the section's
	also string // by which other one
}

// keyChanges has a row for each key of the migration file. Where each is seen, and so what the
// row proves:
//
//	refused   the state refuses the file outside legacy
//	columns   plain apply refuses the file outside legacy; with flags it begins an epoch, with which
//	          the daemon moves other columns, and a running instance learns that it must restart
//	status    the migration's status, which every command and instance reads
//	decider   whom the state lets decide
//	rules     the settings by which the daemon's engine, running, evaluates and moves
//	job       the configuration of the stores that the daemon's maintainer, running, has open
//	throttle  the limits of a backfill or a capture that runs
//	options   what a reconcile run, or a worker, is given
//	capture   what change capture runs with
//	locks     how long a controller waits for locks
//	limits    the URLs that a run's stores are opened with
//	schedule  the times that the daemon's schedule reads
//	keep      the file by which the daemon prunes, and commands count coverage
//	grant     what a running instance's next renewal gets
//	route     the route of a running instance's next renewal, of a new epoch, in the key's phase
//	file      what the daemon reads from its own file at each use
//	opened    what the daemon reads from its own file when it opens the stores
//	instance  what a running instance writes, keeps tombstones and compares by
func keyChanges() map[string]keyChange {
	c := map[string]keyChange{
		"name": {value: "others", seen: "other"}, "environment": {value: "staging", seen: "status"},
		"legacy.store": {value: "mysql", seen: "invalid"}, "legacy.table": {value: "goods"}, "legacy.key": {value: []string{"part", "id"}, with: map[string]any{"target.key": "item:{id}:{part}"}},
		"legacy.version_column": {value: "rev", with: map[string]any{"capture.mode": "off"}},
		"legacy.url_file":       {value: "legacy.url", with: map[string]any{"legacy.url": nil}, seen: "opened"},
		"legacy.standbys":       {value: []string{"one"}, seen: "opened"},
		"target.store":          {value: "postgres", with: map[string]any{"target.key": nil, "target.table": "items", "target.url": "postgres://h/db"}},
		"target.table":          {value: "items", with: map[string]any{"target.key": nil, "target.store": "postgres", "target.url": "postgres://h/db"}},
		"target.key":            {value: "i:{id}"}, "target.format": {value: "json"}, "target.expires": {value: "seen"}, "target.version_field": {value: "_version"},
		"target.url_file": {value: "target.url", with: map[string]any{"target.url": nil}, seen: "opened"},
		"fields.name":     {value: "id", with: map[string]any{"exclude": nil, "compare": nil}},
		"fields.target":   {value: "number", with: map[string]any{"fields.name": "id", "exclude": nil, "compare": nil}},
		"exclude":         {value: []string{"unused", "part"}},
		"target.numbers":  {value: "string", with: map[string]any{"target.format": "json"}},
		"compare.as":      {value: "uuid", with: map[string]any{"compare.precision": nil}, seen: "refused"},
		"compare.zone":    {value: "UTC", with: map[string]any{"compare.precision": nil, "compare.as": "timestamptz"}, seen: "refused"},
		"compare.path":    {value: "/created"}, "compare.ignore": {value: "a reason", with: map[string]any{"compare.precision": nil}},
		"compare.tolerance": {value: "0.5", with: map[string]any{"compare.precision": nil, "compare.path": "/price"}}, "compare.precision": {value: "1s"}, "compare.show": {value: true},

		"phases.shadow_write.for": {value: "2h"}, "phases.dual_read.steps": {value: []int{7, 100}}, "phases.dual_read.over": {value: "2h"}, "phases.dual_read.auto": {value: false},
		"phases.cutover.steps": {value: []int{7, 100}}, "phases.cutover.over": {value: "2h"}, "phases.cutover.shadow": {value: 0, seen: "route"}, "phases.grace.shadow": {value: 7, seen: "route"}, "phases.cutover.auto": {value: false},
		"phases.grace.for": {value: "2h"}, "phases.retain.for": {value: "2h"}, "phases.retain.reversible": {value: false, seen: "status"},
		"phases.approval.role": {value: "nobody_has_it", seen: "decider"}, "phases.approval.expires": {value: "2h"}, "phases.approval.for": {value: []string{"grace", "complete"}},
		"phases.approval.two_people": {value: []string{}, seen: "people"},

		"fleet.lease": {value: "40s", seen: "grant"}, "fleet.renew": {value: "1s", seen: "grant"},
		"backfill.chunk_rows": {value: 77}, "backfill.rate": {value: 77}, "backfill.workers": {value: 7}, "backfill.lock_timeout": {value: "7s", seen: "locks"},
		"throttle.changes": {value: 77}, "throttle.standby_lag": {value: "7s"}, "throttle.standby_mib": {value: 77}, "throttle.sessions": {value: 77}, "throttle.target_latency": {value: "7ms"},

		"capture.mode": {value: "off"}, "capture.workers": {value: 7}, "capture.beat": {value: "7s"}, "capture.max_held": {value: "7GiB"}, "capture.max_share": {value: "7%"},

		"reconcile.chunk_rows": {value: 77}, "reconcile.workers": {value: 7}, "reconcile.rate": {value: 77}, "reconcile.findings": {value: 77}, "reconcile.pause": {value: "7s"},
		"reconcile.rereads": {value: 7}, "reconcile.lease": {value: "7s"}, "reconcile.max_repairs": {value: 0}, "reconcile.repair_rate": {value: 77}, "reconcile.max_difference": {value: "7%"},
		"reconcile.recent.column": {value: "seen"}, "reconcile.recent.within": {value: "7h"}, "reconcile.recent.sample": {value: 7}, "reconcile.sample": {value: 7, seen: "job"},
		"reconcile.window": {value: "7d", seen: "keep"}, "reconcile.keep": {value: "7d", seen: "keep"},
		"reconcile.schedule": {value: "7 * * * *", seen: "schedule"}, "reconcile.full_schedule": {value: "7 * * * *", seen: "schedule"},
		"reconcile.max_connections": {value: 7, seen: "limits"}, "reconcile.statement_timeout": {value: "7s", seen: "limits"},
		"reconcile.stop_on.alerts": {value: []string{"Paged"}, seen: "job"}, "reconcile.stop_on.promql": {value: "down", seen: "job"}, "reconcile.stop_on.above": {value: 7, seen: "job"},
		"reconcile.stop_on.replication_lag": {value: "7s", seen: "job"}, "reconcile.stop_on.interval": {value: "7s", seen: "job"},

		"gates.off": {value: "a reason"}, "gates.bypass.off": {value: "a reason"}, "gates.bypass.limit": {value: "7%"}, "gates.bypass.for": {value: "7h"},
		"gates.capture.off": {value: "a reason"}, "gates.capture.lag": {value: "7s"}, "gates.capture.bytes": {value: "7MiB"}, "gates.consistency.limit": {value: "7%"}, "gates.consistency.for": {value: "7h"}, "gates.consistency.confidence": {value: "77%"},
		"gates.consistency.coverage": {value: "77%"}, "gates.shadow_writes.limit": {value: "7%"}, "gates.shadow_writes.calm": {value: "7m"},
		"gates.target_reads.limit": {value: "7%"}, "gates.target_reads.calm": {value: "7m"}, "gates.added_latency.p95": {value: "7ms"},
		"gates.drill.within": {value: "7d"}, "gates.drill.faults": {value: []string{"corrupt"}, with: map[string]any{"gates.drill.within": "7d"}}, "gates.drill.public_key": {value: "MCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE="}, "gates.runbook.within": {value: "7d"},
		"gates.custom.name": {value: "renamed"}, "gates.custom.promql": {value: "down"}, "gates.custom.command": {value: []string{"true"}, with: map[string]any{"gates.custom.promql": nil, "gates.custom.below": nil}},
		"gates.custom.above": {value: 7, with: map[string]any{"gates.custom.below": nil}}, "gates.custom.below": {value: 7}, "gates.custom.timeout": {value: "7s"}, "gates.custom.before": {value: []string{"grace"}},
		"triggers.off": {value: "a reason"}, "triggers.mismatches.limit": {value: "7%"}, "triggers.errors.limit": {value: "7%"}, "triggers.latency.ratio": {value: 7}, "triggers.latency.ceiling": {value: "7ms"},
		"triggers.custom.name": {value: "renamed"}, "triggers.custom.promql": {value: "down"}, "triggers.custom.command": {value: []string{"true"}, with: map[string]any{"triggers.custom.promql": nil, "triggers.custom.below": nil}},
		"triggers.custom.above": {value: 7, with: map[string]any{"triggers.custom.below": nil}}, "triggers.custom.below": {value: 7}, "triggers.custom.timeout": {value: "7s"},
		"triggers.custom.alertmanager.labels": {value: map[string]string{"severity": "other"}, with: map[string]any{"triggers.custom.promql": nil, "triggers.custom.below": nil}},
		"triggers.custom.on_blind":            {value: "rollback"}, "triggers.custom.consecutive": {value: 7}, "triggers.custom.dry_run": {value: true},

		"prometheus.url": {value: "http://127.0.0.1:2"}, "prometheus.url_file": {value: "prometheus.url", with: map[string]any{"prometheus.url": nil}}, "prometheus.token_file": {value: "secret"},
		"prometheus.username":      {value: "ann", with: map[string]any{"prometheus.password_file": "secret"}},
		"prometheus.password_file": {value: "secret", with: map[string]any{"prometheus.username": "ann"}}, "prometheus.ca_file": {value: "secret"},
		"webhooks.url": {value: "http://127.0.0.1:2"}, "webhooks.url_file": {value: "prometheus.url", with: map[string]any{"webhooks.url": nil}}, "webhooks.secret_file": {value: "prometheus.url"},
		"webhooks.events": {value: []string{"due"}},

		"runbook.contact": {value: "ann"}, "runbook.regions": {value: []string{"south"}}, "runbook.connection.to_target": {value: "true"}, "runbook.connection.to_legacy": {value: "true"},
		"runbook.dns.hosts": {value: []string{"db.example.org"}}, "runbook.dns.server": {value: "127.0.0.1:1"}, "runbook.dns.max_ttl": {value: "7s"},
		"runbook.pgbouncers.name": {value: "other"}, "runbook.pgbouncers.region": {value: "north"}, "runbook.pgbouncers.url_file": {value: "prometheus.url"}, "runbook.pgbouncers.databases": {value: []string{"other"}},
		"runbook.pgbouncers.pause": {value: true}, "runbook.services.name": {value: "other"}, "runbook.services.region": {value: "north"}, "runbook.services.drain": {value: "true"},
		"runbook.services.health": {value: "http://127.0.0.1:1"}, "runbook.caches.name": {value: "other"}, "runbook.caches.purge": {value: "false"},
		"runbook.caches.url":        {value: "http://127.0.0.1:1", with: map[string]any{"runbook.caches.purge": nil}},
		"runbook.caches.token_file": {value: "secret"}, "runbook.success.name": {value: "other"}, "runbook.success.promql": {value: "down"}, "runbook.success.above": {value: 7},
		"runbook.success.below": {value: 7, with: map[string]any{"runbook.success.above": nil}},
	}
	for key, value := range map[string]any{
		"on_target_failure": "degrade", "deadline": "2s", "rollback_budget": "2s", "fence_budget": "3s", "queue": 77, "tombstones": "2d",
	} {
		c["writing."+key] = keyChange{value: value, seen: "instance"}
	}
	c["writing.not_after"] = keyChange{value: "20s", seen: "refused"}
	for key, row := range c {
		if strings.HasPrefix(key, "compare.") && row.seen == "" && key != "compare.show" { // what findings show is a run's
			row.seen, row.also = "job", "instance"
			c[key] = row
		}
	}
	for _, of := range []string{
		"gates.consistency", "gates.shadow_writes", "gates.target_reads", "gates.added_latency", "gates.drill", "gates.runbook", "gates.custom",
		"triggers.mismatches", "triggers.errors", "triggers.latency", "triggers.lost_writes", "triggers.custom",
	} {
		c[of+".off"], c[of+".interval"], c[of+".initial_delay"] = keyChange{value: "a reason"}, keyChange{value: "77s"}, keyChange{value: "7s"}
		c[of+".min_samples"] = keyChange{value: 7}
		if strings.HasSuffix(of, ".custom") {
			c[of+".min_samples"] = keyChange{value: 7, seen: "invalid"} // an external source decides itself
		}
		if strings.HasPrefix(of, "triggers") {
			c[of+".dry_run"] = keyChange{value: true}
		}
	}
	return c
}

// observerOf is how a key's section is seen.
func observerOf(key string) string {
	switch section, _, _ := strings.Cut(key, "."); section {
	case "legacy", "target":
		return "refused"
	case "fields", "exclude":
		return "columns"
	case "phases", "gates", "triggers":
		return "rules"
	case "compare", "backfill":
		return "job"
	case "capture":
		return "capture"
	case "throttle":
		return "throttle"
	case "reconcile":
		return "options"
	case "prometheus", "webhooks", "runbook":
		return "file"
	default:
		return ""
	}
}

// everyKey lists the keys of the migration file, without indices of lists.
func everyKey(path string, t reflect.Type) (keys []string) {
	for t.Kind() == reflect.Slice || t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	for _, f := range migration.Fields(t) {
		key := strings.TrimPrefix(path+"."+migration.KeyOf(f), ".")
		inner := f.Type
		for inner.Kind() == reflect.Slice {
			inner = inner.Elem()
		}
		if inner.Kind() == reflect.Struct {
			keys = append(keys, everyKey(key, inner)...)
		} else {
			keys = append(keys, key)
		}
	}
	return keys
}

// edited is the file with another value at the path, in the first entry of each list.
func edited(file, path string, value any) string {
	var root map[string]any
	if err := yaml.Unmarshal([]byte(file), &root); err != nil {
		panic(err)
	}
	words := strings.Split(path, ".")
	at := root
	for i, word := range words {
		if i == len(words)-1 {
			if delete(at, word); value != nil {
				at[word] = value
			}
			break
		}
		inner := at[word]
		if list, ok := inner.([]any); ok {
			inner = list[0]
		}
		next, ok := inner.(map[string]any)
		if !ok {
			if next = map[string]any{}; word == "fields" {
				at[word] = []any{next}
			} else {
				at[word] = next
			}
		}
		at = next
	}
	text, err := yaml.Marshal(root)
	if err != nil {
		panic(err)
	}
	return string(text)
}

// keysWorld is a migration in dual-read with one daemon and one instance, none of which restarts.
type keysWorld struct {
	*testing.T
	st         *state.Store
	path       string
	m          *Migration
	engine     *engineRun
	maintainer *maintenance
	schedule   *Schedule
	fleet      *pgfleet.Fleet
	grant      dual.Grant

	instance   *dual.Instance // running
	leave      func()
	tombstones tombstones // of its target
	followed   atomic.Pointer[migration.Config]
}

func (w *keysWorld) check(err error) {
	w.Helper()
	if err != nil {
		w.Fatal(err)
	}
}

// tombstones is a target of which only this is looked at.
type tombstones struct {
	store.TargetRecords
	horizon atomic.Int64
}

func (s *tombstones) KeepTombstones(horizon time.Duration) { s.horizon.Store(int64(horizon)) }

// run runs an instance, which follows what is applied.
func (w *keysWorld) run() {
	w.Helper()
	applied, err := w.st.Config(w.Context(), "items")
	w.check(err)
	fleet := pgfleet.New(w.st.Pool(), "items", pgfleet.Options{Renew: 50 * time.Millisecond})
	c := dual.Config{Fleet: fleet, Moves: applied.Moves, Identity: dual.Identity{Instance: "running"}}
	c.Applied = kit.Applied(fleet, &w.tombstones, func(m *migration.Config) { w.followed.Store(m) })
	w.instance, err = dual.Join(w.Context(), c)
	w.check(err)
	ctx, stop := context.WithCancel(context.WithoutCancel(w.Context()))
	ended := make(chan error, 1)
	go func() { ended <- w.instance.Run(ctx) }()
	w.leave = sync.OnceFunc(func() {
		stop()
		if err := <-ended; err != nil {
			w.Error(err)
		}
	})
	w.Cleanup(w.leave)
}

// follows waits until the running instance follows what is applied, and returns what it goes by.
func (w *keysWorld) follows() *migration.Config {
	w.Helper()
	m, err := app.Applied(w.Context(), w.st, "items")
	w.check(err)
	want, err := m.Public()
	w.check(err)
	follows := func() bool {
		got, err := w.followed.Load().Public()
		w.check(err)
		return string(got) == string(want) && w.instance.Writing() == kit.Writing(m.Writing)
	}
	for limit := time.Now().Add(3 * time.Minute); !follows(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(limit) {
			w.Fatalf("the running instance does not follow what is applied: %s", want)
		}
	}
	by, now := &migration.Config{Compare: w.followed.Load().Compare}, w.instance.Writing()
	by.Writing = migration.Writing{
		OnTargetFailure: string(now.OnTargetFailure), Deadline: phases.Duration(now.Deadline), NotAfter: phases.Duration(now.NotAfter),
		RollbackBudget: phases.Duration(now.RollbackBudget), FenceBudget: phases.Duration(now.FenceBudget), Queue: now.Queue,
		Tombstones: phases.Duration(w.tombstones.horizon.Load()),
	}
	return by
}

// apply applies the file as a command does.
func (w *keysWorld) apply(m *migration.Config) error {
	applied, err := w.st.Config(w.Context(), "items")
	w.check(err)
	own := *m
	own.Schema, err = applied.Columns()
	w.check(err)
	a, err := state.ToApply(&own)
	w.check(err)
	a.Schema = applied.Schema
	_, _, err = w.st.Apply(w.Context(), a)
	return err
}

// join starts the instance again, with the columns that are applied.
func (w *keysWorld) join() {
	w.Helper()
	ctx := w.Context()
	if w.grant.Lease != "" {
		w.check(w.fleet.Leave(ctx, w.grant.Lease))
	}
	applied, err := w.st.Config(ctx, "items")
	w.check(err)
	w.grant, err = w.fleet.Join(ctx, dual.Identity{Instance: "web", Moves: applied.Moves})
	w.check(err)
}

// observe is what an observer sees, as JSON.
func (w *keysWorld) observe(by string) []byte {
	w.Helper()
	ctx := w.Context()
	document := func(m *migration.Config) any {
		text, err := m.Public()
		w.check(err)
		return json.RawMessage(text)
	}
	var seen any
	switch by {
	case "rules":
		w.engine.tick(ctx)
		s := w.engine.rules.Settings
		seen = document(&migration.Config{Phases: s.Schedule, Gates: s.Gates, Triggers: s.Triggers})
	case "job", "options", "locks", "opened", "limits", "throttle", "capture":
		if by == "opened" {
			w.maintainer.closeStores() // as after a failure
		}
		w.maintainer.tick(ctx)
		opened, ok := w.maintainer.stores.(*stores)
		if !ok {
			w.Fatal("the maintainer has no stores open")
		}
		switch j := opened.Job; by {
		case "job":
			seen = document(j.Config)
		case "options":
			rc, _, err := j.Reconciler(ctx)
			w.check(err)
			o := rc.Options
			o.Report = nil
			seen = map[string]any{"options": fmt.Sprintf("%+v", o)}
		case "capture":
			c, _, err := j.Capture()
			w.check(err)
			seen = map[string]any{"mode": j.Config.Settings().Capture, "workers": c.Workers, "beat": c.Beat, "held": c.MaxHeld, "share": c.MaxShare}
		case "throttle":
			c, _, err := j.Capture()
			w.check(err)
			limits, err := c.Throttle.Limits(ctx)
			w.check(err)
			seen = limits
		case "locks":
			seen = map[string]any{"lock": j.Controller(j.Config, nil).LockTimeout}
		case "opened":
			side := fmt.Sprintf("%s %s %s %s %+v", j.Config.Legacy.URL, j.Config.Legacy.URLFile, j.Config.Target.URL, j.Config.Target.URLFile, j.Config.Legacy.Part)
			seen = map[string]any{"sides": side}
		case "limits":
			m := *j.Config
			m.LimitLoad()
			seen = map[string]any{"urls": m.Legacy.URL + m.Target.URL}
		}
	case "schedule":
		exprs, err := w.schedule.Exprs(ctx)
		w.check(err)
		seen = map[string]any{"full": exprs[reconcile.FullKind], "sampled": exprs[reconcile.SampledKind]}
	case "keep":
		m, err := app.Applied(ctx, w.st, "items")
		w.check(err)
		seen = document(m)
	case "instance":
		seen = document(w.follows())
	case "status", "decider":
		e, err := w.st.Snapshot(ctx, "items")
		w.check(err)
		seen = map[string]any{"environment": e.Status.Environment, "reversible": e.Status.Reversible, "decides": e.Decides}
	case "grant":
		var err error
		w.grant, err = w.fleet.Renew(ctx, w.grant.Lease, w.grant.Route.Epoch)
		w.check(err)
		seen = map[string]any{"ttl": w.grant.TTL, "renew": w.grant.Renew}
	case "file":
		now := w.m.now()
		seen = map[string]any{"prometheus": now.Prometheus, "webhooks": now.Webhooks, "runbook": now.Runbook}
	default:
		w.Fatalf("no observer %q", by)
	}
	text, err := json.Marshal(seen)
	w.check(err)
	return text
}

// TestEveryKeyActsWithoutRestart changes each key of the migration file alone, applies it, and sees
// it act, or be refused: in a daemon and an instance that run on. A key without a row fails.
func TestEveryKeyActsWithoutRestart(t *testing.T) {
	t.Parallel()
	legacyURL, targetURL := testenv.PostgresURL(t), testenv.RedisURL(t)
	dir := t.TempDir()
	for name, text := range map[string]string{"secret": "secret", "legacy.url": legacyURL, "target.url": targetURL, "prometheus.url": "http://127.0.0.1:3"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	base := fmt.Sprintf(keysFile, legacyURL, targetURL)
	w := newKeysWorld(t, dir, base, legacyURL)
	rows := keyChanges()
	rows["legacy.url"] = keyChange{value: parameter(legacyURL, "application_name=another"), seen: "opened"}
	rows["target.url"] = keyChange{value: parameter(targetURL, "dial_timeout=7s"), seen: "opened"}
	all := everyKey("", migration.Outline(openstore.Kinds()...).Type())
	for _, key := range slices.Sorted(maps.Keys(rows)) {
		if !slices.Contains(all, key) {
			t.Errorf("%s is no key of the migration file", key)
		}
	}
	before := map[string][]byte{}
	for _, by := range []string{"rules", "job", "options", "locks", "opened", "limits", "throttle", "capture", "schedule", "keep", "instance", "status", "grant", "file"} {
		before[by] = w.observe(by)
	}
	before["decider"] = before["status"]
	for _, key := range all {
		row, ok := rows[key]
		if !ok {
			t.Errorf("%s has no row in keyChanges: where is another value of it seen?", key)
			continue
		}
		if row.seen == "" {
			row.seen = observerOf(key)
		}
		if row.seen == "route" {
			continue
		}
		w.try(base, key, row, before)
	}
	w.leave() // moveTo acknowledges for the other one alone
	w.join()
	// In the phases of these keys the others would not all be refused or seen.
	w.check(w.apply(w.m.Config))
	for _, to := range []phases.Route{{Phase: phases.Cutover, Percent: phases.All}, {Phase: phases.Grace}} {
		w.moveTo(to)
		key := "phases." + string(to.Phase) + ".shadow"
		w.route(base, key, rows[key])
	}
}

// route changes the share of compared reads on the present route: it begins an epoch, with which a
// running instance gets the share.
func (w *keysWorld) route(base, key string, row keyChange) {
	w.Helper()
	m, err := openstore.Parse(w.path, []byte(edited(base, key, row.value)), nil)
	w.check(err)
	w.rule(base, key, m)
	was := w.grant.Route
	if !was.Shadow.IsZero() {
		w.Errorf("%s: the instance has %q before", key, was.Shadow)
	}
	w.check(w.apply(m))
	w.observe("grant")
	if got := w.grant.Route; got.Phase != was.Phase || got.Percent != was.Percent || got.Epoch != was.Epoch+1 || got.Shadow.String() != fmt.Sprint(row.value) {
		w.Errorf("%s: the instance is given %+v after %+v", key, got, was)
	}
	if n, err := w.st.VerifyHistory(w.Context(), "items"); err != nil || n == 0 {
		w.Errorf("%s: %v", key, err)
	}
	w.check(w.apply(w.m.Config))
	w.observe("grant") // receives the epoch
	w.observe("grant") // acknowledges it
	if got := w.grant.Route; got.Epoch != was.Epoch+2 || !got.Shadow.IsZero() {
		w.Errorf("%s is gone, and the instance is given %+v", key, got)
	}
}

func newKeysWorld(t *testing.T, dir, file, legacyURL string) *keysWorld {
	t.Helper()
	w := &keysWorld{T: t, path: filepath.Join(dir, "migration.yaml")}
	ctx := t.Context()
	conn, err := pgx.Connect(ctx, legacyURL)
	w.check(err)
	_, err = conn.Exec(ctx, `CREATE TABLE items (id bigint PRIMARY KEY, price numeric, seen timestamptz, created timestamptz, part text, unused text, rev bigint)`)
	w.check(err)
	w.check(conn.Close(ctx))
	w.st, err = state.Open(ctx, statetest.URL(t))
	w.check(err)
	t.Cleanup(w.st.Close)
	w.check(os.WriteFile(w.path, []byte(file), 0o600))
	m, err := openstore.Load(w.path)
	w.check(err)
	_, err = app.Apply(ctx, w.st, m, false, app.ColumnFlags{})
	w.check(err)
	w.m = &Migration{File: w.path, Config: m}
	w.fleet = pgfleet.New(w.st.Pool(), "items", pgfleet.Options{})
	w.join()
	w.moveTo(phases.Route{Phase: phases.ShadowWrite})
	w.moveTo(phases.Route{Phase: phases.DualRead, Percent: phases.All})
	w.run()
	d := &Daemon{State: w.st, Migrations: []*Migration{w.m}, Log: slog.New(slog.DiscardHandler)}
	w.engine = &engineRun{Engine: d.engine(w.m), log: d.Log, stop: func() {}, failures: map[string]string{}}
	t.Cleanup(func() {
		w.engine.stop()
		w.engine.sources.Wait()
	})
	w.schedule = d.schedule(w.m, d.Log)
	w.maintainer = &maintenance{Maintainer: d.maintainer(w.m, d.Log), log: d.Log, jobs: map[string]*job{}}
	t.Cleanup(w.maintainer.closeStores)
	return w
}

// moveTo is an operator's step, which the instance acknowledges.
func (w *keysWorld) moveTo(to phases.Route) {
	w.Helper()
	_, err := w.st.Approve(w.Context(), "items", to.Phase, "", time.Hour, "a test")
	w.check(err)
	st, err := w.st.Transition(w.Context(), "items", func(e phases.Snapshot) (phases.Move, error) {
		return phases.Move{From: e.Status.Route, To: to, Cause: phases.CauseAdvance}, nil
	})
	w.check(err)
	w.grant, err = w.fleet.Renew(w.Context(), w.grant.Lease, st.Route.Epoch)
	w.check(err)
}

// try changes one key, applies the file, and compares what is seen with what was seen of the base
// file: so the key of the row before, which is gone, must have its default again.
func (w *keysWorld) try(base, key string, row keyChange, before map[string][]byte) {
	w.Helper()
	file := edited(base, key, row.value)
	for other, value := range row.with {
		file = edited(file, other, value)
	}
	m, err := openstore.Parse(w.path, []byte(file), nil)
	if row.seen == "invalid" {
		if err == nil {
			w.Errorf("%s: %v is read", key, row.value)
		}
		return
	}
	if err != nil {
		w.Errorf("%s: %v", key, err)
		return
	}
	w.rule(base, key, m)
	switch row.seen {
	case "other":
		if _, err := w.st.Compare(w.Context(), mustApply(m)); err != nil || m.Name == "items" {
			w.Errorf("%s: a file of another migration: %v", key, err)
		}
		return
	case "refused":
		var refused *state.ChangeRefusedError
		if err := w.apply(m); !errors.As(err, &refused) || !slices.ContainsFunc(refused.Changes, func(c state.KeyChange) bool { return without(c.Key) == key }) {
			w.Errorf("%s: it is not refused: %v", key, err)
		}
		return
	case "people": // two decide about two
		if err := w.apply(m); err == nil || !strings.Contains(err.Error(), "needs two people, and so does ending that") {
			w.Errorf("%s: one person ends the rule of two: %v", key, err)
		}
		return
	case "columns":
		w.leave() // it would have to restart
		w.columns(base, file, key, m)
		w.run()
		return
	}
	if migration.RuleOf(key) == migration.Tuned {
		// The config hash is the base file's before and after: it tells nothing.
		w.check(w.apply(w.m.Config))
		w.observe(row.seen)
	}
	w.check(os.WriteFile(w.path, []byte(file), 0o600))
	if err := w.apply(m); err != nil {
		w.Errorf("%s: %v", key, err)
		return
	}
	changes, err := state.ChangesOf(before[row.seen], w.observe(row.seen))
	w.check(err)
	if row.also != "" {
		also, err := state.ChangesOf(before[row.also], w.observe(row.also))
		w.check(err)
		if !reflect.DeepEqual(also, changes) {
			w.Errorf("%s: %s shows %v, and %s %v", key, row.seen, changes, row.also, also)
		}
	}
	whole := row.seen == "rules" || row.seen == "job" || row.seen == "keep" || row.seen == "instance" // keys by their names
	if len(changes) == 0 || whole && !slices.ContainsFunc(changes, func(c state.KeyChange) bool {
		return without(c.Key) == key || strings.HasPrefix(without(c.Key), key+".") // a mapping's own keys
	}) {
		w.Errorf("%s: %s shows nothing of it: %v", key, row.seen, changes)
	}
	if whole && len(row.with) == 0 && len(changes) != 1 {
		w.Errorf("%s alone was changed, and %s shows %v", key, row.seen, changes)
	}
	w.check(os.WriteFile(w.path, []byte(base), 0o600))
}

// columns applies a file that moves other columns, and the base file again.
func (w *keysWorld) columns(base, file, key string, m *migration.Config) {
	w.Helper()
	others := []string{"price", "seen", "created", "part", "rev"}
	flags := map[string]app.ColumnFlags{
		"exclude": {Drop: []string{"part"}}, "fields.name": {Drop: others},
		"fields.target": {Drop: append(others, "id"), Add: []string{"id"}}, // as another field
	}[key]
	for _, to := range []struct {
		file  string
		m     *migration.Config
		flags app.ColumnFlags
	}{{file, m, flags}, {base, w.m.Config, app.ColumnFlags{Add: flags.Drop, Drop: flags.Add}}} {
		w.check(os.WriteFile(w.path, []byte(to.file), 0o600))
		before, err := w.st.Config(w.Context(), "items")
		w.check(err)
		_, err = app.Apply(w.Context(), w.st, to.m, false, app.ColumnFlags{})
		after, readErr := w.st.Config(w.Context(), "items")
		w.check(readErr)
		if h, _ := hint.Of(err); h.Do != hint.AddField && h.Do != hint.DropField && h.Do != hint.ChangeField || !reflect.DeepEqual(before, after) {
			w.Errorf("%s: without a flag it is not refused, or stored: %v", key, err)
		}
		was := w.grant.Route
		a, err := app.Apply(w.Context(), w.st, to.m, false, to.flags)
		w.check(err)
		if !a.NewEpoch || !a.EvidenceVoid || !a.Columns || len(a.Added) != len(to.flags.Add) || len(a.Dropped) != len(to.flags.Drop) {
			w.Errorf("%s: %+v", key, a)
		}
		w.observe("grant")
		if w.grant.Route.Epoch != was.Epoch+1 || !w.grant.OtherMoves {
			w.Errorf("%s: the running instance is given %+v after %+v", key, w.grant, was)
		}
		w.join()
		w.observe("job")
		opened, ok := w.maintainer.stores.(*stores)
		after, err = w.st.Config(w.Context(), "items")
		w.check(err)
		if !ok || opened.Job.Config.Moves() != after.Moves || after.Moves == before.Moves || w.grant.OtherMoves {
			w.Errorf("%s: the daemon or a new instance does not move what is applied", key)
		}
	}
}

// rule compares a key's rule, which the documentation shows, with what depends on it.
func (w *keysWorld) rule(base, key string, m *migration.Config) {
	w.Helper()
	was, err := openstore.Parse(w.path, []byte(base), nil)
	w.check(err)
	changes, err := state.ChangesOf(mustApply(was).Config, mustApply(m).Config)
	w.check(err)
	void, stored := was.Hash() != m.Hash(), len(changes) > 0
	want := map[migration.Rule][2]bool{migration.Moves: {true, true}, migration.Columns: {true, true}, migration.Bound: {true, true}, migration.Tuned: {false, true}, migration.Unstored: {false, false}}[migration.RuleOf(key)]
	if want != [2]bool{void, stored} {
		w.Errorf("%s: its rule is %s, and a change of it voids evidence: %t, is stored: %t", key, migration.RuleOf(key), void, stored)
	}
}

func mustApply(m *migration.Config) state.Applied {
	a, err := state.ToApply(m)
	if err != nil {
		panic(err)
	}
	return a
}

// parameter is the URL with one more parameter.
func parameter(url, text string) string {
	if strings.Contains(url, "?") {
		return url + "&" + text
	}
	return url + "?" + text
}

func without(key string) string {
	return strings.ReplaceAll(key, "[0]", "")
}
