package postgres

import (
	"context"
	"fmt"
	"math"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/stranglerfig/migrator/record"
	"github.com/stranglerfig/migrator/store"
)

// tableHasher hashes the rows of a table on its server.
type tableHasher struct {
	pool  *pgxpool.Pool
	shape *shape
}

var (
	_ store.Checksummer = (*Legacy)(nil)
	_ store.Checksummer = (*Target)(nil)
	_ store.SpanCutter  = (*Legacy)(nil)
)

// HashForm implements store.Checksummer.
func (l *Legacy) HashForm(ctx context.Context, fields []int) (string, error) {
	return tableHasher{l.pool, l.shape}.form(ctx, fields)
}

// Checksums implements store.Checksummer.
func (l *Legacy) Checksums(ctx context.Context, s store.Span, width int64, h store.Hashing) (map[int64]store.Checksum, error) {
	return tableHasher{l.pool, l.shape}.sums(ctx, s, width, h)
}

// Hashes implements store.Checksummer.
func (l *Legacy) Hashes(ctx context.Context, s store.Span, h store.Hashing) (map[int64]int64, error) {
	return tableHasher{l.pool, l.shape}.hashes(ctx, s, h)
}

// HashForm implements store.Checksummer.
func (t *Target) HashForm(ctx context.Context, fields []int) (string, error) {
	return tableHasher{t.pool, t.shape}.form(ctx, fields)
}

// Checksums implements store.Checksummer.
func (t *Target) Checksums(ctx context.Context, s store.Span, width int64, h store.Hashing) (map[int64]store.Checksum, error) {
	return tableHasher{t.pool, t.shape}.sums(ctx, s, width, h)
}

// Hashes implements store.Checksummer.
func (t *Target) Hashes(ctx context.Context, s store.Span, h store.Hashing) (map[int64]int64, error) {
	return tableHasher{t.pool, t.shape}.hashes(ctx, s, h)
}

// keyColumn returns the key's column, if it is one integer column.
func (s *shape) keyColumn() (*column, bool) {
	if len(s.key) != 1 {
		return nil, false
	}
	c := s.columns[s.key[0]]
	return c, c.format.kind == record.Int
}

// form describes what the texts and hashes of two servers must have in common: the
// encoding, the results of the hash functions, and each column's kind.
func (h tableHasher) form(ctx context.Context, fields []int) (string, error) {
	if _, ok := h.shape.keyColumn(); !ok {
		return "", nil
	}
	var encoding, probe string
	err := h.pool.QueryRow(ctx, `SELECT current_setting('server_encoding'), concat_ws(' ', hashtextextended('migrator', 1), hashint4extended(-2, 3),
		hashfloat8extended(0.5, 4), uuid_hash_extended('00112233-4455-6677-8899-aabbccddeeff', 5))`).Scan(&encoding, &probe)
	if err != nil {
		return "", fmt.Errorf("read how the server hashes: %w", err)
	}
	form := []string{encoding, probe}
	for _, i := range fields {
		form = append(form, h.shape.columns[i].hashForm())
	}
	return strings.Join(form, "\n"), nil
}

// hashForm describes the column's texts, which must mean the same on both sides. The
// text of a decimal depends on its scale.
func (c *column) hashForm() string {
	if c.conversion != nil {
		return "converted" // no server hashes it as the other does
	}
	form := string(c.format.kind) + " " + string(c.format.element)
	switch {
	case c.base.array:
		return form + " " + c.base.name + " " + string(c.base.delimiter)
	case c.format.kind == record.Decimal, c.format.kind == record.Other, c.format.kind == record.JSON:
		return form + " " + c.declared
	default:
		return form
	}
}

// hashOf is the SQL of one column's hash. PostgreSQL's own hash of a row, and of some
// types, is not sufficient: it ignores the sign of numbers and the nesting of jsonb,
// and folds 64-bit integers and timestamps to 32 bits. seed is an expression of the
// row's key, so that the sum of the hashes changes if two rows exchange a value.
func (c *column) hashOf(name, seed string) string {
	text := func(t string) string { return "hashtextextended(" + t + ` COLLATE "C", ` + seed + ")" }
	printed := text(c.printed("t."))
	if c.base.array || c.base.schema != "pg_catalog" {
		return printed
	}
	switch c.base.name {
	case "bool":
		return "hashint4extended(" + name + "::int4, " + seed + ")"
	case "int2", "int4", "int8":
		return wideHash(name+"::int8", seed)
	case "float4", "float8":
		return "hashfloat8extended(" + name + "::float8, " + seed + ")"
	case "uuid":
		return "uuid_hash_extended(" + name + ", " + seed + ")"
	case "text", "varchar", "name", "json", "jsonb", "numeric", "date", "timestamp", "timestamptz", "bytea":
		return text(name + "::text")
	default:
		return printed
	}
}

// wideHash hashes both halves of a 64-bit integer.
func wideHash(name, seed string) string {
	return "hashint4extended((" + name + " >> 32)::int4, " + seed + ") # hashint4extended(((" + name + " << 32) >> 32)::int4, " + seed + " # 1)"
}

// rowHash is the SQL of a row's hash. It appends the seeds to the statement's
// arguments, so that one plan serves for all seeds.
func (h tableHasher) rowHash(of store.Hashing, args *[]any) string {
	param := func(seed int64) string {
		*args = append(*args, seed)
		return "$" + strconv.Itoa(len(*args)) + "::int8"
	}
	key, _ := h.shape.keyColumn()
	name := "t." + quote(key.name) + "::int8"
	terms := []string{wideHash(name, param(of.Seed))}
	for _, i := range of.Fields {
		c := h.shape.columns[i]
		if c == key {
			continue
		}
		seed := "(" + name + " # " + param(mix(of.Seed, i)) + ")"
		// A column of a domain that is NOT NULL may contain NULL nevertheless. The hash of a
		// float's zero is the seed itself.
		terms = append(terms, "coalesce("+c.hashOf("t."+quote(c.name), seed)+", ~ "+seed+")")
	}
	return strings.Join(terms, " # ")
}

// mix derives a seed for each field, with the lowest bit clear.
func mix(seed int64, field int) int64 {
	x := uint64(seed) + uint64(field+1)*0x9E3779B97F4A7C15
	x = (x ^ x>>30) * 0xBF58476D1CE4E5B9
	x = (x ^ x>>27) * 0x94D049BB133111EB
	return int64(x &^ 1)
}

// sums reads the key's index part by part: GROUP BY would cost as much as the hash of
// one column.
func (h tableHasher) sums(ctx context.Context, s store.Span, width int64, of store.Hashing) (map[int64]store.Checksum, error) {
	key, _ := h.shape.keyColumn()
	name := "t." + quote(key.name)
	args := []any{s.From, s.To}
	hash := h.rowHash(of, &args)
	table := h.shape.name.Sanitize() + " t WHERE " + name + " >= "
	sql := "SELECT 0::int8, count(*), sum(" + hash + ")::text FROM " + table + "$1::int8 AND " + name + " <= $2::int8"
	if width > 0 {
		args = append(args, width)
		n := "$" + strconv.Itoa(len(args)) + "::int8"
		sql = "SELECT p.at, s.* FROM generate_series(0, ($2::int8 - $1::int8) / " + n + ") AS p(at) CROSS JOIN LATERAL (SELECT count(*), sum(" + hash + ")::text FROM " +
			table + "$1::int8 + p.at * " + n + " AND " + name + " <= least($2::int8 - p.at * " + n + " - $1::int8, " + n + " - 1) + $1::int8 + p.at * " + n + ") AS s"
	}
	rows, err := h.pool.Query(ctx, sql, args...)
	if err != nil {
		return nil, h.failed(err)
	}
	sums := map[int64]store.Checksum{}
	var at, n int64
	var sum *string
	if _, err = pgx.ForEachRow(rows, []any{&at, &n, &sum}, func() error {
		if sum != nil {
			sums[at] = store.Checksum{Rows: n, Hash: *sum}
		}
		return nil
	}); err != nil {
		return nil, h.failed(err)
	}
	return sums, nil
}

func (h tableHasher) hashes(ctx context.Context, s store.Span, of store.Hashing) (map[int64]int64, error) {
	key, _ := h.shape.keyColumn()
	name := "t." + quote(key.name)
	args := []any{s.From, s.To}
	hash := h.rowHash(of, &args)
	rows, err := h.pool.Query(ctx, "SELECT "+name+"::int8, "+hash+" FROM "+h.shape.name.Sanitize()+
		" t WHERE "+name+" >= $1::int8 AND "+name+" <= $2::int8", args...)
	if err != nil {
		return nil, h.failed(err)
	}
	hashes := map[int64]int64{}
	var at, sum int64
	if _, err = pgx.ForEachRow(rows, []any{&at, &sum}, func() error {
		hashes[at] = sum
		return nil
	}); err != nil {
		return nil, h.failed(err)
	}
	return hashes, nil
}

func (h tableHasher) failed(err error) error {
	return fmt.Errorf("hash the rows of %s: %w", showTable(h.shape.name), withoutValue(err))
}

// Spans implements store.SpanCutter: it walks the key's index.
func (l *Legacy) Spans(ctx context.Context, rows int) ([]store.Chunk, bool, error) {
	key, ok := l.shape.keyColumn()
	if !ok {
		return nil, false, nil
	}
	name, table := quote(key.name), l.shape.name.Sanitize()
	var chunks []store.Chunk
	from := int64(math.MinInt64)
	add := func(to, rows int64) error {
		c, err := store.MakeChunk(rows, part{Keys: &store.Span{From: from, To: to}})
		chunks, from = append(chunks, c), to+1
		return err
	}
	for {
		var last *int64
		var n int64
		err := l.pool.QueryRow(ctx, "SELECT max("+name+")::int8, count(*) FROM (SELECT "+name+" FROM "+table+" WHERE "+name+" >= $1::int8 ORDER BY "+name+" LIMIT $2) AS next",
			from, max(rows, 1)).Scan(&last, &n)
		if err != nil {
			return nil, false, fmt.Errorf("cut legacy table %s by its key: %w", l.table(), err)
		}
		if last == nil || n < int64(rows) || *last == math.MaxInt64 {
			err := add(math.MaxInt64, n)
			return chunks, true, err
		}
		if err := add(*last, n); err != nil {
			return nil, false, err
		}
	}
}

// SpanOf implements store.SpanCutter.
func (l *Legacy) SpanOf(c store.Chunk) (store.Span, bool) {
	var p part
	if err := c.Part(&p); err != nil || p.Keys == nil {
		return store.Span{}, false
	}
	return *p.Keys, true
}
