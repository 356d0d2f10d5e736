package postgres

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/stranglerfig/migrator/record"
	"github.com/stranglerfig/migrator/store"
)

var _ store.BlockScanner = (*Legacy)(nil)

// ScanBlocks implements store.BlockScanner: it reads the chunk by COPY in binary form,
// and renders the canonical texts in this process. Only types whose binary form is
// their text, or is cheap to render, are sent in binary form; for all others the
// server prints the text, as it does for Scan.
func (l *Legacy) ScanBlocks(ctx context.Context, c store.Chunk, rows int, next func() *record.Block, yield func(*record.Block) error) error {
	return l.inChunk(ctx, c, func(tx pgx.Tx, relation pgx.Identifier, p part) error {
		in := &blockReader{columns: l.shape.columns, renders: make([]render, len(l.shape.columns)), rows: rows, next: next, yield: yield}
		list := make([]string, len(l.shape.columns))
		for i, column := range l.shape.columns {
			list[i], in.renders[i] = column.binary("t.")
		}
		in.block = in.fresh()
		sql := fmt.Sprintf("COPY (SELECT %s FROM ONLY %s t WHERE t.ctid >= '%s'::tid AND t.ctid < '%s'::tid) TO STDOUT (FORMAT binary)",
			strings.Join(list, ", "), relation.Sanitize(), tid(p.From), tid(p.To))
		pg := tx.Conn().PgConn()
		setReadLowWater(pg.Conn(), true)
		defer setReadLowWater(pg.Conn(), false)
		if _, err := pg.CopyTo(ctx, in, sql); err != nil {
			return errors.Join(in.failed, err)
		}
		if in.block.Rows() == 0 {
			return nil
		}
		return yield(in.block)
	})
}

// blockReader parses the server's stream: each Write has one row, the first also has
// the header.
type blockReader struct {
	columns []*column
	renders []render
	rows    int // of a block
	next    func() *record.Block
	yield   func(*record.Block) error
	block   *record.Block
	began   bool
	failed  error // the error that Write returned, in case the connection's own error hides it
}

func (r *blockReader) fresh() *record.Block {
	b := r.next()
	b.Reset(len(r.columns))
	return b
}

var (
	copySignature = []byte("PGCOPY\n\xff\r\n\x00")
	errCopy       = errors.New("the server's COPY has an unknown format")
)

func (r *blockReader) Write(p []byte) (int, error) {
	n := len(p)
	if !r.began {
		r.began = true
		if len(p) < len(copySignature)+8 || string(p[:len(copySignature)]) != string(copySignature) {
			return 0, r.fail(errCopy)
		}
		extension := binary.BigEndian.Uint32(p[len(copySignature)+4:])
		if p = p[len(copySignature)+8:]; uint64(extension) > uint64(len(p)) {
			return 0, r.fail(errCopy)
		}
		p = p[extension:]
	}
	for len(p) > 0 {
		rest, err := r.row(p)
		if err != nil {
			return 0, r.fail(err)
		}
		p = rest
	}
	return n, nil
}

func (r *blockReader) fail(err error) error {
	r.failed = err
	return err
}

func (r *blockReader) row(p []byte) ([]byte, error) {
	if len(p) < 2 {
		return nil, errCopy
	}
	count := int16(binary.BigEndian.Uint16(p)) // -1 ends the stream
	p = p[2:]
	if count == -1 {
		return nil, nil
	}
	if int(count) != len(r.renders) {
		return nil, errCopy
	}
	for i, render := range r.renders {
		if len(p) < 4 {
			return nil, errCopy
		}
		size := int32(binary.BigEndian.Uint32(p)) // -1 is NULL
		p = p[4:]
		if size == -1 {
			r.block.AddNull()
			continue
		}
		if size < 0 || int(size) > len(p) {
			return nil, errCopy
		}
		text, err := render(r.block.Buffer(), p[:size])
		if err != nil {
			c := r.columns[i]
			return nil, fmt.Errorf("column %q (%s): %w", c.name, c.declared, err)
		}
		r.block.Add(text)
		p = p[size:]
	}
	if r.block.Rows() < r.rows && r.block.Bytes() < blockBytes {
		return p, nil
	}
	if err := r.yield(r.block); err != nil {
		return nil, err
	}
	r.block = r.fresh()
	return p, nil
}

// blockBytes is the size at which a block is full, even with fewer rows.
const blockBytes = 1 << 20
