package postgres

import "github.com/stranglerfig/migrator/record"

// scalarKinds maps the names of pg_catalog's types. Every other type is Other:
// its value is the text that the server prints.
var scalarKinds = map[string]record.Kind{
	"bool": record.Bool,
	"int2": record.Int, "int4": record.Int, "int8": record.Int,
	"numeric": record.Decimal,
	"float8":  record.Float, "float4": record.Float32,
	"text": record.Text, "varchar": record.Text, "bpchar": record.Text, "name": record.Text,
	"bytea": record.Bytes,
	"date":  record.Date,
	"time":  record.TimeOfDay, "timetz": record.TimeOfDay,
	"timestamp": record.Timestamp, "timestamptz": record.TimestampTZ,
	"interval": record.Interval,
	"uuid":     record.UUID,
	"json":     record.JSON, "jsonb": record.JSON,
}

// baseType is a column's type, with domains resolved.
type baseType struct {
	schema, name string // pg_catalog, int4; of an array: of its element
	array        bool
	delimiter    byte   // of an array's literal: a comma, but for box
	cast         string // how SQL names it without a length: character varying, numeric[]
}

func (b baseType) scalar() record.Kind {
	if b.name == "citext" { // of an extension, in any schema
		return record.Text
	}
	if b.schema == "pg_catalog" {
		if kind, ok := scalarKinds[b.name]; ok {
			return kind
		}
	}
	return record.Other
}

// format is what the conversion of a column's values needs.
type format struct {
	kind      record.Kind
	element   record.Kind // of an Array
	delimiter byte        // of an Array
}

func (b baseType) format() format {
	if b.array {
		return format{kind: record.Array, element: b.scalar(), delimiter: b.delimiter}
	}
	return format{kind: b.scalar()}
}
