package shop

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/jackc/pgx/v5/pgxpool"
)

// SeedRevision is the revision of every product that Seed makes.
const SeedRevision = 1

// Seed creates the table and fills it with products 1 to n, as irregular as those of a
// ten-year-old shop. The same n gives the same products.
func Seed(ctx context.Context, pool *pgxpool.Pool, n int) error {
	if _, err := pool.Exec(ctx, Schema); err != nil {
		return fmt.Errorf("create the table of products: %w", err)
	}
	random := rand.New(rand.NewPCG(1, uint64(n)))
	columns := []string{
		"id", "sku", "name", "description", "price", "currency", "weight_kg", "tags", "attributes", "image",
		"discontinued", "created_at", "updated_at", "revision",
	}
	made := 0
	_, err := pool.CopyFrom(ctx, pgx.Identifier{"products"}, columns, pgx.CopyFromFunc(func() ([]any, error) {
		if made == n {
			return nil, nil
		}
		made++
		p := Random(random, int64(made))
		p.Revision = SeedRevision
		values := p.values()
		price := pgtype.Numeric{}
		if err := price.Scan(p.Price); err != nil {
			return nil, err
		}
		values[4] = price
		return values, nil
	}))
	if err != nil {
		return fmt.Errorf("fill the table of products: %w", err)
	}
	_, err = pool.Exec(ctx, "ANALYZE products")
	return err
}

// Random returns a random product.
func Random(r *rand.Rand, id int64) Product {
	p := Product{
		ID: id, SKU: fmt.Sprintf("%s-%06d", pick(r, "AB", "zz", "Ü", "N/A", "00", "sku with space"), id),
		Name: randomName(r), Price: randomPrice(r), Currency: pick(r, "EUR", "USD", "JPY", "CHF", "XXX"),
		Tags: randomTags(r), Attributes: []byte(randomAttributes(r, 3)), Discontinued: r.IntN(12) == 0,
		CreatedAt: randomTime(r), UpdatedAt: randomTime(r),
	}
	switch r.IntN(4) {
	case 0: // NULL
	case 1:
		p.Description = new(string) // empty, which is not NULL
	default:
		text := strings.Repeat(randomName(r)+". ", 1+r.IntN(6))
		p.Description = &text
	}
	if weight := randomWeight(r); r.IntN(3) > 0 {
		p.WeightKg = &weight
	}
	switch r.IntN(5) {
	case 0:
		p.Image = []byte{}
	case 1:
		p.Image = make([]byte, 1+r.IntN(64))
		for i := range p.Image {
			p.Image[i] = byte(r.Uint32())
		}
	}
	_ = p.normalise() // valid by construction, which a test checks
	return p
}

func pick[T any](r *rand.Rand, from ...T) T { return from[r.IntN(len(from))] }

func randomName(r *rand.Rand) string {
	return strings.TrimPrefix(pick(r, "", "Großer ", "Petit ", "超级 ", "  two  spaces ", "\t")+
		pick(r, "Kettle", "Crème brûlée torch", "Cre\u0300me", "扫地机器人", "كرسي", "Кофеварка", `12" ruler`, "O'Reilly book", `C:\temp`, "50 % off", "👩‍👩‍👧‍👦 puzzle", "𝕱ancy", "", "line\nbreak", "a,b{c}")+
		pick(r, "", " XL", " 🚲", " — new", "\u00a0", " ™", "\u200b"), "\t")
}

func randomPrice(r *rand.Rand) string {
	switch r.IntN(20) {
	case 0:
		return "0"
	case 1:
		return "99999999.9999" // the maximum of numeric(12,4)
	case 2:
		return "-0.0001" // a refund that was entered as a product
	default:
		return fmt.Sprintf("%d.%0*d", r.IntN(5000), 1+r.IntN(4), r.IntN(10))
	}
}

func randomWeight(r *rand.Rand) float64 {
	return pick(r, 0, 0.1, 1.0/3, math.SmallestNonzeroFloat64, math.MaxFloat64, 1e-7, 123456789.125, r.Float64(), r.Float64()*100, r.Float64())
}

func randomTags(r *rand.Rand) []string {
	tags := make([]string, r.IntN(5))
	for i := range tags {
		tags[i] = pick(r, "sale", "new", "", "NULL", `quo"te`, "com,ma", "{brace}", "bäck\\slash", "🎁", " space ")
	}
	return tags
}

func randomAttributes(r *rand.Rand, depth int) string {
	if depth == 0 {
		return pick(r, "null", "true", "0", "-1.50", "9007199254740993", "0.1", `""`, `"é"`, `"e\u0301"`, `"\"\\/\n"`, `"🦊"`, "[]", "{}")
	}
	if depth < 3 && r.IntN(3) == 0 {
		items := make([]string, r.IntN(4))
		for i := range items {
			items[i] = randomAttributes(r, depth-1)
		}
		return "[" + strings.Join(items, ",") + "]"
	}
	members := make([]string, 0, 4)
	for _, name := range []string{"colour", "größe", "a/b~c", "specs", "", "尺寸"} {
		if r.IntN(3) == 0 {
			members = append(members, fmt.Sprintf("%q:%s", name, randomAttributes(r, depth-1)))
		}
	}
	return "{" + strings.Join(members, ",") + "}"
}

func randomTime(r *rand.Rand) pgtype.Timestamptz {
	switch r.IntN(30) {
	case 0:
		return pgtype.Timestamptz{InfinityModifier: pgtype.Infinity, Valid: true}
	case 1:
		return pgtype.Timestamptz{InfinityModifier: pgtype.NegativeInfinity, Valid: true}
	case 2:
		return pgtype.Timestamptz{Time: time.Date(9999, 12, 31, 23, 59, 59, 999999000, time.UTC), Valid: true}
	case 3:
		return pgtype.Timestamptz{Time: time.Date(1970, 1, 1, 0, 0, 0, 0, time.UTC), Valid: true}
	default:
		return pgtype.Timestamptz{Time: time.UnixMicro(1262304000000000 + r.Int64N(500000000000000)), Valid: true}
	}
}
