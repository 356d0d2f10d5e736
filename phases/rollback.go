package phases

import "fmt"

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
}

// String reads "lossless after 12 keys".
func (r Rollback) String() string {
	if r.Class == LosslessAfter {
		return fmt.Sprintf("lossless after %d keys", r.Keys)
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
	case (phase == Retain || phase == Returning) && st.Unclean != "":
		return Rollback{Class: Unknown, Keys: returnKeys, Reason: st.Unclean}
	case phase == Retain || phase == Returning:
		return Rollback{Class: LosslessAfter, Keys: returnKeys, Reason: "keys written since the fence are replayed to legacy"}
	case phase == Legacy:
		return Rollback{Class: LosslessNow, Reason: "nothing has moved"}
	default:
		return Rollback{Class: LosslessNow, Reason: "legacy has every acknowledged write"}
	}
}
