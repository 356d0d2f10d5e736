package postgres

import (
	"context"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

// pipeline is a list of statements that reach the server in one round trip.
// Parameters and results are texts; the server infers the parameters' types. After an
// error no later statement runs.
type pipeline struct {
	batch pgconn.Batch
	read  []func(values [][]byte) error // of each statement; nil if it returns nothing
}

func newPipeline(begin string) *pipeline {
	p := &pipeline{}
	p.add(nil, begin)
	return p
}

// add appends a statement. args are nil, string, []string or []byte.
func (p *pipeline) add(read func(values [][]byte) error, sql string, args ...any) {
	params := make([][]byte, len(args))
	for i, arg := range args {
		switch arg := arg.(type) {
		case nil:
		case string:
			params[i] = []byte(arg)
		case []byte:
			params[i] = arg
		case []string:
			params[i] = textArray(arg)
		default:
			params[i] = fmt.Append(nil, arg)
		}
	}
	p.batch.ExecParams(sql, params, nil, nil, nil)
	p.read = append(p.read, read)
}

// run sends the statements and commits. The values passed to read are valid until read
// returns.
func (p *pipeline) run(ctx context.Context, pool *pgxpool.Pool) error {
	p.add(nil, "COMMIT")
	conn, err := pool.Acquire(ctx)
	if err != nil {
		return err
	}
	defer conn.Release()
	err = p.send(ctx, conn.Conn().PgConn())
	rollBack(ctx, conn.Conn().PgConn())
	return err
}

// rollBack ends a failed transaction, so that the pool can keep the connection.
func rollBack(ctx context.Context, conn *pgconn.PgConn) {
	if !conn.IsClosed() && conn.TxStatus() != 'I' {
		_, _ = conn.Exec(ctx, "ROLLBACK").ReadAll()
	}
}

// send runs the statements on a connection, without a COMMIT of its own.
func (p *pipeline) send(ctx context.Context, conn *pgconn.PgConn) error {
	results := conn.ExecBatch(ctx, &p.batch)
	var failed error
	for at := 0; results.NextResult(); at++ {
		r := results.ResultReader()
		for r.NextRow() {
			if failed == nil && at < len(p.read) && p.read[at] != nil {
				failed = p.read[at](r.Values())
			}
		}
		_, _ = r.Close() // results.Close returns its error
	}
	if err := results.Close(); err != nil {
		return err
	}
	return failed
}

// textArray is the literal of a text[]; it has no NULLs.
func textArray(texts []string) []byte {
	var b strings.Builder
	b.WriteByte('{')
	for i, text := range texts {
		if i > 0 {
			b.WriteByte(',')
		}
		writeQuoted(&b, text)
	}
	b.WriteByte('}')
	return []byte(b.String())
}
