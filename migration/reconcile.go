package migration

import (
	"strings"
	"time"

	"github.com/stranglerfig/migrator/phases"
)

// StopOn are the conditions during which a reconcile run waits.
type StopOn struct {
	Alerts         []string        `yaml:"alerts" json:"alerts,omitempty" jsonschema_description:"Names of alerts in that Prometheus: the run waits while one is firing"`
	PromQL         string          `yaml:"promql" json:"promql,omitempty" jsonschema_description:"An expression with one number as its result"`
	Above          *float64        `yaml:"above" json:"above,omitempty" jsonschema_description:"The run waits while promql's result is above this"`
	ReplicationLag phases.Duration `yaml:"replication_lag" json:"replication_lag,omitempty" jsonschema_description:"The run waits while a standby of legacy is further behind; empty: not checked"`
	Interval       phases.Duration `yaml:"interval" json:"interval,omitempty" jsonschema_description:"How often the conditions are checked"`
}

// Any reports whether there is a condition.
func (s *StopOn) Any() bool { return len(s.Alerts) > 0 || s.PromQL != "" || s.ReplicationLag > 0 }

func (v *validator) reconcileLoad() {
	r := v.m.Reconcile
	for _, s := range []struct{ path, text string }{{"reconcile.schedule", r.Schedule}, {"reconcile.full_schedule", r.FullSchedule}} {
		if s.text == "" || v.schedule == nil {
			continue
		}
		if err := v.schedule(s.text); err != nil {
			v.at(s.path, ": %v", err)
		}
	}
	if d := time.Duration(r.Lease); d < time.Second || d > time.Hour {
		v.at("reconcile.lease", "must be from 1s to 1h, not %s", d)
	}
	if r.MaxConnections != 0 {
		v.between("reconcile.max_connections", r.MaxConnections, 2, 1000)
	}
	if r.StatementTimeout < 0 {
		v.at("reconcile.statement_timeout", "must not be negative; 0 is no limit")
	}
	s := r.StopOn
	for i, name := range s.Alerts {
		if name == "" || strings.ContainsAny(name, "\"\\\n") {
			v.at(index("reconcile.stop_on.alerts", i), ": %q: want an alert's name", name)
		}
	}
	switch {
	case s.PromQL != "" && s.Above == nil:
		v.at("reconcile.stop_on.above", "is missing: the limit of promql's result")
	case s.PromQL == "" && s.Above != nil:
		v.at("reconcile.stop_on.promql", "is missing, and above is given")
	case (s.PromQL != "" || len(s.Alerts) > 0) && v.m.Prometheus.URL == "":
		v.at("reconcile.stop_on", "needs a Prometheus, but prometheus.url is missing")
	}
	if s.ReplicationLag < 0 {
		v.at("reconcile.stop_on.replication_lag", "must not be negative")
	}
	if s.Interval < phases.Duration(time.Second) {
		v.at("reconcile.stop_on.interval", "must be at least 1s")
	}
}
