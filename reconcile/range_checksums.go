package reconcile

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"strconv"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/stranglerfig/migrator/internal/hint"
	"github.com/stranglerfig/migrator/record"
	"github.com/stranglerfig/migrator/store"
)

// rangeChecksums compare spans of two stores whose servers hash records alike: both
// add up the hashes of a span in parts, and keys and hashes are read only of parts that
// differ. They can only show that records are the same.
type rangeChecksums struct {
	stores *stores
	rules  *rules

	mu             sync.Mutex // until they are open
	open           bool
	legacy, target store.Checksummer // nil, once open: the stores or the rules allow no checksums
	versions       store.VersionLister
	spans          store.SpanCutter
	fields         []int
}

// partRows is how many records one sum is of: each difference costs reading the hashes
// of so many.
const partRows = 1000

// opened reports whether the stores, and the rules of comparison, allow checksums.
func (s *rangeChecksums) opened(ctx context.Context) (bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.open {
		return s.legacy != nil, nil
	}
	legacy, sums := s.stores.legacy.(store.Checksummer)
	target, sumsToo := s.stores.target.(store.Checksummer)
	spans, cuts := s.stores.legacy.(store.SpanCutter)
	versions, lists := s.stores.target.(store.VersionLister)
	if !sums || !sumsToo || !cuts || !lists || s.rules.expires >= 0 || !s.rules.compare.Strict() {
		s.open = true
		return false, nil
	}
	fields := s.rules.compare.Matters()
	ours, err := legacy.HashForm(ctx, fields)
	if err != nil {
		return false, fmt.Errorf("read legacy: %w", err)
	}
	theirs, err := target.HashForm(ctx, fields)
	if err != nil {
		return false, fmt.Errorf("read the target: %w", err)
	}
	s.open = true
	if ours == "" || ours != theirs {
		return false, nil
	}
	s.legacy, s.target, s.versions, s.spans, s.fields = legacy, target, versions, spans, fields
	return true, nil
}

// bySpans reports whether the chunks are spans.
func (s *rangeChecksums) bySpans(chunks []store.Chunk) bool {
	if s.spans == nil || len(chunks) == 0 {
		return false
	}
	_, ok := s.spans.SpanOf(chunks[0])
	return ok
}

// spanDifference is what the checksums of a span leave to be compared.
type spanDifference struct {
	rows   int64 // of legacy
	unsure []record.Key
	extras []record.Key // that legacy lacked
}

// compare compares a chunk's checksums, and the hashes of the parts that differ.
func (s *rangeChecksums) compare(ctx context.Context, c store.Chunk) (found spanDifference, err error) {
	span, ok := s.spans.SpanOf(c)
	if !ok {
		return found, errNoSpan
	}
	h := store.Hashing{Fields: s.fields, Seed: rand.Int64()}
	width := partWidth(span, c.Rows)
	var ours, theirs map[int64]store.Checksum
	err = both(ctx,
		func(ctx context.Context) (err error) {
			ours, err = s.legacy.Checksums(ctx, span, width, h)
			return err
		},
		func(ctx context.Context) (err error) {
			theirs, err = s.target.Checksums(ctx, span, width, h)
			return err
		})
	if err != nil {
		return found, err
	}
	for at, sum := range ours {
		found.rows += sum.Rows
		if theirs[at] != sum {
			if err := s.descend(ctx, partOf(span, width, at), h, &found); err != nil {
				return found, err
			}
		}
	}
	for at := range theirs {
		if _, known := ours[at]; !known {
			if err := s.descend(ctx, partOf(span, width, at), h, &found); err != nil {
				return found, err
			}
		}
	}
	return found, nil
}

// descend adds the keys of a part whose hashes differ.
func (s *rangeChecksums) descend(ctx context.Context, part store.Span, h store.Hashing, found *spanDifference) error {
	var ours, theirs map[int64]int64
	err := both(ctx,
		func(ctx context.Context) (err error) { ours, err = s.legacy.Hashes(ctx, part, h); return err },
		func(ctx context.Context) (err error) { theirs, err = s.target.Hashes(ctx, part, h); return err })
	if err != nil {
		return err
	}
	for id, hash := range ours {
		if other, ok := theirs[id]; !ok || other != hash {
			found.unsure = append(found.unsure, integerKey(id))
		}
	}
	for id := range theirs {
		if _, ok := ours[id]; !ok {
			found.extras = append(found.extras, integerKey(id))
		}
	}
	return nil
}

func integerKey(id int64) record.Key { return record.MakeKey(strconv.FormatInt(id, 10)) }

func both(ctx context.Context, legacy, target func(context.Context) error) error {
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error {
		if err := legacy(ctx); err != nil {
			return fmt.Errorf("read legacy: %w", err)
		}
		return nil
	})
	group.Go(func() error {
		if err := target(ctx); err != nil {
			return fmt.Errorf("read the target: %w", err)
		}
		return nil
	})
	return group.Wait()
}

// partWidth cuts a span that has two ends, and about so many rows, into parts of
// about partRows.
func partWidth(s store.Span, rows int64) int64 {
	if s.From == math.MinInt64 || s.To == math.MaxInt64 || rows <= partRows {
		return 0
	}
	if s.From < 0 && s.To > math.MaxInt64+s.From {
		return 0 // the distance is beyond counting
	}
	return (s.To-s.From)/(rows/partRows) + 1
}

func partOf(s store.Span, width, at int64) store.Span {
	if width == 0 {
		return s
	}
	from := s.From + at*width
	to := s.To
	if to-from >= width {
		to = from + width - 1
	}
	return store.Span{From: from, To: to}
}

var errNoSpan = hint.Errorf(hint.Hint{Do: hint.ReconcileFull}, "a chunk of the run is no range of keys")
