package capture

import (
	"encoding/binary"
	"errors"
	"time"

	"github.com/jackc/pglogrepl"
)

// errWire is a message of another form than the protocol's.
var errWire = errors.New("the server's message has another form than the protocol of logical replication")

// Kinds of messages that change a row, and of what they have of it.
const (
	insertMessage = 'I'
	updateMessage = 'U'
	deleteMessage = 'D'

	oldKey   = 'K' // the columns of the replica identity
	oldWhole = 'O' // all of them
	newRow   = 'N'

	columnNull      = 'n'
	columnUnchanged = 'u'
	columnText      = 't'
)

// rowChange is a message about one row. Its texts are valid until the next message.
type rowChange struct {
	kind     byte
	relation uint32
	oldKind  byte // oldKey, oldWhole; 0: none
	old, row []cell
}

// cell is a column's value in a message.
type cell struct {
	kind byte
	text []byte
}

// read decodes a message that begins behind its kind. Its slices are used again.
//
// Package pglogrepl has this too; it copies each value byte by byte, and trusts all lengths.
func (m *rowChange) read(kind byte, in []byte) error {
	m.kind, m.oldKind, m.old, m.row = kind, 0, m.old[:0], m.row[:0]
	if len(in) < 5 {
		return errWire
	}
	m.relation = binary.BigEndian.Uint32(in)
	what, in := in[4], in[5:]
	var err error
	if what == oldKey || what == oldWhole {
		if kind == insertMessage {
			return errWire
		}
		m.oldKind = what
		if m.old, in, err = readRow(m.old, in); err != nil {
			return err
		}
		if kind == deleteMessage {
			return atEnd(in)
		}
		if len(in) == 0 {
			return errWire
		}
		what, in = in[0], in[1:]
	}
	if what != newRow || kind == deleteMessage {
		return errWire
	}
	if m.row, in, err = readRow(m.row, in); err != nil {
		return err
	}
	return atEnd(in)
}

// readBegin decodes a transaction's first message: where its commit record begins, and when that was written.
func readBegin(in []byte) (commit pglogrepl.LSN, at time.Time, ok bool) {
	if len(in) != 20 {
		return 0, at, false
	}
	return pglogrepl.LSN(binary.BigEndian.Uint64(in)), timeOf(in[8:]), true
}

// readCommit decodes its last one: also where that record ends.
func readCommit(in []byte) (commit, end pglogrepl.LSN, at time.Time, ok bool) {
	if len(in) != 25 {
		return 0, 0, at, false
	}
	return pglogrepl.LSN(binary.BigEndian.Uint64(in[1:])), pglogrepl.LSN(binary.BigEndian.Uint64(in[9:])), timeOf(in[17:]), true
}

// epoch is the zero of the server's times.
var epoch = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC).UnixMicro()

func timeOf(in []byte) time.Time {
	return time.UnixMicro(epoch + int64(binary.BigEndian.Uint64(in)))
}

func atEnd(in []byte) error {
	if len(in) > 0 {
		return errWire
	}
	return nil
}

func readRow(dst []cell, in []byte) ([]cell, []byte, error) {
	if len(in) < 2 {
		return dst, in, errWire
	}
	columns := int(binary.BigEndian.Uint16(in))
	in = in[2:]
	for range columns {
		if len(in) == 0 {
			return dst, in, errWire
		}
		c := cell{kind: in[0]}
		in = in[1:]
		switch c.kind {
		case columnNull, columnUnchanged:
		case columnText:
			if len(in) < 4 {
				return dst, in, errWire
			}
			n := binary.BigEndian.Uint32(in)
			in = in[4:]
			if uint64(n) > uint64(len(in)) {
				return dst, in, errWire
			}
			c.text, in = in[:n], in[n:]
		default:
			return dst, in, errWire
		}
		dst = append(dst, c)
	}
	return dst, in, nil
}
