package postgres

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"strings"

	"github.com/stranglerfig/migrator/record"
)

// appendVersions is the binary COPY of the rows' versions: key, version, deleted.
func (t *Target) appendVersions(dst []byte, v record.Version, rows []loadRow) []byte {
	dst = appendCopyHeader(dst)
	var rest []byte // of each row, after its key
	rest = appendField(rest, v.AppendText32(nil))
	rest = appendField(rest, []byte{0})
	for i := range rows {
		dst = append(dst, 0, 3)
		dst = append(appendField(dst, t.sideKey(rows[i].key)), rest...)
	}
	return appendCopyEnd(dst)
}

func appendCopyHeader(dst []byte) []byte {
	dst = append(dst, copySignature...)
	return append(dst, 0, 0, 0, 0, 0, 0, 0, 0) // no flags, no extension
}

func appendCopyEnd(dst []byte) []byte { return append(dst, 0xff, 0xff) }

func appendField[T string | []byte](dst []byte, value T) []byte {
	return append(binary.BigEndian.AppendUint32(dst, uint32(len(value))), value...)
}

// copyRecords puts the COPY data of the rows into b and returns the command. The data is
// binary if every value has an encoder, which the server reads faster.
func (s *shape) copyRecords(b *copyBuffers, block *record.Block, rows []loadRow) (command string, err error) {
	var at []int
	var names []string
	var encoders []encode
	for i, c := range s.columns {
		if !c.generated {
			at, names = append(at, i), append(names, quote(c.name))
		}
	}
	for _, i := range at {
		kind := s.schema.Fields[i].Kind
		if s.columns[i].conversion != nil {
			kind = s.columns[i].format.kind
		}
		if e := s.columns[i].encoder(kind); e != nil {
			encoders = append(encoders, e)
		}
	}
	command = "COPY " + s.name.Sanitize() + " (" + strings.Join(names, ", ") + ") FROM STDIN"
	if len(encoders) == len(at) {
		var ok bool
		if b.records, ok = s.appendBinary(b.records[:0], block, rows, at, encoders); ok {
			return command + " (FORMAT binary)", nil
		}
	}
	b.records = b.records[:0]
	for _, n := range rows {
		for _, i := range at {
			text, present := block.Cell(n.row, i)
			if present && s.columns[i].changesThere() {
				if text, err = s.columns[i].conversion.toTarget(nil, text); err != nil {
					return "", s.columns[i].unfitIn(err)
				}
			}
			if b.records, err = appendCell(b.records, s.columns[i].format, text, present); err != nil {
				return "", fmt.Errorf("field %q: %w", s.schema.Fields[i].Name, err)
			}
			b.records = append(b.records, '\t')
		}
		b.records[len(b.records)-1] = '\n'
	}
	return command, nil
}

// appendBinary returns false for a value that an encoder can't encode; the text form
// then lets the server decide.
func (s *shape) appendBinary(dst []byte, block *record.Block, rows []loadRow, at []int, encoders []encode) ([]byte, bool) {
	dst = appendCopyHeader(dst)
	for _, n := range rows {
		dst = binary.BigEndian.AppendUint16(dst, uint16(len(at)))
		for c, i := range at {
			text, present := block.Cell(n.row, i)
			if !present {
				dst = append(dst, 0xff, 0xff, 0xff, 0xff)
				continue
			}
			size := len(dst)
			dst = append(dst, 0, 0, 0, 0)
			if c := s.columns[i]; c.changesThere() {
				var err error
				if text, err = c.conversion.toTarget(nil, text); err != nil {
					return dst, false
				}
			}
			var ok bool
			if dst, ok = encoders[c](dst, text); !ok {
				return dst, false
			}
			binary.BigEndian.PutUint32(dst[size:], uint32(len(dst)-size-4))
		}
	}
	return appendCopyEnd(dst), true
}

// appendCell appends a value as COPY reads it.
func appendCell(dst []byte, f format, text []byte, present bool) ([]byte, error) {
	switch {
	case !present:
		return append(dst, `\N`...), nil
	case f.kind == record.Bytes:
		return hex.AppendEncode(append(dst, `\\x`...), text), nil
	case f.kind == record.Array:
		literal, err := fromCanonical(f, string(text))
		return appendCopy(dst, literal), err
	default:
		return appendCopy(dst, text), nil
	}
}

// appendCopy escapes the characters with a meaning in COPY's text format.
func appendCopy[T string | []byte](dst []byte, text T) []byte {
	for i := range len(text) {
		switch c := text[i]; c {
		case '\\':
			dst = append(dst, `\\`...)
		case '\n':
			dst = append(dst, `\n`...)
		case '\r':
			dst = append(dst, `\r`...)
		case '\t':
			dst = append(dst, `\t`...)
		default:
			dst = append(dst, c)
		}
	}
	return dst
}
