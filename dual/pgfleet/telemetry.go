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
	// Without a conflict target, ON CONFLICT needs no more than the right to insert.
	// Only for a lease that the state knows, live or ended: counts of another migration must open
	// no gate.
	err := f.pool.QueryRow(ctx, `WITH known AS (SELECT FROM migrator.leases WHERE id = $2 AND migration = $1),
		taken AS (INSERT INTO migrator.windows
				(migration, incarnation, sequence, instance, epoch, config_hash, began_at, ended_at, discarded, counts)
			SELECT $1, w.incarnation, w.sequence, w.instance, w.epoch, w.config_hash,
			       now.at - (w.age + w.length) * interval '1 microsecond', now.at - w.age * interval '1 microsecond', w.discarded, w.counts
			FROM unnest($3::text[], $4::bigint[], $5::text[], $6::bigint[], $7::text[], $8::bigint[], $9::bigint[], $10::bigint[], $11::bytea[])
				AS w (incarnation, sequence, instance, epoch, config_hash, age, length, discarded, counts)
			CROSS JOIN (SELECT clock_timestamp() AS at) now
			JOIN migrator.epochs e ON e.migration = $1 AND e.epoch = w.epoch
			WHERE EXISTS (SELECT FROM known)
			ON CONFLICT DO NOTHING)
		SELECT EXISTS (SELECT FROM known)`,
		f.migration, lease, incarnations, sequences, instances, epochs, hashes, ages, lengths, discarded, counts).Scan(&known)
	switch {
	case err != nil:
		return statedb.Explain(err)
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
	case w.Discarded > math.MaxInt64 || w.Sequence == math.MaxInt64: // which ends no range of integers
		return nil, fmt.Errorf("its numbers are out of range")
	}
	if len(w.Counts) > statedb.MaxSeries {
		return nil, fmt.Errorf("it has %d series: want %d at most", len(w.Counts), statedb.MaxSeries)
	}
	return statedb.PackCounts(w.Counts)
}
