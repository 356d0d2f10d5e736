package capture

import (
	"errors"

	"github.com/stranglerfig/migrator/store"
	"github.com/stranglerfig/migrator/store/postgres"
)

// Open makes the capture of two open stores; its other fields are the caller's.
func Open(legacy store.Legacy, target store.Target, ledger Ledger) (*Capture, error) {
	l, ok := legacy.(*postgres.Legacy)
	if !ok {
		return nil, errors.New("changes are captured from PostgreSQL alone, and legacy is another store")
	}
	return &Capture{Legacy: l, Target: target, Ledger: ledger}, nil
}
