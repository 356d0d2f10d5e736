package leasewire

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"time"

	"github.com/stranglerfig/migrator/phases"
	"github.com/stranglerfig/migrator/record"
)

// Key is a record's key, which need not be UTF-8: its bytes as base64url without padding.
type Key record.Key

// MarshalText implements encoding.TextMarshaler.
func (k Key) MarshalText() ([]byte, error) {
	return base64.RawURLEncoding.AppendEncode(nil, []byte(k)), nil
}

// UnmarshalText implements encoding.TextUnmarshaler.
func (k *Key) UnmarshalText(text []byte) error {
	raw, err := base64.RawURLEncoding.Strict().AppendDecode(nil, text)
	if err != nil {
		return fmt.Errorf("want a key's bytes as base64url without padding")
	}
	*k = Key(raw)
	return nil
}

// Pattern is what the text matches.
func (Key) Pattern() string { return `^[A-Za-z0-9_-]*$` }

// Version is a change's version: 32 lower-case hexadecimal digits.
type Version struct{ record.Version }

// MarshalText implements encoding.TextMarshaler.
func (v Version) MarshalText() ([]byte, error) { return v.AppendText32(nil), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (v *Version) UnmarshalText(text []byte) (err error) {
	v.Version, err = record.ParseVersion(string(text))
	return err
}

// Pattern is what the text matches.
func (Version) Pattern() string { return `^[0-9a-f]{32}$` }

// JoinRequest asks for a lease.
type JoinRequest struct {
	Lease    string `json:"lease" jsonschema:"minLength=16,maxLength=64,pattern=^[A-Za-z0-9_-]+$" jsonschema_description:"the lease's ID: at random, of 128 bits or more, and the same one in each repetition of this request"`
	Instance string `json:"instance" jsonschema:"minLength=1,maxLength=256" jsonschema_description:"the process's name, unique among live instances"`
	About    string `json:"about,omitempty" jsonschema:"maxLength=1000" jsonschema_description:"host, process, program: for operators"`
	Moves    string `json:"moves,omitempty" jsonschema_description:"the hash of what the process moves; the lease is refused where it is not what is applied"`
	Previous string `json:"previous,omitempty" jsonschema_description:"the process's former lease, which has expired: its queue of writes continues"`
	LeaseMS  int64  `json:"lease_ms,omitempty" jsonschema:"minimum=0,maximum=300000" jsonschema_description:"how long the lease shall last; 0: as the migration file says"`
	RenewMS  int64  `json:"renew_ms,omitempty" jsonschema:"minimum=0" jsonschema_description:"how often it will be renewed; 0: as the migration file says"`
}

// RenewRequest extends a lease, and acknowledges an epoch.
type RenewRequest struct {
	Acknowledged int64 `json:"acknowledged" jsonschema_description:"the epoch whose route every operation of the instance is on; operations of earlier epochs have ended"`
	LeaseMS      int64 `json:"lease_ms,omitempty" jsonschema:"minimum=0,maximum=300000" jsonschema_description:"as in JoinRequest"`
	RenewMS      int64 `json:"renew_ms,omitempty" jsonschema:"minimum=0" jsonschema_description:"as in JoinRequest"`
}

// Grant is a lease with the route that it was given under.
type Grant struct {
	Lease      string       `json:"lease" jsonschema_description:"its ID"`
	Instance   string       `json:"instance"`
	Route      phases.Route `json:"route" jsonschema_description:"the present one"`
	LeaseMS    int64        `json:"lease_ms" jsonschema_description:"how long the lease lasts, by the client's monotonic clock, which runs in suspend, from a moment before the request was sent"`
	RenewMS    int64        `json:"renew_ms" jsonschema_description:"when to renew it"`
	FenceEra   uint32       `json:"fence_era" jsonschema_description:"the era of versions that writes get in retain"`
	Reversible bool         `json:"reversible" jsonschema_description:"in retain each write returns its keys first"`
	ConfigHash string       `json:"config_hash" jsonschema_description:"of the applied migration file: of windows that are counted under this grant"`
	Mark       *Mark        `json:"mark,omitempty" jsonschema_description:"that the target must have; absent: none is known"`
	OtherMoves bool         `json:"other_moves" jsonschema_description:"what the instance moves is not what is applied now: it must be restarted"`
}

// Mark is what the target has of the migration: without it the target was emptied.
type Mark struct {
	Owner       string `json:"owner"`
	Incarnation string `json:"incarnation"`
	Beat        int64  `json:"beat"`
}

// WindowsRequest has telemetry.
type WindowsRequest struct {
	Windows []Window `json:"windows" jsonschema:"maxItems=500"`
}

// Window is what an instance has counted under one epoch in some seconds.
type Window struct {
	Incarnation string  `json:"incarnation" jsonschema:"minLength=1,maxLength=256" jsonschema_description:"one process's part in the migration, at random: it outlives leases"`
	Instance    string  `json:"instance"`
	Sequence    int64   `json:"sequence" jsonschema:"minimum=0" jsonschema_description:"rises with each window of an incarnation: a window that is sent again counts once"`
	Epoch       int64   `json:"epoch" jsonschema:"minimum=1" jsonschema_description:"of the route that all of its operations ran under"`
	ConfigHash  string  `json:"config_hash" jsonschema_description:"of the grant"`
	LengthMS    int64   `json:"length_ms" jsonschema:"minimum=0" jsonschema_description:"its duration"`
	AgeMS       int64   `json:"age_ms" jsonschema:"minimum=0" jsonschema_description:"between its end and this request"`
	Counts      []Count `json:"counts" jsonschema:"maxItems=64" jsonschema_description:"no series twice"`
	Discarded   uint64  `json:"discarded,omitempty" jsonschema_description:"windows before this one that were given up while no daemon answered"`
}

// Count is how often one series was counted.
type Count struct {
	Operation string    `json:"operation" jsonschema:"enum=read,enum=write,enum=comparison,enum=change"`
	Store     string    `json:"store" jsonschema:"enum=legacy,enum=target,enum=both"`
	Role      string    `json:"role" jsonschema_description:"what the result was for: serving, shadow, fallback, untried, lapsed, degraded, missed or added"`
	Outcome   string    `json:"outcome" jsonschema_description:"of a read or write: ok, error, timeout, rejected, cancelled or faulty; of a comparison: agreed, lagged, mismatch, lost, undone or dropped"`
	N         uint64    `json:"n"`
	Latency   []Latency `json:"latency,omitempty" jsonschema_description:"of the operations that were timed: a sample that is chosen before they begin"`
}

// Latency is how many durations were in one bucket of the sketch.
type Latency struct {
	Bucket int    `json:"bucket" jsonschema:"minimum=0,maximum=1111" jsonschema_description:"of a duration of t ns: floor(37·log2(t)) - 368, but 0 for less, and 1111 for more"`
	N      uint64 `json:"n" jsonschema:"minimum=1"`
}

// JournalRequest has changes that did not reach the target.
type JournalRequest struct {
	Entries []JournalEntry `json:"entries" jsonschema:"maxItems=10000"`
}

// JournalEntry is one change that did not reach the target.
type JournalEntry struct {
	Key     Key     `json:"key" jsonschema_description:"the key's bytes as base64url without padding"`
	Version Version `json:"version" jsonschema_description:"of the change, as legacy's statement returned it; 32 zeros: unknown"`
	Reason  string  `json:"reason,omitempty" jsonschema_description:"why, in a line, without values of the record"`
}

// JournalResult is what a journaled failure means.
type JournalResult struct {
	Route      phases.Route `json:"route" jsonschema_description:"the present one"`
	TargetRead bool         `json:"target_read" jsonschema_description:"it, or another live route, reads the target"`
	Fenced     bool         `json:"fenced" jsonschema_description:"authority is moving or has moved: the journal is closed, and the write fails"`
}

// Journaled is whether the journal has a key.
type Journaled struct {
	Journaled bool `json:"journaled"`
}

// Captured is how far change capture has come.
type Captured struct {
	Alone    bool      `json:"alone" jsonschema_description:"nothing else writes the target"`
	At       time.Time `json:"at" jsonschema_description:"of the answer, by the state database's clock"`
	CaughtUp time.Time `json:"caught_up_at,omitzero" jsonschema_description:"the target has all that legacy had committed then; left out: not known"`
}

// ReturnRequest has keys that are about to be written to the target in retain.
type ReturnRequest struct {
	Epoch int64 `json:"epoch" jsonschema_description:"of the write's route"`
	Keys  []Key `json:"keys" jsonschema:"maxItems=10000" jsonschema_description:"each key's bytes as base64url without padding"`
}

// RollbackRequest rolls back to reads from legacy because the target refused a write.
type RollbackRequest struct {
	Epoch  int64  `json:"epoch" jsonschema_description:"of the write's route"`
	Reason string `json:"reason" jsonschema_description:"in a line, without values of the record"`
}

// Routes are the present route and those that instances may be on.
type Routes struct {
	Route      phases.Route `json:"route"`
	Live       []LiveRoute  `json:"live" jsonschema_description:"that instances may be on"`
	TargetRead bool         `json:"target_read" jsonschema_description:"one of them reads the target"`
}

// LiveRoute is a route that an instance may be on.
type LiveRoute struct {
	Phase   phases.Phase   `json:"phase"`
	Percent phases.Percent `json:"percent"`
}

// Applied is what is applied.
type Applied struct {
	File    json.RawMessage `json:"file" jsonschema_description:"the migration file as JSON, without URLs"`
	Columns json.RawMessage `json:"columns,omitempty" jsonschema_description:"the columns that are moved; absent: none are known"`
	Former  json.RawMessage `json:"former_columns,omitempty" jsonschema_description:"those of before, while instances may still move these"`
	Moves   string          `json:"moves,omitempty" jsonschema_description:"the hash of what an instance moves that moves by the file and the columns of this answer; absent: no columns are known"`
}

// StateLossRequest reports that the state has lost an epoch.
type StateLossRequest struct {
	Instance string       `json:"instance" jsonschema:"maxLength=256"`
	Route    phases.Route `json:"route" jsonschema_description:"that the instance has been on, of an epoch above the state's"`
}

// FaultRequest is an instance's report on the fault that it knows.
type FaultRequest struct {
	ID         string `json:"id,omitempty" jsonschema_description:"of the fault; absent: it knows none"`
	Executed   uint64 `json:"executed,omitempty" jsonschema_description:"operations that it was injected into"`
	FirstAgeMS int64  `json:"first_age_ms,omitempty" jsonschema_description:"how long ago the first of them was"`
	Over       bool   `json:"over,omitempty" jsonschema_description:"it has ended, and this report is final"`
}

// Fault is a failure of the target that an instance injects, so that a rollback can be rehearsed.
type Fault struct {
	ID      string         `json:"id,omitempty" jsonschema_description:"absent: there is none"`
	Kind    string         `json:"kind,omitempty" jsonschema_description:"latency, errors, blackhole or corrupt"`
	Share   phases.Percent `json:"share,omitempty" jsonschema_description:"of the operations that it affects"`
	DelayMS int64          `json:"delay_ms,omitempty"`
	Reads   bool           `json:"reads,omitempty" jsonschema_description:"it affects reads of the target"`
	Writes  bool           `json:"writes,omitempty" jsonschema_description:"it affects changes of the target"`
	ForMS   int64          `json:"for_ms,omitempty" jsonschema_description:"what remains of it, from before the request: then it ends by itself"`
}

// noKey is the empty key in a path, which has no empty parts.
const noKey = "="

// PathKey is a key's text as a part of a path.
func PathKey(text string) string {
	if text == "" {
		return noKey
	}
	return text
}

// OfPath is the text of a key that PathKey made part of a path.
func OfPath(part string) string {
	if part == noKey {
		return ""
	}
	return part
}
