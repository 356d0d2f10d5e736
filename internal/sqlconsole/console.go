// Package sqlconsole runs the SQL of runbooks, as an operator at a terminal would.
package sqlconsole

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/stranglerfig/migrator/internal/pgfail"
	"github.com/stranglerfig/migrator/record"
	"github.com/stranglerfig/migrator/runbook"
)

// Console runs statements as an operator at a terminal does: each on a connection of its
// own, in the simple protocol, which the console of a PgBouncer also accepts.
type Console struct {
	// URL returns the URL of a connection. Errors must not show it.
	URL func(connection string) (string, error)
	// Pooler reports whether a connection is a PgBouncer's console, which has no settings.
	Pooler func(connection string) bool
}

var _ runbook.SQL = (*Console)(nil)

const consoleConnect = 10 * time.Second

func (c *Console) connect(ctx context.Context, connection, application string, timeout time.Duration) (*pgx.Conn, error) {
	url, err := c.URL(connection)
	if err != nil {
		return nil, err
	}
	config, err := pgx.ParseConfig(url)
	if err != nil || record.SplitsPassword(url) {
		return nil, fmt.Errorf("the URL of the connection %s can't be read: it must look like postgres://user:password@host:5432/database, with special characters in the password %%-encoded", connection)
	}
	config.BuildFrontend = func(r io.Reader, w io.Writer) *pgproto3.Frontend {
		return pgproto3.NewFrontend(pgfail.Withhold(bufio.NewReader(r), ""), w)
	}
	config.ConnectTimeout = consoleConnect
	config.DefaultQueryExecMode = pgx.QueryExecModeSimpleProtocol
	config.StatementCacheCapacity, config.DescriptionCacheCapacity = 0, 0
	config.RuntimeParams["application_name"] = application
	if !c.pooler(connection) && timeout > 0 {
		// statement_timeout ends a statement whose process has died.
		config.RuntimeParams["statement_timeout"] = fmt.Sprint(max(timeout.Milliseconds(), 1))
	}
	conn, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		return nil, pgfail.Unreachable(err, "the server of "+connection, "the URL of "+connection, config)
	}
	return conn, nil
}

func (c *Console) pooler(connection string) bool { return c.Pooler != nil && c.Pooler(connection) }

// Run implements runbook.SQL.
func (c *Console) Run(ctx context.Context, connection, application, text string, timeout time.Duration) ([]runbook.Row, error) {
	conn, err := c.connect(ctx, connection, application, timeout)
	if err != nil {
		return nil, err
	}
	defer closeConsole(ctx, conn)
	var rows []runbook.Row
	for _, statement := range c.statements(connection, text) {
		results, err := conn.PgConn().Exec(ctx, statement).ReadAll()
		if err != nil {
			return nil, plainError(connection, err)
		}
		for _, r := range results {
			if len(r.FieldDescriptions) > 0 {
				rows = textRows(r)
			}
		}
	}
	return rows, nil
}

// statements splits the text for a pooler, which accepts one statement at a time.
func (c *Console) statements(connection, text string) []string {
	if !c.pooler(connection) {
		return []string{text}
	}
	var list []string
	for one := range strings.SplitSeq(text, ";") {
		if one = strings.TrimSpace(one); one != "" {
			list = append(list, one)
		}
	}
	return list
}

func textRows(r *pgconn.Result) []runbook.Row {
	columns := make([]string, len(r.FieldDescriptions))
	for i, f := range r.FieldDescriptions {
		columns[i] = f.Name
	}
	rows := make([]runbook.Row, len(r.Rows))
	for n, cells := range r.Rows {
		row := runbook.Row{Columns: columns, Values: make([]string, len(cells)), Null: make([]bool, len(cells))}
		for i, cell := range cells {
			row.Values[i], row.Null[i] = string(cell), cell == nil
		}
		rows[n] = row
	}
	return rows
}

// plainError leaves out the parts of the server's error that quote data.
func plainError(connection string, err error) error {
	var pg *pgconn.PgError
	if errors.As(err, &pg) {
		return fmt.Errorf("%s: %s (SQLSTATE %s)", connection, pg.Message, pg.Code)
	}
	return fmt.Errorf("%s: %w", connection, err)
}

// Busy implements runbook.SQL.
func (c *Console) Busy(ctx context.Context, connection, application string) (bool, error) {
	if c.pooler(connection) {
		return false, nil // a console's command ends with its session
	}
	conn, err := c.connect(ctx, connection, "migrator", consoleConnect)
	if err != nil {
		return false, err
	}
	defer closeConsole(ctx, conn)
	var busy bool
	err = conn.QueryRow(ctx, `SELECT EXISTS (SELECT FROM pg_stat_activity WHERE application_name = $1 AND pid <> pg_backend_pid())`, application).Scan(&busy)
	if err != nil {
		return false, plainError(connection, err)
	}
	return busy, nil
}

// Explain has the server plan the statement, which needs the privileges to run it, but runs
// nothing. known is false for a text that can't be planned: several statements, or one that
// is not a query.
func (c *Console) Explain(ctx context.Context, connection, text string) (known bool, err error) {
	conn, err := c.connect(ctx, connection, "migrator runbook verify", consoleConnect)
	if err != nil {
		return false, err
	}
	defer closeConsole(ctx, conn)
	if c.pooler(connection) {
		_, err := conn.PgConn().Exec(ctx, "SHOW VERSION").ReadAll()
		return false, err
	}
	// A prepared statement is one statement: a second one in the text is not run either.
	_, err = conn.PgConn().Prepare(ctx, "planned", "EXPLAIN "+strings.TrimRight(strings.TrimSpace(text), ";"), nil)
	if err == nil {
		_, err = conn.PgConn().Exec(ctx, "BEGIN READ ONLY").ReadAll()
	}
	if err == nil {
		err = conn.PgConn().ExecPrepared(ctx, "planned", nil, nil, nil).Read().Err
	}
	switch code := pgfail.SQLState(err); {
	case err == nil:
		return true, nil
	case code == "42601": // several statements, or not a query: the text may still be wrong
		return false, nil
	case code == "25006": // a write is refused in this read-only transaction, but is not an error of the text
		return true, nil
	}
	return false, plainError(connection, err)
}

func closeConsole(ctx context.Context, conn *pgx.Conn) {
	closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	_ = conn.Close(closing)
}
