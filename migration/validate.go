package migration

import (
	"errors"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/stranglerfig/migrator/phases"
	"github.com/stranglerfig/migrator/record"
)

// validator finds errors without connecting to a store.
type validator struct {
	m     *Config
	kinds []Kind
	// schedule reports why a cron expression is none; nil: they are not looked at.
	schedule func(text string) error
	*problems
}

func (v *validator) all() {
	v.names()
	v.stores()
	v.fields()
	v.rules()
	v.phases()
	v.external()
	v.runbook()
	v.writing()
	v.capture()
	v.jobs()
	for _, one := range splitErrors(v.m.Timing().Validate()) {
		path, message, _ := strings.Cut(one.Error(), ": ")
		v.at(path, "%s", message)
	}
}

var (
	migrationName = regexp.MustCompile(`^[a-z][a-z0-9_-]{0,62}$`)
	environment   = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9 ._-]{0,62}$`)
)

// IsName reports whether a migration may have the name.
func IsName(name string) bool { return migrationName.MatchString(name) }

func (v *validator) names() {
	switch name := v.m.Name; {
	case name == "":
		v.at("name", "is missing")
	case !IsName(name):
		v.at("name", ": %q: want lower-case letters, digits, - and _, a letter first, 63 at most", name)
	}
	if !environment.MatchString(v.m.Environment) {
		v.at("environment", ": %q: want a name such as production or staging", v.m.Environment)
	}
}

func (v *validator) fields() {
	m := v.m
	named, targets := map[string]bool{}, map[string]string{}
	for i, f := range m.Fields {
		to := f.Target
		if to == "" {
			to = f.Name
		}
		switch {
		case f.Name == "":
			v.at(index("fields", i)+".name", "is missing")
		case named[f.Name]:
			v.at(index("fields", i)+".name", "%q is named twice", f.Name)
		case targets[to] != "":
			v.at(index("fields", i), "%q would be written to %q, as %q already is", f.Name, to, targets[to])
		}
		named[f.Name], targets[to] = true, f.Name
	}
	if len(m.Fields) > 0 && len(m.Exclude) > 0 {
		v.at("exclude", "and fields are both given: fields already names what is moved; leave one out")
	}
	for i, name := range m.Exclude {
		switch {
		case name == "":
			v.at(index("exclude", i), "is empty")
		case slices.Contains(m.Exclude[:i], name):
			v.at(index("exclude", i), "%q is named twice", name)
		}
	}
}

// moved requires a column to be among those that are moved.
func (v *validator) moved(path, column, because string) {
	m := v.m
	if len(m.Fields) > 0 && !slices.ContainsFunc(m.Fields, func(f Field) bool { return f.Name == column }) {
		v.at(path, "%q %s, so it must be among fields", column, because)
	}
	if slices.Contains(m.Exclude, column) {
		v.at(path, "%q %s: it can't be excluded", column, because)
	}
}

func (v *validator) rules() {
	seen := map[string]bool{}
	for i, r := range v.m.Compare {
		at := index("compare", i)
		if err := r.Validate(); err != nil {
			v.at(at, ": %v", err)
			continue
		}
		if r.Zone != "" {
			if _, err := time.LoadLocation(r.Zone); err != nil || r.Zone == "Local" {
				v.at(at, ": path %q: zone %q: want a name of the time zone database, such as Europe/Berlin", r.Path, r.Zone)
			}
		}
		if seen[r.Path] {
			v.at(at, ": path %q: there are two rules for it", r.Path)
		}
		seen[r.Path] = true
		tokens, _ := record.ParsePointer(r.Path)
		if slices.Contains(v.m.Exclude, tokens[0]) {
			v.at(at, ": path %q: column %q is excluded", r.Path, tokens[0])
		}
		if fields := v.m.Fields; len(fields) > 0 && !slices.ContainsFunc(fields, func(f Field) bool { return f.Name == tokens[0] }) {
			v.at(at, ": path %q: %q is not among fields; rules use legacy's names", r.Path, tokens[0])
		}
	}
}

func (v *validator) phases() {
	for _, err := range []error{v.m.Phases.Validate(), v.m.Gates.Validate(), v.m.Triggers.Validate()} {
		for _, one := range splitErrors(err) {
			path, message, _ := strings.Cut(one.Error(), ": ")
			v.at(path, ": %s", message)
		}
	}
}

// external validates the outside systems that the daemon queries and notifies.
func (v *validator) external() {
	m := v.m
	var asks []string
	for i, g := range m.Gates.Custom {
		if g.PromQL != "" {
			asks = append(asks, index("gates.custom", i))
		}
	}
	for i, t := range m.Triggers.Custom {
		if t.PromQL != "" {
			asks = append(asks, index("triggers.custom", i))
		}
	}
	switch p := m.Prometheus; {
	case p.URL == "" && len(asks) > 0:
		v.at(asks[0]+".promql", "needs a Prometheus, but prometheus.url is missing")
	case p.URL != "" && !isHTTP(p.URL):
		v.at("prometheus.url", "is no URL of a Prometheus: want http://... or https://...")
	case (p.Username != "") != (p.PasswordFile != ""):
		v.at("prometheus.username", "and password_file go together")
	case p.Username != "" && p.TokenFile != "":
		v.at("prometheus.token_file", "and username are both given; leave one out")
	}
	for i, w := range m.Webhooks {
		at := index("webhooks", i)
		if !isHTTP(w.URL) {
			v.at(at+".url", "want http://... or https://...")
		}
		if w.SecretFile == "" {
			v.at(at+".secret_file", "is missing: messages must be signed, so that receivers can verify the sender")
		}
		for j, event := range w.Events {
			v.oneOf(index(at+".events", j), event, webhookEvents...)
		}
	}
}

func isHTTP(text string) bool {
	u, err := url.Parse(text)
	return err == nil && (u.Scheme == "http" || u.Scheme == "https") && u.Host != ""
}

func (v *validator) writing() {
	w := v.m.Writing
	v.oneOf("writing.on_target_failure", w.OnTargetFailure, "rollback", "degrade", "fail")
	v.between("writing.queue", w.Queue, 1, 10_000_000)
}

func (v *validator) capture() {
	c := v.m.Capture
	v.oneOf("capture.mode", string(c.Mode), "off", "beside", "only")
	if part := v.m.Legacy.Part; c.Mode.On() && part != nil {
		if captured, ok := part.(CapturedPart); ok {
			captured.ValidateCapture(Validation{v})
		} else {
			v.at("capture.mode", ": %q: the changes of a %s store can't be captured", c.Mode, v.m.Legacy.Store)
		}
	}
	v.between("capture.workers", c.Workers, 1, MaxWorkers)
	if d := time.Duration(c.Beat); d < 100*time.Millisecond || d > time.Minute {
		v.at("capture.beat", "must be from 100ms to 1m, not %s", c.Beat)
	}
	if c.MaxHeld < minHeld {
		v.at("capture.max_held", "must be at least %s, not %s", minHeld, c.MaxHeld)
	}
	if c.MaxShare == 0 || c.MaxShare > phases.Whole*95/100 {
		v.at("capture.max_share", "must be above 0%% and up to 95%%, not %s: the slot is looked at each capture.beat", c.MaxShare)
	}
}

// minHeld are four segments of the log: a slot holds one or two as long as it is read.
const minHeld phases.Size = 64 << 20

func (v *validator) jobs() {
	b, r := v.m.Backfill, v.m.Reconcile
	v.between("backfill.chunk_rows", b.ChunkRows, 1, maxChunk)
	v.between("backfill.rate", b.Rate, 0, MaxRate)
	v.between("backfill.workers", b.Workers, 1, MaxWorkers)
	v.between("throttle.changes", v.m.Throttle.Changes, 0, MaxRate)
	v.between("throttle.standby_mib", v.m.Throttle.StandbyMiB, 0, MaxRate)
	v.between("throttle.sessions", v.m.Throttle.Sessions, 0, MaxRate)
	v.between("reconcile.chunk_rows", r.ChunkRows, 1, maxChunk)
	v.between("reconcile.rate", r.Rate, 0, MaxRate)
	v.between("reconcile.workers", r.Workers, 1, MaxWorkers)
	v.between("reconcile.rereads", r.Rereads, 1, 1000)
	v.between("reconcile.findings", r.Findings, 1, 10_000_000)
	v.between("reconcile.max_repairs", r.MaxRepairs, 0, MaxRepairs)
	v.reconcileLoad()
	if d := time.Duration(r.Pause); d < 0 || d > time.Hour {
		v.at("reconcile.pause", "must be from 0s to 1h, not %s", r.Pause)
	}
	if r.Sample == 0 {
		v.at("reconcile.sample", "must be above 0 and up to 100")
	}
	v.between("reconcile.repair_rate", r.RepairRate, 0, MaxRate)
	if r.MaxDifference == 0 {
		v.at("reconcile.max_difference", "must be above 0%% (100%% is no bound)")
	}
	if r.Window <= 0 {
		v.at("reconcile.window", "must be above 0, such as 30d")
	}
	if r.Keep < phases.Duration(24*time.Hour) {
		v.at("reconcile.keep", "must be at least 1d, not %s", r.Keep)
	}
	if r.Recent.Within <= 0 {
		v.at("reconcile.recent.within", "must be above 0, such as 24h")
	}
	if r.Recent.Sample == 0 {
		v.at("reconcile.recent.sample", "must be above 0 and up to 100")
	}
}

// splitErrors returns the errors that errors.Join joined.
func splitErrors(err error) []error {
	var joined interface{ Unwrap() []error }
	if errors.As(err, &joined) {
		return joined.Unwrap()
	}
	return nil
}

// Timing are the protocol's times in the migration file.
func (m *Config) Timing() phases.Timing {
	w, d := m.Writing, func(d phases.Duration) time.Duration { return time.Duration(d) }
	return phases.Timing{
		Lease: d(m.Fleet.Lease), Renew: d(m.Fleet.Renew), Deadline: d(w.Deadline), NotAfter: d(w.NotAfter),
		RollbackBudget: d(w.RollbackBudget), FenceBudget: d(w.FenceBudget),
		LockTimeout: d(m.Backfill.LockTimeout), Tombstones: d(w.Tombstones),
	}
}

// Maximum values of settings, and of the flags that replace them.
const (
	MaxRate    = 1_000_000_000
	MaxRepairs = 1_000_000_000
	MaxWorkers = 64
	maxChunk   = 1_000_000 // rows: a chunk's records, or their keys, are in memory
)

func (v *validator) between(path string, n, low, high int) {
	if n < low || n > high {
		v.at(path, "must be from %d to %d, not %d", low, high, n)
	}
}

func (v *validator) oneOf(path, value string, allowed ...string) {
	switch {
	case slices.Contains(allowed, value):
	case value == "":
		v.at(path, "is missing: want %s", strings.Join(allowed, " or "))
	default:
		v.at(path, ": %q: want %s", value, strings.Join(allowed, " or "))
	}
}
