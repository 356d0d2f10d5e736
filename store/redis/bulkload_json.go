package redis

import (
	_ "embed" // the scripts

	"github.com/stranglerfig/migrator/record"
)

//go:embed scripts/filljson.lua
var fillJSONSource string

//go:embed scripts/fillmany.lua
var fillManySource string

var (
	fillJSON = newScript(fillJSONSource + fillSource)
	fillMany = newScript(fillManySource + fillSource)
)

func (c *jsonCodec) bulkWriters(version []byte) (fast, sure bulkWriter) {
	return &jsonWriter{codec: c, version: version, by: fillMany}, &jsonWriter{codec: c, version: version, by: fillJSON}
}

type jsonWriter struct {
	codec    *jsonCodec
	version  []byte
	by       *script
	document []byte
}

func (j *jsonWriter) script() *script { return j.by }

func (*jsonWriter) head(dst []byte) ([]byte, int) { return dst, 0 }

func (j *jsonWriter) record(dst []byte, r record.Record) ([]byte, int, bool) {
	document, err := j.codec.encode(j.document[:0], j.version, r)
	if err != nil {
		return dst, 0, false
	}
	j.document = document
	return appendBulk(dst, document), 1, true
}
