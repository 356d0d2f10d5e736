package record

import (
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/cockroachdb/apd/v3"
	"golang.org/x/text/unicode/norm"
)

// leeway is what the rules allow at a path.
type leeway struct {
	tolerance *apd.Decimal
	precision time.Duration
	as        Kind // what texts mean; "": they are texts
	show      bool
}

// differ compares the canonical texts of two values that are not the same bytes; "" when they
// mean the same. It compares JSON and Array as one value each, without rules for their
// members.
func (l leeway) differ(kind Kind, a, b string) DifferenceClass {
	if l.as != "" {
		kind, a, b = l.as, Meant(l.as, a), Meant(l.as, b)
	}
	if a == b {
		return ""
	}
	switch kind {
	case Int:
		return l.number(a, b, false)
	case Decimal:
		return l.number(a, b, equalDecimals(a, b))
	case Float:
		return l.number(a, b, equalFloats(a, b, 64))
	case Float32:
		return l.number(a, b, equalFloats(a, b, 32))
	case Timestamp, TimestampTZ:
		return l.moment(a, b, kind == TimestampTZ)
	case UUID:
		if strings.EqualFold(a, b) {
			return ""
		}
	case JSON, Array:
		found := documents{leeway: l, limit: 1}.compare(a, b, nil)
		if len(found) == 0 {
			return ""
		}
		return found[0].Class
	case Text, Other:
		return textClass(a, b)
	}
	return DifferentValue
}

func (l leeway) number(a, b string, equal bool) DifferenceClass {
	if equal || l.tolerance != nil && within(a, b, l.tolerance) {
		return ""
	}
	return DifferentValue
}

// moment compares instants. A timestamptz without a zone in its text is no instant, so such a
// text is only equal to itself.
func (l leeway) moment(a, b string, zoned bool) DifferenceClass {
	at, aZoned, ok := parseInstant(a)
	bt, bZoned, ok2 := parseInstant(b)
	if !ok || !ok2 || zoned && !(aZoned && bZoned) || at.cut(l.precision) != bt.cut(l.precision) {
		return DifferentValue
	}
	return ""
}

// equalFloats compares what the texts read back to: NaN equals NaN, and -0 equals
// 0, as in SQL.
func equalFloats(s, t string, bits int) bool {
	a, err := strconv.ParseFloat(s, bits)
	if err != nil {
		return false
	}
	b, err := strconv.ParseFloat(t, bits)
	return err == nil && (a == b || math.IsNaN(a) && math.IsNaN(b))
}

func textClass(a, b string) DifferenceClass {
	if norm.NFC.String(a) == norm.NFC.String(b) {
		return DifferentUnicode
	}
	return DifferentValue
}
