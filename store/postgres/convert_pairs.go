package postgres

import (
	"fmt"
	"strings"
	"time"

	"github.com/stranglerfig/migrator/record"
)

// pair is a field's type in legacy and its column's in the target.
type pair struct {
	from, to   record.Kind // of an array: of its elements
	legacy     plainType
	target     plainType
	enum       bool // the target's type is an enum
	as         string
	zone       string
	fieldNames string // as in a rule's path
}

// verdict is what becomes of a pair's values.
type verdict struct {
	fit    fit
	detail string // completes "column ... is of type ..., legacy's ... of type ...: "
	remedy string
}

type fit int

const (
	sameType fit = iota // nothing to say
	lossless            // every value comes back as it was
	partly              // values that the target can't hold are refused one by one; or what is equal may print otherwise
	needsAs             // a person must say what the values mean
	refused
)

func fits(detail string, args ...any) verdict {
	return verdict{fit: partly, detail: fmt.Sprintf(detail, args...)}
}

var (
	keepsAll = verdict{fit: lossless, detail: "converted, and nothing is lost"}
	noWay    = verdict{fit: refused, detail: "there is no conversion that loses nothing"}
)

const oneByOne = "; values that do not fit are refused one by one"

// needs asks for a rule of compare.
func (p *pair) needs(as, what string) verdict {
	return verdict{
		fit: needsAs, detail: what,
		remedy: "compare: [{path: " + p.fieldNames + ", as: " + as + "}] in the migration file, if that is what the values mean; those that are not so are refused one by one",
	}
}

// convert decides on a pair. The conversion is nil where texts stay as they are.
func (p *pair) convert() (*conversion, verdict) {
	json := func(k record.Kind) bool { return k == record.JSON }
	if p.legacy.array != p.target.array || p.legacy.array && json(p.from) != json(p.to) {
		return nil, noWay
	}
	c, v := p.scalar()
	if c != nil && p.target.array {
		c = &conversion{toTarget: eachElement(c.toTarget, p.to), toLegacy: eachElement(c.toLegacy, p.from)}
	}
	return c, v
}

func (p *pair) scalar() (*conversion, verdict) {
	switch {
	case isNumeric(p.from) && isNumeric(p.to):
		return p.numbers()
	case p.from == record.Text && p.to == record.Text:
		return p.texts()
	case p.from == record.Text:
		return p.fromText()
	case p.to == record.Text:
		return p.toText()
	case p.from == record.JSON && p.to == record.JSON:
		return nil, p.documents()
	case p.from == record.Other && p.to == record.Other:
		return p.others()
	case p.from == record.Bool && p.to == record.Int:
		return &conversion{boolToInt, boolFromInt}, keepsAll
	case p.from == record.Int && p.to == record.Bool:
		if p.as != "boolean" {
			return nil, p.needs("boolean", "1 is true and 0 is false; no other number is a boolean")
		}
		return &conversion{intToBool, boolToInt}, fits("1 is true, 0 is false; other numbers are refused one by one")
	case isMoment(p.from) && isMoment(p.to) || p.from == record.Date && isMoment(p.to) || isMoment(p.from) && p.to == record.Date:
		return p.moments()
	case p.from == p.to && p.legacy.name == p.target.name, p.from == p.to && p.from != record.TimeOfDay:
		return nil, p.sameKind()
	}
	return nil, noWay
}

func isNumeric(k record.Kind) bool {
	return k == record.Int || k == record.Decimal || k == record.Float || k == record.Float32
}

func isMoment(k record.Kind) bool { return k == record.Timestamp || k == record.TimestampTZ }

// sameKind is of types that differ in a length or a precision.
func (p *pair) sameKind() verdict {
	switch {
	case p.legacy.name == p.target.name && fmt.Sprint(p.legacy.args) == fmt.Sprint(p.target.args), len(p.target.args) == 0:
		return verdict{}
	case p.to == record.Timestamp || p.to == record.TimestampTZ:
		return fits("the target rounds fractions of a second, and such values differ for good: give the column legacy's type, or compare with a precision")
	default:
		return fits("make sure that all values fit")
	}
}

var intSizes = map[string]int{"smallint": 2, "integer": 4, "bigint": 8}

// digitsOf are the digits that an integer type has at most; 19 where it is not known.
func digitsOf(p plainType) int {
	switch p.name {
	case "smallint":
		return 5
	case "integer":
		return 10
	default:
		return 19
	}
}

const (
	doubleDigits = 15 // a double prints each decimal of so many digits as it was
	realDigits   = 6
)

func (p *pair) numbers() (*conversion, verdict) {
	if p.legacy.name == p.target.name && fmt.Sprint(p.legacy.args) == fmt.Sprint(p.target.args) || p.from == p.to && p.from != record.Decimal && p.from != record.Int {
		return nil, verdict{}
	}
	c := &conversion{numberToTarget(p.to, p.target), numberToLegacy(p.from, p.legacy)}
	stated := p.as == "int" || p.as == "numeric" || p.as == "double"
	scale, scaled := p.legacy.scale()
	toScale, toScaled := p.target.scale()
	switch {
	case p.from == record.Int && p.to == record.Int:
		if from, to := intSizes[p.legacy.name], intSizes[p.target.name]; to != 0 && to < 8 && (from == 0 || from > to) {
			return nil, fits("a smaller type" + oneByOne)
		}
		return nil, keepsAll
	case p.to == record.Float && p.from == record.Float32:
		return c, keepsAll
	case p.to == record.Float || p.to == record.Float32:
		digits := doubleDigits
		if p.to == record.Float32 {
			digits = realDigits
		}
		has := digitsOf(p.legacy)
		if p.from == record.Decimal {
			if has = p.legacy.arg(0); has < 0 || scale < 0 {
				has = 1000
			}
		}
		switch {
		case p.from != record.Float && has <= digits:
			return c, keepsAll
		case stated:
			return c, fits("values of more digits than a floating-point number holds are refused one by one")
		}
		return nil, p.needs("double", fmt.Sprintf("it holds %d digits, legacy's type more", digits))
	case p.to == record.Int:
		switch {
		case p.from == record.Decimal && scaled && scale <= 0 && p.legacy.arg(0) < digitsOf(p.target):
			return c, keepsAll
		case p.from == record.Decimal && scaled && scale <= 0:
			return c, fits("a smaller type" + oneByOne)
		case stated:
			return c, fits("whole numbers alone: others are refused one by one, none is rounded")
		}
		return nil, p.needs("int", "it holds no digits behind the point")
	case p.from == record.Int:
		switch {
		case toScaled && toScale < 0:
			return nil, noWay
		case toScaled && p.target.arg(0)-toScale < digitsOf(p.legacy):
			return c, fits("a smaller type" + oneByOne)
		}
		return c, keepsAll
	case p.from == record.Float || p.from == record.Float32:
		switch {
		case !toScaled:
			return c, keepsAll
		case stated:
			return c, fits("values of more digits behind the point are refused one by one, none is rounded")
		}
		return nil, p.needs("numeric", fmt.Sprintf("it holds %d digits behind the point", max(toScale, 0)))
	}
	switch { // numeric to numeric
	case !toScaled:
		return c, keepsAll
	case !scaled:
		return c, fits("values of more digits are refused one by one, none is rounded; 5.5 comes back as 5.%s, which is equal", "5"+strings.Repeat("0", max(toScale-1, 0)))
	case toScale < scale && !stated:
		return nil, p.needs("numeric", fmt.Sprintf("it holds %d digits behind the point, legacy's type %d", toScale, scale))
	case toScale < scale:
		return c, fits("values of more digits behind the point are refused one by one, none is rounded")
	case p.target.arg(0)-toScale < p.legacy.arg(0)-scale:
		return c, fits("a smaller type" + oneByOne)
	}
	return c, keepsAll
}

func (p *pair) texts() (*conversion, verdict) {
	same := p.legacy.name == p.target.name && p.legacy.arg(0) == p.target.arg(0)
	length := p.target.arg(0)
	blanksBack := change(nil)
	if p.legacy.padded() {
		blanksBack = padTo(p.legacy.arg(0))
	}
	switch {
	case same:
		return nil, verdict{}
	case p.target.padded() && p.legacy.padded():
		c := &conversion{trimBlanks, blanksBack}
		if length < p.legacy.arg(0) {
			return c, fits("a shorter type" + oneByOne)
		}
		return c, keepsAll
	case p.target.padded():
		return &conversion{refuseBlanks, trimBlanks}, fits("the target fills texts up with blanks, which are left out where they are read; texts that end in blanks or are longer are refused one by one")
	case p.target.name == "name":
		return &conversion{maxBytes(nameBytes), blanksBack}, fits("it holds %d bytes; longer texts are refused one by one", nameBytes)
	case p.target.name != "character varying" || length < 0:
		return nil, keepsAll
	case p.legacy.padded():
		if length < p.legacy.arg(0) {
			return &conversion{trimBlanks, blanksBack}, fits("a shorter type" + oneByOne)
		}
		return nil, keepsAll
	case p.legacy.name == "character varying" && p.legacy.arg(0) >= 0 && p.legacy.arg(0) <= length:
		return nil, keepsAll
	default:
		return &conversion{maxChars(length), nil}, fits("it takes %d characters; longer texts are refused one by one", length)
	}
}

// fromText is of texts whose meaning is another type's.
func (p *pair) fromText() (*conversion, verdict) {
	back := "as PostgreSQL prints them: as they were if they are written so already"
	as := func(names string, toTarget change, detail string) (*conversion, verdict) {
		for name := range strings.FieldsSeq(names) {
			if p.as == name {
				return &conversion{toTarget: toTarget}, fits("values come back %s; texts that are no such value are refused one by one", detail)
			}
		}
		return nil, p.needs(strings.Fields(names)[0], "values come back "+detail)
	}
	switch p.to {
	case record.UUID:
		return as("uuid", nil, "in lower case, with hyphens")
	case record.JSON:
		if p.target.name == "json" {
			return nil, fits("it keeps the texts as they are; those that are no JSON are refused one by one")
		}
		return as("json jsonb", nil, "without their blanks, the order of names, and names that come twice")
	case record.Int:
		return as("int numeric", numberToTarget(p.to, p.target), back)
	case record.Decimal:
		return as("numeric int", numberToTarget(p.to, p.target), back)
	case record.Float, record.Float32:
		return as("double", numberToTarget(p.to, p.target), back)
	case record.Bool:
		return as("boolean", textToBool, "as true and false")
	case record.Date:
		return as("date", strictDate, back)
	case record.Timestamp, record.TimestampTZ:
		return as(string(p.to), strictMoment(p.to), "in the form 2024-02-29T12:00:00")
	case record.Other:
		if p.enum {
			return nil, fits("texts that are no label of it are refused one by one")
		}
	}
	return nil, noWay
}

// toText writes the canonical text, which is the one that PostgreSQL prints but for bytes and
// timestamps.
func (p *pair) toText() (*conversion, verdict) {
	c := &conversion{}
	switch p.from {
	case record.Bytes, record.Array:
		return nil, noWay
	case record.Int, record.Decimal, record.Float, record.Float32:
		c.toLegacy = numberToLegacy(p.from, p.legacy)
	case record.Date:
		c.toLegacy = strictDate
	case record.Timestamp, record.TimestampTZ:
		c.toLegacy = strictMoment(p.from)
	}
	length := p.target.arg(0)
	switch {
	case p.target.padded():
		c.toTarget = refuseBlanks
		if c.toLegacy = afterTrim(c.toLegacy); length > 0 {
			return c, fits("it takes %d characters; longer texts are refused one by one", length)
		}
	case p.target.name == "name":
		c.toTarget = maxBytes(nameBytes)
		return c, fits("it holds %d bytes; longer texts are refused one by one", nameBytes)
	case length >= 0:
		c.toTarget = maxChars(length)
		return c, fits("it takes %d characters; longer texts are refused one by one", length)
	}
	return c, keepsAll
}

func afterTrim(next change) change {
	if next == nil {
		return trimBlanks
	}
	return func(dst, text []byte) ([]byte, error) {
		trimmed, _ := trimBlanks(nil, text)
		return next(dst, trimmed)
	}
}

func (p *pair) documents() verdict {
	switch {
	case p.legacy.name == p.target.name:
		return verdict{}
	case p.legacy.name != "json" || p.target.name == "json":
		return keepsAll
	case p.as == "json" || p.as == "jsonb":
		return verdict{fit: lossless, detail: "compared by meaning, as compare says; the texts come back without their blanks, the order of names, and names that come twice"}
	}
	v := fits("the texts come back without their blanks, the order of names, and names that come twice; what jsonb does not hold (U+0000, half of a surrogate pair) is refused one by one")
	v.remedy = "give the column the type json; or, if the meaning alone counts, compare: [{path: " + p.fieldNames + ", as: json}]"
	return v
}

func (p *pair) others() (*conversion, verdict) {
	switch from, to := bareName(p.legacy.name), bareName(p.target.name); {
	case from == to:
		return nil, p.sameKind()
	case from == "cidr" && to == "inet":
		return &conversion{toLegacy: cidrFromInet}, keepsAll
	case from == "inet" && to == "cidr":
		return &conversion{toLegacy: inetFromCidr}, fits("addresses of hosts with a shorter network mask are refused one by one")
	case p.enum:
		return nil, fits("values that are no label of it are refused one by one")
	}
	return nil, noWay
}

// bareName is a type's name without its schema.
func bareName(name string) string {
	return name[strings.LastIndexByte(name, '.')+1:]
}

func (p *pair) moments() (*conversion, verdict) {
	switch {
	case p.from == p.to:
		return nil, p.sameKind()
	case p.from == record.Date && p.to == record.Timestamp:
		return &conversion{dateToTimestamp, timestampToDate}, keepsAll
	case p.from == record.Timestamp && p.to == record.Date:
		if p.as != "date" {
			return nil, p.needs("date", "it holds no time of day")
		}
		return &conversion{timestampToDate, dateToTimestamp}, fits("values with a time of day are refused one by one")
	case p.to == record.Date:
		return nil, noWay
	case p.zone == "":
		v := p.needs("timestamptz, zone: Europe/Berlin", "the time zone of the local times is not known")
		return nil, v
	}
	zone, err := time.LoadLocation(p.zone)
	if err != nil {
		return nil, verdict{fit: refused, detail: "the time zone " + p.zone + " is not known on this machine", remedy: "install its time zones (tzdata)"}
	}
	what := "local times of " + p.zone
	if isUTC(p.zone) {
		what = ""
	}
	there, back := localToInstant(zone), instantToLocal(zone)
	switch p.from {
	case record.Date:
		c := &conversion{both(dateToTimestamp, there), both(back, timestampToDate)}
		return c, ifLocal(what, "; days whose midnight the zone skips are refused one by one")
	case record.Timestamp:
		c := &conversion{there, exactly(back, there)}
		return c, ifLocal(what, "; those that the zone skips are refused one by one, and of those that it has twice the later is meant")
	default:
		return &conversion{back, there}, ifLocal(what, "; instants in the first of the two hours that the zone has twice are refused one by one")
	}
}

func isUTC(zone string) bool { return zone == "UTC" || zone == "Etc/UTC" }

func ifLocal(what, rest string) verdict {
	if what == "" {
		return keepsAll
	}
	return fits("%s", what+rest)
}

func both(first, second change) change {
	return func(dst, text []byte) ([]byte, error) {
		between, err := first(nil, text)
		if err != nil {
			return dst, err
		}
		return second(dst, between)
	}
}

// exactly refuses what the other way would not give back.
func exactly(one, other change) change {
	return func(dst, text []byte) ([]byte, error) {
		changed, err := one(nil, text)
		if err != nil {
			return dst, err
		}
		again, err := other(nil, changed)
		if err != nil || string(again) != string(text) {
			return dst, errTwice
		}
		return append(dst, changed...), nil
	}
}
