package postgres

import (
	"context"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/stranglerfig/migrator/record"
)

// typeForm is what a type is made of.
type typeForm byte

// Forms: those of pg_type.typtype, and arrays, which are base types there.
const (
	formBase       typeForm = 'b'
	formArray      typeForm = 'a'
	formComposite  typeForm = 'c'
	formDomain     typeForm = 'd'
	formEnum       typeForm = 'e'
	formRange      typeForm = 'r'
	formMultirange typeForm = 'm'
)

// sqlType is a type of the running server, resolved from its catalog down to base types. What a
// value is made of decides its text, its equality, and whether it can be moved at all: a citext
// in a domain in a composite in an array makes different texts equal, as a citext does.
type sqlType struct {
	oid       uint32
	schema    string
	name      string
	extension string // that it belongs to; "": none
	form      typeForm
	cast      string // how SQL names it without a length: character varying, numeric[]
	delimiter byte   // between the elements of an array's literal: a comma, but for box

	inner   *sqlType // of a domain its base, of an array its element, of a range its subtype, of a multirange its range
	typmod  int32    // that a domain gives its base; -1: none
	based   string   // of a domain: its base with that typmod, as SQL prints it
	notNull bool     // of a domain
	fields  []typeField
	labels  []string // of an enum

	equal     equalImage // of a base type's = in its default class of btree, of a range's for its subtype
	loose     bool       // a range compares its bounds by a collation that takes different texts as equal
	unordered bool       // that = can't be named: its schema is not on the search path
}

// typeField is an attribute of a composite type.
type typeField struct {
	name  string
	named string // its type, as SQL prints it
	typ   *sqlType
	loose bool // its collation takes different texts as equal
}

// equalImage is the support function "equalimage" of a class of btree: the catalog's own word on
// whether values that are equal are the same bytes, and so have one text.
type equalImage string

const (
	equalNone  equalImage = ""                   // the type has no = that an index could use
	equalUnset equalImage = "-"                  // equal values may differ in their bytes
	equalBytes equalImage = "btequalimage"       // they don't
	equalText  equalImage = "btvarstrequalimage" // they don't, unless the collation takes different texts as equal
)

// usualTypes are types of pg_catalog as every supported server's catalog has them, under object ids
// that never change: to read them costs more than all else that the opening of a store asks.
var usualTypes = func() map[uint32]*sqlType {
	types := map[uint32]*sqlType{}
	for _, t := range []sqlType{
		{oid: pgtype.BoolOID, name: "bool", cast: "boolean", equal: equalBytes},
		{oid: pgtype.ByteaOID, name: "bytea", cast: "bytea", equal: equalBytes},
		{oid: pgtype.Int8OID, name: "int8", cast: "bigint", equal: equalBytes},
		{oid: pgtype.Int2OID, name: "int2", cast: "smallint", equal: equalBytes},
		{oid: pgtype.Int4OID, name: "int4", cast: "integer", equal: equalBytes},
		{oid: pgtype.TextOID, name: "text", cast: "text", equal: equalText},
		{oid: pgtype.JSONOID, name: "json", cast: "json", equal: equalNone},
		{oid: pgtype.Float4OID, name: "float4", cast: "real", equal: equalUnset},
		{oid: pgtype.Float8OID, name: "float8", cast: "double precision", equal: equalUnset},
		{oid: pgtype.VarcharOID, name: "varchar", cast: "character varying", equal: equalText},
		{oid: pgtype.DateOID, name: "date", cast: "date", equal: equalBytes},
		{oid: pgtype.TimestampOID, name: "timestamp", cast: "timestamp without time zone", equal: equalBytes},
		{oid: pgtype.TimestamptzOID, name: "timestamptz", cast: "timestamp with time zone", equal: equalBytes},
		{oid: pgtype.NumericOID, name: "numeric", cast: "numeric", equal: equalUnset},
		{oid: pgtype.UUIDOID, name: "uuid", cast: "uuid", equal: equalBytes},
		{oid: pgtype.JSONBOID, name: "jsonb", cast: "jsonb", equal: equalUnset},
	} {
		t.schema, t.form, t.delimiter, t.typmod = "pg_catalog", formBase, ',', -1
		types[t.oid] = &t
	}
	return types
}()

// typeQuery reads all types that values of the types $1 are made of. %s is the range of a
// multirange, which servers before 14 have not got.
const typeQuery = `
WITH RECURSIVE reached(oid) AS (
	SELECT unnest($1::oid[])
	UNION
	SELECT inner_type.oid FROM reached JOIN pg_type t ON t.oid = reached.oid CROSS JOIN LATERAL (
		SELECT t.typbasetype WHERE t.typtype = 'd'
		UNION ALL SELECT t.typelem WHERE t.typelem <> 0
		UNION ALL SELECT r.rngsubtype FROM pg_range r WHERE r.rngtypid = t.oid
		UNION ALL SELECT r.rngtypid FROM pg_range r WHERE %[1]s = t.oid
		UNION ALL SELECT a.atttypid FROM pg_attribute a WHERE t.typtype = 'c' AND a.attrelid = t.typrelid AND a.attnum > 0 AND NOT a.attisdropped
	) inner_type(oid)
), equal_image AS (
	SELECT o.oid, o.opcintype, o.opcdefault, pg_opclass_is_visible(o.oid) AS visible, coalesce(f.proname::text, '-') AS named
	FROM pg_opclass o JOIN pg_am m ON m.oid = o.opcmethod AND m.amname = 'btree'
	LEFT JOIN pg_amproc p ON p.amprocfamily = o.opcfamily AND p.amproclefttype = o.opcintype AND p.amprocrighttype = o.opcintype AND p.amprocnum = 4
	LEFT JOIN pg_proc f ON f.oid = p.amproc AND f.pronamespace = 'pg_catalog'::regnamespace
)
SELECT t.oid, n.nspname, t.typname, coalesce(x.extname, ''), t.typtype::text, format_type(t.oid, -1),
	coalesce(t.typlen = -1 AND e.typarray = t.oid, false), coalesce(e.typdelim::text, ','),
	CASE WHEN t.typtype = 'd' THEN t.typbasetype WHEN r.rngtypid = t.oid THEN r.rngsubtype WHEN r.rngtypid IS NOT NULL THEN r.rngtypid
		ELSE t.typelem END,
	t.typtypmod, CASE WHEN t.typtype = 'd' THEN format_type(t.typbasetype, t.typtypmod) ELSE '' END, t.typnotnull,
	coalesce(CASE WHEN r.rngtypid = t.oid THEN (SELECT i.named FROM equal_image i WHERE i.oid = r.rngsubopc) ELSE own.named END, ''),
	coalesce(NOT own.visible, false),
	coalesce(NOT l.collisdeterministic, false),
	fields.names, fields.types, fields.loose, fields.named,
	(SELECT array_agg(v.enumlabel::text ORDER BY v.enumsortorder) FROM pg_enum v WHERE v.enumtypid = t.oid)
FROM reached JOIN pg_type t ON t.oid = reached.oid JOIN pg_namespace n ON n.oid = t.typnamespace
LEFT JOIN pg_type e ON e.oid = t.typelem
LEFT JOIN pg_range r ON r.rngtypid = t.oid OR %[1]s = t.oid
LEFT JOIN pg_collation l ON l.oid = r.rngcollation
LEFT JOIN pg_depend d ON d.classid = 'pg_type'::regclass AND d.objid = t.oid AND d.deptype = 'e'
LEFT JOIN pg_extension x ON x.oid = d.refobjid
LEFT JOIN LATERAL (
	SELECT i.named, i.visible FROM equal_image i WHERE i.opcdefault AND (i.opcintype = t.oid OR EXISTS (
		SELECT FROM pg_cast k WHERE k.castsource = t.oid AND k.casttarget = i.opcintype AND k.castmethod = 'b' AND k.castcontext = 'i'))
	ORDER BY i.opcintype <> t.oid LIMIT 1
) own ON t.typtype = 'b'
LEFT JOIN LATERAL (
	SELECT array_agg(a.attname::text ORDER BY a.attnum) AS names, array_agg(a.atttypid ORDER BY a.attnum) AS types,
		array_agg(coalesce(NOT c.collisdeterministic, false) ORDER BY a.attnum) AS loose,
		array_agg(format_type(a.atttypid, a.atttypmod) ORDER BY a.attnum) AS named
	FROM pg_attribute a LEFT JOIN pg_collation c ON c.oid = a.attcollation
	WHERE a.attrelid = t.typrelid AND a.attnum > 0 AND NOT a.attisdropped
) fields ON t.typtype = 'c'`

// readTypes resolves types of a server of that version.
func readTypes(ctx context.Context, db querier, server int, oids []uint32) (map[uint32]*sqlType, error) {
	usual := func(oid uint32) bool { return usualTypes[oid] != nil }
	if !slices.ContainsFunc(oids, func(oid uint32) bool { return !usual(oid) }) {
		return usualTypes, nil
	}
	return queryTypes(ctx, db, server, oids)
}

func queryTypes(ctx context.Context, db querier, server int, oids []uint32) (map[uint32]*sqlType, error) {
	multirange := "r.rngmultitypid"
	if server < 140000 {
		multirange = "0"
	}
	rows, err := db.Query(ctx, fmt.Sprintf(typeQuery, multirange), oids)
	if err != nil {
		return nil, err
	}
	types, inner, fields := map[uint32]*sqlType{}, map[uint32]uint32{}, map[uint32][]uint32{}
	var t sqlType
	var form, delimiter, equal string
	var array bool
	var within uint32
	var names, named []string
	var of []uint32
	var loose []bool
	_, err = pgx.ForEachRow(rows, []any{
		&t.oid, &t.schema, &t.name, &t.extension, &form, &t.cast, &array, &delimiter, &within, &t.typmod, &t.based, &t.notNull, &equal, &t.unordered, &t.loose,
		&names, &of, &loose, &named, &t.labels,
	}, func() error {
		one := t
		one.form, one.delimiter, one.equal = typeForm(form[0]), delimiter[0], equalImage(equal)
		if array {
			one.form = formArray
		}
		if one.form != formBase {
			inner[one.oid] = within
		}
		for i := range names {
			one.fields = append(one.fields, typeField{name: names[i], named: named[i], loose: loose[i]})
		}
		types[one.oid], fields[one.oid] = &one, of
		return nil
	})
	if err != nil {
		return nil, err
	}
	for oid, t := range types {
		t.inner = types[inner[oid]]
		for i, field := range fields[oid] {
			t.fields[i].typ = types[field]
		}
	}
	return types, nil
}

// inside lists what the type is made of, as far as DDL can change that: [columns-watched].
func (t *sqlType) inside(found []record.Inside) []record.Inside {
	of := record.Inside{Type: t.schema + "." + t.name, Enum: t.form == formEnum, Parts: slices.Clone(t.labels)}
	if slices.ContainsFunc(found, func(f record.Inside) bool { return f.Type == of.Type }) {
		return found
	}
	for _, f := range t.fields {
		of.Parts = append(of.Parts, f.name+" "+f.named)
	}
	if t.form == formEnum || t.form == formComposite {
		found = append(found, of)
	}
	for _, f := range t.fields {
		found = f.typ.inside(found)
	}
	if t.inner != nil {
		found = t.inner.inside(found)
	}
	return found
}

// resolved is the type below the domains.
func (t *sqlType) resolved() *sqlType {
	for t.form == formDomain {
		t = t.inner
	}
	return t
}

func (t *sqlType) builtIn(names ...string) bool {
	if t.schema != "pg_catalog" || t.form != formBase {
		return false
	}
	for _, name := range names {
		if t.name == name {
			return true
		}
	}
	return false
}

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

// baseType is what the conversion of a column's values needs of its type, with domains resolved.
type baseType struct {
	schema, name string // pg_catalog, int4; of an array: of its element
	array        bool
	delimiter    byte   // of an array's literal: a comma, but for box
	cast         string // how SQL names it without a length: character varying, numeric[]
}

func (t *sqlType) base() baseType {
	t = t.resolved()
	b := baseType{schema: t.schema, name: t.name, delimiter: t.delimiter, cast: t.cast}
	if t.form == formArray {
		element := t.inner.resolved()
		b.schema, b.name, b.array = element.schema, element.name, true
	}
	return b
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
