// Package migration is the migration file: what is moved, from where to where,
// how two records are compared, and the settings of its phases. It is written in
// strict YAML and holds no secrets: URLs come from the environment or from files.
package migration

import (
	"github.com/stranglerfig/migrator/phases"
	"github.com/stranglerfig/migrator/record"
)

// Config is one migration's file.
type Config struct {
	Name        string          `yaml:"name" json:"name" jsonschema:"required" jsonschema_description:"Lower-case letters, digits, - and _; names the migration everywhere"`
	Environment string          `yaml:"environment" json:"environment,omitempty" jsonschema_description:"production (default), staging, ..."`
	Legacy      Legacy          `yaml:"legacy" json:"legacy" jsonschema:"required" jsonschema_description:"The store that records leave"`
	Target      Target          `yaml:"target" json:"target" jsonschema:"required" jsonschema_description:"The store that records enter"`
	Fields      []Field         `yaml:"fields" json:"fields,omitempty" jsonschema_description:"The columns that are moved; empty: all columns of the table under their own names"`
	Exclude     []string        `yaml:"exclude" json:"exclude,omitempty" jsonschema_description:"Columns that are not moved, where fields is empty"`
	Compare     []record.Rule   `yaml:"compare" json:"compare,omitempty" jsonschema_description:"How values are compared, where equality of the field's kind is not what is meant"`
	Phases      phases.Schedule `yaml:"phases" json:"phases,omitzero" jsonschema_description:"How long each phase lasts at least, its ramp, and who approves"`
	Writing     Writing         `yaml:"writing" json:"writing,omitzero" jsonschema_description:"How the application's writes treat the target"`
	Fleet       Fleet           `yaml:"fleet" json:"fleet,omitzero" jsonschema_description:"The timing of the application instances' leases"`
	Backfill    Backfill        `yaml:"backfill" json:"backfill,omitzero" jsonschema_description:"How existing records are copied"`
	Reconcile   Reconcile       `yaml:"reconcile" json:"reconcile,omitzero" jsonschema_description:"How both stores are compared"`

	Gates      phases.GateSettings    `yaml:"gates" json:"gates,omitzero" jsonschema_description:"What must be measured before a step forward"`
	Triggers   phases.TriggerSettings `yaml:"triggers" json:"triggers,omitzero" jsonschema_description:"What takes reads back to legacy by itself"`
	Prometheus Prometheus             `yaml:"prometheus" json:"prometheus,omitzero" jsonschema_description:"The Prometheus that promql is asked of"`
	Webhooks   []Webhook              `yaml:"webhooks" json:"webhooks,omitempty" jsonschema_description:"Who is told what happens"`
	Runbook    Runbook                `yaml:"runbook" json:"runbook,omitzero" jsonschema_description:"What the rendered runbooks drain, empty, wait for and look at"`
}

// Settings are all that decides on the migration's moves.
func (m *Config) Settings() phases.Settings {
	return phases.Settings{Schedule: m.Phases, Gates: m.Gates, Triggers: m.Triggers}
}

// Prometheus is a server with the HTTP API of Prometheus. Its files are read when it
// is asked, so that what they hold may be renewed.
type Prometheus struct {
	URL          string `yaml:"url" json:"url,omitempty" jsonschema_description:"http://... or https://..., without /api/v1"`
	URLFile      string `yaml:"url_file" json:"url_file,omitempty" jsonschema_description:"File that holds the URL"`
	TokenFile    string `yaml:"token_file" json:"token_file,omitempty" jsonschema_description:"File that holds a bearer token"`
	Username     string `yaml:"username" json:"username,omitempty" jsonschema_description:"User, with password_file"`
	PasswordFile string `yaml:"password_file" json:"password_file,omitempty" jsonschema_description:"File that holds the user's password"`
	CAFile       string `yaml:"ca_file" json:"ca_file,omitempty" jsonschema_description:"File with the certificates, in PEM, that the server's must be signed by"`
}

// Webhook is told of events by HTTP POST.
type Webhook struct {
	URL        string   `yaml:"url" json:"url,omitempty" jsonschema_description:"https://...; write ${VARIABLE} for what is secret"`
	URLFile    string   `yaml:"url_file" json:"url_file,omitempty" jsonschema_description:"File that holds the URL"`
	SecretFile string   `yaml:"secret_file" json:"secret_file,omitempty" jsonschema_description:"File that holds the secret that messages are signed with"`
	Events     []string `yaml:"events" json:"events,omitempty" jsonschema_description:"What is told (default rollback, failure, trigger): also advance, fence, due, approve, pause, resume, config, evict"`
}

// webhookEvents are the causes of history entries, and: trigger, one fired; due, a
// step waits for a person.
var webhookEvents = []string{
	"rollback", "failure", "trigger", "advance", "fence", "due", "approve", "pause", "resume", "config", "evict",
}

// Field maps one column.
type Field struct {
	Name   string `yaml:"name" json:"name" jsonschema:"required" jsonschema_description:"The column's name in legacy"`
	Target string `yaml:"target" json:"target,omitempty" jsonschema_description:"Its name in the target; empty: the same"`
}

// Writing says how the application's writes treat the target.
type Writing struct {
	OnTargetFailure string          `yaml:"on_target_failure" json:"on_target_failure,omitempty" jsonschema:"enum=rollback,enum=degrade,enum=fail" jsonschema_description:"What a write does whose target copy fails while reads come from the target: take reads back to legacy (default), go on and let others see the old state, or return an error"`
	Deadline        phases.Duration `yaml:"deadline" json:"deadline,omitempty" jsonschema_description:"How long a write tries the target before it counts as failed"`
	NotAfter        phases.Duration `yaml:"not_after" json:"not_after,omitempty" jsonschema_description:"How long after the legacy write the target still accepts it"`
	RollbackBudget  phases.Duration `yaml:"rollback_budget" json:"rollback_budget,omitempty" jsonschema_description:"How long a write waits for the fleet to stop reading the target"`
	FenceBudget     phases.Duration `yaml:"fence_budget" json:"fence_budget,omitempty" jsonschema_description:"How long writes wait while authority moves"`
	Queue           int             `yaml:"queue" json:"queue,omitempty" jsonschema_description:"Background writes an instance holds at most; the rest goes to the journal"`
	Tombstones      phases.Duration `yaml:"tombstones" json:"tombstones,omitempty" jsonschema_description:"How long the version of a deleted or expired record is kept"`
}

// Fleet is the leases' timing.
type Fleet struct {
	Lease phases.Duration `yaml:"lease" json:"lease,omitempty" jsonschema_description:"How long a lease lasts without renewal (default 15s)"`
	Renew phases.Duration `yaml:"renew" json:"renew,omitempty" jsonschema_description:"How often it is renewed (default 5s; at most a third of lease)"`
}

// Backfill is how existing records are copied.
type Backfill struct {
	ChunkRows   int             `yaml:"chunk_rows" json:"chunk_rows,omitempty" jsonschema_description:"Rows a chunk, the unit of resumption"`
	Rate        int             `yaml:"rate" json:"rate,omitempty" jsonschema_description:"Rows per second at most; 0: no limit"`
	Workers     int             `yaml:"workers" json:"workers,omitempty" jsonschema_description:"Chunks worked on at the same time"`
	LockTimeout phases.Duration `yaml:"lock_timeout" json:"lock_timeout,omitempty" jsonschema_description:"How long the barrier waits for open writers"`
}

// Reconcile is how both stores are compared.
type Reconcile struct {
	ChunkRows  int             `yaml:"chunk_rows" json:"chunk_rows,omitempty" jsonschema_description:"Rows a chunk"`
	Sample     phases.Percent  `yaml:"sample" json:"sample,omitempty" jsonschema_description:"Share of records a sampled run checks, in per cent"`
	Pause      phases.Duration `yaml:"pause" json:"pause,omitempty" jsonschema_description:"Wait before a suspect is read again"`
	Rereads    int             `yaml:"rereads" json:"rereads,omitempty" jsonschema_description:"How often a suspect is read again before it counts"`
	Findings   int             `yaml:"findings" json:"findings,omitempty" jsonschema_description:"Findings kept a run"`
	Workers    int             `yaml:"workers" json:"workers,omitempty" jsonschema_description:"Chunks worked on at the same time"`
	Rate       int             `yaml:"rate" json:"rate,omitempty" jsonschema_description:"Records per second at most; 0: no limit"`
	Lease      phases.Duration `yaml:"lease" json:"lease,omitempty" jsonschema_description:"How long a process that works on a run may show no sign of life before its jobs go to others (default 15s)"`
	MaxRepairs int             `yaml:"max_repairs" json:"max_repairs,omitempty" jsonschema_description:"Repairs a run makes at most; more differences than that point at the mapping, not at the data"`

	RepairRate    int             `yaml:"repair_rate" json:"repair_rate,omitempty" jsonschema_description:"Repairs per second at most; 0: no limit"`
	MaxDifference phases.Share    `yaml:"max_difference" json:"max_difference,omitempty" jsonschema_description:"Share of the compared records that may differ before a run repairs nothing"`
	Window        phases.Duration `yaml:"window" json:"window,omitempty" jsonschema_description:"How far back runs count for the share of legacy that has been checked"`
	Keep          phases.Duration `yaml:"keep" json:"keep,omitempty" jsonschema_description:"How long the findings of a run are kept; those of the newest run of each kind stay, and so do all runs' counts"`
	Schedule      string          `yaml:"schedule" json:"schedule,omitempty" jsonschema_description:"When the daemon makes sampled runs: a cron expression, in UTC unless it begins with CRON_TZ=...; empty: it makes none"`
	FullSchedule  string          `yaml:"full_schedule" json:"full_schedule,omitempty" jsonschema_description:"When the daemon makes full runs"`

	MaxConnections   int             `yaml:"max_connections" json:"max_connections,omitempty" jsonschema_description:"Connections to each store at most, of each process that works on runs; 0: what its URL says"`
	StatementTimeout phases.Duration `yaml:"statement_timeout" json:"statement_timeout,omitempty" jsonschema_description:"How long a statement of a run may take in a PostgreSQL store; 0: no limit"`
	StopOn           StopOn          `yaml:"stop_on" json:"stop_on,omitzero" jsonschema_description:"What makes a run wait until it is over"`

	Recent Recent `yaml:"recent" json:"recent,omitzero" jsonschema_description:"Young records, which a sampled run checks more densely"`
}

// Recent are the records that are young by a column of theirs.
type Recent struct {
	Column string          `yaml:"column" json:"column,omitempty" jsonschema_description:"Timestamp column that says when a record last changed; it needs an index; empty: young records are sampled like all others"`
	Within phases.Duration `yaml:"within" json:"within,omitempty" jsonschema_description:"How young they are"`
	Sample phases.Percent  `yaml:"sample" json:"sample,omitempty" jsonschema_description:"Share of them that a sampled run checks, in per cent"`
}
