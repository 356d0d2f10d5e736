package phases

import (
	"time"

	"github.com/stranglerfig/migrator/internal/hint"
)

// CaptureMode is whether change capture brings legacy's changes to the target.
type CaptureMode string

// The modes.
const (
	CaptureOff    CaptureMode = "off"    // the application's own writes alone do; also ""
	CaptureBeside CaptureMode = "beside" // both do
	CaptureOnly   CaptureMode = "only"   // capture alone does: the application knows nothing of the migration
)

// CaptureModes are all modes.
var CaptureModes = []CaptureMode{CaptureOff, CaptureBeside, CaptureOnly}

// On reports whether changes are captured.
func (m CaptureMode) On() bool { return m == CaptureBeside || m == CaptureOnly }

// Captured reports whether changes are captured in the phase, if the migration's mode says so: behind the
// step that leaves legacy, as long as a way leads back to it.
func (p Phase) Captured() bool { return p != Legacy && p != Complete }

// Capture is what change capture does, as the process that captures reported it last. Positions are places in
// the log of legacy's server.
type Capture struct {
	Slot     string    `json:"slot"`                 // and the name of the publication; "": there is none
	Reported time.Time `json:"reported_at,omitzero"` // by the state database's clock
	Running  bool      `json:"running"`              // as of Reported

	Position  string    `json:"position,omitempty"`    // the target has what is before
	Committed time.Time `json:"committed_at,omitzero"` // when the newest transaction that the target has was committed, by legacy's clock
	Barrier   string    `json:"barrier,omitempty"`     // the version of the last backfill's barrier that was passed; "": none, and changes are not brought yet
	Fence     string    `json:"fence,omitempty"`       // the attempt whose fence was passed, and not its lift
	Era       uint32    `json:"era,omitempty"`
	Sweeps    int       `json:"sweeps,omitempty"` // of truncated tables that are due once more

	// The target has all that legacy had committed then, by the state database's clock; zero: not known, or never.
	CaughtUp time.Time `json:"caught_up_at,omitzero"`

	LagBytes int64    `json:"lag_bytes"` // of log that is not applied yet
	Lag      Duration `json:"lag"`       // age of the newest commit that was applied, while there are later ones
	Waiting  int64    `json:"waiting"`   // rows that were read, and are not applied
	Applied  int64    `json:"applied"`   // rows that were brought since the slot was made
	Rate     float64  `json:"rate"`      // rows per second, lately

	HeldBytes  int64    `json:"held_bytes"`            // of log that legacy's server keeps for the slot
	LimitBytes int64    `json:"limit_bytes,omitempty"` // where the slot is given up; 0: not known yet
	LimitBy    string   `json:"limit_by,omitempty"`    // the setting that LimitBytes is of
	Full       Duration `json:"full_in,omitempty"`     // when that is, at the rate of lately; 0: it does not grow

	Locked  int64 `json:"locked,omitempty"`  // rows that were read under their locks, since the process began
	Refused int64 `json:"refused,omitempty"` // records that the target can't store
	Skipped int64 `json:"skipped,omitempty"` // changes before the first barrier, and behind a fence
	Foreign int64 `json:"foreign,omitempty"` // changes of other tables

	Throttled  string    `json:"throttled,omitempty"`  // the limit that holds it now; "": none does
	Error      string    `json:"error,omitempty"`      // why it does not run, or does not advance; "": it does
	ErrorSince time.Time `json:"error_since,omitzero"` // by the clock of the process
	ErrorKey   string    `json:"error_key,omitempty"`  // hash of the key that the error is about; "": of none
	Lost       string    `json:"lost,omitempty"`       // why changes are missing; "": none are
	LostAt     time.Time `json:"lost_at,omitzero"`     //
}

// ReportedWithin is how old the report of a capture that runs may be.
const ReportedWithin = 15 * time.Second

// Runs reports whether changes are captured now.
func (c *Capture) Runs(now time.Time) bool {
	return c != nil && c.Running && c.Lost == "" && now.Sub(c.Reported) <= ReportedWithin
}

// Behind is the age of the newest commit that the target has, while there are later ones. Of a capture that does not run
// it is not known whether there are: then it is the age in any case, which a beat of capture's own bounds.
func (c *Capture) Behind(now time.Time) time.Duration {
	if c.Runs(now) || c.Committed.IsZero() {
		return time.Duration(c.Lag)
	}
	return max(time.Duration(c.Lag), now.Sub(c.Committed))
}

// LostHint is what to do about a lost slot.
func (c *Capture) LostHint() hint.Hint {
	return hint.Hint{Do: hint.Serve, Text: "which begins again with another slot, copies behind a new barrier, and reconciles"}
}
