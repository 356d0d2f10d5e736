package postgres

import (
	"context"
	"fmt"
	"math"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/stranglerfig/migrator/record"
	"github.com/stranglerfig/migrator/store"
)

// leaf is a relation that holds rows: the table itself, or a partition of partitions.
type leaf struct {
	name   pgx.Identifier
	oid    uint32
	file   uint32
	blocks int64
	rows   float64 // of the last VACUUM or ANALYZE; -1 or 0: unknown
	pages  int64   // then
}

// leaves lists the relations that hold the table's rows.
func (s *shape) leaves(ctx context.Context, db querier) ([]leaf, error) {
	rows, err := db.Query(ctx, `
		SELECT n.nspname, c.relname, c.oid, coalesce(pg_relation_filenode(c.oid), 0), c.relkind::text,
		       pg_relation_size(c.oid) / current_setting('block_size')::int8, c.reltuples::float8, c.relpages::int8
		FROM (SELECT relid::oid AS oid FROM pg_partition_tree($1::oid::regclass) WHERE isleaf
		      UNION SELECT $1::oid WHERE NOT $2) AS tree
		JOIN pg_class c ON c.oid = tree.oid JOIN pg_namespace n ON n.oid = c.relnamespace
		WHERE c.relkind <> 'p'
		ORDER BY c.oid`, s.oid, s.partitioned)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (leaf, error) {
		l := leaf{name: make(pgx.Identifier, 2)}
		var kind string
		err := row.Scan(&l.name[0], &l.name[1], &l.oid, &l.file, &kind, &l.blocks, &l.rows, &l.pages)
		if err == nil && kind != "r" {
			err = fmt.Errorf("partition %s is not a table (relkind %s): it has no blocks to read", showTable(l.name), kind)
		}
		return l, err
	})
}

// Chunks implements store.Legacy. The last chunk of every relation has no end, also
// that of an empty relation: rows may be added later.
func (l *Legacy) Chunks(ctx context.Context, rows int) ([]store.Chunk, error) {
	leaves, err := l.shape.leaves(ctx, l.pool)
	if err != nil {
		return nil, fmt.Errorf("cut legacy table %s into chunks: %w", l.table(), err)
	}
	var chunks []store.Chunk
	for _, leaf := range leaves {
		perBlock, err := l.rowsPerBlock(ctx, leaf)
		if err != nil {
			return nil, fmt.Errorf("cut legacy table %s into chunks: %w", l.table(), err)
		}
		parts, err := cut(leaf, perBlock, rows)
		if err != nil {
			return nil, err
		}
		chunks = append(chunks, parts...)
	}
	return chunks, nil
}

// maxBlock ends the last chunk of a relation, which also takes rows appended later.
const maxBlock = 0xFFFFFFFE

// part is what a chunk is a part of: a range of blocks of one relation, or of keys of
// the whole table. Its JSON is stored in state databases.
type part struct {
	Relation string      `json:"relation"`       // the table or the leaf partition, quoted, with its schema
	File     uint32      `json:"file"`           // its storage; another number means that the rows have been rewritten
	From     uint32      `json:"from"`           // first block
	To       uint32      `json:"to"`             // first block after; the last chunk of a relation has no end (maxBlock)
	Blocks   uint32      `json:"blocks"`         // the number of blocks when it was cut, which the last chunk's end does not give
	Keys     *store.Span `json:"keys,omitempty"` // set alone, without the other fields
}

func cut(leaf leaf, perBlock float64, rows int) ([]store.Chunk, error) {
	step := uint32(max(1, min(math.Floor(float64(max(rows, 1))/perBlock), maxBlock)))
	total := uint32(min(leaf.blocks, maxBlock))
	var chunks []store.Chunk
	for from := uint32(0); ; from += step {
		p := part{Relation: leaf.name.Sanitize(), File: leaf.file, From: from, To: maxBlock, Blocks: total - from}
		last := uint64(from)+uint64(step) >= uint64(total)
		if !last {
			p.To, p.Blocks = from+step, step
		}
		c, err := store.MakeChunk(int64(math.Round(float64(p.Blocks)*perBlock)), p)
		if err != nil {
			return nil, err
		}
		chunks = append(chunks, c)
		if last {
			return chunks, nil
		}
	}
}

// Locate implements store.ChunkLocator: blocks of the relation.
func (l *Legacy) Locate(c store.Chunk) (store.Extent, error) {
	var p part
	if err := c.Part(&p); err != nil {
		return store.Extent{}, err
	}
	return store.Extent{Space: p.Relation, Generation: int64(p.File), From: int64(p.From), To: int64(p.From) + int64(p.Blocks)}, nil
}

// probeBlocks is how many blocks are counted if the table was never analysed.
const probeBlocks = 64

// rowsPerBlock estimates the density of a relation.
func (l *Legacy) rowsPerBlock(ctx context.Context, leaf leaf) (float64, error) {
	if leaf.rows > 0 && leaf.pages > 0 {
		return leaf.rows / float64(leaf.pages), nil
	}
	blocks := min(leaf.blocks, probeBlocks)
	if blocks == 0 {
		return 1, nil
	}
	var n int64
	err := l.pool.QueryRow(ctx, "SELECT count(*) FROM ONLY "+leaf.name.Sanitize()+" WHERE ctid < $1::text::tid", tid(uint32(blocks))).Scan(&n)
	return max(float64(n)/float64(blocks), 0.01), err
}

func tid(block uint32) string { return fmt.Sprintf("(%d,0)", block) }

// Scan implements store.Legacy: one statement, so one snapshot. It locks the relation
// first, so that the storage can't be replaced between the check of the file's number
// and the read.
func (l *Legacy) Scan(ctx context.Context, c store.Chunk, yield func(store.Row) error) error {
	return l.inChunk(ctx, c, func(tx pgx.Tx, relation pgx.Identifier, p part) error {
		return l.scan(ctx, tx, relation, p, yield)
	})
}

func (l *Legacy) inChunk(ctx context.Context, c store.Chunk, read func(tx pgx.Tx, relation pgx.Identifier, p part) error) error {
	var p part
	if err := c.Part(&p); err != nil {
		return fmt.Errorf("chunk of legacy table %s: %w (%w)", l.table(), store.ErrMoved, err)
	}
	relation, err := parseTable(p.Relation)
	if err != nil {
		return fmt.Errorf("chunk of legacy table %s: %w (%w)", l.table(), store.ErrMoved, err)
	}
	err = inTx(ctx, l.pool, pgx.ReadOnly, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, "LOCK TABLE ONLY "+relation.Sanitize()+" IN ACCESS SHARE MODE"); err != nil {
			if hasState(err, stateUndefinedTable, stateNoSchema) {
				return store.ErrMoved
			}
			return err
		}
		var file uint32
		if err := tx.QueryRow(ctx, "SELECT coalesce(pg_relation_filenode($1::text::regclass), 0)", relation.Sanitize()).Scan(&file); err != nil {
			return err
		}
		// [backfill-moved]: rewritten storage has other rows in these blocks; some would never be read.
		if file != p.File {
			return store.ErrMoved
		}
		return read(tx, relation, p)
	})
	if refusedValue(err) {
		err = l.blame(ctx, relation, p, err)
	}
	if err != nil {
		return fmt.Errorf("read blocks %d to %d of %s: %w", p.From, p.To, showTable(relation), err)
	}
	return nil
}

// blame names the first record of a chunk that the server can't print, such as one with a text that
// is not UTF-8 in a database whose encoding is SQL_ASCII.
func (l *Legacy) blame(ctx context.Context, relation pgx.Identifier, p part, refused error) error {
	names := make([]string, len(l.shape.key))
	for n, i := range l.shape.key {
		names[n] = "t." + quote(l.shape.columns[i].name)
	}
	rows, err := l.pool.Query(ctx, "SELECT "+strings.Join(names, ", ")+" FROM ONLY "+relation.Sanitize()+" t WHERE t.ctid >= $1::text::tid AND t.ctid < $2::text::tid",
		textResults, tid(p.From), tid(p.To))
	if err != nil {
		return withoutValue(refused)
	}
	defer rows.Close()
	var keys []record.Key
	for rows.Next() {
		key, err := l.shape.keyOf(rows.RawValues())
		if err != nil {
			return withoutValue(refused)
		}
		keys = append(keys, record.Key(strings.Clone(string(key))))
	}
	if rows.Err() != nil { // it is in a key
		return withoutValue(refused)
	}
	if _, err := l.Lookup(ctx, keys); err != nil {
		return err
	}
	return withoutValue(refused)
}

func (l *Legacy) scan(ctx context.Context, tx pgx.Tx, relation pgx.Identifier, p part, yield func(store.Row) error) error {
	sql := "SELECT " + l.shape.list("t.") + " FROM ONLY " + relation.Sanitize() +
		" t WHERE t.ctid >= $1::text::tid AND t.ctid < $2::text::tid"
	rows, err := tx.Query(ctx, sql, textResults, tid(p.From), tid(p.To))
	if err != nil {
		return err
	}
	defer rows.Close()
	d := l.shape.decoder()
	for rows.Next() {
		row, err := d.row(rows.RawValues())
		if err != nil {
			return err
		}
		row.Key = record.Key(strings.Clone(string(row.Key))) // callers keep keys
		if err := yield(row); err != nil {
			return err
		}
	}
	return rows.Err()
}
