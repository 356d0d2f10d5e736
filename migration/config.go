// Package migration reads, checks and prints the migration file: what is moved, from
// where to where, how two records are compared, and the settings of its phases. The file
// is strict YAML and contains no secrets: URLs come from the environment or from files.
package migration

import (
	"github.com/stranglerfig/migrator/phases"
	"github.com/stranglerfig/migrator/record"
)

// Config is the content of one migration file.
type Config struct {
	Name        string          `yaml:"name" json:"name" jsonschema:"required" jsonschema_description:"Lower-case letters, digits, - and _; names the migration everywhere"`
	Environment string          `yaml:"environment" json:"environment,omitempty" jsonschema_description:"production (default), staging, ..."`
	Legacy      Legacy          `yaml:"legacy" json:"legacy" jsonschema:"required" jsonschema_description:"The store that records leave"`
	Target      Target          `yaml:"target" json:"target" jsonschema:"required" jsonschema_description:"The store that records enter"`
	Fields      []Field         `yaml:"fields" json:"fields,omitempty" jsonschema_description:"The columns that are moved; empty: all columns of the table under their own names"`
	Exclude     []string        `yaml:"exclude" json:"exclude,omitempty" jsonschema_description:"Columns that are not moved, where fields is empty"`
	Compare     []record.Rule   `yaml:"compare" json:"compare,omitempty" jsonschema_description:"How values are compared, where the equality of the field's kind is too strict"`
	Phases      phases.Schedule `yaml:"phases" json:"phases,omitzero" jsonschema_description:"How long each phase lasts at least, its ramp, and who approves"`
	Writing     Writing         `yaml:"writing" json:"writing,omitzero" jsonschema_description:"How the application's writes reach the target"`
	Capture     Capture         `yaml:"capture" json:"capture,omitzero" jsonschema_description:"How the changes of legacy reach the target without the application"`
	Fleet       Fleet           `yaml:"fleet" json:"fleet,omitzero" jsonschema_description:"The timing of the application instances' leases"`
	Backfill    Backfill        `yaml:"backfill" json:"backfill,omitzero" jsonschema_description:"How existing records are copied"`
	Throttle    Throttle        `yaml:"throttle" json:"throttle,omitzero" jsonschema_description:"What makes a backfill and change capture wait; a running one follows it within seconds"`
	Reconcile   Reconcile       `yaml:"reconcile" json:"reconcile,omitzero" jsonschema_description:"How both stores are compared"`

	Gates      phases.GateSettings    `yaml:"gates" json:"gates,omitzero" jsonschema_description:"What must be measured before an advance"`
	Triggers   phases.TriggerSettings `yaml:"triggers" json:"triggers,omitzero" jsonschema_description:"What rolls reads back to legacy automatically"`
	Prometheus Prometheus             `yaml:"prometheus" json:"prometheus,omitzero" jsonschema_description:"The Prometheus server that evaluates promql"`
	Webhooks   []Webhook              `yaml:"webhooks" json:"webhooks,omitempty" jsonschema_description:"Receivers of events"`
	Runbook    Runbook                `yaml:"runbook" json:"runbook,omitzero" jsonschema_description:"What the rendered runbooks drain, purge, wait for and check"`

	// Schema is what apply has resolved the table to: the columns that are moved, whatever columns the
	// table has by now. Stores that are opened with it move these. It is no part of the file: the state
	// has it. Nil: stores read the table as it is, as plan and apply do.
	Schema *record.Schema `yaml:"-" json:"-"`
}

// Settings are the settings that decide on the migration's moves.
func (m *Config) Settings() phases.Settings {
	return phases.Settings{Schedule: m.Phases, Gates: m.Gates, Triggers: m.Triggers, Capture: m.Capture.Mode}.Captured()
}

// Prometheus is a server with the HTTP API of Prometheus. Its files are read at each
// query, so that their content may be rotated.
type Prometheus struct {
	URL          string `yaml:"url" json:"url,omitempty" jsonschema_description:"http://... or https://..., without /api/v1"`
	URLFile      string `yaml:"url_file" json:"url_file,omitempty" jsonschema_description:"File with the URL"`
	TokenFile    string `yaml:"token_file" json:"token_file,omitempty" jsonschema_description:"File with a bearer token"`
	Username     string `yaml:"username" json:"username,omitempty" jsonschema_description:"User, with password_file"`
	PasswordFile string `yaml:"password_file" json:"password_file,omitempty" jsonschema_description:"File with the user's password"`
	CAFile       string `yaml:"ca_file" json:"ca_file,omitempty" jsonschema_description:"File with the CA certificates, in PEM, that sign the server's certificate"`
}

// Webhook is a receiver of events by HTTP POST.
type Webhook struct {
	URL        string   `yaml:"url" json:"url,omitempty" jsonschema_description:"https://...; write ${VARIABLE} for what is secret"`
	URLFile    string   `yaml:"url_file" json:"url_file,omitempty" jsonschema_description:"File with the URL"`
	SecretFile string   `yaml:"secret_file" json:"secret_file,omitempty" jsonschema_description:"File with the secret that messages are signed with"`
	Events     []string `yaml:"events" json:"events,omitempty" jsonschema_description:"Events to send (default rollback, failure, loss, trigger): also advance, fence, due, approve, pause, resume, config, evict"`
}

// webhookEvents are the causes of history entries, and: trigger, a trigger fired; due, a
// step waits for a person.
var webhookEvents = []string{
	"rollback", "failure", "loss", "trigger", "advance", "fence", "due", "approve", "pause", "resume", "config", "evict",
}

// Field maps one column.
type Field struct {
	Name   string `yaml:"name" json:"name" jsonschema:"required" jsonschema_description:"The column's name in legacy"`
	Target string `yaml:"target" json:"target,omitempty" jsonschema_description:"Its name in the target; empty: the same"`
}

// Writing is how the application's writes reach the target.
type Writing struct {
	OnTargetFailure string          `yaml:"on_target_failure" json:"on_target_failure,omitempty" jsonschema:"enum=rollback,enum=degrade,enum=fail" jsonschema_description:"What a write does if the target fails while reads come from the target: roll reads back to legacy (default), continue although reads return the old state, or return an error"`
	Deadline        phases.Duration `yaml:"deadline" json:"deadline,omitempty" jsonschema_description:"How long a write retries the target before it counts as failed"`
	NotAfter        phases.Duration `yaml:"not_after" json:"not_after,omitempty" jsonschema_description:"How long after the legacy write the target still accepts it"`
	RollbackBudget  phases.Duration `yaml:"rollback_budget" json:"rollback_budget,omitempty" jsonschema_description:"How long a write waits for the fleet to stop reading the target"`
	FenceBudget     phases.Duration `yaml:"fence_budget" json:"fence_budget,omitempty" jsonschema_description:"How long writes wait while legacy is fenced"`
	Queue           int             `yaml:"queue" json:"queue,omitempty" jsonschema_description:"Background writes that an instance queues at most; further ones go to the journal"`
	Tombstones      phases.Duration `yaml:"tombstones" json:"tombstones,omitempty" jsonschema_description:"How long the version of a deleted or expired record is kept"`
}

// Capture is how the changes of legacy reach the target without the application.
type Capture struct {
	Mode     phases.CaptureMode `yaml:"mode" json:"mode,omitempty" jsonschema:"enum=off,enum=beside,enum=only" jsonschema_description:"Who brings legacy's changes to the target: the application's own writes alone (off, default), change capture beside them, or change capture only, for an application that knows nothing of the migration"`
	Workers  int                `yaml:"workers" json:"workers,omitempty" jsonschema_description:"Concurrent calls of the target"`
	Beat     phases.Duration    `yaml:"beat" json:"beat,omitempty" jsonschema_description:"How often the slot is looked at, and advances while the table is quiet"`
	MaxHeld  phases.Size        `yaml:"max_held" json:"max_held,omitempty" jsonschema_description:"WAL that legacy's server may keep for the slot, such as 10GiB; beyond it the slot is given up, before it fills the disk"`
	MaxShare phases.Share       `yaml:"max_share" json:"max_share,omitempty" jsonschema_description:"The same as a share of the server's own max_slot_wal_keep_size, if it has one; the smaller limit counts"`
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
	Workers     int             `yaml:"workers" json:"workers,omitempty" jsonschema_description:"Concurrent chunks"`
	LockTimeout phases.Duration `yaml:"lock_timeout" json:"lock_timeout,omitempty" jsonschema_description:"How long the barrier and the fence try to lock the table while writers are open"`
}

// Throttle is what makes a job wait that moves records; a zero is no limit.
type Throttle struct {
	Changes       int             `yaml:"changes" json:"changes,omitempty" jsonschema_description:"Changes per second that change capture brings at most; 0: no limit. A backfill's rate is backfill.rate"`
	StandbyLag    phases.Duration `yaml:"standby_lag" json:"standby_lag,omitempty" jsonschema_description:"Both wait while a standby of legacy is further behind; empty: not checked"`
	StandbyMiB    int             `yaml:"standby_mib" json:"standby_mib,omitempty" jsonschema_description:"Both wait while a standby has more log than this to apply, in MiB, also one whose replay is paused; 0: not checked"`
	Sessions      int             `yaml:"sessions" json:"sessions,omitempty" jsonschema_description:"Both wait while more sessions of legacy run a statement, without those of migrator; 0: not checked"`
	TargetLatency phases.Duration `yaml:"target_latency" json:"target_latency,omitempty" jsonschema_description:"Both wait while the target takes longer to tell its time; empty: not checked"`
}

// Reconcile is how both stores are compared.
type Reconcile struct {
	ChunkRows  int             `yaml:"chunk_rows" json:"chunk_rows,omitempty" jsonschema_description:"Rows a chunk"`
	Sample     phases.Percent  `yaml:"sample" json:"sample,omitempty" jsonschema_description:"Share of legacy's blocks that a sampled run checks, in per cent"`
	Pause      phases.Duration `yaml:"pause" json:"pause,omitempty" jsonschema_description:"Wait before a suspect is rechecked"`
	Rereads    int             `yaml:"rereads" json:"rereads,omitempty" jsonschema_description:"Rechecks of a suspect before it counts as a difference"`
	Findings   int             `yaml:"findings" json:"findings,omitempty" jsonschema_description:"Findings kept a run"`
	Workers    int             `yaml:"workers" json:"workers,omitempty" jsonschema_description:"Concurrent chunks"`
	Rate       int             `yaml:"rate" json:"rate,omitempty" jsonschema_description:"Records per second at most; 0: no limit"`
	Lease      phases.Duration `yaml:"lease" json:"lease,omitempty" jsonschema_description:"How old a process's heartbeat may be before other processes take its jobs (default 15s)"`
	MaxRepairs int             `yaml:"max_repairs" json:"max_repairs,omitempty" jsonschema_description:"Repairs that a run makes at most; more differences suggest an error in the mapping, not in the data"`

	RepairRate    int             `yaml:"repair_rate" json:"repair_rate,omitempty" jsonschema_description:"Repairs per second at most; 0: no limit"`
	MaxDifference phases.Share    `yaml:"max_difference" json:"max_difference,omitempty" jsonschema_description:"Share of the compared records that may differ; above it a run repairs nothing"`
	Window        phases.Duration `yaml:"window" json:"window,omitempty" jsonschema_description:"How far back runs count for coverage, the checked share of legacy"`
	Keep          phases.Duration `yaml:"keep" json:"keep,omitempty" jsonschema_description:"How long a run's findings are kept; those of the newest run of each kind stay, and so do all runs' counts"`
	Schedule      string          `yaml:"schedule" json:"schedule,omitempty" jsonschema_description:"When the daemon starts sampled runs: a cron expression, in UTC unless it begins with CRON_TZ=...; empty: never"`
	FullSchedule  string          `yaml:"full_schedule" json:"full_schedule,omitempty" jsonschema_description:"When the daemon starts full runs"`

	MaxConnections   int             `yaml:"max_connections" json:"max_connections,omitempty" jsonschema_description:"Connections to each store at most, of each process of a run; 0: the number in the store's URL"`
	StatementTimeout phases.Duration `yaml:"statement_timeout" json:"statement_timeout,omitempty" jsonschema_description:"How long a statement of a run may take in a PostgreSQL store; 0: no limit"`
	StopOn           StopOn          `yaml:"stop_on" json:"stop_on,omitzero" jsonschema_description:"Conditions during which a run waits"`

	Recent Recent `yaml:"recent" json:"recent,omitzero" jsonschema_description:"Young records, of which a sampled run checks a larger share"`
}

// Recent selects young records by a timestamp column.
type Recent struct {
	Column string          `yaml:"column" json:"column,omitempty" jsonschema_description:"Timestamp column of a record's last change; it needs an index; empty: young records are sampled like all others"`
	Within phases.Duration `yaml:"within" json:"within,omitempty" jsonschema_description:"Maximum age of a young record"`
	Sample phases.Percent  `yaml:"sample" json:"sample,omitempty" jsonschema_description:"Share of young records that a sampled run checks, in per cent"`
}
