package phases

import (
	"time"

	"github.com/stranglerfig/migrator/internal/humanize"
)

// Class is the cost of a rollback now.
type Class string

// The rollback classes.
const (
	LosslessNow   Class = "lossless now"
	LosslessAfter Class = "lossless after replay" // Keys must be written back to legacy first
	Unknown       Class = "unknown"               // a store has lost data: what the other has is not all
	Impossible    Class = "impossible"
)

// Rollback is a class with its reason.
type Rollback struct {
	Class  Class  `json:"class"`
	Keys   int64  `json:"keys"` // to replay before the rollback is lossless
	Reason string `json:"reason"`
	// Copy is how long copying to legacy is expected to take while writes continue, and Stop for how
	// long writes wait then; in seconds, from retain only.
	Copy float64 `json:"copy_seconds,omitempty"`
	Stop float64 `json:"stop_seconds,omitempty"`
}

// LastRound is how many keys a return from retain leaves to be copied while writes wait, if it can.
const LastRound = 500

const (
	stopAtLeast  = 300 * time.Millisecond // two moves that the fleet acknowledges, and the lifting of the fence
	returnAtRate = 500                    // keys a second, before any were copied
)

// ExpectedStop estimates for how long writes would wait in a rollback from retain: for the moves, and
// for the last keys at the rate that was last measured.
func ExpectedStop(st Status) time.Duration {
	return stopAtLeast + atRate(min(st.ReturnRest, LastRound), st.ReturnRate)
}

// expectedCopy estimates how long keys are copied before writes wait.
func expectedCopy(st Status) time.Duration {
	if st.ReturnRest <= LastRound {
		return 0
	}
	return NotAfter + atRate(st.ReturnRest, st.ReturnRate)
}

func atRate(keys int64, rate float64) time.Duration {
	if rate <= 0 {
		rate = returnAtRate
	}
	return time.Duration(float64(keys) / rate * float64(time.Second))
}

// String reads "lossless after 12 keys".
func (r Rollback) String() string {
	if r.Class == LosslessAfter {
		return "lossless after " + humanize.Counted(r.Keys, "key")
	}
	return string(r.Class)
}

// ClassOf computes the rollback class from the status.
func ClassOf(st Status) Rollback {
	phase, returnKeys := st.Route.Phase, st.ReturnKeys
	switch {
	case phase == Complete:
		return Rollback{Class: Impossible, Reason: "complete: legacy no longer follows"}
	case phase == Retain && !st.Reversible:
		return Rollback{Class: Impossible, Reason: "retain.reversible is false: writes since the fence are not journaled"}
	case phase == Retain || phase == Returning:
		r := Rollback{Class: LosslessAfter, Keys: returnKeys, Reason: "keys written since the fence are replayed to legacy"}
		if st.Unclean != "" {
			r.Class, r.Reason = Unknown, st.Unclean
		}
		if phase == Retain {
			r.Copy, r.Stop = expectedCopy(st).Seconds(), ExpectedStop(st).Seconds()
		}
		return r
	case phase == Legacy:
		return Rollback{Class: LosslessNow, Reason: "nothing has moved"}
	default:
		return Rollback{Class: LosslessNow, Reason: "legacy has every acknowledged write"}
	}
}
