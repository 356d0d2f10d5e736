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

// summing is the way between two stores whose servers hash records alike: both add
// up the hashes of a span in parts, and only of parts that differ are keys and hashes
// read. Like matching it can only say that records are the same: a key whose hashes
// differ is compared in the slow way, which decides.
type summing struct {
	mu             sync.Mutex // until it is open
	open           bool
	legacy, target store.Checksummer // nil, once open: there is no such way
	versions       store.VersionLister
	spans          store.SpanCutter
	fields         []int
}

// partRows is how many records one sum is of: a difference costs the look at so many.
const partRows = 1000

// opened tells whether the stores, and the rules of comparison, have such a way.
func (s *summing) opened(ctx context.Context, rc *Reconciler) (bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.open {
		return s.legacy != nil, nil
	}
	legacy, sums := rc.Legacy.(store.Checksummer)
	target, sumsToo := rc.Target.(store.Checksummer)
	spans, cuts := rc.Legacy.(store.SpanCutter)
	versions, lists := rc.Target.(store.VersionLister)
	if !sums || !sumsToo || !cuts || !lists || rc.Expires != "" || !rc.Compare.Strict() {
		s.open = true
		return false, nil
	}
	fields := rc.Compare.Matters()
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

// cutSpans cuts a full run of stores that can sum; nil: they can't.
func (r *work) cutSpans(ctx context.Context) ([]store.Chunk, error) {
	if ok, err := r.sums.opened(ctx, r.Reconciler); !ok {
		return nil, err
	}
	chunks, ok, err := r.sums.spans.Spans(ctx, r.ChunkRows)
	if err != nil {
		return nil, fmt.Errorf("cut legacy into chunks: %w", err)
	}
	if !ok {
		return nil, nil
	}
	return chunks, nil
}

// bySpans tells that the chunks are what cutSpans cut.
func (s *summing) bySpans(chunks []store.Chunk) bool {
	if s.spans == nil || len(chunks) == 0 {
		return false
	}
	_, ok := s.spans.SpanOf(chunks[0])
	return ok
}

// spanned is what the sums of a span have told.
type spanned struct {
	rows   int64 // of legacy
	unsure []record.Key
	extras []record.Key // that legacy lacked
}

func (s *summing) compare(ctx context.Context, c store.Chunk) (found spanned, err error) {
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

// descend finds the keys of a part whose hashes differ.
func (s *summing) descend(ctx context.Context, part store.Span, h store.Hashing, found *spanned) error {
	var ours, theirs map[int64]int64
	err := both(ctx,
		func(ctx context.Context) (err error) { ours, err = s.legacy.Hashes(ctx, part, h); return err },
		func(ctx context.Context) (err error) { theirs, err = s.target.Hashes(ctx, part, h); return err })
	if err != nil {
		return err
	}
	for id, hash := range ours {
		if other, ok := theirs[id]; !ok || other != hash {
			found.unsure = append(found.unsure, keyOf(id))
		}
	}
	for id := range theirs {
		if _, ok := ours[id]; !ok {
			found.extras = append(found.extras, keyOf(id))
		}
	}
	return nil
}

func keyOf(id int64) record.Key { return record.MakeKey(strconv.FormatInt(id, 10)) }

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

// compareSpan compares a span by sums, and then in the slow way what these could not
// call the same.
func (r *work) compareSpan(ctx context.Context, c store.Chunk, t *Tally) error {
	for left := int(c.Rows); left > 0; left -= r.Batch {
		if err := r.throttle(ctx, min(left, r.Batch)); err != nil {
			return err
		}
	}
	if err := r.mustSum(ctx); err != nil {
		return err
	}
	found, err := r.sums.compare(ctx, c)
	if err != nil {
		return err
	}
	r.count(t, found.rows-int64(len(found.unsure)))
	if err := r.doubt(ctx, found.unsure, true, t); err != nil {
		return err
	}
	if r.terms.TwoWay {
		if err := r.doubt(ctx, found.extras, true, t); err != nil {
			return err
		}
	}
	r.report()
	return nil
}

// mustSum opens the way that the run's chunks were cut for.
func (r *work) mustSum(ctx context.Context) error {
	ok, err := r.sums.opened(ctx, r.Reconciler)
	if err == nil && !ok {
		err = hint.Errorf(hint.Hint{Do: hint.ReconcileFull}, "the tables have changed since the run began, and can't be compared by sums any more")
	}
	return err
}

// doubt compares keys in the slow way. Those that legacy lacks are suspects, unless
// nobody has asked for what only the target has.
func (r *work) doubt(ctx context.Context, keys []record.Key, extras bool, t *Tally) error {
	for from := 0; from < len(keys); from += r.Batch {
		batch := keys[from:min(from+r.Batch, len(keys))]
		if err := r.throttle(ctx, len(batch)); err != nil {
			return err
		}
		rows, err := r.lookup(ctx, batch)
		if err != nil {
			return err
		}
		var there []store.Row
		for _, row := range rows {
			if row.Found {
				there = append(there, row)
			} else if extras {
				t.Suspects = append(t.Suspects, row.Key)
			}
		}
		if err := r.compareBatch(ctx, there, t); err != nil {
			return err
		}
	}
	return nil
}

// compareVersions looks at the versions of all of the target's records: each must
// have one, and none that legacy has not given.
func (r *work) compareVersions(ctx context.Context, chunks []store.Chunk) error {
	if err := r.mustSum(ctx); err != nil {
		return err
	}
	records, err := r.sums.versions.Versions(ctx,
		func(newest record.Key) (record.Version, error) { return r.given(ctx, newest, chunks) },
		func(keys []record.Key) error {
			t := &Tally{}
			err := r.doubt(ctx, keys, r.run.TwoWay, t)
			r.live.Add(-t.Checked) // they were counted before
			if err != nil {
				return err
			}
			r.mu.Lock()
			r.suspect(t.Suspects)
			for _, k := range t.Ahead {
				r.ahead[k] = struct{}{}
			}
			full := len(r.suspects) >= r.Quarantine
			r.mu.Unlock()
			if full {
				return r.settle(ctx)
			}
			return nil
		})
	if err != nil {
		return fmt.Errorf("look at the target's versions: %w", err)
	}
	if r.run.TwoWay {
		r.mu.Lock()
		r.run.Scanned += records
		r.mu.Unlock()
	}
	r.report()
	return nil
}

// given is a version that legacy has given by now. It is read under the lock of a
// row: the newest entry's, or, if legacy lacks that, one at the end of a chunk.
func (r *work) given(ctx context.Context, newest record.Key, chunks []store.Chunk) (record.Version, error) {
	if r.Locker == nil {
		return record.MaxVersion, nil // nobody can tell
	}
	keys := []record.Key{newest}
	for _, c := range chunks[:min(len(chunks), 100)] {
		if span, ok := r.sums.spans.SpanOf(c); ok {
			keys = append(keys, keyOf(span.To))
		}
	}
	for _, k := range keys {
		rows, err := r.locked(ctx, []record.Key{k})
		if err != nil {
			return record.Version{}, err
		}
		if rows[0].Found {
			return rows[0].Version, nil
		}
	}
	return record.Version{}, nil
}
