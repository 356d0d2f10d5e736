package state

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/stranglerfig/migrator/phases"
)

const slowFrom = time.Second // from here on it is worth a word

// ErrWrongURL is wrapped by refusals that another URL of the state database
// mends: no such database, no such role, a wrong password.
var ErrWrongURL = errors.New("the state database's URL does not fit the server")

// ErrSlow tells that the state database did not answer in time. What was asked last
// may have happened.
var ErrSlow = fmt.Errorf("the state database does not answer in time (%s for a statement, %s for one that may wait for another command, less where the caller has less)",
	phases.StatementWithin, phases.TransitionPatience+phases.StatementWithin)

// bounds gives each statement of a pool a time. Where a caller's context is
// tighter, that counts.
type bounds struct{ statement time.Duration }

type boundKey struct{}

// patient lets the statements under ctx wait for d.
func patient(ctx context.Context, d time.Duration) context.Context {
	return context.WithValue(ctx, patienceKey{}, d)
}

type patienceKey struct{}

func (b bounds) begin(ctx context.Context) context.Context {
	within := b.statement
	if d, ok := ctx.Value(patienceKey{}).(time.Duration); ok {
		within = d
	}
	ctx, cancel := context.WithTimeout(ctx, within)
	return context.WithValue(ctx, boundKey{}, cancel)
}

func end(ctx context.Context) {
	if cancel, ok := ctx.Value(boundKey{}).(context.CancelFunc); ok {
		cancel()
	}
}

// TraceQueryStart implements pgx.QueryTracer.
func (b bounds) TraceQueryStart(ctx context.Context, _ *pgx.Conn, _ pgx.TraceQueryStartData) context.Context {
	return b.begin(ctx)
}

// TraceQueryEnd implements pgx.QueryTracer.
func (b bounds) TraceQueryEnd(ctx context.Context, _ *pgx.Conn, _ pgx.TraceQueryEndData) { end(ctx) }

// TraceBatchStart implements pgx.BatchTracer.
func (b bounds) TraceBatchStart(ctx context.Context, _ *pgx.Conn, _ pgx.TraceBatchStartData) context.Context {
	return b.begin(ctx)
}

// TraceBatchQuery implements pgx.BatchTracer.
func (b bounds) TraceBatchQuery(context.Context, *pgx.Conn, pgx.TraceBatchQueryData) {}

// TraceBatchEnd implements pgx.BatchTracer.
func (b bounds) TraceBatchEnd(ctx context.Context, _ *pgx.Conn, _ pgx.TraceBatchEndData) { end(ctx) }

// SQLSTATEs of a server that will not have us, or not now.
const (
	codeNoDatabase   = "3D000"
	codeBadPassword  = "28P01"
	codeBadLogin     = "28000"
	codeStarting     = "57P03"
	codeShutdown     = "57P01"
	codeCrashed      = "57P02"
	codeTooMany      = "53300"
	codeLockTimeout  = "55P03"
	codeIdleTooLong  = "25P03"
	codeStatementEnd = "57014"
)

// unreachable says why no connection came about. where is host:port/database.
func unreachable(err error, where string, took time.Duration) error {
	var dns *net.DNSError
	switch code := sqlState(err); {
	case code == codeNoDatabase:
		return fmt.Errorf("%w (%s): there is no such database (SQLSTATE %s); try: export MIGRATOR_STATE_URL= with the right name, or CREATE DATABASE, then migrator init", ErrWrongURL, where, code)
	case code == codeBadPassword || code == codeBadLogin:
		return fmt.Errorf("%w (%s): it refuses the role or its password (SQLSTATE %s); try: export MIGRATOR_STATE_URL= with the right ones", ErrWrongURL, where, code)
	case code == codeStarting:
		return fmt.Errorf("the state database (%s) is starting up or shutting down (SQLSTATE %s); try: again in a moment", where, code)
	case code == codeTooMany:
		return fmt.Errorf("the state database (%s) has no connection left (SQLSTATE %s); try: raise max_connections, or end idle sessions", where, code)
	case errors.As(err, &dns):
		return fmt.Errorf("the state database's host can't be found (%s); try: check the host in MIGRATOR_STATE_URL", where)
	case errors.Is(err, syscall.ECONNREFUSED):
		return fmt.Errorf("the state database refuses connections (%s): no server listens there; applications go on without it; try: start it, or check MIGRATOR_STATE_URL", where)
	case errors.Is(err, context.DeadlineExceeded) || isTimeout(err):
		return fmt.Errorf("the state database (%s) has not answered within %s: the server or the network is down or slow; applications go on without it; try: pg_isready, then the same again",
			where, took.Round(100*time.Millisecond))
	}
	var failed *pgconn.ConnectError // whose text names the role
	if errors.As(err, &failed) {
		err = failed.Unwrap()
	}
	return fmt.Errorf("connect to the state database (%s): %w; applications go on without it; try: migrator doctor", where, err)
}

func isTimeout(err error) bool {
	var timeout interface{ Timeout() bool }
	return errors.As(err, &timeout) && timeout.Timeout()
}

// where names the server, and nobody who logs in: of a URL that was mistyped, the
// password may have ended up in the role's name.
func where(cfg *pgx.ConnConfig) string {
	host := cfg.Host
	if !strings.HasPrefix(host, "/") {
		host = net.JoinHostPort(host, fmt.Sprint(cfg.Port))
	}
	return host + ", database " + cfg.Database
}

// broken tells what happened to a connection in the midst of a command; nil if
// nothing did.
func broken(err error) error {
	switch code := sqlState(err); {
	case errors.Is(err, ErrSlow):
		return nil // it has been said
	case code == codeShutdown || code == codeCrashed,
		errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE), errors.Is(err, net.ErrClosed):
		return fmt.Errorf("the state database has ended the connection: what was asked last may have happened or not: %w; try: migrator status", err)
	case code == codeIdleTooLong:
		return fmt.Errorf("this command stood still for so long that the state database has undone its step: %w; try: the same again", err)
	case code == codeLockTimeout || code == codeStatementEnd:
		return fmt.Errorf("the state database has ended the statement: %w; try: the same again", err)
	case errors.Is(err, context.DeadlineExceeded) || pgconn.Timeout(err):
		return fmt.Errorf("%w: %w; try: migrator status, and what was asked for again if it was not done", ErrSlow, err)
	}
	return nil
}
