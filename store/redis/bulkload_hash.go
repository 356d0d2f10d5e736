package redis

import (
	_ "embed" // the scripts
	"strconv"

	"github.com/stranglerfig/migrator/record"
)

//go:embed scripts/fillhash.lua
var fillHashSource string

//go:embed scripts/fillpacked.lua
var fillPackedSource string

var (
	fillHash   = newScript(fillHashSource + fillSource)
	fillPacked = newScript(fillPackedSource + fillSource)
)

func (c *hashCodec) bulkWriters(version []byte) (fast, sure bulkWriter) {
	return &packedWriter{newPacker(c.names, c.reserved, version)}, &hashWriter{c}
}

// packedWriter sends each hash as one argument, in the server's own encoding: in a
// script, passing an argument costs more than the command that uses it.
type packedWriter struct{ *packer }

func (*packedWriter) script() *script { return fillPacked }

func (*packedWriter) head(dst []byte) ([]byte, int) { return dst, 0 }

func (f *packedWriter) record(dst []byte, r record.Record) ([]byte, int, bool) {
	payload, ok := f.payload(r)
	if !ok {
		return dst, 0, false
	}
	return appendBulk(dst, payload), 1, true
}

// hashWriter sends the fields' names once per call.
type hashWriter struct{ codec *hashCodec }

func (*hashWriter) script() *script { return fillHash }

func (h *hashWriter) head(dst []byte) ([]byte, int) {
	dst = appendBulk(appendBulk(dst, h.codec.reserved), strconv.Itoa(len(h.codec.names)))
	for _, name := range h.codec.names {
		dst = appendBulk(dst, name)
	}
	return dst, 2 + len(h.codec.names)
}

func (h *hashWriter) record(dst []byte, r record.Record) ([]byte, int, bool) {
	n := 1
	dst = append(strconv.AppendInt(append(dst, '$'), int64(len(r)), 10), "\r\n"...)
	for i := range r {
		if r[i].State == record.Present {
			dst = append(dst, '1')
		} else {
			dst = append(dst, '0')
		}
	}
	dst = append(dst, "\r\n"...)
	for i := range r {
		if r[i].State == record.Present {
			dst = appendBulk(dst, r[i].Text)
			n++
		}
	}
	return dst, n, true
}
