package capture

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"os"

	"github.com/cespare/xxhash/v2"

	"github.com/stranglerfig/migrator/record"
)

const (
	spillBits  = 6 // files of one spill: 2^6
	spillFiles = 1 << spillBits
	spillLevel = 8 // a part that is too large is spilled again by the next bits of the hash, so often
)

// spill keeps changes in files, in their order, partitioned by a hash of the key: each file can be reduced
// by itself. The files have no name, so that they end with the process. They have values of records.
type spill struct {
	dir   string
	level int
	files [spillFiles]*spillFile
	frame []byte
}

type spillFile struct {
	*os.File
	out *bufio.Writer
}

func newSpill(dir string, level int) *spill { return &spill{dir: dir, level: level} }

func (s *spill) write(key record.Key, c change) error {
	at := xxhash.Sum64String(string(key)) >> (s.level * spillBits) % spillFiles
	f := s.files[at]
	if f == nil {
		file, err := os.CreateTemp(s.dir, "migrator-capture-*")
		if err != nil {
			return spillError(err)
		}
		if err := os.Remove(file.Name()); err != nil {
			_ = file.Close()
			return spillError(err)
		}
		f = &spillFile{File: file, out: bufio.NewWriterSize(file, 16<<10)}
		s.files[at] = f
	}
	s.frame = appendChange(s.frame[:0], key, c)
	var length [binary.MaxVarintLen64]byte
	if _, err := f.out.Write(length[:binary.PutUvarint(length[:], uint64(len(s.frame)))]); err != nil {
		return spillError(err)
	}
	if _, err := f.out.Write(s.frame); err != nil {
		return spillError(err)
	}
	return nil
}

func spillError(err error) error {
	return fmt.Errorf("keep a large transaction in a temporary file: %w", err)
}

// each reduces one file after the other.
func (s *spill) each(limit int, yield func(map[record.Key]change) error) error {
	for at, f := range s.files {
		if f == nil {
			continue
		}
		if err := s.file(f, limit, yield); err != nil {
			return err
		}
		_ = f.Close()
		s.files[at] = nil
	}
	return nil
}

func (s *spill) file(f *spillFile, limit int, yield func(map[record.Key]change) error) error {
	if err := f.out.Flush(); err != nil {
		return spillError(err)
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return spillError(err)
	}
	part := &transaction{limit: limit, dir: s.dir, level: s.level + 1}
	if part.level == spillLevel {
		part.limit = math.MaxInt // so many keys of one hash do not exist
	}
	defer part.close()
	in := bufio.NewReaderSize(f, 64<<10)
	for {
		key, c, err := readChange(in)
		if errors.Is(err, io.EOF) {
			return part.each(yield)
		}
		if err != nil {
			return spillError(err)
		}
		if err := part.add(key, c); err != nil {
			return err
		}
	}
}

func (s *spill) close() {
	for at, f := range s.files {
		if f != nil {
			_ = f.Close()
			s.files[at] = nil
		}
	}
}

const (
	frameDeleted = 1 << iota
	frameLocked
)

func appendChange(dst []byte, key record.Key, c change) []byte {
	dst = append(binary.AppendUvarint(dst, uint64(len(key))), key...)
	flags := byte(0)
	if c.deleted {
		flags |= frameDeleted
	}
	if c.locked {
		flags |= frameLocked
	}
	dst = binary.AppendUvarint(append(dst, flags), uint64(len(c.record)))
	for _, v := range c.record {
		dst = binary.AppendUvarint(append(dst, byte(v.State)), uint64(len(v.Text)))
		dst = append(dst, v.Text...)
	}
	return dst
}

var errFrame = errors.New("the file is damaged")

func readChange(in *bufio.Reader) (key record.Key, c change, err error) {
	length, err := binary.ReadUvarint(in)
	if err != nil {
		return key, c, err
	}
	frame := make([]byte, length)
	if _, err := io.ReadFull(in, frame); err != nil {
		return key, c, errFrame
	}
	all := string(frame) // one allocation for all texts
	text := func() (string, bool) {
		n, used := binary.Uvarint(frame)
		if used <= 0 || n > uint64(len(frame)-used) {
			return "", false
		}
		from := len(all) - len(frame) + used
		frame = frame[used+int(n):]
		return all[from : from+int(n)], true
	}
	name, ok := text()
	if !ok || len(frame) == 0 {
		return key, c, errFrame
	}
	key, c.deleted, c.locked = record.Key(name), frame[0]&frameDeleted != 0, frame[0]&frameLocked != 0
	fields, used := binary.Uvarint(frame[1:])
	if used <= 0 || fields > uint64(len(frame)) {
		return key, c, errFrame
	}
	frame = frame[1+used:]
	if fields > 0 {
		c.record = make(record.Record, 0, fields)
	}
	for len(frame) > 0 {
		state := record.State(frame[0])
		frame = frame[1:]
		value, ok := text()
		if !ok || state > record.Present {
			return key, c, errFrame
		}
		c.record = append(c.record, record.Value{State: state, Text: value})
	}
	return key, c, nil
}
