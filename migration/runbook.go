package migration

import (
	"net"
	"regexp"
	"slices"
	"strings"

	"github.com/stranglerfig/migrator/phases"
)

// Runbook is what surrounds the migration and has a part in a move of reads: what the
// rendered runbooks drain, empty, wait for and look at. It is not part of the
// configuration's hash, and is not kept in the state database.
type Runbook struct {
	Contact    string      `yaml:"contact" json:"contact,omitempty" jsonschema_description:"Whom to call, such as a channel or a rota"`
	Regions    []string    `yaml:"regions" json:"regions,omitempty" jsonschema_description:"The order of regions, of which poolers and services name theirs; those of none come first"`
	Poolers    []Pooler    `yaml:"pgbouncers" json:"pgbouncers,omitempty" jsonschema_description:"PgBouncers between the application and legacy"`
	Services   []Service   `yaml:"services" json:"services,omitempty" jsonschema_description:"What reads and writes the records, in the order in which it is drained"`
	Caches     []Cache     `yaml:"caches" json:"caches,omitempty" jsonschema_description:"What remembers records and must forget them when reads move"`
	Connection Repointing  `yaml:"connection" json:"connection,omitzero" jsonschema_description:"Commands that change where applications connect to, where the move needs that"`
	DNS        DNS         `yaml:"dns" json:"dns,omitzero" jsonschema_description:"Names that applications find the stores by"`
	Success    []Criterion `yaml:"success" json:"success,omitempty" jsonschema_description:"How to know that it worked, besides what migrator knows itself"`
}

// Pooler is a PgBouncer.
type Pooler struct {
	Name      string   `yaml:"name" json:"name" jsonschema:"required" jsonschema_description:"Lower-case letters, digits and -"`
	Region    string   `yaml:"region" json:"region,omitempty" jsonschema_description:"One of regions"`
	URLFile   string   `yaml:"url_file" json:"url_file" jsonschema:"required" jsonschema_description:"File that holds the URL of its console: postgres://admin:...@host:6432/pgbouncer"`
	Databases []string `yaml:"databases" json:"databases" jsonschema:"required" jsonschema_description:"Its databases that lead to the stores"`
	Pause     bool     `yaml:"pause" json:"pause,omitempty" jsonschema_description:"Wait for its transactions to end and hold new ones while it connects anew; false: connections are replaced as they come free"`
}

// Service is an application with pools of its own.
type Service struct {
	Name   string `yaml:"name" json:"name" jsonschema:"required" jsonschema_description:"Lower-case letters, digits and -"`
	Region string `yaml:"region" json:"region,omitempty" jsonschema_description:"One of regions"`
	Drain  string `yaml:"drain" json:"drain,omitempty" jsonschema_description:"Shell command that has it connect anew, such as a rolling restart; it must stand being run twice"`
	Health string `yaml:"health" json:"health,omitempty" jsonschema_description:"URL that answers with a status from 200 to 299 when it is well"`
}

// Cache is what remembers records.
type Cache struct {
	Name      string `yaml:"name" json:"name" jsonschema:"required" jsonschema_description:"Lower-case letters, digits and -"`
	Purge     string `yaml:"purge" json:"purge,omitempty" jsonschema_description:"Shell command that empties it; it must stand being run twice"`
	URL       string `yaml:"url" json:"url,omitempty" jsonschema_description:"Or a URL that a POST is sent to"`
	TokenFile string `yaml:"token_file" json:"token_file,omitempty" jsonschema_description:"File with a bearer token for the URL"`
}

// Repointing are the commands that change where applications connect to.
type Repointing struct {
	ToTarget string `yaml:"to_target" json:"to_target,omitempty" jsonschema_description:"Shell command on the way forward; it must stand being run twice"`
	ToLegacy string `yaml:"to_legacy" json:"to_legacy,omitempty" jsonschema_description:"Shell command on the way back; it must stand being run twice"`
}

// DNS is names whose answers are remembered.
type DNS struct {
	Hosts  []string        `yaml:"hosts" json:"hosts,omitempty" jsonschema_description:"Names whose time to live is looked up, and waited for when connections have changed"`
	Server string          `yaml:"server" json:"server,omitempty" jsonschema_description:"host:port of the DNS server that is asked (default the system's)"`
	MaxTTL phases.Duration `yaml:"max_ttl" json:"max_ttl,omitempty" jsonschema_description:"The longest time to live that a runbook is verified with (default 1m)"`
}

// Criterion is asked of the Prometheus of the section prometheus.
type Criterion struct {
	Name   string   `yaml:"name" json:"name" jsonschema:"required" jsonschema_description:"Lower-case letters, digits and -"`
	PromQL string   `yaml:"promql" json:"promql" jsonschema:"required" jsonschema_description:"An expression with one number as its answer"`
	Above  *float64 `yaml:"above" json:"above,omitempty" jsonschema_description:"What the answer must be above"`
	Below  *float64 `yaml:"below" json:"below,omitempty" jsonschema_description:"What the answer must be below"`
}

var nameInRunbook = regexp.MustCompile(`^[a-z][a-z0-9-]{0,24}$`)

// runbook looks at what is written into documents.
func (v *validator) runbook() {
	r := v.m.Runbook
	for path := range v.expanded {
		if strings.HasPrefix(path, "runbook.") {
			v.at(path, "is written into documents, so it takes no ${VARIABLE}; write $${VARIABLE} for one that the shell looks up")
		}
	}
	seen := map[string]bool{}
	named := func(path, name, region string) {
		switch {
		case !nameInRunbook.MatchString(name):
			v.at(path+".name", ": %q: want lower-case letters, digits and -, a letter first, 25 at most", name)
		case seen[name]:
			v.at(path+".name", ": %q is named twice in this section", name)
		}
		seen[name] = true
		if region != "" && !slices.Contains(r.Regions, region) {
			v.at(path+".region", ": %q is none of runbook.regions", region)
		}
	}
	text := func(path, value string) {
		if strings.Contains(value, "```") || strings.Contains(value, "\r") {
			v.at(path, "can't hold ```: it is written into a code block")
		}
	}
	text("runbook.contact", r.Contact)
	for i, region := range r.Regions {
		if !nameInRunbook.MatchString(region) {
			v.at(index("runbook.regions", i), ": %q: want lower-case letters, digits and -", region)
		}
	}
	for i, p := range r.Poolers {
		at := index("runbook.pgbouncers", i)
		named(at, p.Name, p.Region)
		if p.URLFile == "" {
			v.at(at+".url_file", "is missing: the URL of its console holds a password, so it stands in a file")
		}
		if len(p.Databases) == 0 {
			v.at(at+".databases", "is missing: which of its databases lead to the stores?")
		}
		for j, db := range p.Databases {
			if !regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_.-]*$`).MatchString(db) {
				v.at(index(at+".databases", j), ": %q: want a name as PgBouncer's console takes it", db)
			}
		}
	}
	for i, s := range r.Services {
		at := index("runbook.services", i)
		named(at, s.Name, s.Region)
		text(at+".drain", s.Drain)
		if s.Health != "" && !isHTTP(s.Health) || strings.ContainsAny(s.Health, " \n@") {
			v.at(at+".health", "want http://... or https://..., without a user")
		}
	}
	for i, c := range r.Caches {
		at := index("runbook.caches", i)
		named(at, c.Name, "")
		text(at+".purge", c.Purge)
		switch {
		case (c.Purge == "") == (c.URL == ""):
			v.at(at, "want purge, a command, or url, which a POST is sent to")
		case c.URL != "" && (!isHTTP(c.URL) || strings.ContainsAny(c.URL, " \n@")):
			v.at(at+".url", "want http://... or https://..., without a user")
		}
	}
	text("runbook.connection.to_target", r.Connection.ToTarget)
	text("runbook.connection.to_legacy", r.Connection.ToLegacy)
	for i, host := range r.DNS.Hosts {
		if !regexp.MustCompile(`^[A-Za-z0-9_]([A-Za-z0-9_.-]*)$`).MatchString(host) {
			v.at(index("runbook.dns.hosts", i), ": %q is no host's name", host)
		}
	}
	if s := r.DNS.Server; s != "" {
		if _, _, err := net.SplitHostPort(s); err != nil {
			v.at("runbook.dns.server", ": %q: want host:port", s)
		}
	}
	for i, c := range r.Success {
		at := index("runbook.success", i)
		named(at, c.Name, "")
		text(at+".promql", c.PromQL)
		switch {
		case strings.TrimSpace(c.PromQL) == "":
			v.at(at+".promql", "is missing")
		case v.m.Prometheus.URL == "":
			v.at(at+".promql", "asks a Prometheus, but prometheus.url is missing")
		}
		if (c.Above == nil) == (c.Below == nil) {
			v.at(at, "want above or below")
		}
	}
}
