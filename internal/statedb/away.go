package statedb

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/stranglerfig/migrator/internal/hint"
	"github.com/stranglerfig/migrator/internal/pgfail"
)

const (
	awayWithin = 30 * time.Second // how long a long job waits for a state database that is away
	awayShown  = time.Second      // from when on it says so,
	awayAgain  = 5 * time.Second  // and how often
)

// Away reports whether an error means that the state database is not there for a moment, as during a restart
// or a failover. The statement that failed may have taken effect.
func Away(err error) bool {
	switch code := pgfail.SQLState(err); {
	case code == pgfail.AdminShutdown, code == pgfail.CrashShutdown, code == pgfail.StartingUp, strings.HasPrefix(code, "08"):
		return true
	case code != "":
		return false
	}
	return errors.Is(err, errConnClosed) || pgconn.SafeToRetry(err) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, net.ErrClosed) ||
		errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE) ||
		errors.Is(err, syscall.ENOENT) && errors.As(err, new(*pgconn.ConnectError)) // the directory of a socket without its server
}

// Persist repeats f while the state database is away, for half a minute at most. f must do no harm when it is
// done twice: an attempt whose connection broke may have taken effect.
func Persist(ctx context.Context, f func() error) error {
	began := time.Now()
	shown := began.Add(awayShown - awayAgain)
	for pause := 50 * time.Millisecond; ; pause = min(2*pause, time.Second) {
		err := f()
		if err == nil || !Away(err) || time.Since(began) > awayWithin || ctx.Err() != nil {
			return err
		}
		if now := time.Now(); now.Sub(shown) >= awayAgain {
			shown = now
			remedy, _ := hint.Of(err)
			hint.Waiting(ctx, "the state database: "+err.Error(), remedy)
		}
		if Sleep(ctx, pause) != nil {
			return err
		}
	}
}
