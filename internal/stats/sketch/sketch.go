package sketch

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"time"
)

// Sketch counts durations in buckets of 1 % relative error (see RelativeError), from 1 µs to
// 18 minutes. Shorter durations count as about 1 µs, longer ones as about 18 minutes. Sketches
// merge without a further error: the sketch of a fleet's ten minutes is the sum of its
// instances' sketches. The zero value is an empty sketch; it takes 8 KiB once it has a count.
// It is not safe for concurrent use: Recorder is.
//
// It counts at most 2^53 durations and ignores more.
type Sketch struct {
	counts []uint64 // per bucket; nil if empty
	total  uint64
}

const maxCount = 1 << 53

// Add counts n durations of d.
func (s *Sketch) Add(d time.Duration, n uint64) { s.add(bucket(d), n) }

func (s *Sketch) add(bucket int, n uint64) {
	n = min(n, maxCount-s.total)
	if n == 0 {
		return
	}
	if s.counts == nil {
		s.counts = make([]uint64, buckets)
	}
	s.counts[bucket] += n
	s.total += n
}

// Merge adds the counts of other, and does not change other.
func (s *Sketch) Merge(other *Sketch) {
	for i, n := range other.counts {
		s.add(i, n)
	}
}

// Count is the number of durations.
func (s *Sketch) Count() uint64 { return s.total }

// Quantile returns the q-quantile, 0 ≤ q ≤ 1, within RelativeError of the smallest duration
// that at least q of all don't exceed. It is false if the sketch is empty or q is out of
// range.
func (s *Sketch) Quantile(q float64) (time.Duration, bool) {
	if s.total == 0 || !(q >= 0 && q <= 1) {
		return 0, false
	}
	return value(s.ranked(max(1, uint64(math.Ceil(q*float64(s.total)))))), true
}

// Limits bound the duration of a rank, counted from 1 at the shortest; high is the largest
// Duration in the last bucket, which has no end.
func (s *Sketch) Limits(rank uint64) (low, high time.Duration) {
	from, to := limits(s.ranked(rank))
	if math.IsInf(to, 1) {
		return time.Duration(math.Floor(from)), math.MaxInt64
	}
	return time.Duration(math.Floor(from)), time.Duration(math.Ceil(to))
}

// ranked returns the bucket of the rank-th smallest duration, 1 ≤ rank ≤ Count.
func (s *Sketch) ranked(rank uint64) int {
	for i, n := range s.counts {
		if rank <= n {
			return i
		}
		rank -= n
	}
	return buckets - 1
}

// sketchVersion identifies the encoding and the buckets' limits. A change of either needs
// another version.
const sketchVersion = 1

// AppendBinary appends the sketch's one encoding: a version, then the number of buckets with
// counts, then for each its distance from the one before and its count, all as unsigned
// varints. It never fails.
func (s *Sketch) AppendBinary(b []byte) ([]byte, error) {
	used := 0
	for _, n := range s.counts {
		if n > 0 {
			used++
		}
	}
	b = append(b, sketchVersion)
	b = binary.AppendUvarint(b, uint64(used))
	last := -1
	for i, n := range s.counts {
		if n > 0 {
			b = binary.AppendUvarint(b, uint64(i-last))
			b = binary.AppendUvarint(b, n)
			last = i
		}
	}
	return b, nil
}

// UnmarshalBinary replaces the sketch by the encoded one. It accepts exactly what AppendBinary
// writes; on anything else it fails and leaves the sketch unchanged. It allocates at most a
// sketch's 8 KiB, whatever the input.
func (s *Sketch) UnmarshalBinary(b []byte) error {
	if len(b) == 0 {
		return errors.New("sketch: no data")
	}
	if b[0] != sketchVersion {
		return fmt.Errorf("sketch: version %d is unknown (want %d); another release wrote it", b[0], sketchVersion)
	}
	rest := b[1:]
	next := func() (uint64, error) {
		v, size := binary.Uvarint(rest)
		if size <= 0 || size > 1 && rest[size-1] == 0 {
			return 0, fmt.Errorf("sketch: no number at byte %d of %d", len(b)-len(rest), len(b))
		}
		rest = rest[size:]
		return v, nil
	}
	used, err := next()
	if err != nil {
		return err
	}
	if used > buckets {
		return fmt.Errorf("sketch: %d buckets, more than %d", used, buckets)
	}
	var read Sketch
	at := uint64(math.MaxUint64) // one before bucket 0
	for range used {
		step, err := next()
		if err != nil {
			return err
		}
		n, err := next()
		if err != nil {
			return err
		}
		if step == 0 || step > buckets || at+step >= buckets {
			return fmt.Errorf("sketch: a bucket %d after %d, of %d", step, int64(at), buckets)
		}
		if n == 0 || n > maxCount-read.total {
			return fmt.Errorf("sketch: a count of %d on top of %d", n, read.total)
		}
		at += step
		read.add(int(at), n)
	}
	if len(rest) > 0 {
		return fmt.Errorf("sketch: %d bytes too many", len(rest))
	}
	*s = read
	return nil
}
