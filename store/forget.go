package store

import "context"

// ForgetOptions is what is to be removed from a store with a migration.
type ForgetOptions struct {
	// Owner is the owner of the target's marks; see Mark. AnyOwner: whatever state database it has.
	Owner    string
	AnyOwner bool
	Fence    bool // also a raised fence of legacy: its table takes writes again
	SetAside bool // also records that a return has set aside in legacy
}

// Trace is one kind of thing that a migration has in a store.
type Trace struct {
	What  string `json:"what"`
	Count int64  `json:"count"`
	Stays bool   `json:"stays,omitempty"` // it is not removed
	// Refused is why nothing is removed as long as it is there.
	Refused string `json:"refused,omitempty"`
}

// Forgetter removes what a migration has left in a store, but for records. No process uses the
// migration any more.
type Forgetter interface {
	// Traces lists what there is, in the order in which it is removed. It changes nothing.
	Traces(ctx context.Context) ([]Trace, error)
	// Era returns the era of legacy's writes, which is forgotten too; 0: there is none.
	Era(ctx context.Context) (era uint32, err error)
	// Forget removes it. It may be interrupted anywhere, and repeated.
	Forget(ctx context.Context) error
	Close() error
}
