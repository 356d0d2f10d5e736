// Package shop is an application with a table of products that takes part in a migration. It
// is the reference for embedding package dual: begin with catalogue.go, which contains all of
// it.
package shop

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/jackc/pgx/v5/pgtype"
)

// Product is one product, as the API returns it; db names the table's columns.
type Product struct {
	ID           int64              `json:"id" db:"id"`
	SKU          string             `json:"sku" db:"sku"`
	Name         string             `json:"name" db:"name"`
	Description  *string            `json:"description" db:"description"`
	Price        string             `json:"price" db:"price"` // exact, with four decimals
	Currency     string             `json:"currency" db:"currency"`
	WeightKg     *float64           `json:"weight_kg" db:"weight_kg"`
	Tags         []string           `json:"tags" db:"tags"`
	Attributes   json.RawMessage    `json:"attributes" db:"attributes"`
	Image        []byte             `json:"image" db:"image"` // null and "" are different
	Discontinued bool               `json:"discontinued" db:"discontinued"`
	CreatedAt    pgtype.Timestamptz `json:"created_at" db:"created_at"` // may be "infinity" or "-infinity"
	UpdatedAt    pgtype.Timestamptz `json:"updated_at" db:"updated_at"`
	// Revision increases with every write of the product. It begins at the microsecond in
	// which the product is created, so a product that is deleted and created again never
	// repeats an old revision.
	Revision int64 `json:"revision" db:"revision"`
}

// ErrInvalid is wrapped by all errors in a client's input.
var ErrInvalid = errors.New("invalid product")

var (
	pricePattern    = regexp.MustCompile(`^-?[0-9]{1,8}(\.[0-9]{1,4})?$`)
	currencyPattern = regexp.MustCompile(`^[A-Z]{3}$`)
)

// normalise converts a client's input to the one form that both stores keep. In phase retain
// no database does that: this function must do what numeric(12,4) would do to a price, or
// timestamptz to a nanosecond.
func (p *Product) normalise() error {
	price, err := normalPrice(p.Price)
	if err != nil {
		return err
	}
	p.Price = price
	if !currencyPattern.MatchString(p.Currency) {
		return fmt.Errorf("%w: currency: want three capital letters", ErrInvalid)
	}
	texts := append([]string{p.SKU, p.Name}, p.Tags...)
	if p.Description != nil {
		texts = append(texts, *p.Description)
	}
	for _, text := range texts {
		if !utf8.ValidString(text) || strings.ContainsRune(text, 0) {
			return fmt.Errorf("%w: texts must be UTF-8 without NUL", ErrInvalid)
		}
	}
	if p.SKU == "" {
		return fmt.Errorf("%w: sku is missing", ErrInvalid)
	}
	if p.Tags == nil {
		p.Tags = []string{}
	}
	if p.Attributes, err = normalAttributes(p.Attributes); err != nil {
		return err
	}
	p.CreatedAt, p.UpdatedAt = normalTime(p.CreatedAt), normalTime(p.UpdatedAt)
	return nil
}

func normalPrice(s string) (string, error) {
	if !pricePattern.MatchString(s) {
		return "", fmt.Errorf("%w: price: want up to eight digits, and four behind the point", ErrInvalid)
	}
	digits, negative := strings.CutPrefix(s, "-")
	whole, part, _ := strings.Cut(digits, ".")
	whole = strings.TrimLeft(whole, "0")
	if whole == "" {
		whole = "0"
	}
	part += strings.Repeat("0", 4-len(part))
	if negative && (whole != "0" || part != "0000") {
		whole = "-" + whole
	}
	return whole + "." + part, nil
}

func normalAttributes(raw json.RawMessage) (json.RawMessage, error) {
	if len(raw) == 0 {
		return json.RawMessage("{}"), nil
	}
	var small bytes.Buffer
	if err := json.Compact(&small, raw); err != nil || !utf8.Valid(raw) || bytes.Contains(raw, []byte(`\u0000`)) {
		return nil, fmt.Errorf("%w: attributes: want JSON without NUL", ErrInvalid)
	}
	return small.Bytes(), nil
}

// normalTime truncates to PostgreSQL's microseconds, in UTC.
func normalTime(t pgtype.Timestamptz) pgtype.Timestamptz {
	if t.InfinityModifier == pgtype.Finite {
		t.Time = t.Time.UTC().Truncate(time.Microsecond)
	}
	return t
}

type timestamp = pgtype.Timestamptz

func now() timestamp {
	return normalTime(pgtype.Timestamptz{Time: time.Now(), Valid: true})
}

// Patch changes some of a product's fields; nil leaves a field unchanged.
type Patch struct {
	Name         *string          `json:"name"`
	Description  *string          `json:"description"`
	Price        *string          `json:"price"`
	WeightKg     *float64         `json:"weight_kg"`
	Tags         *[]string        `json:"tags"`
	Attributes   *json.RawMessage `json:"attributes"`
	Discontinued *bool            `json:"discontinued"`
}

func (p Patch) apply(to Product) Product {
	set(&to.Name, p.Name)
	set(&to.Price, p.Price)
	set(&to.Tags, p.Tags)
	set(&to.Attributes, p.Attributes)
	set(&to.Discontinued, p.Discontinued)
	if p.Description != nil {
		to.Description = p.Description
	}
	if p.WeightKg != nil {
		to.WeightKg = p.WeightKg
	}
	return to
}

func set[T any](to, from *T) {
	if from != nil {
		*to = *from
	}
}

// Reprice sets one product's price.
type Reprice struct {
	ID    int64  `json:"id"`
	Price string `json:"price"`
}
