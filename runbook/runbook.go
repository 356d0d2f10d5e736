// Package runbook reads runbooks, documents that people read and programs that run,
// and runs them: each step's intent is recorded before it acts and its outcome after,
// so that a run which was killed goes on without repeating what must not be repeated.
//
// A runbook is CommonMark with a front matter. A fenced code block whose info string
// holds {#id .kind ...} behind its language is a step; every other block is prose.
package runbook

import (
	"slices"

	"github.com/stranglerfig/migrator/phases"
)

// Kind is what a step is for.
type Kind string

// Kinds. Undo and Correct are not steps of their own: actions name them.
const (
	Check   Kind = "check"   // changes nothing; must hold before what follows
	Action  Kind = "action"  // changes something
	Approve Kind = "approve" // waits for a person's word
	Wait    Kind = "wait"    // until a condition holds, or for a time
	Verify  Kind = "verify"  // changes nothing; tells that what came before has worked
	Undo    Kind = "undo"    // takes an action back
	Correct Kind = "correct" // what is done, in place of undoing, about an action that can't be undone
)

var Kinds = []string{string(Check), string(Action), string(Approve), string(Wait), string(Verify), string(Undo), string(Correct)}

// changes tells that a block of this kind may change something.
func (k Kind) changes() bool { return k == Action || k == Undo || k == Correct }

// None is the undo of an action that need not be undone.
const None = "none"

// Runbook is one that has been read, with its values filled in.
type Runbook struct {
	Front
	File   string
	Source string  // as it is run
	Steps  []*Step // in their order
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
	Environments []string       `yaml:"environments" json:"environments,omitempty" jsonschema_description:"The description's environment: production, staging, ..."`
}

// Connection is a PostgreSQL database, or what speaks its protocol, by a URL that
// stands elsewhere.
type Connection struct {
	Env     string `yaml:"env" json:"env,omitempty" jsonschema_description:"The environment variable that holds its URL"`
	URLFile string `yaml:"url_file" json:"url_file,omitempty" jsonschema_description:"The file that holds its URL, relative to the runbook"`
	Pooler  bool   `yaml:"pooler" json:"pooler,omitempty" jsonschema_description:"It is the console of a PgBouncer: each statement is sent by itself, without settings"`
}

// Step is one block that is run.
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
	Pause        phases.Duration `yaml:"pause" json:"pause,omitempty" jsonschema_description:"Time between two attempts, or between two looks of a wait (default 2s)"`
	Idempotent   bool            `yaml:"idempotent" json:"idempotent,omitempty" jsonschema_description:"Doing it twice is as good as once: after a crash it is run again"`
	Verify       string          `yaml:"verify" json:"verify,omitempty" jsonschema_description:"The id of a verify block that tells whether the action was done: looked at after it, and after a crash"`
	Unless       string          `yaml:"unless" json:"unless,omitempty" jsonschema_description:"The id of a verify block: if it holds beforehand, the action is skipped"`
	Undo         string          `yaml:"undo" json:"undo,omitempty" jsonschema_description:"The id of an undo block, or none where nothing has to be undone"`
	Irreversible bool            `yaml:"irreversible" json:"irreversible,omitempty" jsonschema_description:"The action can't be undone; it has a correction and a warning then"`
	Correct      string          `yaml:"correct" json:"correct,omitempty" jsonschema_description:"The id of a correct block, for what can't be undone"`
	Warn         string          `yaml:"warn" json:"warn,omitempty" jsonschema_description:"Said before the step begins; on a terminal it is asked about"`
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

// Named is the block with that id, also one that only actions name; nil if there is none.
func (r *Runbook) Named(id string) *Step { return r.named[id] }

// Blocks are all that can be run, in the order in which they stand.
func (r *Runbook) Blocks() []*Step {
	all := make([]*Step, 0, len(r.named))
	for _, s := range r.named {
		all = append(all, s)
	}
	slices.SortFunc(all, func(a, b *Step) int { return a.Line - b.Line })
	return all
}

// back is the block that takes an action back, or corrects it; nil if there is none.
func (r *Runbook) compensation(s *Step) *Step {
	switch {
	case s.Kind != Action:
		return nil
	case s.Irreversible:
		return r.named[s.Correct]
	}
	return r.named[s.Undo] // none is nobody's id
}
