package migration

import (
	"net"
	"regexp"
	"slices"
	"strings"

	"github.com/stranglerfig/migrator/phases"
)

// Runbook lists the systems around the migration that a move of reads involves: what the
// rendered runbooks drain, purge, wait for and check. It is not part of the config hash,
// and the state database does not keep it.
type Runbook struct {
	Contact    string      `yaml:"contact" json:"contact,omitempty" jsonschema_description:"Whom to call, such as a channel or a rota"`
	Regions    []string    `yaml:"regions" json:"regions,omitempty" jsonschema_description:"The order of regions, to which pgbouncers and services refer; those without a region come first"`
	Poolers    []Pooler    `yaml:"pgbouncers" json:"pgbouncers,omitempty" jsonschema_description:"PgBouncers between the application and legacy"`
	Services   []Service   `yaml:"services" json:"services,omitempty" jsonschema_description:"Applications that read and write the records, in the order of draining"`
	Caches     []Cache     `yaml:"caches" json:"caches,omitempty" jsonschema_description:"Caches of records, which must be purged when reads move"`
	Connection Repointing  `yaml:"connection" json:"connection,omitzero" jsonschema_description:"Commands that change where applications connect to, if the move needs that"`
	DNS        DNS         `yaml:"dns" json:"dns,omitzero" jsonschema_description:"DNS names by which applications find the stores"`
	Success    []Criterion `yaml:"success" json:"success,omitempty" jsonschema_description:"Criteria of success, besides migrator's own"`
}

// Pooler is a PgBouncer.
type Pooler struct {
	Name      string   `yaml:"name" json:"name" jsonschema:"required" jsonschema_description:"Lower-case letters, digits and -"`
	Region    string   `yaml:"region" json:"region,omitempty" jsonschema_description:"One of regions"`
	URLFile   string   `yaml:"url_file" json:"url_file" jsonschema:"required" jsonschema_description:"File with the URL of its console: postgres://admin:...@host:6432/pgbouncer"`
	Databases []string `yaml:"databases" json:"databases" jsonschema:"required" jsonschema_description:"Its databases whose connections go to the stores"`
	Pause     bool     `yaml:"pause" json:"pause,omitempty" jsonschema_description:"Wait for its transactions to end and queue new ones while it reconnects; false: connections are replaced as they become idle"`
}

// Service is an application with pools of its own.
type Service struct {
	Name   string `yaml:"name" json:"name" jsonschema:"required" jsonschema_description:"Lower-case letters, digits and -"`
	Region string `yaml:"region" json:"region,omitempty" jsonschema_description:"One of regions"`
	Drain  string `yaml:"drain" json:"drain,omitempty" jsonschema_description:"Shell command that makes it reconnect, such as a rolling restart; it must be safe to run twice"`
	Health string `yaml:"health" json:"health,omitempty" jsonschema_description:"URL that answers with a status from 200 to 299 when it is healthy"`
}

// Cache is a cache of records.
type Cache struct {
	Name      string `yaml:"name" json:"name" jsonschema:"required" jsonschema_description:"Lower-case letters, digits and -"`
	Purge     string `yaml:"purge" json:"purge,omitempty" jsonschema_description:"Shell command that purges it; it must be safe to run twice"`
	URL       string `yaml:"url" json:"url,omitempty" jsonschema_description:"Or a URL that purges it by POST"`
	TokenFile string `yaml:"token_file" json:"token_file,omitempty" jsonschema_description:"File with a bearer token for the URL"`
}

// Repointing are the commands that change where applications connect to.
type Repointing struct {
	ToTarget string `yaml:"to_target" json:"to_target,omitempty" jsonschema_description:"Shell command of the cutover; it must be safe to run twice"`
	ToLegacy string `yaml:"to_legacy" json:"to_legacy,omitempty" jsonschema_description:"Shell command of the rollback; it must be safe to run twice"`
}

// DNS lists names whose answers are cached.
type DNS struct {
	Hosts  []string        `yaml:"hosts" json:"hosts,omitempty" jsonschema_description:"Names whose time to live a runbook waits for after a change of connections"`
	Server string          `yaml:"server" json:"server,omitempty" jsonschema_description:"host:port of the DNS server to query (default the system's)"`
	MaxTTL phases.Duration `yaml:"max_ttl" json:"max_ttl,omitempty" jsonschema_description:"The longest time to live with which verification of a runbook passes (default 1m)"`
}

// Criterion is a query to the Prometheus of the section prometheus.
type Criterion struct {
	Name   string   `yaml:"name" json:"name" jsonschema:"required" jsonschema_description:"Lower-case letters, digits and -"`
	PromQL string   `yaml:"promql" json:"promql" jsonschema:"required" jsonschema_description:"An expression with one number as its result"`
	Above  *float64 `yaml:"above" json:"above,omitempty" jsonschema_description:"The result must be above this"`
	Below  *float64 `yaml:"below" json:"below,omitempty" jsonschema_description:"The result must be below this"`
}

var nameInRunbook = regexp.MustCompile(`^[a-z][a-z0-9-]{0,24}$`)

// runbook validates the settings that are written into documents.
func (v *validator) runbook() {
	r := v.m.Runbook
	for path := range v.expanded {
		if strings.HasPrefix(path, "runbook.") {
			v.at(path, "is written into documents, so it takes no ${VARIABLE}; write $${VARIABLE} for one that the shell expands")
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
			v.at(path, "can't contain ```: it is written into a code block")
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
			v.at(at+".url_file", "is missing: the URL of its console contains a password, so it must be in a file")
		}
		if len(p.Databases) == 0 {
			v.at(at+".databases", "is missing: name its databases whose connections go to the stores")
		}
		for j, db := range p.Databases {
			if !regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_.-]*$`).MatchString(db) {
				v.at(index(at+".databases", j), ": %q: want a name that PgBouncer's console accepts", db)
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
			v.at(at, "want purge, a command, or url, for a POST")
		case c.URL != "" && (!isHTTP(c.URL) || strings.ContainsAny(c.URL, " \n@")):
			v.at(at+".url", "want http://... or https://..., without a user")
		}
	}
	text("runbook.connection.to_target", r.Connection.ToTarget)
	text("runbook.connection.to_legacy", r.Connection.ToLegacy)
	for i, host := range r.DNS.Hosts {
		if !regexp.MustCompile(`^[A-Za-z0-9_]([A-Za-z0-9_.-]*)$`).MatchString(host) {
			v.at(index("runbook.dns.hosts", i), ": %q is no host name", host)
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
			v.at(at+".promql", "needs a Prometheus, but prometheus.url is missing")
		}
		if (c.Above == nil) == (c.Below == nil) {
			v.at(at, "want above or below")
		}
	}
}
