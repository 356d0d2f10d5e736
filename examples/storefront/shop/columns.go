package shop

import (
	"encoding/json"
	"errors"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgtype"

	"github.com/stranglerfig/migrator/dual"
	"github.com/stranglerfig/migrator/record"
)

// columns returns how a product is written to the target and read from it. The texts must be
// those that the migration's own backfill writes (record.Kind); otherwise every product that
// the application writes is a difference.
func columns() []dual.Column[Product] {
	return []dual.Column[Product]{
		column("id", func(p *Product) *int64 { return &p.ID }, integer),
		column("sku", func(p *Product) *string { return &p.SKU }, text),
		column("name", func(p *Product) *string { return &p.Name }, text),
		column("description", func(p *Product) **string { return &p.Description }, nullable(text)),
		column("price", func(p *Product) *string { return &p.Price }, text),
		column("currency", func(p *Product) *string { return &p.Currency }, text),
		column("weight_kg", func(p *Product) **float64 { return &p.WeightKg }, nullable(float)),
		column("tags", func(p *Product) *[]string { return &p.Tags }, texts),
		column("attributes", func(p *Product) *json.RawMessage { return &p.Attributes }, document),
		column("image", func(p *Product) *[]byte { return &p.Image }, octets),
		column("discontinued", func(p *Product) *bool { return &p.Discontinued }, boolean),
		column("created_at", func(p *Product) *pgtype.Timestamptz { return &p.CreatedAt }, instant),
		column("updated_at", func(p *Product) *pgtype.Timestamptz { return &p.UpdatedAt }, instant),
		column("revision", func(p *Product) *int64 { return &p.Revision }, integer),
	}
}

func keyOf(id int64) record.Key { return record.MakeKey(strconv.FormatInt(id, 10)) }

// kind writes and reads one type of field.
type kind[T any] struct {
	write func(T) record.Value
	read  func(record.Value) (T, error)
}

var errAbsent = errors.New("the target has no value")

func column[T any](name string, at func(*Product) *T, k kind[T]) dual.Column[Product] {
	return dual.Column[Product]{
		Name: name,
		Get:  func(p *Product) record.Value { return k.write(*at(p)) },
		Set: func(p *Product, v record.Value) (err error) {
			*at(p), err = k.read(v)
			return err
		},
	}
}

// plain returns a kind that is never NULL.
func plain[T any](write func(T) string, read func(string) (T, error)) kind[T] {
	return kind[T]{
		write: func(t T) record.Value { return record.TextValue(write(t)) },
		read: func(v record.Value) (t T, err error) {
			if v.State != record.Present {
				return t, errAbsent
			}
			return read(v.Text)
		},
	}
}

func nullable[T any](k kind[T]) kind[*T] {
	return kind[*T]{
		write: func(t *T) record.Value {
			if t == nil {
				return record.NullValue
			}
			return k.write(*t)
		},
		read: func(v record.Value) (*T, error) {
			if v.State == record.Null {
				return nil, nil
			}
			t, err := k.read(v)
			return &t, err
		},
	}
}

var (
	text    = plain(func(s string) string { return s }, func(s string) (string, error) { return s, nil })
	boolean = plain(strconv.FormatBool, strconv.ParseBool)
	integer = plain(
		func(n int64) string { return strconv.FormatInt(n, 10) },
		func(s string) (int64, error) { return strconv.ParseInt(s, 10, 64) })
	float = plain(
		func(f float64) string { return strconv.FormatFloat(f, 'g', -1, 64) },
		func(s string) (float64, error) { return strconv.ParseFloat(s, 64) })
	document = plain(
		func(m json.RawMessage) string { return string(m) },
		func(s string) (json.RawMessage, error) { return json.RawMessage(s), nil })
	texts = plain(
		func(list []string) string {
			raw, _ := json.Marshal(list) // strings always marshal
			return string(raw)
		},
		func(s string) (list []string, err error) {
			err = json.Unmarshal([]byte(s), &list)
			return list, err
		})
	instant = plain(formatInstant, parseInstant)
	octets  = kind[[]byte]{
		write: func(b []byte) record.Value {
			if b == nil {
				return record.NullValue
			}
			return record.TextValue(string(b))
		},
		read: func(v record.Value) ([]byte, error) {
			switch v.State {
			case record.Null:
				return nil, nil
			case record.Missing:
				return nil, errAbsent
			default:
				return append([]byte{}, v.Text...), nil
			}
		},
	}
)

// instantLayout prints microseconds without trailing zeros, and Z.
const instantLayout = "2006-01-02T15:04:05.999999Z07:00"

func formatInstant(t pgtype.Timestamptz) string {
	if t.InfinityModifier != pgtype.Finite {
		return t.InfinityModifier.String() // infinity, -infinity
	}
	at := t.Time.UTC()
	if at.Year() <= 0 {
		return mirrorYear(at).Format(instantLayout) + " BC"
	}
	return at.Format(instantLayout)
}

func parseInstant(s string) (pgtype.Timestamptz, error) {
	switch s {
	case "infinity":
		return pgtype.Timestamptz{InfinityModifier: pgtype.Infinity, Valid: true}, nil
	case "-infinity":
		return pgtype.Timestamptz{InfinityModifier: pgtype.NegativeInfinity, Valid: true}, nil
	}
	s, bc := strings.CutSuffix(s, " BC")
	at, err := time.Parse(instantLayout, s)
	if err != nil {
		return pgtype.Timestamptz{}, errors.New("it is no instant") // time's own error contains the value
	}
	if bc {
		at = mirrorYear(at)
	}
	return normalTime(pgtype.Timestamptz{Time: at, Valid: true}), nil
}

// mirrorYear converts between the year 0 and 1 BC: there was no year 0.
func mirrorYear(t time.Time) time.Time {
	return time.Date(1-t.Year(), t.Month(), t.Day(), t.Hour(), t.Minute(), t.Second(), t.Nanosecond(), time.UTC)
}
