package statedb

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strings"

	"github.com/stranglerfig/migrator/dual/telemetry"
	"github.com/stranglerfig/migrator/internal/stats/sketch"
)

// countsVersion is the version of the encoding. A change of the encoding takes a new one.
const countsVersion = 1

// Limits of what an instance reports and of what is summed up.
const (
	MaxSeries  = 64       // in one window: there are far fewer combinations that occur
	ManySeries = 512      // in a bucket: windows beyond it are skipped
	maxSketch  = 16 << 10 // bytes
	maxWord    = 24
)

// PackCounts encodes counts: a version and their number, then for each the words of
// its series separated by spaces, its n, and its sketch, the texts with their length
// before them. Numbers are unsigned varints.
func PackCounts(counts []telemetry.Count) ([]byte, error) {
	b := append(make([]byte, 0, 64+64*len(counts)), countsVersion)
	b = binary.AppendUvarint(b, uint64(len(counts)))
	for _, c := range counts {
		name, err := seriesName(c.Series)
		if err != nil {
			return nil, err
		}
		b = binary.AppendUvarint(b, uint64(len(name)))
		b = append(b, name...)
		b = binary.AppendUvarint(b, c.N)
		var sketch []byte
		if c.Latency != nil {
			if sketch, err = c.Latency.AppendBinary(nil); err != nil {
				return nil, err
			}
			if len(sketch) > maxSketch {
				return nil, fmt.Errorf("the sketch of %s has %d bytes: want %d at most", name, len(sketch), maxSketch)
			}
		}
		b = binary.AppendUvarint(b, uint64(len(sketch)))
		b = append(b, sketch...)
	}
	return b, nil
}

func seriesName(s telemetry.Series) (string, error) {
	words := [...]string{string(s.Operation), string(s.Store), string(s.Role), string(s.Outcome)}
	for _, w := range words {
		if w == "" || len(w) > maxWord || strings.Trim(w, "abcdefghijklmnopqrstuvwxyz-") != "" {
			return "", fmt.Errorf("series %+v: %q: want letters and hyphens only", s, w)
		}
	}
	return strings.Join(words[:], " "), nil
}

// Unpacker decodes counts. The names of series are the same in every window: it parses
// each once. With Untimed it skips the sketches, which are most of the work.
type Unpacker struct {
	names   map[string]telemetry.Series
	Untimed bool
}

// NewUnpacker returns an Unpacker that reads sketches.
func NewUnpacker() *Unpacker { return &Unpacker{names: map[string]telemetry.Series{}} }

var errCounts = errors.New("the encoded counts are truncated")

// Unpack decodes what PackCounts has encoded.
func (u *Unpacker) Unpack(b []byte) ([]telemetry.Count, error) {
	if len(b) == 0 {
		return nil, errCounts
	}
	if b[0] != countsVersion {
		return nil, fmt.Errorf("encoded counts have version %d, this release reads version %d", b[0], countsVersion)
	}
	b = b[1:]
	number := func() (uint64, error) {
		v, size := binary.Uvarint(b)
		if size <= 0 {
			return 0, errCounts
		}
		b = b[size:]
		return v, nil
	}
	text := func() ([]byte, error) {
		n, err := number()
		if err != nil || n > uint64(len(b)) {
			return nil, errCounts
		}
		t := b[:n]
		b = b[n:]
		return t, nil
	}
	n, err := number()
	if err != nil || n > uint64(len(b)) {
		return nil, errCounts
	}
	counts := make([]telemetry.Count, n)
	for i := range counts {
		c := &counts[i]
		name, err := text()
		if err != nil {
			return nil, err
		}
		if c.Series, err = u.series(name); err != nil {
			return nil, err
		}
		if c.N, err = number(); err != nil {
			return nil, err
		}
		latency, err := text()
		if err != nil {
			return nil, err
		}
		if len(latency) > 0 && !u.Untimed {
			c.Latency = new(sketch.Sketch)
			if err := c.Latency.UnmarshalBinary(latency); err != nil {
				return nil, err
			}
		}
	}
	if len(b) > 0 {
		return nil, fmt.Errorf("%d bytes follow the encoded counts", len(b))
	}
	return counts, nil
}

func (u *Unpacker) series(name []byte) (telemetry.Series, error) {
	if s, known := u.names[string(name)]; known {
		return s, nil
	}
	words := strings.Split(string(name), " ")
	if len(words) != 4 {
		return telemetry.Series{}, fmt.Errorf("%.40q is not a series", name)
	}
	s := telemetry.Series{
		Operation: telemetry.Operation(words[0]), Store: telemetry.Store(words[1]),
		Role: telemetry.Role(words[2]), Outcome: telemetry.Outcome(words[3]),
	}
	if _, err := seriesName(s); err != nil {
		return s, err
	}
	u.names[string(name)] = s
	return s, nil
}
