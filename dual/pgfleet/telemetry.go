package pgfleet

import (
	"context"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/stranglerfig/migrator/dual"
	"github.com/stranglerfig/migrator/dual/telemetry"
	"github.com/stranglerfig/migrator/internal/statedb"
)

var _ dual.Observer = (*Fleet)(nil)

const (
	maxWindows = 500 // in one statement
	// maxAge is the greatest age of a window that still counts. No gate waits longer for an
	// instance, and the identities of counted windows must be kept for much longer.
	maxAge    = 7 * 24 * time.Hour
	maxLength = 24 * time.Hour
	// maxDiscarded is how many windows an instance may have discarded before one.
	maxDiscarded = 1_000_000_000_000
)

// Observe implements dual.Observer. The windows' times are by the database's clock,
// computed from their age. Windows of an epoch that the state does not know, and those
// older than a week, are skipped. An invalid window is refused, and with it all others
// of the call.
func (f *Fleet) Observe(ctx context.Context, lease string, windows []telemetry.Window) error {
	for chunk := range slices.Chunk(windows, maxWindows) {
		if err := f.observe(ctx, lease, chunk); err != nil {
			return err
		}
	}
	return nil
}

func (f *Fleet) observe(ctx context.Context, lease string, windows []telemetry.Window) error {
	n := len(windows)
	incarnations, instances, hashes := make([]string, 0, n), make([]string, 0, n), make([]string, 0, n)
	sequences, epochs, discarded := make([]int64, 0, n), make([]int64, 0, n), make([]int64, 0, n)
	ages, lengths := make([]int64, 0, n), make([]int64, 0, n) // µs
	counts := make([][]byte, 0, n)
	for _, w := range windows {
		packed, err := packWindow(w)
		if err != nil {
			return fmt.Errorf("window %d of %s: %w", w.Sequence, w.Incarnation, err)
		}
		if w.Age > maxAge {
			continue
		}
		incarnations, instances, hashes = append(incarnations, w.Incarnation), append(instances, statedb.CleanText(w.Instance)), append(hashes, w.ConfigHash)
		sequences, epochs, discarded = append(sequences, w.Sequence), append(epochs, w.Epoch), append(discarded, int64(w.Discarded))
		ages, lengths = append(ages, max(w.Age, 0).Microseconds()), append(lengths, w.Length.Microseconds())
		counts = append(counts, packed)
	}
	known := false
	err := f.with(ctx, background, func(q sender) error {
		return q.QueryRow(ctx, `SELECT migrator.observe($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)`,
			f.migration, lease, incarnations, sequences, instances, epochs, hashes, ages, lengths, discarded, counts).Scan(&known)
	})
	switch {
	case err != nil:
		return explain(err)
	case !known:
		return dual.ErrLeaseLost
	}
	return nil
}

func packWindow(w telemetry.Window) ([]byte, error) {
	switch {
	case w.Incarnation == "" || len(w.Incarnation) > statedb.MaxText || statedb.CleanText(w.Incarnation) != w.Incarnation:
		return nil, fmt.Errorf("its incarnation must be a text of 1 to %d bytes", statedb.MaxText)
	case len(w.Instance) > statedb.MaxText || len(w.ConfigHash) > statedb.MaxText || statedb.CleanText(w.ConfigHash) != w.ConfigHash:
		return nil, fmt.Errorf("its instance and config hash must be texts of at most %d bytes", statedb.MaxText)
	case w.Epoch <= 0:
		return nil, fmt.Errorf("it has no epoch")
	case w.Length < 0 || w.Length > maxLength:
		return nil, fmt.Errorf("its length is %s: want 0 to %s", w.Length, maxLength)
	case w.Discarded > maxDiscarded || w.Sequence < 0 || w.Sequence >= math.MaxInt64/2: // the highest integer ends no range
		return nil, fmt.Errorf("its numbers are out of range")
	}
	if len(w.Counts) > statedb.MaxSeries {
		return nil, fmt.Errorf("it has %d series: want %d at most", len(w.Counts), statedb.MaxSeries)
	}
	return statedb.PackCounts(w.Counts)
}
