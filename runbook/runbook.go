// Package runbook reads and runs runbooks: documents for people that programs can execute. The
// runner records each step's intent before the step acts and its outcome afterwards, so a run
// that was killed resumes without repeating a step that must not be repeated.
//
// A runbook is CommonMark with a front matter. A fenced code block whose info string has {#id
// .kind ...} after the language is a step. Every other block is prose.
package runbook

import (
	"slices"

	"github.com/stranglerfig/migrator/phases"
)

// Kind is the purpose of a step.
type Kind string

// Kinds. Undo and Correct blocks are not steps of their own: actions name them.
const (
	Check   Kind = "check"   // changes nothing; its condition must be met before the next step
	Action  Kind = "action"  // changes something
	Approve Kind = "approve" // waits for a person's approval
	Wait    Kind = "wait"    // until a condition is met, or for a time
	Verify  Kind = "verify"  // changes nothing; shows whether what came before has worked
	Undo    Kind = "undo"    // reverts an action
	Correct Kind = "correct" // runs in place of an undo for an action that can't be undone
)

// Kinds are all kinds of step, as they are written.
var Kinds = []string{string(Check), string(Action), string(Approve), string(Wait), string(Verify), string(Undo), string(Correct)}

// changes reports whether a block of this kind may change something.
func (k Kind) changes() bool { return k == Action || k == Undo || k == Correct }

// None is the undo of an action that needs none.
const None = "none"

// Runbook is a parsed runbook, with its values filled in.
type Runbook struct {
	Front
	File   string
	Source string  // as it is run, values filled in
	Steps  []*Step // in the order in which they run
	named  map[string]*Step
}

// Front is a runbook's front matter.
type Front struct {
	Name        string                `yaml:"name" json:"name" jsonschema:"required" jsonschema_description:"Lower-case letters, digits and -; what the runbook is called in lists and by the gate: rollback, cutover, ..."`
	Title       string                `yaml:"title" json:"title" jsonschema:"required" jsonschema_description:"What it is for, in a few words"`
	AppliesTo   AppliesTo             `yaml:"applies_to" json:"applies_to,omitzero" jsonschema_description:"Where it may be run; what is left out is not asked about"`
	Connections map[string]Connection `yaml:"connections" json:"connections,omitempty" jsonschema_description:"Databases besides legacy, target and state that steps in SQL may name"`
	Values      map[string]string     `yaml:"values" json:"values,omitempty" jsonschema_description:"Values of the runbook's own, written as ${name}"`
	ConfigHash  string                `yaml:"config_hash" json:"config_hash,omitempty" jsonschema_description:"The configuration that it was rendered from; it is refused under another"`
}

// AppliesTo bounds where a runbook may be run.
type AppliesTo struct {
	Migrations   []string       `yaml:"migrations" json:"migrations,omitempty" jsonschema_description:"Names of migrations"`
	Phases       []phases.Phase `yaml:"phases" json:"phases,omitempty" jsonschema_description:"Phases in which a run may begin"`
	Environments []string       `yaml:"environments" json:"environments,omitempty" jsonschema_description:"The migration file's environment: production, staging, ..."`
}

// Connection is a PostgreSQL database, or a server that speaks its protocol, whose URL is in
// an environment variable or a file.
type Connection struct {
	Env     string `yaml:"env" json:"env,omitempty" jsonschema_description:"The environment variable with its URL"`
	URLFile string `yaml:"url_file" json:"url_file,omitempty" jsonschema_description:"The file with its URL, relative to the runbook"`
	Pooler  bool   `yaml:"pooler" json:"pooler,omitempty" jsonschema_description:"It is the console of a PgBouncer: each statement is sent by itself, without settings"`
}

// Step is one block that the runner executes.
type Step struct {
	ID       string
	Kind     Kind
	Language string
	Title    string // the heading above it
	Body     string
	Line     int // of its opening fence, from 1
	Attributes
}

// Attributes are written key=value in a block's info string.
type Attributes struct {
	Timeout      phases.Duration `yaml:"timeout" json:"timeout,omitempty" jsonschema_description:"How long one attempt may take (default: an action 2m, a wait 10m, an approval 1h, else 30s)"`
	Retries      int             `yaml:"retries" json:"retries,omitempty" jsonschema_description:"How many more attempts are made after one that failed"`
	Pause        phases.Duration `yaml:"pause" json:"pause,omitempty" jsonschema_description:"Time between two attempts, or between two checks of a wait (default 2s)"`
	Idempotent   bool            `yaml:"idempotent" json:"idempotent,omitempty" jsonschema_description:"Running it twice has the effect of running it once: after a crash it is run again"`
	Verify       string          `yaml:"verify" json:"verify,omitempty" jsonschema_description:"The id of a verify block that shows whether the action was done: it runs after the action, and after a crash"`
	Unless       string          `yaml:"unless" json:"unless,omitempty" jsonschema_description:"The id of a verify block: if its condition is met beforehand, the action is skipped"`
	Undo         string          `yaml:"undo" json:"undo,omitempty" jsonschema_description:"The id of an undo block, or none where nothing has to be undone"`
	Irreversible bool            `yaml:"irreversible" json:"irreversible,omitempty" jsonschema_description:"The action can't be undone; it has a correction and a warning then"`
	Correct      string          `yaml:"correct" json:"correct,omitempty" jsonschema_description:"The id of a correct block, for what can't be undone"`
	Warn         string          `yaml:"warn" json:"warn,omitempty" jsonschema_description:"Shown before the step begins; on a terminal it must be confirmed"`
	On           string          `yaml:"on" json:"on,omitempty" jsonschema_description:"sql: the connection: legacy, target, state or one of the front matter"`
	Expect       string          `yaml:"expect" json:"expect,omitempty" jsonschema_description:"sql: columns and texts that some row must have, such as name=shop,paused=1; without it the first column of the first row must be true"`
	Above        *float64        `yaml:"above" json:"above,omitempty" jsonschema_description:"promql: what the answer must be above"`
	Below        *float64        `yaml:"below" json:"below,omitempty" jsonschema_description:"promql: what the answer must be below"`
	Status       int             `yaml:"status" json:"status,omitempty" jsonschema_description:"http: the status that is expected (default any from 200 to 299)"`
	TokenEnv     string          `yaml:"token_env" json:"token_env,omitempty" jsonschema_description:"http: the environment variable with a bearer token"`
	TokenFile    string          `yaml:"token_file" json:"token_file,omitempty" jsonschema_description:"http: the file with a bearer token, relative to the runbook"`
	For          phases.Duration `yaml:"for" json:"for,omitempty" jsonschema_description:"wait: a fixed time, from the step's beginning"`
	MaxTTL       phases.Duration `yaml:"max_ttl" json:"max_ttl,omitempty" jsonschema_description:"dns: the longest time to live that a name may have; of a wait, when the runbook is verified"`
	Server       string          `yaml:"server" json:"server,omitempty" jsonschema_description:"dns: host:port of the server that is asked (default the system's first)"`
	Role         string          `yaml:"role" json:"role,omitempty" jsonschema_description:"approve: a PostgreSQL role of the state database that the person must be a member of, besides the migration's own"`
	TwoPeople    bool            `yaml:"two_people" json:"two_people,omitempty" jsonschema_description:"approve: it must be another person than who began the run"`
}

// Named returns the block with that id, or nil. It finds undo, correct and verify blocks too.
func (r *Runbook) Named(id string) *Step { return r.named[id] }

// Blocks returns every block that can be run, in the order of the document.
func (r *Runbook) Blocks() []*Step {
	all := make([]*Step, 0, len(r.named))
	for _, s := range r.named {
		all = append(all, s)
	}
	slices.SortFunc(all, func(a, b *Step) int { return a.Line - b.Line })
	return all
}

// compensation returns the block that undoes or corrects an action; nil if there is none.
func (r *Runbook) compensation(s *Step) *Step {
	switch {
	case s.Kind != Action:
		return nil
	case s.Irreversible:
		return r.named[s.Correct]
	}
	return r.named[s.Undo] // no block has the id "none"
}
