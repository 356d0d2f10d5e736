package pgfail

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"syscall"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/stranglerfig/migrator/internal/hint"
)

// Unreachable explains in one line why connecting failed. It names the server and not
// the role: in a mistyped URL the password may be in the role's name. The error's hint is
// remedy, which says how to correct the URL, unless the URL is right.
func Unreachable(err error, what, remedy string, config *pgx.ConnConfig) error {
	at := config.Host
	if !strings.HasPrefix(at, "/") {
		at = net.JoinHostPort(at, fmt.Sprint(config.Port))
	}
	at += ", database " + config.Database
	code := SQLState(err)
	url := hint.Hint{Text: remedy}
	if h, ok := hint.Of(err); ok { // the connection was made, and found unfit
		url = h
	}
	var dns *net.DNSError
	switch {
	case code == BadPassword || code == BadLogin:
		return hint.Errorf(url, "%s (%s) refuses the role or its password (SQLSTATE %s)", what, at, code)
	case code == NoDatabase:
		return hint.Errorf(url, "%s (%s): there is no such database (SQLSTATE %s)", what, at, code)
	case code == TooMany:
		return hint.Errorf(NoConnectionLeft(), "%s (%s) has no connection left (SQLSTATE %s)", what, at, code)
	case errors.As(err, &dns):
		return hint.Errorf(url, "%s: its host can't be found (%s)", what, at)
	case errors.Is(err, syscall.ECONNREFUSED):
		return hint.Errorf(hint.Hint{Text: "start it, or " + remedy}, "%s refuses connections (%s): no server listens there", what, at)
	case errors.Is(err, context.Canceled):
		return fmt.Errorf("connect to %s (%s): %w", what, at, err)
	}
	var failed *pgconn.ConnectError // whose text names the role
	if errors.As(err, &failed) {
		err = failed.Unwrap()
	}
	return hint.Errorf(url, "connect to %s (%s): %w", what, at, err)
}

// NoConnectionLeft is what helps where max_connections are used up.
func NoConnectionLeft() hint.Hint {
	return hint.Hint{Text: "raise max_connections, or end idle sessions"}
}
