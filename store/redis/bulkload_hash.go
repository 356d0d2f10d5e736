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
	return &packedFiller{newPacker(c.names, c.reserved, version)}, &hashFiller{c}
}

// packedFiller sends each hash as one argument, in the form that the server keeps:
// through a script every argument costs, to and fro, more than what is done with it.
type packedFiller struct{ *packer }

func (*packedFiller) script() *script { return fillPacked }

func (*packedFiller) head(dst []byte) ([]byte, int) { return dst, 0 }

func (f *packedFiller) record(dst []byte, r record.Record) ([]byte, int, bool) {
	payload, ok := f.payload(r)
	if !ok {
		return dst, 0, false
	}
	return appendBulk(dst, payload), 1, true
}

// hashFiller sends the fields' names once for each call.
type hashFiller struct{ codec *hashCodec }

func (*hashFiller) script() *script { return fillHash }

func (h *hashFiller) head(dst []byte) ([]byte, int) {
	dst = appendBulk(appendBulk(dst, h.codec.reserved), strconv.Itoa(len(h.codec.names)))
	for _, name := range h.codec.names {
		dst = appendBulk(dst, name)
	}
	return dst, 2 + len(h.codec.names)
}

func (h *hashFiller) record(dst []byte, r record.Record) ([]byte, int, bool) {
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
