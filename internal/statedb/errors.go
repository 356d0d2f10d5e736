package statedb

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/stranglerfig/migrator/internal/hint"
	"github.com/stranglerfig/migrator/internal/pgfail"
	"github.com/stranglerfig/migrator/phases"
)

// SlowFrom is how long connecting and a few queries may take before it is reported as slow.
const SlowFrom = time.Second

// ErrWrongURL is wrapped by errors that another URL of the state database fixes:
// no such database, no such role, a wrong password.
var ErrWrongURL = errors.New("the state database's URL does not fit the server")

// ErrSlow reports that the state database did not answer in time. The last statement
// may have taken effect.
var ErrSlow = fmt.Errorf("the state database does not answer in time (%s for a statement, %s for one that may wait for another command, less where the caller has less)",
	phases.StatementWithin, phases.TransitionPatience+phases.StatementWithin)

// StatementTimeout bounds each statement of a pool. A caller's context that ends
// earlier takes precedence.
type StatementTimeout struct{ Within time.Duration }

type boundKey struct{}

// WithPatience lets the statements under ctx wait for d.
func WithPatience(ctx context.Context, d time.Duration) context.Context {
	return context.WithValue(ctx, patienceKey{}, d)
}

type patienceKey struct{}

func (b StatementTimeout) begin(ctx context.Context) context.Context {
	within := b.Within
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
func (b StatementTimeout) TraceQueryStart(ctx context.Context, _ *pgx.Conn, _ pgx.TraceQueryStartData) context.Context {
	return b.begin(ctx)
}

// TraceQueryEnd implements pgx.QueryTracer.
func (b StatementTimeout) TraceQueryEnd(ctx context.Context, _ *pgx.Conn, _ pgx.TraceQueryEndData) {
	end(ctx)
}

// TraceBatchStart implements pgx.BatchTracer.
func (b StatementTimeout) TraceBatchStart(ctx context.Context, _ *pgx.Conn, _ pgx.TraceBatchStartData) context.Context {
	return b.begin(ctx)
}

// TraceBatchQuery implements pgx.BatchTracer.
func (b StatementTimeout) TraceBatchQuery(context.Context, *pgx.Conn, pgx.TraceBatchQueryData) {}

// TraceBatchEnd implements pgx.BatchTracer.
func (b StatementTimeout) TraceBatchEnd(ctx context.Context, _ *pgx.Conn, _ pgx.TraceBatchEndData) {
	end(ctx)
}

// Unreachable explains why connecting failed.
func Unreachable(err error, cfg *pgx.ConnConfig, took time.Duration) error {
	where := pgfail.Address(cfg)
	f, ok := pgfail.Failed(err, cfg)
	if !ok {
		return hint.Errorf(hint.Hint{Do: hint.Doctor}, "connect to the state database (%s): %w; applications continue without it", where, pgfail.Bare(err))
	}
	words := pgfail.Words(err, cfg)
	f.Risk += "; applications continue with the route that they have"
	switch {
	case f.Input:
		err = fmt.Errorf("%w (%s): it %s%w", ErrWrongURL, where, f.What, words)
	case f.Code == "timeout":
		err = fmt.Errorf("the state database (%s) has not answered within %s: the server or the network is down or slow%w", where, took.Round(100*time.Millisecond), words)
	default:
		err = fmt.Errorf("the state database (%s) %s%w", where, f.What, words)
	}
	return hint.Foreign(err, f, f.Remedy(hint.StateURL))
}

// broken explains an error that ended a connection or a statement; nil for any other.
func broken(err error) error {
	switch code := pgfail.SQLState(err); {
	case errors.Is(err, ErrSlow):
		return nil // already reported
	case code == pgfail.AdminShutdown || code == pgfail.CrashShutdown,
		errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE), errors.Is(err, net.ErrClosed):
		f, _ := hint.Row(hint.PostgreSQL, pgfail.AdminShutdown)
		return hint.Foreign(fmt.Errorf("the state database closed the connection; the outcome of the last statement is unknown: %w", err), f, f.Remedy(hint.StateURL))
	case code == pgfail.IdleTooLong:
		return hint.Errorf(hint.Hint{Do: hint.Retry}, "transaction idle too long; the state database rolled it back: %w", err)
	case code == pgfail.LockTimeout || code == pgfail.Canceled:
		return hint.Errorf(hint.Hint{Do: hint.Retry}, "the state database cancelled the statement: %w", err)
	case errors.Is(err, context.DeadlineExceeded) || pgconn.Timeout(err):
		return hint.Errorf(hint.Hint{Do: hint.Status, Text: "and repeat the command if it did not take effect"}, "%w: %w", ErrSlow, err)
	}
	return nil
}

// NotAllowedError refuses what the database's session_user may not do, or not without
// another person's approval.
type NotAllowedError struct {
	What   string
	remedy hint.Hint
}

func (e *NotAllowedError) Error() string { return e.What }

// Hint implements hint.Hinter.
func (e *NotAllowedError) Hint() hint.Hint { return e.remedy }

// notAllowed splits the message of a schema function, which has the remedy in its text.
func notAllowed(pg *pgconn.PgError) *NotAllowedError {
	what, remedy, _ := strings.Cut(pg.Message, "; try: ")
	e := &NotAllowedError{What: what, remedy: hint.Hint{Text: remedy}}
	if pg.Code == codeTwoPeople {
		e.remedy = hint.Hint{Do: hint.Approve, Text: "as another person"}
	}
	return e
}

// Refusal is an error of a schema function with one of the codes, with the remedy that its text has; nil for any other.
func Refusal(err error, codes ...string) *NotAllowedError {
	var pg *pgconn.PgError
	if !errors.As(err, &pg) || !slices.Contains(codes, pg.Code) {
		return nil
	}
	return notAllowed(pg)
}

// SQLSTATEs of the schema's own.
const (
	codeNoMember  = "MG010" // or a step of a runbook: its text has the remedy
	codeTwoPeople = "MG011" // for a phase

	codeOtherMoves = "MG013" // an instance moves something else than what is applied
)

// IsOtherMoves reports whether a lease was refused because of what its instance moves.
func IsOtherMoves(err error) bool { return pgfail.SQLState(err) == codeOtherMoves }

// IsDuplicate reports whether a row was refused because there is one with its key.
func IsDuplicate(err error) bool { return pgfail.SQLState(err) == pgfail.UniqueViolation }

// LacksFunction reports that the schema has no such function: it is older than this program.
func LacksFunction(err error) bool { return pgfail.SQLState(err) == pgfail.UndefinedFunction }

// ErrNoSchema reports that the state database has no schema.
var ErrNoSchema = hint.With(errors.New("the state database has no schema migrator"), hint.Hint{Do: hint.Init})
