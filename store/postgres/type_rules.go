package postgres

import (
	"fmt"
	"strconv"
	"strings"
)

// isbnTypes are the types of the extension isn. Their = is that of 64-bit integers, over all bits
// that their text shows: the number and the mark of an invalid one.
var isbnTypes = map[string]bool{"ean13": true, "isbn": true, "isbn13": true, "ismn": true, "ismn13": true, "issn": true, "issn13": true, "upc": true}

// manyTexts says why values that the type's = takes as equal may have several canonical texts; "":
// equal values have one text. A key of such a type would be one row of legacy and several records.
//
// The catalog decides for base types, by equalImage; a type that is not known to be exact is not.
// Its exceptions, each with its reason:
//
//   - bpchar claims to be exact and is not: 'a' and 'a ' are equal. Of a length they are both
//     stored, and printed, at that length.
//   - numeric with a scale: every value is stored at the column's scale, so 1.0 is 1.00.
//   - ltree compares its labels byte by byte; so do isn's types their numbers.
//
// typmod is the column's, -1 for none; it does not reach the fields of a composite, where the
// server does not enforce it on every way. loose: the collation takes different texts as equal.
func (t *sqlType) manyTexts(typmod int32, loose bool) string {
	const blanks, scales = "bpchar without a length takes 'a' and 'a ' as equal", "numeric without a scale takes 1.0 and 1.00 as equal"
	switch t.form {
	case formDomain:
		if t.typmod >= 0 {
			typmod = t.typmod
		}
		return within("domain "+t.name, t.inner.manyTexts(typmod, loose))
	case formArray:
		return within("its elements", t.inner.manyTexts(typmod, loose))
	case formRange:
		if why := t.inner.manyTexts(-1, t.loose); why != "" {
			return within("its bounds", why)
		}
		if t.inner.resolved().form == formBase && t.equal != equalBytes && t.equal != equalText {
			return "its bounds are compared by a class of operators of their own"
		}
		return ""
	case formMultirange:
		return within("its ranges", t.inner.manyTexts(-1, false))
	case formEnum:
		return ""
	case formComposite:
		for _, f := range t.fields {
			if why := f.typ.manyTexts(-1, f.loose); why != "" {
				return within(fmt.Sprintf("its field %q", f.name), why)
			}
		}
		return ""
	}
	switch {
	case t.builtIn("bpchar") && typmod < 0:
		return blanks
	case t.builtIn("numeric") && typmod < 0:
		return scales
	case t.builtIn("numeric"):
		return ""
	case t.builtIn("float4", "float8"):
		return t.name + " takes 0 and -0 as equal"
	case t.builtIn("interval"):
		return "interval takes 1 month and 30 days as equal"
	case t.builtIn("jsonb"):
		return "jsonb takes the numbers 1.0 and 1.00 as equal"
	case t.extension == "citext":
		return "citext takes a and A as equal"
	case t.unordered:
		return "the operators of " + t.name + " are not on the search path"
	case t.extension == "ltree" && t.name == "ltree", t.extension == "isn" && isbnTypes[t.name]:
		return ""
	case loose && t.equal == equalText:
		return "its collation takes different texts as equal"
	case t.equal == equalBytes, t.equal == equalText:
		return ""
	case t.equal == equalNone:
		return t.name + " has no equality"
	default:
		return "nothing says that equal values of " + t.name + " have one text"
	}
}

func within(what, why string) string {
	if why == "" {
		return ""
	}
	return what + ": " + why
}

// unreadable are types whose values the server alone makes: a text of them can't
// be written.
var unreadable = map[string]map[string]bool{
	"": {
		"pg_node_tree": true, "pg_ndistinct": true, "pg_dependencies": true, "pg_mcv_list": true, "pg_brin_bloom_summary": true,
		"pg_brin_minmax_multi_summary": true, "gtsvector": true,
	},
	"btree_gist": {"gbtreekey2": true, "gbtreekey4": true, "gbtreekey8": true, "gbtreekey16": true, "gbtreekey32": true, "gbtreekey_var": true},
	"hstore":     {"ghstore": true},
	"intarray":   {"intbig_gkey": true},
	"ltree":      {"ltree_gist": true},
	"pg_trgm":    {"gtrgm": true},
}

// textLoses says why the text of a value does not hold the value, so that it could not come back as
// it was; "": it does. It looks into domains, arrays, composites and ranges. nested: the value is
// inside another one, whose text has the text that the type's output function prints.
func (t *sqlType) textLoses(nested bool, server int) string {
	if t.inner != nil {
		// Of an array of xml the elements can be read as texts, as one value can.
		below := nested || t.form == formRange || t.form == formMultirange || t.form == formArray && !t.inner.resolved().builtIn("xml")
		return t.inner.textLoses(below, server)
	}
	for _, f := range t.fields {
		if why := f.typ.textLoses(true, server); why != "" {
			return within(fmt.Sprintf("field %q", f.name), why)
		}
	}
	switch {
	case t.form != formBase:
		return ""
	case t.schema == "pg_catalog" && strings.HasPrefix(t.name, "reg"):
		return t.name + " is the number of an object of this database: it prints a name, which may be ambiguous, and names nothing elsewhere"
	case t.builtIn("aclitem"):
		return "aclitem is made of the numbers of roles: it prints names, which may be gone"
	case unreadable[t.extension][t.name] && (t.extension != "" || t.schema == "pg_catalog"):
		return "the server does not read a value of type " + t.name
	case t.extension == "seg" && t.name == "seg":
		return "seg prints fewer digits than it stores"
	case nested && t.builtIn("xml"):
		return "xml inside another value is printed without its declaration"
	case nested && t.builtIn("char") && server < 150000:
		return `"char" inside another value prints bytes that are no text before PostgreSQL 15`
	}
	return ""
}

// unknown reports whether nothing is known of a type but what the catalog says: it is of an
// extension that internal/test/zoo does not have.
func (t *sqlType) unknown() bool {
	switch t.extension {
	case "citext", "cube", "earthdistance", "hstore", "intarray", "isn", "lo", "ltree", "seg":
		return false
	}
	return t.form == formBase && t.schema != "pg_catalog"
}

// find returns the first type of those that t is made of, itself included, for which is holds.
func (t *sqlType) find(is func(*sqlType) bool) *sqlType {
	if is(t) {
		return t
	}
	if t.inner != nil {
		return t.inner.find(is)
	}
	for _, f := range t.fields {
		if found := f.typ.find(is); found != nil {
			return found
		}
	}
	return nil
}

// output is the SQL of what the server sends of the column, and appendCanonical reads; prefix
// precedes its name. It is the column itself, but for types whose output function loses something:
// of xml the declaration, of "char" what a byte is.
func (c *column) output(prefix string) string {
	name := prefix + quote(c.name)
	switch {
	case c.isBuiltIn("xml") && c.base.array:
		return name + "::text[]"
	case c.isBuiltIn("xml"):
		return name + "::text"
	case c.isBuiltIn("char") && !c.base.array:
		// As PostgreSQL 15 prints it. Earlier ones send the byte itself, which is no UTF-8.
		n := "(" + name + "::int4 + 256)"
		return "CASE WHEN " + name + `::int4 < 0 THEN '\' || (` + n + " >> 6) || (" + n + " >> 3 & 7) || (" + n + " & 7) ELSE " + name + "::text END"
	}
	return name
}

// printed is output as an expression of type text, which a cast need not print (inet).
func (c *column) printed(prefix string) string {
	name := prefix + quote(c.name)
	return "CASE WHEN " + name + " IS DISTINCT FROM NULL THEN pg_catalog.format('%s', " + c.output(prefix) + ") END"
}

// input is the SQL of a value of the column's type, without its length, of the SQL of a text that
// fromCanonical has made.
func (c *column) input(text string) string {
	if c.isBuiltIn("char") && !c.base.array {
		// The cast of 14 and before takes the first byte.
		return "CASE WHEN " + text + ` ~ '^\\[2-3][0-7]{2}$' THEN (get_byte(decode(` + text + `, 'escape'), 0) - 256)::"char" ELSE ` + text + `::"char" END`
	}
	if !c.base.array && c.isBuiltIn("regclass") { // a cast does the same as the type's input function, but knows no 0
		return "pg_catalog.regclassin((" + text + ")::cstring)"
	}
	return text + "::" + c.base.cast
}

// parameter is the SQL of a parameter that is sent as a text that fromCanonical has made. It has the
// column's type, without its length, wherever it stands: the server reads it as the type's input
// function does.
func (c *column) parameter(n int) string {
	if c.isBuiltIn("char") && !c.base.array {
		return c.input("$" + strconv.Itoa(n) + "::text")
	}
	return "$" + strconv.Itoa(n) + "::" + c.base.cast
}

func (c *column) isBuiltIn(name string) bool {
	return c.base.schema == "pg_catalog" && c.base.name == name
}

// present is the SQL of whether the column is not NULL. IS NOT NULL is false for a composite with a
// field that is NULL.
func (c *column) present(prefix string) string {
	return prefix + quote(c.name) + " IS DISTINCT FROM NULL"
}
