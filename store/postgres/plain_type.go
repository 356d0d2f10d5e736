package postgres

import (
	"regexp"
	"strconv"
	"strings"

	"github.com/stranglerfig/migrator/record"
)

// mapped is what a column has to do with the other store's.
type mapped struct {
	plain      string      // its type as SQL prints it, with domains resolved
	enum       bool        // an enum, or an array of one
	conversion *conversion // of a target's column; nil: its texts are legacy's
}

// resolve sets the column's type from the catalog, and what a value's conversion needs of it.
func (c *column) resolve(typ *sqlType) {
	c.typ, c.plain = typ, c.declared
	c.inside = record.InsideText(typ.inside(nil))
	t := typ
	for ; t.form == formDomain; t = t.inner {
		c.notNull = c.notNull || t.notNull
		c.plain = t.based
	}
	c.enum = t.form == formEnum || t.form == formArray && t.inner.form == formEnum
	c.base = typ.base()
	c.format = c.base.format()
}

// plainType is a type as SQL prints it, without domains: numeric(12,2)[].
type plainType struct {
	name  string // numeric
	args  []int  // 12, 2
	array bool
}

var plainForm = regexp.MustCompile(`^([^(]*?)(?:\(([-0-9, ]+)\))?( with(?:out)? time zone)?$`)

func parsePlain(text string) plainType {
	var p plainType
	text, p.array = strings.CutSuffix(text, "[]")
	parts := plainForm.FindStringSubmatch(text)
	if parts == nil {
		p.name = text
		return p
	}
	p.name = parts[1] + parts[3]
	if parts[2] != "" {
		for arg := range strings.SplitSeq(parts[2], ",") {
			n, _ := strconv.Atoi(strings.TrimSpace(arg))
			p.args = append(p.args, n)
		}
	}
	if other, ok := otherNames[p.name]; ok {
		p.name = other
	}
	return p
}

// otherNames are names that SQL does not print, in schemas that are not of a PostgreSQL table.
var otherNames = map[string]string{
	"timestamp": "timestamp without time zone", "timestamptz": "timestamp with time zone",
	"time": "time without time zone", "timetz": "time with time zone",
	"varchar": "character varying", "bpchar": "character", "int2": "smallint", "int4": "integer", "int8": "bigint",
	"float4": "real", "float8": "double precision", "bool": "boolean",
}

// arg returns an argument; -1: there is none.
func (p plainType) arg(i int) int {
	if i < len(p.args) {
		return p.args[i]
	}
	return -1
}

// scale of a numeric; ok is false if it has none of its own.
func (p plainType) scale() (scale int, ok bool) {
	switch {
	case p.name != "numeric" || len(p.args) == 0:
		return 0, false
	case len(p.args) == 1:
		return 0, true
	}
	return p.args[1], true
}

// padded is character(n).
func (p plainType) padded() bool { return p.name == "character" && len(p.args) == 1 }

// baseType is the type without its domains; "" if it has none.
func (c *column) baseType() string {
	if c.plain == c.declared {
		return ""
	}
	return c.plain
}
